"""Spatial hold-out: whole blocks of the map are held out, rather than single locations."""

import numpy as np
from jaxtyping import Bool, Float

from unigeo.schemas.geo.projection import equal_earth_m


def held_out(
    lonlat: Float[np.ndarray, "point 2"], block_km: float, share: float, seed: int
) -> Bool[np.ndarray, " point"]:
    """Return whether each point lies in a held-out block.

    Blocks are squares of the global Equal Earth map (EPSG:8857), hence of equal area. A hash of the
    block's row, its column and the seed decides, so that further points leave the split unchanged.

    Args:
        lonlat: WGS 84 degrees, longitude first.
        block_km: side of a block.
        share: expected share of held-out blocks, 0 to 1.
        seed: another seed holds out other blocks.
    """
    x, y = equal_earth_m(lonlat, 0.0)
    side = block_km * 1000
    col, row = (np.floor(np.asarray(v) / side).astype(np.int64).view(np.uint64) for v in (x, y))
    mixed = _mix(_mix(_mix(np.uint64(seed) + np.zeros_like(col)) ^ col) ^ row)
    return mixed.astype(np.float64) / 2.0**64 < share  # the hash as a uniform number from 0 to 1


def _mix(number: np.ndarray) -> np.ndarray:
    """Apply SplitMix64's finalizer: each bit of the result depends on every bit of the number."""
    with np.errstate(over="ignore"):
        number = number + np.uint64(0x9E3779B97F4A7C15)
        number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = number ^ (number >> np.uint64(31))
    return mixed
