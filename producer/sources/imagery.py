"""Patches of aerial images and surface models, as a set keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.producer.sources.findings import Finding, SourceFindings
from unigeo.producer.sources.raster_catalogue import Catalogue, CataloguePatches
from unigeo.producer.sources.set_description import SurfaceRules

TERRAIN = "terrain "
"""Before the names of a terrain model's items."""


@dataclass(frozen=True, eq=False)
class AerialSource:
    """Aerial images of places."""

    catalogue: Catalogue

    @property
    def reach_m(self) -> float:
        """From a place to a corner of its patch, in metres."""
        return self.catalogue.frame.patch_m / 2**0.5

    def observe(self, lonlat: Float[np.ndarray, "location 2"]) -> SourceFindings:
        """One patch of uint8 per place."""
        cuts = self.catalogue.cut(lonlat, np.uint8)
        found = [
            Finding(None if reason else value, origin, reason)
            for value, origin, reason in zip(
                cuts.cut.patches.values, cuts.origins, cuts.reasons, strict=True
            )
        ]
        return SourceFindings(found, cuts.unusable, cuts.items)

    def current_items(self, names: Sequence[str]) -> dict[str, str]:
        """What the catalogue has under some names now."""
        return self.catalogue.current_items(names)

    def provenance(self) -> dict[str, Any]:
        """JSON: the settings."""
        return self.catalogue.provenance()


@dataclass(frozen=True, eq=False)
class SurfaceSource:
    """Heights of the surface round places, in metres above what the rule names."""

    about: SurfaceRules
    catalogue: Catalogue
    terrain: Catalogue | None = None

    @property
    def reach_m(self) -> float:
        """From a place to a corner of its patch, in metres."""
        return self.catalogue.frame.patch_m / 2**0.5

    def observe(self, lonlat: Float[np.ndarray, "location 2"]) -> SourceFindings:
        """One patch of float32 metres per place, NaN where there is a void."""
        cuts = self.catalogue.cut(lonlat, np.float32)
        below = None if self.terrain is None else self.terrain.cut(lonlat, np.float32)
        results = []
        for place, reason in enumerate(cuts.reasons):
            if not reason and below is not None and below.reasons[place]:
                reason = f"no terrain: {below.reasons[place]}"
            if reason:
                results.append(Finding(None, cuts.origins[place], reason))
                continue
            metres = self._metres(cuts, place)
            ground = self._ground(metres) if below is None else self._metres(below, place)
            relative = (metres - ground).astype(np.float32)
            numbers = dict(cuts.origins[place].numbers)
            numbers["ground_m"] = round(float(np.nanmean(ground)), 2)
            results.append(Finding(relative, replace(cuts.origins[place], numbers=numbers)))
        if below is None:
            return SourceFindings(results, cuts.unusable, cuts.items)
        of_terrain = {f"{TERRAIN}{name}": told for name, told in below.items.items()}
        return SourceFindings(results, cuts.unusable | below.unusable, cuts.items | of_terrain)

    def current_items(self, names: Sequence[str]) -> dict[str, str]:
        """What the catalogues have under some names now."""
        own = [name for name in names if not name.startswith(TERRAIN)]
        found = self.catalogue.current_items(own)
        if self.terrain is not None:
            below = [name.removeprefix(TERRAIN) for name in names if name.startswith(TERRAIN)]
            told = self.terrain.current_items(below).items()
            found |= {f"{TERRAIN}{name}": identity for name, identity in told}
        return found

    def _metres(self, cuts: CataloguePatches, place: int) -> Float[np.ndarray, "row col"]:
        """Heights above the datum; NaN where nothing was observed."""
        values = cuts.cut.patches.values[place, 0].astype(np.float64)
        return np.where(cuts.cut.observed[place], values, np.nan)

    def _ground(self, metres: Float[np.ndarray, "row col"]) -> Float[np.ndarray, ""]:
        if self.about.ground == "none":
            return np.asarray(0.0)
        return np.asarray(float(np.nanpercentile(metres, self.about.percentile)))

    def provenance(self) -> dict[str, Any]:
        """JSON: the settings."""
        return self.about.model_dump(mode="json")
