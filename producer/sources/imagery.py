"""Patches of aerial images and surface models: from a STAC API, or from a list of GeoTIFFs."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from jaxtyping import Bool, Float

from unigeo.producer.observations import dates
from unigeo.producer.observations.contents import ReplacedError
from unigeo.producer.observations.frames import Frame
from unigeo.producer.observations.protocol import GAP_NAMES, Gap, Patches
from unigeo.producer.observations.rasters import Cut, cut
from unigeo.producer.observations.reading import Source, open_source
from unigeo.producer.sources.fetching import GoneError, Web
from unigeo.producer.sources.found import Found, Origin, Seen
from unigeo.producer.sources.stac import Item, footprints, ranked, search, search_names, signed
from unigeo.producer.sources.table import Imagery, Surface
from unigeo.schemas.errors import ObservationsError

GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": "6",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_TIMEOUT": "60",
    "VSI_CACHE": "TRUE",
}
METRES = {"m": 1.0, "ft": 0.3048, "us-ft": 1200 / 3937}
"""Metres per unit of height."""
TRIES = 2
"""Times that a file is opened before it is held to be damaged."""
AHEAD_S = 300.0
"""A signature that expires sooner is asked for anew before a shard is cut."""
TERRAIN = "terrain "
"""Before the names of a terrain model's items."""
UNDATED = "1970-01-01"
"""Stands for a date that neither the settings nor a file's name say."""
_DATED = re.compile(r"(?<!\d)(?:19|20)\d{6}(?!\d)")


