"""Sources of aerial images and surface models, cut from the rasters of a catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from unigeo.producer.sources.findings import Finding, SourceFindings
from unigeo.producer.sources.raster_catalogue import Catalogue, CataloguePatches
from unigeo.producer.sources.set_description import SurfaceRules

TERRAIN = "terrain "
"""Prefix of the names of a terrain model's items, beside those of the surface model."""


@dataclass(frozen=True, eq=False)
class AerialSource:
    """Source of aerial images."""

    catalogue: Catalogue

    @property
    def reach_m(self) -> float:
        """Distance from a location to a corner of its patch, in metres."""
        return self.catalogue.frame.patch_m / 2**0.5

    def observe(self, lonlat: Float[np.ndarray, "location 2"]) -> SourceFindings:
        """Cut one uint8 patch round each location."""
        result = self.catalogue.cut(lonlat, np.uint8)
        findings = [
            Finding(None if reason else value, origin, reason)
            for value, origin, reason in zip(
                result.cut.patches.values, result.origins, result.reasons, strict=True
            )
        ]
        for row, found in result.kept.items():
            findings[row] = Finding(found.value, result.origins[row], kept=True)
        return SourceFindings(findings, result.unusable, result.items)

    def current_items(self, names: Sequence[str]) -> dict[str, str]:
        """Return the present hash of some images of the catalogue."""
        return self.catalogue.current_items(names)


@dataclass(frozen=True, eq=False)
class SurfaceSource:
    """Source of surface models, in metres above the ground or the datum, as the rules say."""

    rules: SurfaceRules
    catalogue: Catalogue
    terrain: Catalogue | None = None
    """Terrain model whose heights are subtracted."""

    @property
    def reach_m(self) -> float:
        """Distance from a location to a corner of its patch, in metres."""
        return self.catalogue.frame.patch_m / 2**0.5

    def observe(self, lonlat: Float[np.ndarray, "location 2"]) -> SourceFindings:
        """Cut one float32 patch of metres round each location, NaN at voids."""
        surface = self.catalogue.cut(lonlat, np.float32)
        terrain, findings = None, []
        if self.terrain is not None and len(surface.kept) < len(lonlat):
            terrain = self.terrain.cut(lonlat, np.float32)
        for row, reason in enumerate(surface.reasons):
            if row in surface.kept:
                value = surface.kept[row].value
                findings.append(Finding(value, surface.origins[row], kept=True))
                continue
            if not reason and terrain is not None and terrain.reasons[row]:
                reason = f"no terrain: {terrain.reasons[row]}"
            if reason:
                findings.append(Finding(None, surface.origins[row], reason))
                continue
            metres = self._heights(surface, row)
            ground = self._ground(metres) if terrain is None else self._heights(terrain, row)
            relative = (metres - ground).astype(np.float32)
            numbers = dict(surface.origins[row].numbers)
            numbers["ground_m"] = round(float(np.nanmean(ground)), 2)
            findings.append(Finding(relative, replace(surface.origins[row], numbers=numbers)))
        if terrain is None:
            return SourceFindings(findings, surface.unusable, surface.items)
        terrain_items = {f"{TERRAIN}{name}": digest for name, digest in terrain.items.items()}
        return SourceFindings(
            findings, surface.unusable | terrain.unusable, surface.items | terrain_items
        )

    def current_items(self, names: Sequence[str]) -> dict[str, str]:
        """Return the present hash of some images of both catalogues."""
        items = self.catalogue.current_items([n for n in names if not n.startswith(TERRAIN)])
        if self.terrain is not None:
            of_terrain = [name.removeprefix(TERRAIN) for name in names if name.startswith(TERRAIN)]
            digests = self.terrain.current_items(of_terrain)
            items |= {f"{TERRAIN}{name}": digest for name, digest in digests.items()}
        return items

    def _heights(self, patches: CataloguePatches, row: int) -> Float[np.ndarray, "row col"]:
        """Return heights above the datum, NaN where nothing was observed."""
        values = patches.cut.patches.values[row, 0].astype(np.float64)
        return np.where(patches.cut.observed[row], values, np.nan)

    def _ground(self, metres: Float[np.ndarray, "row col"]) -> Float[np.ndarray, ""]:
        if self.rules.ground == "none":
            return np.asarray(0.0)
        return np.asarray(float(np.nanpercentile(metres, self.rules.percentile)))
