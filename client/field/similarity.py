"""Where a field is like a place: the cosine of every cell's vector with one of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.areas.windows import iter_pieces, region_of_field
from unigeo.client.reading.point_status import count_reasons
from unigeo.client.reading.sampling import sample
from unigeo.schemas.errors import PointsError
from unigeo.schemas.geo.great_circle import METRES_PER_DEGREE, great_circle_m
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, Grid
from unigeo.schemas.geo.projection import equal_earth_m
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.layout import georeference, spatial_ref_attributes
from unigeo.schemas.store.quantization import dequantize
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.numeric_values import as_numbers
from unigeo.schemas.tables.object_types import kind_of
from unigeo.schemas.tables.points import read_points

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from unigeo.client.field.field import Field

_BLOCK_CELLS = 8192  # vectors compared at once in float32: 25 MB at 768 bands


def query_vector(field: "Field", query: Any, modality: str) -> Float[np.ndarray, " band"]:
    """A unit vector: as it is given, or of a place, or the mean of several places.

    Raises:
        PointsError: if it is neither, or a place has no vector.
    """
    if _is_vector(query, field.layout.width(modality)):
        vector = as_numbers(query, "the vector")
    else:
        _refuse_other_width(field, query, modality)
        vector = _mean_of_places(field, query, modality)
    length = np.linalg.norm(vector)
    if not (np.isfinite(length) and length > 0):
        raise PointsError("the vector has no direction: it is zero, infinite or NaN")
    return np.asarray(vector / length, np.float32)


def _refuse_other_width(field: "Field", query: Any, modality: str) -> None:
    """Refuse a vector of another modality, whose width is another.

    Raises:
        PointsError: naming both widths.
    """
    widths = {"the model": field.bands, **field.layout.widths_of(field.modalities)}
    for other, width in widths.items():
        if _is_vector(query, width):
            raise PointsError(
                f"the query is a vector of {width} numbers, as those of {other} are, and vectors "
                f"of {modality!r} have {field.layout.width(modality)}: they cannot be compared. "
                "Give a place, or a vector of that modality"
            )


def _is_vector(query: Any, bands: int) -> bool:
    """Whether a query has one number for each band; two numbers are a place."""
    if not (isinstance(query, np.ndarray | Sequence) or kind_of(query) in ("series", "xarray")):
        return False
    try:
        return bands != 2 and np.shape(query) == (bands,)
    except ValueError:  # rows of several lengths
        return False


def _mean_of_places(field: "Field", query: Any, modality: str) -> Float[np.ndarray, " band"]:
    try:
        read = read_points(query, missing="keep")
    except PointsError as error:
        raise PointsError(
            f"the query is neither a vector of {field.layout.width(modality)} numbers nor places: "
            f"{error}"
        ) from error
    if not len(read):
        raise PointsError("no place was given: name one or several, or a vector")
    found = sample(field.modality(modality), read)
    lacking = found.status != Status.VALID
    if lacking.any():
        row = int(np.argmax(lacking))
        lon, lat = read.lonlat[row]
        raise PointsError(
            f"{lacking.sum():,} of {len(read):,} places of the query have no {modality} vector "
            f"({count_reasons(found.status)}), the first in row {row}: longitude {lon:.6g}, "
            f"latitude {lat:.6g}. Name other places, near ones on land that the field covers"
        )
    mean: np.ndarray = found.vectors.mean(axis=0, dtype=np.float64)
    return mean


def score_map(
    field: "Field", vector: Float[np.ndarray, " band"], modality: str, region: Any, crs: Any
) -> "xr.DataArray":
    """Cosine of each cell's vector with the given one, NaN where there is none."""
    import xarray as xr

    window = field.grid.full_window
    if region is not None:
        _, window = region_of_field(field, region, crs)
    scores = np.full((window.height, window.width), np.nan, np.float32)
    for piece in iter_pieces(field, (modality,), region, crs, mask=region is not None):
        row, col = np.nonzero(piece.status[modality] == Status.VALID)
        stored = piece.stored[modality]
        top, left = window.offset_of(piece.window)
        for first in range(0, len(row), _BLOCK_CELLS):
            block = slice(first, first + _BLOCK_CELLS)
            cells = dequantize(stored[row[block], col[block]])
            scores[row[block] + top, col[block] + left] = np.einsum("cb,b->c", cells, vector)
    part = field.grid.crop(window)
    return xr.DataArray(
        scores,
        dims=("y", "x"),
        coords={
            "y": part.y,
            "x": part.x,
            "spatial_ref": ((), 0, spatial_ref_attributes(part)),
        },
        name="similarity",
        attrs={
            "long_name": f"cosine of {modality} vectors",
            "grid_mapping": "spatial_ref",
            **georeference(part),
        },
    )


