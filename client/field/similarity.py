"""Similarity of every cell to a query: the cosine of its vector with the query's."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.areas.windows import iter_pieces, region_of_field
from unigeo.client.reading.point_status import count_reasons
from unigeo.client.reading.sampling import sample
from unigeo.schemas.errors import PointsError
from unigeo.schemas.geo.great_circle import METRES_PER_DEGREE, great_circle_m
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, Grid, from_wgs84
from unigeo.schemas.geo.projection import equal_earth_m
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.concepts import centred
from unigeo.schemas.store.layout import georeference, spatial_ref_attributes
from unigeo.schemas.store.quantization import dequantize
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.numeric_values import as_numbers
from unigeo.schemas.tables.object_types import kind_of
from unigeo.schemas.tables.points import read_points

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from unigeo.client.field.by_likeness import ByLikeness

_BLOCK_CELLS = 8192
"""Vectors compared together in float32; they take 25 MB at 768 bands."""


def query_vector(field: "ByLikeness", query: Any, modality: str) -> Float[np.ndarray, " band"]:
    """Return the unit vector of a query: a vector, a point, or the mean of several points.

    Raises:
        PointsError: if it is none of these, or a point has no vector.
    """
    if _is_vector(query, field.layout.width(modality)):
        vector = as_numbers(query, "the vector")
    else:
        _check_width(field, query, modality)
        vector = _mean_of_points(field, query, modality)
    length = np.linalg.norm(vector)
    if not (np.isfinite(length) and length > 0):
        raise PointsError("the vector has no direction: it is zero, infinite or NaN")
    return np.asarray(vector / length, np.float32)


def _check_width(field: "ByLikeness", query: Any, modality: str) -> None:
    """Raise if the query is a vector of another modality, with another width.

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
    """Return whether a query has one number for each band; two numbers are a point."""
    if not (isinstance(query, np.ndarray | Sequence) or kind_of(query) in ("series", "xarray")):
        return False
    try:
        return bands != 2 and np.shape(query) == (bands,)
    except ValueError:  # rows of several lengths
        return False


def _mean_of_points(field: "ByLikeness", query: Any, modality: str) -> Float[np.ndarray, " band"]:
    try:
        read = read_points(query, missing="keep")
    except PointsError as error:
        raise PointsError(
            f"the query is neither a vector of {field.layout.width(modality)} numbers nor places: "
            f"{error}"
        ) from error
    if not len(read):
        raise PointsError("no place was given: name one or several, or a vector")
    sampled = sample(field.modality(modality), read)
    lacking = sampled.status != Status.VALID
    if lacking.any():
        row = int(np.argmax(lacking))
        lon, lat = read.lonlat[row]
        raise PointsError(
            f"{lacking.sum():,} of {len(read):,} places of the query have no {modality} vector "
            f"({count_reasons(sampled.status)}), the first in row {row}: longitude {lon:.6g}, "
            f"latitude {lat:.6g}. Name other places, near ones on land that the field covers"
        )
    mean: np.ndarray = sampled.vectors.mean(axis=0, dtype=np.float64)
    return mean


def score_map(
    field: "ByLikeness",
    vector: Float[np.ndarray, " band"],
    modality: str,
    region: Any,
    crs: Any,
    centre: Float[np.ndarray, " band"] | None = None,
) -> "xr.DataArray":
    """Return the cosine of each cell's vector with a unit vector, NaN where there is none.

    Args:
        field: the field.
        vector: unit vector.
        modality: modality of the cells' vectors.
        region: as in `Field.region`; the whole field if None.
        crs: CRS of the region.
        centre: point from which the cells' vectors are seen; the origin by default.
    """

    def cosines(cells: Float[np.ndarray, "cell band"]) -> Float[np.ndarray, "cell 1"]:
        seen = cells if centre is None else centred(cells, centre)
        scores: np.ndarray = np.einsum("cb,b->c", seen, vector)
        return scores[:, None]

    layers = map_cells(
        field,
        modality,
        cosines,
        ("similarity",),
        region,
        crs,
    )
    scores = layers["similarity"]
    scores.attrs = {"long_name": f"cosine of {modality} vectors", **scores.attrs}
    return scores


def map_cells(
    field: "ByLikeness",
    modality: str,
    compute: Callable[[Float[np.ndarray, "cell band"]], Float[np.ndarray, "cell layer"]],
    names: tuple[str, ...],
    region: Any,
    crs: Any,
) -> "xr.Dataset":
    """Compute numbers of every cell from its vector, a few thousand cells at a time.

    Args:
        field: the field.
        modality: its vectors.
        compute: returns the numbers of some cells from their unit vectors, float32.
        names: of the numbers.
        region: as in `Field.region`; the whole field by default.
        crs: CRS of the region's polygons.

    Returns:
        One georeferenced array over y and x for each name, float32, NaN where there is no vector.
    """
    import xarray as xr

    window = field.grid.full_window
    if region is not None:
        _, window = region_of_field(field, region, crs)
    numbers = np.full((len(names), window.height, window.width), np.nan, np.float32)
    for piece in iter_pieces(field, (modality,), region, crs, mask=region is not None):
        row, col = np.nonzero(piece.status[modality] == Status.VALID)
        stored = piece.stored[modality]
        top, left = window.offset_of(piece.window)
        for first in range(0, len(row), _BLOCK_CELLS):
            block = slice(first, first + _BLOCK_CELLS)
            cells = dequantize(stored[row[block], col[block]])
            numbers[:, row[block] + top, col[block] + left] = compute(cells).T
    part = field.grid.crop(window)
    attributes = {"grid_mapping": "spatial_ref", **georeference(part)}
    return xr.Dataset(
        {name: (("y", "x"), layer, attributes) for name, layer in zip(names, numbers, strict=True)},
        coords={
            "y": part.y,
            "x": part.x,
            "spatial_ref": ((), 0, spatial_ref_attributes(part)),
        },
    )


