"""Why a polygon has or lacks a mean vector, in tables, errors and one warning."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unigeo.client.areas.polygon_rings import Polygons, row_label
from unigeo.client.points.missing_points import COLUMNS_HINT, describe_extents, likely_cause
from unigeo.client.reading.point_status import (
    NO_POSITION,
    STATUS_TEXTS,
    count_reasons,
    text_positions,
)
from unigeo.schemas.errors import RegionError, RegionWarning, StoreError
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.reading.stored_field import StoredField

NO_POLYGON = NO_POSITION
"""Code of a row without a shape."""
POLYGON_TEXTS = STATUS_TEXTS | {NO_POLYGON: "no polygon"}
"""What each code means, as tables and messages print it."""
_SHOWN = 5
_HERE = (str(Path(__file__).parents[1]),)


def known_codes(codes: UInt8[np.ndarray, "row col"]) -> UInt8[np.ndarray, "row col"]:
    """The statuses of cells, of which each is one of `Status`.

    Raises:
        StoreError: if one is not.
    """
    if codes.size and codes.max() >= len(Status):
        raise StoreError(
            f"a cell has the status {codes.max()}, which this version does not know: update unigeo"
        )
    return codes


def status_of(
    cells: Float[np.ndarray, "polygon reason"],
    area: Float[np.ndarray, " polygon"],
    missing: Bool[np.ndarray, " polygon"],
) -> UInt8[np.ndarray, " polygon"]:
    """Say why each polygon has or lacks a vector.

    Args:
        cells: the polygon's area by the status of the cells in it, in cells.
        area: all of the polygon's area, on the field or off it.
        missing: which rows have no shape.

    Returns:
        `VALID` where any cell is; else the status of most of the area, which is
        `OUTSIDE_REGION` off the field; `NO_POLYGON` without a shape.
    """
    reasons = cells.copy()
    reasons[:, Status.OUTSIDE_REGION] += np.maximum(area - cells.sum(axis=1), 0.0)
    codes = reasons.argmax(axis=1)
    codes[cells[:, Status.VALID] > 0] = Status.VALID
    codes[missing] = NO_POLYGON
    return codes.astype(np.uint8)


def in_words(codes: UInt8[np.ndarray, " polygon"]) -> "pd.Categorical":
    """The codes as a table shows them."""
    import pandas as pd

    kinds = pd.CategoricalDtype(list(POLYGON_TEXTS.values()))
    return pd.Categorical.from_codes(text_positions(codes), dtype=kinds)


def summary(codes: UInt8[np.ndarray, " polygon"], what: str = "vector") -> str:
    """How many polygons lack a vector, and why."""
    lost = int((codes != Status.VALID).sum())
    reasons = count_reasons(codes, POLYGON_TEXTS)
    return f"{lost:,} of {len(codes):,} polygons have no {what} ({reasons})"


def raise_if_missing(codes: dict[str, UInt8[np.ndarray, " polygon"]], index: Any) -> None:
    """Raise if a polygon lacks a vector.

    Raises:
        RegionError: with the count of each reason and the first such rows.
    """
    for modality, status in codes.items():
        rows = np.flatnonzero(status != Status.VALID)
        if len(rows):
            named = ", ".join(
                f"{row_label(row, index)} {POLYGON_TEXTS[int(status[row])]}"
                for row in rows[:_SHOWN].tolist()
            )
            more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
            raise RegionError(
                f"{summary(status, f'{modality} vector')}: {named}{more}. Pass missing='nan' to "
                "keep their rows empty, or missing='drop' to leave them out."
            )


def warn_of_missing(
    field: "StoredField", polygons: Polygons, codes: UInt8[np.ndarray, " polygon"]
) -> None:
    """Warn of rows without a shape, and where most polygons lie off the field.

    Args:
        field: that was asked.
        polygons: all that were asked for.
        codes: their status in the first modality.

    Warns:
        RegionWarning: one, with what is to be done.
    """
    counts = np.bincount(codes, minlength=256)
    shapeless = int(counts[NO_POLYGON])
    outside, water = int(counts[Status.OUTSIDE_REGION]), int(counts[Status.WATER])
    why = None
    if 2 * (outside + water) > len(codes) - shapeless:
        why = _why_off(field, polygons, sure=2 * outside > len(codes) - shapeless)
    told = [f"{summary(codes)}."] if why or 2 * (outside + shapeless) > len(codes) else []
    if why:
        told.append(why)
    if shapeless:
        row = int(np.argmax(codes == NO_POLYGON))
        told.append(
            f"{shapeless:,} of {len(codes):,} rows have no polygon (no shape, or an empty one), "
            f"the first in {polygons.label(row)}."
        )
    if told:
        # The line that is shown is the user's: the first one outside of this package.
        warnings.warn(" ".join(told), RegionWarning, skip_file_prefixes=_HERE, stacklevel=2)


def why_off_the_field(field: "StoredField", polygons: Polygons) -> str:
    """The likeliest cause that polygons lie off the field, or where they and the field lie."""
    return _why_off(field, polygons, sure=True) or ""


def _why_off(field: "StoredField", polygons: Polygons, *, sure: bool) -> str | None:
    """As above; without being sure, None where no cause explains it."""
    middles, corners = _middles_and_corners(polygons)
    cause = likely_cause(middles, field.modality(field.modalities[0]))
    if cause is not None:
        return cause.replace(COLUMNS_HINT, "")
    return describe_extents(corners, field.grid) if sure else None


def _middles_and_corners(polygons: Polygons) -> tuple[Points, Points]:
    """The middle of each polygon's first ring, in its own CRS too; and the corners of its box."""
    _, ring = np.unique(polygons.row, return_index=True)
    low = np.minimum.reduceat(polygons.lonlat, polygons.first[:-1])[ring]
    high = np.maximum.reduceat(polygons.lonlat, polygons.first[:-1])[ring]
    corners, lonlat = Points(np.concatenate([low, high])), (low + high) / 2
    if polygons.crs is None:
        return Points(lonlat), corners
    from pyproj import Transformer

    from_wgs84 = Transformer.from_crs("OGC:CRS84", polygons.crs, always_xy=True)
    xy = np.stack(from_wgs84.transform(*lonlat.T), axis=-1)
    return Points(lonlat, xy=xy, crs=polygons.crs), corners