def best_cells(
    field: "Field", scores: "xr.DataArray", count: int, apart_km: float
) -> "pd.DataFrame":
    """The highest cells of a map of scores, each at least `apart_km` from those before it."""
    import pandas as pd

    left = scores.values.copy()
    grid = field.grid.of_centres(scores["x"].values, scores["y"].values)
    within = Window(*field.grid.offset_of(grid), *grid.shape)
    found: list[tuple[float, float, float]] = []
    while len(found) < count and not np.isnan(left).all():
        row, col = np.unravel_index(int(np.nanargmax(left)), left.shape)
        lon, lat = grid.centres(Window(int(row), int(col), 1, 1))[0, 0].tolist()
        found.append((lon, lat, float(left[row, col])))
        left[row, col] = np.nan
        if apart_km > 0:
            _clear(field.grid, left, within, (lon, lat), apart_km)
    return pd.DataFrame(found, columns=["lon", "lat", "similarity"])


def _clear(
    grid: Grid,
    left: Float[np.ndarray, "row col"],
    within: Window,
    lonlat: tuple[float, float],
    apart_km: float,
) -> None:
    """Take out what lies nearer than so far by great circle."""
    window = _around(grid, lonlat, apart_km, within)
    with np.errstate(invalid="ignore"):  # centres off the globe are NaN
        near = great_circle_m(grid.centres(window), np.array(lonlat)) < 1000 * apart_km
    left[window.shifted(-within.row, -within.col).slices][near] = np.nan


def _around(grid: Grid, lonlat: tuple[float, float], km: float, within: Window) -> Window:
    """Cells that hold every place nearer than so far: on this map a row is one latitude."""
    lon, lat = lonlat
    angle = 1000 * km / METRES_PER_DEGREE
    lats = np.clip(np.linspace(lat - angle, lat + angle, 65), -90, 90)
    meridian = CENTRAL_MERIDIANS[grid.crs]
    _, y = equal_earth_m(np.stack([np.full(65, lon), lats], -1), meridian)
    size = grid.resolution_m
    top, bottom = (
        np.floor(-y.max() / size) - grid.row0 - 1,
        np.ceil(-y.min() / size) - grid.row0 + 1,
    )
    west, east = -np.inf, np.inf
    widest = np.sin(np.radians(angle)) / np.cos(np.radians(lat))
    if angle < 90 and widest < 1:
        turn = np.degrees(np.arcsin(widest))
        from_middle = (lon - meridian + 180) % 360 - 180
        if abs(from_middle) + turn < 180:  # else it goes round the map's edge
            sides = [np.stack([np.full(65, lon + side), lats], -1) for side in (-turn, turn)]
            x = np.concatenate([equal_earth_m(side, meridian)[0] for side in sides])
            # Between two of the latitudes the edge bends by less than a hundredth of the width.
            spare = 0.01 * (x.max() - x.min()) + size
            west = np.floor((x.min() - spare) / size) - grid.col0
            east = np.ceil((x.max() + spare) / size) - grid.col0
    first_row, last_row = np.clip([top, bottom], within.row, within.row + within.height).astype(int)
    first_col, last_col = np.clip([west, east], within.col, within.col + within.width).astype(int)
    return Window(
        int(first_row), int(first_col), int(last_row - first_row), int(last_col - first_col)
    )
