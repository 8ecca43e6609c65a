"""Catalogues of rasters (a STAC API or a list of GeoTIFFs), and patches cut from the best items."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Bool, Float

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.observations.folder import dates
from unigeo.producer.observations.patches import GAP_NAMES, Gap, Patches
from unigeo.producer.observations.raster_files.band_facts import MeaningError
from unigeo.producer.observations.raster_files.formats import VRT
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.patch_frames import Frame
from unigeo.producer.observations.raster_files.raster_patches import CutPatches, cut
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.producer.sources.findings import KeptFinding, KeptModality, Origin
from unigeo.producer.sources.set_description import ImageryRules, SurfaceRules
from unigeo.producer.sources.stac_items import (
    Item,
    box_round,
    footprints,
    rank_items,
    search,
    search_by_name,
    sign_address,
)
from unigeo.producer.sources.web_requests import GoneError, WebClient
from unigeo.schemas.errors import ObservationsError

OPENINGS = 2
"""Number of times that a file is opened before it is taken for damaged."""
AHEAD_S = 300.0
"""Remaining validity, in seconds, below which a signature is renewed before a shard is cut."""
UNDATED = "1970-01-01"
"""Date of files for which neither the settings nor the name state one."""
_DATE_IN_NAME = re.compile(r"(?<!\d)(?:19|20)\d{6}(?!\d)")


@dataclass(eq=False)
class Catalogue:
    """Rasters of a STAC API, or files that are named; several threads may cut from it."""

    rules: ImageryRules
    web: WebClient
    earlier: KeptModality | None = None
    """Patches of an earlier set, which need not be cut where the same items are chosen."""
    _opened: dict[str, RasterSource | str] = field(default_factory=dict)
    """Sources by the address of their item, or the reason why they cannot be used."""
    _expires: dict[str, float] = field(default_factory=dict)
    """When the signature of an address expires, in seconds since 1970."""
    _identities: dict[str, str] = field(default_factory=dict)
    """Hashes of items by name, of metadata and file, from when they were opened."""
    _digests: dict[str, str] = field(default_factory=dict)
    """Hashes of the metadata of items that were cut from."""
    _files: tuple[list[Item], dict[str, str]] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def frame(self) -> Frame:
        """Size of the patches."""
        return Frame(self.rules.patch_px * self.rules.resolution_m, self.rules.patch_px)

    def cut(
        self, lonlat: Float[np.ndarray, "location 2"], dtype: type[np.generic]
    ) -> "CataloguePatches":
        """Cut a patch round each location from the items that are best there."""
        frame = self.frame
        size = (len(lonlat), frame.patch_px, frame.patch_px)
        values = np.zeros((size[0], len(self.rules.bands), *size[1:]), dtype)
        observed = np.zeros(size, bool)
        gaps = np.full(len(lonlat), Gap.OUTSIDE, np.uint8)
        origins, reasons = [Origin()] * len(lonlat), ["no item"] * len(lonlat)
        squares = footprints(lonlat, frame.patch_m)
        items, unusable = self._items(squares)
        groups: dict[tuple[str, ...], list[int]] = {}
        best: dict[int, tuple[Item, ...]] = {}
        kept: dict[int, KeptFinding] = {}
        for row, footprint in enumerate(squares):
            best[row], reasons[row] = self._best(items, footprint, unusable, dtype)
            found = self._find_kept(best[row], lonlat[row])
            if found is not None:
                kept[row], gaps[row] = found, Gap.NONE
            elif best[row]:
                groups.setdefault(tuple(item.name for item in best[row]), []).append(row)
        # Locations with the same items are cut together, so that each file block is read once.
        for members in groups.values():
            chosen = best[members[0]]
            rows = np.array(members)
            part = self._cut(chosen, lonlat[rows], frame, dtype)
            values[rows], observed[rows] = part.patches.values, part.observed
            gaps[rows] = part.gaps
        for row, chosen in best.items():
            if chosen:
                gap = Gap(int(gaps[row]))
                reasons[row] = GAP_NAMES.get(gap, "")
                numbers = {"cover": round(float(observed[row].mean()), 4)}
                origins[row] = self._origin(chosen, kept[row].numbers if row in kept else numbers)
        valid: Bool[np.ndarray, " location"] = gaps == Gap.NONE
        every = {item.name: item for chosen in best.values() for item in chosen}
        used = {name: self._used_identity(item) for name, item in every.items() if item.digest}
        return CataloguePatches(
            CutPatches(Patches(values, valid), gaps, observed),
            origins,
            reasons,
            unusable,
            used,
            kept,
        )

    def _find_kept(
        self, chosen: tuple[Item, ...], lonlat: Float[np.ndarray, " 2"]
    ) -> KeptFinding | None:
        """Return the earlier patch of a location if it was cut from the chosen items."""
        if self.earlier is None or not chosen:
            return None
        digests = {one.name: self._identities[one.name] if one.digest else "" for one in chosen}
        return self.earlier.find_cut(lonlat, digests)

    def check_files(self) -> None:
        """Open every file that the settings name, before any location is observed.

        Raises:
            ObservationsError: a file is missing, or cannot be read; the message names it.
        """
        if self.rules.kind == "files":
            with self._lock:
                self._files = self._list_files()

    def current_items(self, names: Sequence[str]) -> dict[str, str]:
        """Return the present hash of those items of some names that the catalogue has."""
        if self.rules.kind == "files":
            return {}
        items = search_by_name(
            self.web, self.rules.url, self.rules.collections, names, self.rules.asset
        )
        identities = {}
        for item in items:
            try:
                identities[item.name] = self._identity(item, self._address(item))
            except GoneError:
                continue
        # A later cut compares an item with what it was here, at the beginning of this run.
        self._identities |= identities
        return identities

    def _identity(self, item: Item, href: Path | str) -> str:
        """Return a hash of an item, and of its file where the metadata would not change with it."""
        if item.tracks_file or isinstance(href, Path):
            return item.digest
        file = json.dumps(self.web.object_identity(href), sort_keys=True)
        return hashlib.sha256(f"{item.digest} {file}".encode()).hexdigest()

    def _used_identity(self, item: Item) -> str:
        """Return the hash of an item that was cut from.

        Raises:
            ReplacedError: the catalogue's metadata of it changed.
        """
        _check_unchanged(self._digests, item, item.digest, self.rules.url)
        return self._identities[item.name]

    def _origin(self, chosen: tuple[Item, ...], numbers: Mapping[str, float]) -> Origin:
        first = chosen[0]
        return Origin(
            item="+".join(item.name for item in chosen),
            date="" if first.date == UNDATED else dates.to_days(first.date),
            licence=self.rules.licence or first.licence,
            credit=self.rules.credit,
            numbers=numbers,
        )

    def _cut(
        self,
        chosen: tuple[Item, ...],
        lonlat: Float[np.ndarray, "location 2"],
        frame: Frame,
        dtype: type[np.generic],
    ) -> CutPatches:
        sources = [self._opened[item.href] for item in chosen]
        assert all(isinstance(source, RasterSource) for source in sources)
        opened: list[Any] = sources
        part = cut(opened, lonlat, frame, dtype, self.rules.min_valid)
        addresses = [str(source.path) for source in opened if not isinstance(source.path, Path)]
        if addresses and (part.gaps == Gap.UNREADABLE).any():
            # GDAL does not say whether the file or the server is at fault. A server that is down
            # raises here and ends the build; else the patches are cut once more.
            for address in addresses:
                self.web.check(address)
            part = cut(opened, lonlat, frame, dtype, self.rules.min_valid)
        return part

    def _best(
        self,
        items: Sequence[Item],
        footprint: shapely.Geometry,
        unusable: dict[str, str],
        dtype: type[np.generic],
    ) -> tuple[tuple[Item, ...], str]:
        """Return the best items for a footprint that can be opened, or the reason why none can."""
        reason, left = "no item", list(items)
        # Items are opened only when they are among the best; the rest is ranked anew without
        # those that cannot be used.
        while True:
            chosen = rank_items(left, footprint, self.rules.prefer, self.rules.date)
            bad = {}
            for item in chosen:
                source = self._source(item)
                if (
                    isinstance(source, RasterSource)
                    and dtype is np.uint8
                    and source.dtype != "uint8"
                ):
                    source = self._reject_dtype(source)
                if isinstance(source, str):
                    bad[item.name] = reason = source
            if not bad:
                return chosen, reason
            unusable.update(bad)
            left = [item for item in left if item.name not in bad]

    def _source(self, item: Item) -> RasterSource | str:
        """Return the source of an item, with a valid address, or why it cannot be used."""
        with self._lock:  # several shards are built at once, and a file is opened only once
            known = self._opened.get(item.href)
            if known is None:
                known = self._open(item)
            elif (
                isinstance(known, RasterSource) and self._expires[item.href] < time.time() + AHEAD_S
            ):
                known = replace(known, path=self._address(item))
            self._opened[item.href] = known
            return known

    def _address(self, item: Item) -> Path | str:
        """Return the path or signed address of an item, and note when the signature expires."""
        if "://" not in item.href:
            self._expires[item.href] = float("inf")
            return Path(item.href)
        href, self._expires[item.href] = sign_address(
            self.web, item.href, self.rules.sign, self.rules.sign_url
        )
        return href

    def _open(self, item: Item) -> RasterSource | str:
        """Open the file of an item, or return the reason why it cannot be used."""
        coarsest = self.rules.coarsest_m
        if coarsest is not None and item.gsd_m is not None and item.gsd_m > coarsest:
            return "too coarse"
        if item.cloud > self.rules.cloudiest:
            return "too cloudy"
        try:
            href = self._address(item)
            if isinstance(href, str):
                self.web.check(href)
            if item.digest:
                identity = self._identity(item, href)
                _check_unchanged(self._identities, item, identity, self.rules.url)
        except GoneError as gone:
            if self.rules.kind == "files":
                raise ObservationsError(f"table [{self._table}]: {item.href}: {gone}.") from gone
            return str(gone)
        problem: ObservationsError | None = None
        described = self.rules.numbers if isinstance(self.rules, SurfaceRules) else None
        for _ in range(OPENINGS):
            try:
                source = open_source(
                    href, self.rules.bands, self.rules.nodata, item.name, described
                )
                if source.form == VRT:
                    raise MeaningError(
                        f"{source.label} is a VRT, and a set records each file that it is made of. "
                        "Name the files that the VRT joins instead."
                    )
                if source.scales:
                    _refuse_scales(source)
                return source
            except MeaningError:
                raise
            except ObservationsError as error:
                if isinstance(href, str):  # raises if the server is at fault, not the file
                    self.web.check(href)
                problem = error
        if self.rules.kind == "files":
            raise ObservationsError(f"table [{self._table}]: {problem}") from problem
        return "not a usable raster"

    @property
    def _table(self) -> str:
        """Table of the settings, for errors."""
        return "dsm" if isinstance(self.rules, SurfaceRules) else "aerial"

    def _reject_dtype(self, source: RasterSource) -> str:
        """Return the reason for skipping an image that is not uint8.

        Raises:
            MeaningError: the image is a file that the settings name.
        """
        if self.rules.kind == "stac":
            return f"pixels of {source.dtype}"
        raise MeaningError(
            f"table [aerial]: {source.label} holds {source.dtype}; pictures are uint8. Convert it, "
            "for example with `gdal_translate -ot Byte -scale`."
        )

    def _items(self, squares: Sequence[shapely.Geometry]) -> tuple[list[Item], dict[str, str]]:
        """Return the items that may touch the footprints, and those that cannot be used."""
        if self.rules.kind == "files":
            with self._lock:
                if self._files is None:
                    self._files = self._list_files()
            return self._files[0], dict(self._files[1])
        return search(
            self.web, self.rules.url, self.rules.collections, box_round(squares),
            self.rules.years, self.rules.asset,
        )  # fmt: skip

    def _list_files(self) -> tuple[list[Item], dict[str, str]]:
        items, unusable, other_years = [], {}, set[int]()
        for name in self.rules.paths:
            if any(sign in name for sign in "*?[") and not Path(name).exists():
                raise ObservationsError(f"table [{self._table}]: no file matches {name!r}.")
            short = name.rsplit("/", 1)[-1]
            acquired = self.rules.acquired or _date_in(short)
            item = Item(short, acquired, 0.0, None, shapely.Point(), name)
            if self.rules.years and not set(self.rules.years) & set(dates.years(acquired)):
                other_years.update(dates.years(acquired) if acquired != UNDATED else ())
                continue
            self._opened[name] = source = self._open(item)
            if isinstance(source, str):
                unusable[item.name] = source
            else:
                items.append(replace(item, outline=shapely.box(*source.reach)))
        if not items and not unusable:
            seen = ", ".join(map(str, sorted(other_years))) or "no year that is known"
            raise ObservationsError(
                f"table [{self._table}]: no file is of the years "
                f"{', '.join(map(str, self.rules.years))}: they are of {seen}. Correct `years`, or "
                "say by `acquired` when they were taken."
            )
        return items, unusable


def _refuse_scales(source: RasterSource) -> None:
    """Refuse an image whose numbers are scaled: a set keeps them as bytes.

    Raises:
        MeaningError: with scale and offset.
    """
    scale, offset = next(pair for pair in source.scales if pair != (1.0, 0.0))
    raise MeaningError(
        f"{source.label} declares scale {scale:g} and offset {offset:g}, and its numbers are "
        "taken as they are. Write it anew with `gdal_translate -unscale`, and `-ot Byte "
        "-scale` if it is a picture."
    )


def _date_in(name: str) -> str:
    """Return the date YYYYMMDD in a file's name."""
    for digits in _DATE_IN_NAME.findall(name):
        with suppress(ValueError):  # eight digits that are no date
            return date.fromisoformat(digits).isoformat()
    return UNDATED


def _check_unchanged(known: dict[str, str], item: Item, digest: str, url: str) -> None:
    """Note the hash of an item, or compare it with the one noted before.

    Raises:
        ReplacedError: the hash is another.
    """
    if known.setdefault(item.name, digest) != digest:
        raise ReplacedError(
            f"the image {item.name} of {url} changed during the build, and the set would become a "
            "mixture. Name another --out, or remove the set."
        )


@dataclass(frozen=True, eq=False)
class CataloguePatches:
    """Patches cut from a catalogue."""

    cut: CutPatches
    origins: list[Origin]
    reasons: list[str]
    """Reason why a location has no patch; empty if it has one."""
    unusable: dict[str, str]
    """Items of the catalogue that were skipped, and the reason for each."""
    items: dict[str, str]
    """Items of the catalogue that were used, and a hash of each."""
    kept: dict[int, KeptFinding]
    """Rows whose patch an earlier set holds, so that it was not cut."""