@dataclass(eq=False)
class Catalogue:
    """Rasters by place: a STAC API's, or files that are named."""

    about: Imagery
    web: Web
    _opened: dict[str, Source | str] = field(default_factory=dict)
    _until: dict[str, float] = field(default_factory=dict)
    """When the signature of an address expires, in seconds since 1970."""
    _identities: dict[str, str] = field(default_factory=dict)
    """Hashes of items by name, when they were opened: of what is said of them, and of the file."""
    _digests: dict[str, str] = field(default_factory=dict)
    """Of items that were cut from: of what is said of them."""
    _files: tuple[list[Item], dict[str, str]] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def frame(self) -> Frame:
        """Of the patches."""
        return Frame(self.about.patch_px * self.about.resolution_m, self.about.patch_px)

    def cut(self, lonlat: Float[np.ndarray, "place 2"], dtype: type[np.generic]) -> "Cuts":
        """Cut a patch round each place from the items that are best there."""
        frame = self.frame
        size = (len(lonlat), frame.patch_px, frame.patch_px)
        values = np.zeros((size[0], len(self.about.bands), *size[1:]), dtype)
        seen = np.zeros(size, bool)
        gaps = np.full(len(lonlat), Gap.OUTSIDE, np.uint8)
        origins, reasons = [Origin()] * len(lonlat), ["no item"] * len(lonlat)
        marks = footprints(lonlat, frame.patch_m)
        items, unusable = self._items(marks)
        groups: dict[tuple[str, ...], list[int]] = {}
        best: dict[int, tuple[Item, ...]] = {}
        for place, mark in enumerate(marks):
            best[place], reasons[place] = self._best(items, mark, unusable)
            if best[place]:
                groups.setdefault(tuple(item.name for item in best[place]), []).append(place)
        with rasterio.Env(**GDAL):
            for members in groups.values():
                chosen = best[members[0]]
                rows = np.array(members)
                part = self._cut(chosen, lonlat[rows], frame, dtype)
                values[rows], seen[rows] = part.patches.values, part.seen
                gaps[rows] = part.gaps
        for place, chosen in best.items():
            if chosen:
                gap = Gap(int(gaps[place]))
                reasons[place] = GAP_NAMES.get(gap, "")
                origins[place] = self._origin(chosen, float(seen[place].mean()))
        valid: Bool[np.ndarray, " place"] = gaps == Gap.NONE
        used = {item.name: self._identities[item.name] for chosen in best.values()
                for item in chosen if item.digest}  # fmt: skip
        return Cuts(Cut(Patches(values, valid), gaps, seen), origins, reasons, unusable, used)

    def items_now(self, names: Sequence[str]) -> dict[str, str]:
        """Items of some names as the catalogue has them now, and a hash of each."""
        if self.about.kind == "files":
            return {}
        found = search_names(
            self.web, self.about.url, self.about.collections, names, self.about.asset
        )
        identities = {}
        for item in found:
            try:
                identities[item.name] = self._identity(item, self._address(item))
            except GoneError:
                continue
        self._identities |= identities
        return identities

    def _identity(self, item: Item, href: Path | str) -> str:
        """A hash of an item, and of its file where the catalogue does not vouch for that."""
        if item.vouched or isinstance(href, Path):
            return item.digest
        told = json.dumps(self.web.told(href), sort_keys=True)
        return hashlib.sha256(f"{item.digest} {told}".encode()).hexdigest()

    def _told(self, item: Item) -> str:
        """The hash of an item that was cut from.

        Raises:
            ReplacedError: the catalogue said something else of it before.
        """
        _same(self._digests, item, item.digest, self.about.url)
        return self._identities[item.name]

    def _origin(self, chosen: tuple[Item, ...], cover: float) -> Origin:
        first = chosen[0]
        return Origin(
            item="+".join(item.name for item in chosen),
            date="" if first.date == UNDATED else dates.to_days(first.date),
            licence=self.about.licence or first.licence,
            credit=self.about.credit,
            numbers={"cover": round(cover, 4)},
        )

    def _cut(
        self,
        chosen: tuple[Item, ...],
        lonlat: Float[np.ndarray, "place 2"],
        frame: Frame,
        dtype: type[np.generic],
    ) -> Cut:
        sources = [self._opened[item.href] for item in chosen]
        assert all(isinstance(source, Source) for source in sources)
        opened: list[Any] = sources
        part = cut(opened, lonlat, frame, dtype, self.about.min_valid)
        far = [str(source.path) for source in opened if not isinstance(source.path, Path)]
        if far and (part.gaps == Gap.UNREADABLE).any():
            for address in far:  # ends the build where the server is at fault, not the file
                self.web.check(address)
            part = cut(opened, lonlat, frame, dtype, self.about.min_valid)
        return part

    def _best(
        self, items: Sequence[Item], mark: shapely.Geometry, unusable: dict[str, str]
    ) -> tuple[tuple[Item, ...], str]:
        """The items that are best for a footprint, of those that can be opened; else why none."""
        reason, left = "no item", list(items)
        while True:
            chosen = ranked(left, mark, self.about.prefer, self.about.date)
            bad = {}
            for item in chosen:
                source = self._source(item)
                if isinstance(source, str):
                    bad[item.name] = reason = source
            if not bad:
                return chosen, reason
            unusable.update(bad)
            left = [item for item in left if item.name not in bad]

    def _source(self, item: Item) -> Source | str:
        with self._lock:
            known = self._opened.get(item.href)
            if known is None:
                known = self._open(item)
            elif isinstance(known, Source) and self._until[item.href] < time.time() + AHEAD_S:
                known = replace(known, path=self._address(item))
            self._opened[item.href] = known
            return known

    def _address(self, item: Item) -> Path | str:
        """Where an item may be read for a while."""
        if "://" not in item.href:
            self._until[item.href] = float("inf")
            return Path(item.href)
        href, self._until[item.href] = signed(
            self.web, item.href, self.about.sign, self.about.sign_url
        )
        return href

    def _open(self, item: Item) -> Source | str:
        coarsest = self.about.coarsest_m
        if coarsest is not None and item.gsd_m is not None and item.gsd_m > coarsest:
            return "too coarse"
        if item.cloud > self.about.cloudiest:
            return "too cloudy"
        try:
            href = self._address(item)
            if isinstance(href, str):
                self.web.check(href)
            if item.digest:
                now = self._identity(item, href)
                _same(self._identities, item, now, self.about.url)
        except GoneError as gone:
            return str(gone)
        with rasterio.Env(**GDAL):
            for _ in range(TRIES):
                try:
                    return open_source(href, self.about.bands, self.about.nodata, item.name)
                except ObservationsError:
                    if isinstance(href, str):  # ends the build where the server is at fault
                        self.web.check(href)
        return "not a usable GeoTIFF"

    def _items(self, marks: Sequence[shapely.Geometry]) -> tuple[list[Item], dict[str, str]]:
        """Items that may touch the footprints, and those that cannot be used."""
        if self.about.kind == "files":
            with self._lock:
                if self._files is None:
                    self._files = self._list_files()
            return self._files[0], dict(self._files[1])
        west, south, east, north = shapely.total_bounds(np.array(marks))
        return search(
            self.web, self.about.url, self.about.collections,
            (float(west), float(south), float(east), float(north)),
            self.about.years, self.about.asset,
        )  # fmt: skip

    def _list_files(self) -> tuple[list[Item], dict[str, str]]:
        items, unusable = [], {}
        for name in self.about.paths:
            short = name.rsplit("/", 1)[-1]
            taken = self.about.acquired or _date_in(short)
            item = Item(short, taken, 0.0, None, shapely.Point(), name)
            if self.about.years and not set(self.about.years) & set(dates.years(taken)):
                continue
            self._opened[name] = source = self._open(item)
            if isinstance(source, str):
                unusable[item.name] = source
            else:
                items.append(replace(item, outline=shapely.box(*source.reach)))
        return items, unusable

    def provenance(self) -> dict[str, Any]:
        """JSON: the settings."""
        return self.about.model_dump(mode="json")


