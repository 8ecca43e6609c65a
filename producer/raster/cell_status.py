"""Status of cells before anything is encoded: outside the region, on water, or to be encoded."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unigeo.schemas.geo.regions import Region
from unigeo.schemas.store.status import Status

Land = Callable[[Float[np.ndarray, "point 2"]], Bool[np.ndarray, " point"]]
"""Returns whether each point is on land."""


def status_before_encoding(
    lonlat: Float[np.ndarray, "cell 2"], land: Land, region: Region | None = None
) -> UInt8[np.ndarray, " cell"]:
    """Return the status that cells have before encoding; `VALID` marks those to be encoded.

    Args:
        lonlat: centres of the cells, in degrees.
        land: returns whether points are on land.
        region: region of the store; None if all cells are known to be inside.
    """
    status = np.full(len(lonlat), Status.OUTSIDE_REGION, np.uint8)
    inside = np.arange(len(lonlat)) if region is None else np.flatnonzero(region.contains(lonlat))
    if len(inside):
        status[inside] = np.where(land(lonlat[inside]), Status.VALID, Status.WATER)
    return status


def reset_status(status: UInt8[np.ndarray, "row col"]) -> UInt8[np.ndarray, "row col"]:
    """Return the status that the cells of a finished shard had before encoding."""
    left_out = (status == Status.OUTSIDE_REGION) | (status == Status.WATER)
    return np.asarray(np.where(left_out, status, np.uint8(Status.VALID)))
