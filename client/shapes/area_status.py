"""Status of areas: why each has or lacks a vector, from the area of its cells by their status."""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unigeo.client.reading.point_status import NO_POSITION
from unigeo.client.shapes.coverage import Cover
from unigeo.schemas.errors import StoreError
from unigeo.schemas.store.status import Status

NO_SHAPE = NO_POSITION
"""Code of an area without a shape, or of a disc without a position."""
ROUNDING = 1e-9
"""Difference of a share from 0 or 1 that is rounding."""


def check_codes(codes: UInt8[np.ndarray, "*cell"]) -> UInt8[np.ndarray, "*cell"]:
    """Return the status codes of cells, all of which are of `Status`.

    Raises:
        StoreError: if one is unknown.
    """
    if codes.size and codes.max() >= len(Status):
        raise StoreError(
            f"a cell has the status {codes.max()}, which this version does not know: update unigeo"
        )
    return codes


def add_areas(
    cells: Float[np.ndarray, "area reason"], part: Cover, codes: UInt8[np.ndarray, " entry"]
) -> None:
    """Add the shares of cells, whose status codes are given, to each area's cells by status."""
    # One count over pairs of area and status.
    key = part.polygon * len(Status) + codes
    cells += np.bincount(key, part.share, minlength=cells.size).reshape(cells.shape)


def status_of(
    cells: Float[np.ndarray, "area reason"],
    size: Float[np.ndarray, " area"],
    missing: Bool[np.ndarray, " area"],
) -> UInt8[np.ndarray, " area"]:
    """Return the status of each area.

    Args:
        cells: the area that cells of each status cover, in cells.
        size: full area, on the field or off it, in cells.
        missing: whether each area has no shape.

    Returns:
        `VALID` if any cell is; else the status of most of the area, which is
        `OUTSIDE_REGION` off the field; `NO_SHAPE` without a shape.
    """
    areas = cells.copy()
    areas[:, Status.OUTSIDE_REGION] += np.maximum(size - cells.sum(axis=1), 0.0)
    codes = areas.argmax(axis=1)
    codes[cells[:, Status.VALID] > 0] = Status.VALID
    codes[missing] = NO_SHAPE
    return codes.astype(np.uint8)


def shares_of(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return parts of a total, 0 to 1; 0 where the total is 0."""
    shares = np.divide(part, total, out=np.zeros(part.shape), where=total > 0)
    return np.clip(np.where(shares > 1 - ROUNDING, 1.0, shares), 0.0, 1.0)