def check_choice(count: Any, apart_km: Any) -> None:
    """Check how many cells are chosen, and how far apart.

    Raises:
        ValueError: saying what they must be.
    """
    whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not whole or count < 1:
        raise ValueError(f"count must be a whole number from 1 on, not {count!r}")
    if not isinstance(apart_km, int | float | np.number) or not 0 <= apart_km < np.inf:
        raise ValueError(f"apart_km must be a distance of 0 km or more, not {apart_km!r}")


def best_cells(
    field: "ByLikeness", scores: "xr.DataArray", count: int, apart_km: float
) -> "pd.DataFrame":
    """Return the cells of highest score, each at least `apart_km` from those before it."""
    import pandas as pd

    remaining = scores.values.copy()
    grid = field.grid.of_centres(scores["x"].values, scores["y"].values)
    within = Window(*field.grid.offset_of(grid), *grid.shape)
    if apart_km == 0:
        return _best_at_once(grid, scores.values, count)
    best: list[tuple[float, float, float]] = []
    while len(best) < count and not np.isnan(remaining).all():
        row, col = np.unravel_index(int(np.nanargmax(remaining)), remaining.shape)
        lon, lat = grid.centres(Window(int(row), int(col), 1, 1))[0, 0].tolist()
        best.append((lon, lat, float(remaining[row, col])))
        remaining[row, col] = np.nan
        _clear_near(field.grid, remaining, within, (lon, lat), apart_km)
    return pd.DataFrame(best, columns=["lon", "lat", "similarity"])


def with_deviations(cells: "pd.DataFrame", scores: Float[np.ndarray, "row col"]) -> "pd.DataFrame":
    """Append by how many standard deviations each score exceeds the mean of all."""
    known = scores[~np.isnan(scores)].astype(np.float64)
    spread = known.std() if known.size else 0.0
    above = cells["similarity"] - (known.mean() if known.size else 0.0)
    return cells.assign(deviations=above / spread if spread > 0 else above * 0.0)


def _best_at_once(grid: Grid, scores: Float[np.ndarray, "row col"], count: int) -> "pd.DataFrame":
    """Return the cells of highest score by one sort; of equal scores the northern and western."""
    import pandas as pd

    flat = scores.ravel()
    known = np.flatnonzero(~np.isnan(flat))
    if count < len(known):  # the `count` best, and those that equal the last of them
        least = np.partition(flat[known], len(known) - count)[len(known) - count]
        known = known[flat[known] >= least]
    best = known[np.argsort(-flat[known], kind="stable")][:count]
    row, col = np.divmod(best, scores.shape[1])
    from_degrees = from_wgs84(grid.crs)
    lon, lat = from_degrees.transform(grid.x[col], grid.y[row], direction="INVERSE")
    return pd.DataFrame({"lon": lon, "lat": lat, "similarity": flat[best].astype(np.float64)})


def _clear_near(
    grid: Grid,
    remaining: Float[np.ndarray, "row col"],
    within: Window,
    lonlat: tuple[float, float],
    apart_km: float,
) -> None:
    """Set the scores of cells nearer than `apart_km` to NaN."""
    window = _window_around(grid, lonlat, apart_km, within)
    with np.errstate(invalid="ignore"):  # centres off the globe are NaN
        near = great_circle_m(grid.centres(window), np.array(lonlat)) < 1000 * apart_km
    remaining[window.shifted(-within.row, -within.col).slices][near] = np.nan


def _window_around(grid: Grid, lonlat: tuple[float, float], km: float, within: Window) -> Window:
    """Return a window that holds every cell nearer than `km`, cropped to `within`.

    The rows follow from the latitudes, since on Equal Earth each row is one latitude. The columns
    follow from the longitudes at which a circle of this radius touches a meridian.
    """
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
    # Sine of the longitude difference to the meridians that touch the circle; from 1 on the circle
    # holds a pole.
    widest = np.sin(np.radians(angle)) / np.cos(np.radians(lat))
    if angle < 90 and widest < 1:
        turn = np.degrees(np.arcsin(widest))
        from_middle = (lon - meridian + 180) % 360 - 180
        if abs(from_middle) + turn < 180:  # else the circle crosses the map's seam
            sides = [np.stack([np.full(65, lon + side), lats], -1) for side in (-turn, turn)]
            x = np.concatenate([equal_earth_m(side, meridian)[0] for side in sides])
            # The meridians are curves on the map, known at 65 latitudes: between two of these they
            # bend by less than a hundredth of the width.
            margin = 0.01 * (x.max() - x.min()) + size
            west = np.floor((x.min() - margin) / size) - grid.col0
            east = np.ceil((x.max() + margin) / size) - grid.col0
    first_row, last_row = np.clip([top, bottom], within.row, within.row + within.height).astype(int)
    first_col, last_col = np.clip([west, east], within.col, within.col + within.width).astype(int)
    return Window(
        int(first_row), int(first_col), int(last_row - first_row), int(last_col - first_col)
    )