def _date_in(name: str) -> str:
    """The date in a file's name."""
    for found in _DATED.findall(name):
        with suppress(ValueError):  # a number like a date
            return date.fromisoformat(found).isoformat()
    return UNDATED


def _same(known: dict[str, str], item: Item, now: str, url: str) -> None:
    """Note what an item is.

    Raises:
        ReplacedError: something else was noted of it before.
    """
    if known.setdefault(item.name, now) != now:
        raise ReplacedError(
            f"the image {item.name} of {url} changed during the build, and the set would become a "
            "mixture. Name another --out, or remove the set."
        )


@dataclass(frozen=True, eq=False)
class Cuts:
    """Patches of a catalogue."""

    cut: Cut
    origins: list[Origin]
    reasons: list[str]
    """Why a place has no patch; empty where it has."""
    unusable: dict[str, str]
    items: dict[str, str]
    """Items of the catalogue that something was cut from, and a hash of each."""


@dataclass(frozen=True, eq=False)
class AerialSource:
    """Aerial images of places."""

    catalogue: Catalogue

    @property
    def reach_m(self) -> float:
        """From a place to a corner of its patch, in metres."""
        return self.catalogue.frame.patch_m / 2**0.5

    def observe(self, lonlat: Float[np.ndarray, "place 2"]) -> Seen:
        """One patch of uint8 per place."""
        cuts = self.catalogue.cut(lonlat, np.uint8)
        found = [
            Found(None if reason else value, origin, reason)
            for value, origin, reason in zip(
                cuts.cut.patches.values, cuts.origins, cuts.reasons, strict=True
            )
        ]
        return Seen(found, cuts.unusable, cuts.items)

    def items_now(self, names: Sequence[str]) -> dict[str, str]:
        """What the catalogue has under some names now."""
        return self.catalogue.items_now(names)

    def provenance(self) -> dict[str, Any]:
        """JSON: the settings."""
        return self.catalogue.provenance()


@dataclass(frozen=True, eq=False)
class SurfaceSource:
    """Heights of the surface round places, in metres above what the rule names."""

    about: Surface
    catalogue: Catalogue
    terrain: Catalogue | None = None

    @property
    def reach_m(self) -> float:
        """From a place to a corner of its patch, in metres."""
        return self.catalogue.frame.patch_m / 2**0.5

    def observe(self, lonlat: Float[np.ndarray, "place 2"]) -> Seen:
        """One patch of float32 metres per place, NaN where there is a void."""
        cuts = self.catalogue.cut(lonlat, np.float32)
        below = None if self.terrain is None else self.terrain.cut(lonlat, np.float32)
        results = []
        for place, reason in enumerate(cuts.reasons):
            if not reason and below is not None and below.reasons[place]:
                reason = f"no terrain: {below.reasons[place]}"
            if reason:
                results.append(Found(None, cuts.origins[place], reason))
                continue
            metres = self._metres(cuts, place)
            ground = self._ground(metres) if below is None else self._metres(below, place)
            relative = (metres - ground).astype(np.float32)
            numbers = dict(cuts.origins[place].numbers)
            numbers["ground_m"] = round(float(np.nanmean(ground)), 2)
            results.append(Found(relative, replace(cuts.origins[place], numbers=numbers)))
        if below is None:
            return Seen(results, cuts.unusable, cuts.items)
        of_terrain = {f"{TERRAIN}{name}": told for name, told in below.items.items()}
        return Seen(results, cuts.unusable | below.unusable, cuts.items | of_terrain)

    def items_now(self, names: Sequence[str]) -> dict[str, str]:
        """What the catalogues have under some names now."""
        own = [name for name in names if not name.startswith(TERRAIN)]
        found = self.catalogue.items_now(own)
        if self.terrain is not None:
            below = [name.removeprefix(TERRAIN) for name in names if name.startswith(TERRAIN)]
            told = self.terrain.items_now(below).items()
            found |= {f"{TERRAIN}{name}": identity for name, identity in told}
        return found

    def _metres(self, cuts: Cuts, place: int) -> Float[np.ndarray, "row col"]:
        """Heights above the datum; NaN where nothing was observed."""
        values = cuts.cut.patches.values[place, 0].astype(np.float64)
        return np.where(cuts.cut.seen[place], values, np.nan) * METRES[self.about.units]

    def _ground(self, metres: Float[np.ndarray, "row col"]) -> Float[np.ndarray, ""]:
        if self.about.ground == "none":
            return np.asarray(0.0)
        return np.asarray(float(np.nanpercentile(metres, self.about.percentile)))

    def provenance(self) -> dict[str, Any]:
        """JSON: the settings."""
        return self.about.model_dump(mode="json")
