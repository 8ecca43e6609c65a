"""Status of polygons: why each has or lacks a mean vector, in tables, errors and one warning."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from unigeo.client.points.missing_points import COLUMNS_HINT, describe_extents, likely_cause
from unigeo.client.reading.point_status import STATUS_TEXTS, count_reasons
from unigeo.client.reading.sampling import numbers_of
from unigeo.client.shapes.area_status import NO_SHAPE
from unigeo.client.shapes.polygon_rings import Polygons, row_label
from unigeo.schemas.errors import RegionError, RegionWarning
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.reading.stored_field import StoredField

NO_WEIGHT = 254
"""Code of a polygon with valid cells, none of which has a weight above 0."""
POLYGON_TEXTS = STATUS_TEXTS | {NO_SHAPE: "no polygon", NO_WEIGHT: "no weight"}
"""Text of each code, as tables and messages print it."""
_SHOWN = 5
"""Rows that a message names."""
_OWN_FILES = (str(Path(__file__).parents[1]),)
"""Prefix of this package's files: a warning shows the first line outside of them, the user's."""


def status_texts(codes: UInt8[np.ndarray, " polygon"], weighted: bool = False) -> "pd.Categorical":
    """Return the text of each code, as tables show it; `no weight` is one if cells are weighted."""
    import pandas as pd

    texts = {code: text for code, text in POLYGON_TEXTS.items() if weighted or code != NO_WEIGHT}
    positions = np.full(256, -1)
    positions[list(texts)] = np.arange(len(texts))
    categories = pd.CategoricalDtype(list(texts.values()))
    return pd.Categorical.from_codes(positions[codes], dtype=categories)


def summary(codes: UInt8[np.ndarray, " polygon"], what: str = "vector") -> str:
    """Count the polygons without a vector, by reason."""
    lacking = int((codes != Status.VALID).sum())
    reasons = count_reasons(codes, POLYGON_TEXTS)
    return f"{lacking:,} of {len(codes):,} polygons have no {what} ({reasons})"


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
                f"{summary(status, numbers_of(modality))}: {named}{more}. Pass missing='nan' to "
                "keep their rows empty, or missing='drop' to leave them out."
            )


def warn_of_missing(
    field: "StoredField", polygons: Polygons, codes: UInt8[np.ndarray, " polygon"]
) -> None:
    """Warn of rows without a shape, and where most polygons lie off the field or have no weight.

    Args:
        field: the field that was read.
        polygons: all polygons of the request.
        codes: their status in the first modality.

    Warns:
        RegionWarning: one, with what to do.
    """
    counts = np.bincount(codes, minlength=256)
    shapeless = int(counts[NO_SHAPE])
    outside, water = int(counts[Status.OUTSIDE_REGION]), int(counts[Status.WATER])
    why = None
    if 2 * (outside + water) > len(codes) - shapeless:
        why = _why_off(field, polygons, sure=2 * outside > len(codes) - shapeless)
    most_lacking = 2 * (outside + shapeless) > len(codes)
    sentences = [f"{summary(codes)}."] if why or most_lacking else []
    if why:
        sentences.append(why)
    if shapeless:
        row = int(np.argmax(codes == NO_SHAPE))
        sentences.append(
            f"{shapeless:,} of {len(codes):,} rows have no polygon (no shape, or an empty one), "
            f"the first in {polygons.label(row)}."
        )
    weightless = int(counts[NO_WEIGHT])
    if 2 * weightless > len(codes):
        sentences.append(
            f"{weightless:,} of {len(codes):,} polygons hold no cell with a weight above 0: the "
            "weights are 0 or no data there, or lie elsewhere."
        )
    if sentences:
        message = " ".join(sentences)
        warnings.warn(message, RegionWarning, skip_file_prefixes=_OWN_FILES, stacklevel=2)


def why_off_the_field(field: "StoredField", polygons: Polygons) -> str:
    """Return the likeliest cause that polygons lie off the field, or where both lie."""
    return _why_off(field, polygons, sure=True) or ""


def _why_off(field: "StoredField", polygons: Polygons, *, sure: bool) -> str | None:
    """Return the likeliest cause; if none explains it, where both lie if `sure`, else None."""
    centres, corners = _centres_and_corners(polygons)
    cause = likely_cause(centres, field.modality(field.modalities[0]))
    if cause is not None:
        return cause.replace(COLUMNS_HINT, "")
    return describe_extents(corners, field.grid) if sure else None


def _centres_and_corners(polygons: Polygons) -> tuple[Points, Points]:
    """Return the centre of each polygon's first ring, and the corners of the ring's box.

    The centres are in the polygons' CRS too, in which a likely cause is looked for.
    """
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
