"""Rasters by place, of a STAC API or of a list of GeoTIFFs, and patches cut from the best."""

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

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.observations.folder import dates
from unigeo.producer.observations.geotiff.geotiff_source import GeotiffSource, open_source
from unigeo.producer.observations.geotiff.height_values import MeaningError
from unigeo.producer.observations.geotiff.patch_frames import Frame
from unigeo.producer.observations.geotiff.raster_patches import CutPatches, cut
from unigeo.producer.observations.patches import GAP_NAMES, Gap, Patches
from unigeo.producer.sources.findings import Origin
from unigeo.producer.sources.set_description import ImageryRules, SurfaceRules
from unigeo.producer.sources.stac_items import (
    Item,
    footprints,
    rank_items,
    search,
    search_by_name,
    sign_address,
)
from unigeo.producer.sources.web_requests import GoneError, WebClient
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.io.retrying import FIRST_WAIT_S, TRIES

GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": str(TRIES - 1),
    "GDAL_HTTP_RETRY_DELAY": str(FIRST_WAIT_S),
    "GDAL_HTTP_TIMEOUT": "60",
    "VSI_CACHE": "TRUE",
}
OPENINGS = 2
"""Times that a file is opened before it is held to be damaged."""
AHEAD_S = 300.0
"""A signature that expires sooner is asked for anew before a shard is cut."""
UNDATED = "1970-01-01"
"""Stands for a date that neither the settings nor a file's name say."""
_DATED = re.compile(r"(?<!\d)(?:19|20)\d{6}(?!\d)")


@dataclass(eq=False)
class Catalogue:
    """Rasters by place: a STAC API's, or files that are named."""

    about: ImageryRules
    web: WebClient
    _opened: dict[str, GeotiffSource | str] = field(default_factory=dict)
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

    def cut(
        self, lonlat: Float[np.ndarray, "location 2"], dtype: type[np.generic]
    ) -> "CataloguePatches":
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
            best[place], reasons[place] = self._best(items, mark, unusable, dtype)
            if best[place]:
                groups.setdefault(tuple(item.name for item in best[place]), []).append(place)
        with rasterio.Env(**GDAL):
            for members in groups.values():
                chosen = best[members[0]]
                rows = np.array(members)
                part = self._cut(chosen, lonlat[rows], frame, dtype)
                values[rows], seen[rows] = part.patches.values, part.observed
                gaps[rows] = part.gaps
        for place, chosen in best.items():
            if chosen:
                gap = Gap(int(gaps[place]))
                reasons[place] = GAP_NAMES.get(gap, "")
                origins[place] = self._origin(chosen, float(seen[place].mean()))
        valid: Bool[np.ndarray, " location"] = gaps == Gap.NONE
        every = {item.name: item for chosen in best.values() for item in chosen}
        used = {name: self._told(item) for name, item in every.items() if item.digest}
        return CataloguePatches(
            CutPatches(Patches(values, valid), gaps, seen), origins, reasons, unusable, used
        )

    def current_items(self, names: Sequence[str]) -> dict[str, str]:
        """Items of some names as the catalogue has them now, and a hash of each."""
        if self.about.kind == "files":
            return {}
        found = search_by_name(
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
        told = json.dumps(self.web.object_identity(href), sort_keys=True)
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
        lonlat: Float[np.ndarray, "location 2"],
        frame: Frame,
        dtype: type[np.generic],
    ) -> CutPatches:
        sources = [self._opened[item.href] for item in chosen]
        assert all(isinstance(source, GeotiffSource) for source in sources)
        opened: list[Any] = sources
        part = cut(opened, lonlat, frame, dtype, self.about.min_valid)
        far = [str(source.path) for source in opened if not isinstance(source.path, Path)]
        if far and (part.gaps == Gap.UNREADABLE).any():
            for address in far:  # ends the build where the server is at fault, not the file
                self.web.check(address)
            part = cut(opened, lonlat, frame, dtype, self.about.min_valid)
        return part

    def _best(
        self,
        items: Sequence[Item],
        mark: shapely.Geometry,
        unusable: dict[str, str],
        dtype: type[np.generic],
    ) -> tuple[tuple[Item, ...], str]:
        """The items that are best for a footprint, of those that can be opened; else why none."""
        reason, left = "no item", list(items)
        while True:
            chosen = rank_items(left, mark, self.about.prefer, self.about.date)
            bad = {}
            for item in chosen:
                source = self._source(item)
                if (
                    isinstance(source, GeotiffSource)
                    and dtype is np.uint8
                    and source.dtype != "uint8"
                ):
                    source = self._not_bytes(source)
                if isinstance(source, str):
                    bad[item.name] = reason = source
            if not bad:
                return chosen, reason
            unusable.update(bad)
            left = [item for item in left if item.name not in bad]

    def _source(self, item: Item) -> GeotiffSource | str:
        with self._lock:
            known = self._opened.get(item.href)
            if known is None:
                known = self._open(item)
            elif (
                isinstance(known, GeotiffSource) and self._until[item.href] < time.time() + AHEAD_S
            ):
                known = replace(known, path=self._address(item))
            self._opened[item.href] = known
            return known

    def _address(self, item: Item) -> Path | str:
        """Where an item may be read for a while."""
        if "://" not in item.href:
            self._until[item.href] = float("inf")
            return Path(item.href)
        href, self._until[item.href] = sign_address(
            self.web, item.href, self.about.sign, self.about.sign_url
        )
        return href

    def _open(self, item: Item) -> GeotiffSource | str:
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
        terrain = self.about.numbers if isinstance(self.about, SurfaceRules) else None
        with rasterio.Env(**GDAL):
            for _ in range(OPENINGS):
                try:
                    return open_source(
                        href, self.about.bands, self.about.nodata, item.name, terrain
                    )
                except MeaningError:
                    raise
                except ObservationsError:
                    if isinstance(href, str):  # ends the build where the server is at fault
                        self.web.check(href)
        return "not a usable GeoTIFF"

    def _not_bytes(self, found: GeotiffSource) -> str:
        """Why an image whose pixels are no bytes is passed over.

        Raises:
            MeaningError: it is a file that was named.
        """
        if self.about.kind == "stac":
            return f"pixels of {found.dtype}"
        raise MeaningError(
            f"table [aerial]: {found.label} holds {found.dtype}; pictures are uint8. Convert it, "
            "for example with `gdal_translate -ot Byte -scale`."
        )

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
class CataloguePatches:
    """Patches of a catalogue."""

    cut: CutPatches
    origins: list[Origin]
    reasons: list[str]
    """Why a place has no patch; empty where it has."""
    unusable: dict[str, str]
    items: dict[str, str]
    """Items of the catalogue that something was cut from, and a hash of each."""
