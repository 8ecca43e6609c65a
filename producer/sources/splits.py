"""Which part of a set each place belongs to: learnt from, or held out by place or by year.

A held-out part is whole S2 cells of a coarse level, chosen by a hash of the cell, or a polygon. A
place whose footprint (its patches, and the reach of its photographs) touches another part belongs
to none: so no image and no panorama is seen from two parts.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.producer.observations.geotiff.patch_frames import local_lonlat
from unigeo.producer.sources import s2
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import Region

TRAIN, SPATIAL, REGION, TEMPORAL, BORDER = "train", "spatial", "region", "temporal", "border"
NAMES = (TRAIN, SPATIAL, REGION, TEMPORAL, BORDER)
"""Parts of a set; `border` places are not observed."""
_RING = 64
_BEYOND = 1.1
"""A footprint is looked at along circles of up to so many times its radius: a cell that pokes into
the footprint between two places of the ring is wider there."""


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """What is held out."""

    spatial_level: int = 10
    """S2 level of the cells held out whole, about 8 km across."""
    spatial_share: float = 0.0
    """Share of those cells, 0 to below 1."""
    temporal_years: tuple[int, ...] = ()
    """A place with an observation of one of these years is held out."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.spatial_share < 1:
            raise ObservationsError(
                f"[splits]: spatial_share is from 0 to below 1, not {self.spatial_share}."
            )
        if not 0 <= self.spatial_level <= s2.LEVELS:
            raise ObservationsError(f"[splits]: there is no S2 level {self.spatial_level}.")


def part_numbers(
    lonlat: Float[np.ndarray, "point 2"], how: Splitting, apart: Region | None
) -> Int[np.ndarray, " point"]:
    """Number in `NAMES` of the part that each point lies in, by place alone."""
    part = np.zeros(len(lonlat), np.int64)
    if how.spatial_share:
        cells = s2.cell_ids(lonlat, how.spatial_level)
        part[_hashed(cells, how.seed) < how.spatial_share] = NAMES.index(SPATIAL)
    if apart is not None:
        part[apart.contains(lonlat)] = NAMES.index(REGION)
    return part


def split(
    lonlat: Float[np.ndarray, "location 2"],
    reach_m: float,
    how: Splitting,
    apart: Region | None = None,
) -> list[str]:
    """Name the part of each place; `border` where its footprint touches two.

    Args:
        lonlat: WGS 84 degrees.
        reach_m: how far from a place its observations look, in metres.
        how: what is held out by cell.
        apart: what is held out as out of region.
    """
    own = part_numbers(lonlat, how, apart)
    crosses = np.zeros(len(lonlat), bool)
    if len(lonlat) and (how.spatial_share or apart is not None):
        angle = np.linspace(0, 2 * np.pi, _RING, endpoint=False)
        for radius in (0.5 * reach_m, reach_m, _BEYOND * reach_m):
            ring = local_lonlat(lonlat, radius * np.sin(angle), radius * np.cos(angle))
            seen = part_numbers(ring.reshape(-1, 2), how, apart).reshape(len(lonlat), -1)
            crosses |= (seen != own[:, None]).any(axis=1)
    return [BORDER if edge else NAMES[k] for k, edge in zip(own, crosses, strict=True)]


def hold_out_years(years: Bool[np.ndarray, " location"], parts: list[str]) -> list[str]:
    """Hold out by year those places of the training part that `years` marks."""
    return [
        TEMPORAL if late and part == TRAIN else part
        for late, part in zip(years, parts, strict=True)
    ]


def _hashed(cells: np.ndarray, seed: int) -> Float[np.ndarray, " cell"]:
    """A number from 0 to 1 for each cell: SplitMix64's finalizer, twice."""
    with np.errstate(over="ignore"):
        number = cells + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        for _ in range(2):
            number = number + np.uint64(0x9E3779B97F4A7C15)
            number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            number = number ^ (number >> np.uint64(31))
    hashed: Float[np.ndarray, " cell"] = number.astype(np.float64) / 2.0**64
    return hashed
