"""Splits of a set: locations to train on, and those held out by area or by year.

Whole S2 cells of a coarse level, chosen by a hash of the cell, are held out, and optionally a
polygon. A location whose footprint (its patches, and the reach of its street images) touches
another split is in none, so that no image and no panorama is seen from two splits.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.producer.observations.raster_files.patch_frames import local_lonlat
from unigeo.producer.sources import s2
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import Region

TRAIN, SPATIAL, REGION, TEMPORAL, BORDER = "train", "spatial", "region", "temporal", "border"
NAMES = (TRAIN, SPATIAL, REGION, TEMPORAL, BORDER)
"""Splits of a set; `border` locations are not observed."""
_RING = 64
"""Number of points on a circle at which the splits of a footprint are tested."""
_BEYOND = 1.1
"""Radius of the largest such circle, relative to the footprint: a cell that reaches into the
footprint between two points of a smaller circle is wider there, and so hits this one."""


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """What is held out; the polygon apart."""

    spatial_level: int = 10
    """S2 level of the cells held out whole, about 8 km across."""
    spatial_share: float = 0.0
    """Share of those cells that is held out, from 0 to below 1."""
    temporal_years: tuple[int, ...] = ()
    """Years; a location with an observation of one of them is held out."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.spatial_share < 1:
            raise ObservationsError(
                f"[splits]: spatial_share is from 0 to below 1, not {self.spatial_share}."
            )
        if not 0 <= self.spatial_level <= s2.LEVELS:
            raise ObservationsError(f"[splits]: there is no S2 level {self.spatial_level}.")


def split_numbers(
    lonlat: Float[np.ndarray, "point 2"], splitting: Splitting, held_out: Region | None
) -> Int[np.ndarray, " point"]:
    """Return the index in `NAMES` of the split that each point lies in, regardless of years."""
    number = np.zeros(len(lonlat), np.int64)
    if splitting.spatial_share:
        cells = s2.cell_ids(lonlat, splitting.spatial_level)
        number[_hash(cells, splitting.seed) < splitting.spatial_share] = NAMES.index(SPATIAL)
    if held_out is not None:
        number[held_out.contains(lonlat)] = NAMES.index(REGION)
    return number


def split(
    lonlat: Float[np.ndarray, "location 2"],
    reach_m: float,
    splitting: Splitting,
    held_out: Region | None = None,
) -> list[str]:
    """Name the split of each location; `border` where its footprint touches two.

    Args:
        lonlat: WGS 84 degrees.
        reach_m: radius of a footprint: how far from a location its observations reach, in metres.
        splitting: what is held out by cell.
        held_out: region that is held out.
    """
    number = split_numbers(lonlat, splitting, held_out)
    crosses = np.zeros(len(lonlat), bool)
    if len(lonlat) and (splitting.spatial_share or held_out is not None):
        angle = np.linspace(0, 2 * np.pi, _RING, endpoint=False)
        # Three circles, as a cell or polygon may be smaller than the footprint and lie inside one.
        for radius in (0.5 * reach_m, reach_m, _BEYOND * reach_m):
            ring = local_lonlat(lonlat, radius * np.sin(angle), radius * np.cos(angle))
            on_ring = split_numbers(ring.reshape(-1, 2), splitting, held_out)
            crosses |= (on_ring.reshape(len(lonlat), -1) != number[:, None]).any(axis=1)
    return [BORDER if edge else NAMES[k] for k, edge in zip(number, crosses, strict=True)]


def hold_out_years(in_years: Bool[np.ndarray, " location"], splits: list[str]) -> list[str]:
    """Hold out those training locations that have an observation in the held-out years."""
    return [
        TEMPORAL if late and name == TRAIN else name
        for late, name in zip(in_years, splits, strict=True)
    ]


def _hash(cells: np.ndarray, seed: int) -> Float[np.ndarray, " cell"]:
    """Hash each cell to a number from 0 to 1, by the finalizer of SplitMix64 applied twice."""
    with np.errstate(over="ignore"):
        number = cells + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        for _ in range(2):
            number = number + np.uint64(0x9E3779B97F4A7C15)
            number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            number = number ^ (number >> np.uint64(31))
    hashed: Float[np.ndarray, " cell"] = number.astype(np.float64) / 2.0**64
    return hashed
