"""Catalogues of rasters (a STAC API or a list of GeoTIFFs), and patches cut from the best items."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Bool, Float

from unigeo.producer.observations.folder import dates
from unigeo.producer.observations.patches import GAP_NAMES, Gap, Patches
from unigeo.producer.observations.raster_files.patch_frames import Frame
from unigeo.producer.observations.raster_files.raster_patches import CutPatches, cut
from unigeo.producer.sources.findings import KeptFinding, KeptModality, Origin
from unigeo.producer.sources.item_rasters import UNDATED, ItemRasters, check_unchanged
from unigeo.producer.sources.set_description import ImageryRules
from unigeo.producer.sources.stac_items import (
    Item,
    box_round,
    footprints,
    rank_items,
    search,
    search_by_name,
)
from unigeo.producer.sources.web_requests import GoneError, WebClient


@dataclass(eq=False)
class Catalogue:
    """Rasters of a STAC API, or files that are named; several threads may cut from it."""

    rules: ImageryRules
    web: WebClient
    earlier: KeptModality | None = None
    """Patches of an earlier set, which need not be cut where the same items are chosen."""
    _digests: dict[str, str] = field(default_factory=dict)
    """Hashes of the metadata of items that were cut from."""
    _rasters: ItemRasters = field(init=False)

    def __post_init__(self) -> None:
        self._rasters = ItemRasters(self.rules, self.web)

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
        known = self._rasters.identities
        digests = {one.name: known[one.name] if one.digest else "" for one in chosen}
        return self.earlier.find_cut(lonlat, digests)

    def check_files(self) -> None:
        """Open every file that the settings name, before any location is observed.

        Raises:
            ObservationsError: a file is missing, or cannot be read; the message names it.
        """
        if self.rules.kind == "files":
            self._rasters.named_files()

    def current_items(self, names: Sequence[str]) -> dict[str, str]:
        """Return the present hash of those items of some names that the catalogue has."""
        if self.rules.kind == "files":
            return {}
        items = search_by_name(
            self.web, self.rules.url, self.rules.collections, names, self.rules.asset
        )
        identities = {}
        for item in items:
            with suppress(GoneError):
                identities[item.name] = self._rasters.present_identity(item)
        return identities

    def _used_identity(self, item: Item) -> str:
        """Return the hash of an item that was cut from.

        Raises:
            ReplacedError: the catalogue's metadata of it changed.
        """
        check_unchanged(self._digests, item, item.digest, self.rules.url)
        return self._rasters.identities[item.name]

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
        opened = [self._rasters.opened(item) for item in chosen]
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
                source = self._rasters.source(item, dtype)
                if isinstance(source, str):
                    bad[item.name] = reason = source
            if not bad:
                return chosen, reason
            unusable.update(bad)
            left = [item for item in left if item.name not in bad]

    def _items(self, squares: Sequence[shapely.Geometry]) -> tuple[list[Item], dict[str, str]]:
        """Return the items that may touch the footprints, and those that cannot be used."""
        if self.rules.kind == "files":
            return self._rasters.named_files()
        return search(
            self.web, self.rules.url, self.rules.collections, box_round(squares),
            self.rules.years, self.rules.asset,
        )  # fmt: skip


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
