"""Vectors at points: of the cell that holds a point, or interpolated between nearby cells."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from unigeo.client.progress import progress_bar
from unigeo.client.reading.cell_protocol import Cells
from unigeo.client.reading.point_status import NO_POSITION
from unigeo.schemas.errors import DamagedError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.splines import catmull_rom
from unigeo.schemas.store.layout import COVARIATES
from unigeo.schemas.store.quantization import FILL, dequantize
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

Method = Literal["nearest", "bilinear", "bicubic"]
Numbers = Literal["float32", "int8"]
"""The dtype of sampled vectors: unit vectors, or the numbers as stored."""

_BATCH = 1024
"""Points interpolated at a time; each needs up to sixteen vectors."""
_LEAST_LENGTH = 1e-6
"""A mean of unit vectors shorter than this is rounding error and has no direction."""


@dataclass(frozen=True)
class Modality:
    """The vectors and statuses of one modality in a field, or its covariates and theirs."""

    name: str
    grid: Grid
    vectors: Cells
    status: Cells


@dataclass(frozen=True)
class Sampled:
    """One modality's vectors at points."""

    vectors: Shaped[np.ndarray, "point band"]
    """Unit vectors, float32, NaN where there is none; or int8 as stored, -128 where there is none.
    """
    status: UInt8[np.ndarray, " point"]
    """Code that says why a point has or lacks a vector; see `client.reading.point_status`."""


def sample(
    modality: Modality,
    points: Points,
    *,
    method: Method = "nearest",
    dtype: Numbers = "float32",
    bands: slice = slice(None),
    progress: bool = False,
) -> Sampled:
    """Read one modality's vectors at points.

    Args:
        modality: the arrays to read.
        points: any; those without a position get no vector.
        method: `nearest`: the cell that holds the point. `bilinear`: between the four nearest
            cell centres, weighted by nearness; cells without a vector are left out. `bicubic`:
            Catmull-Rom between sixteen, or bilinear if one of them has no vector. With any method
            a point has a vector if, and only if, the cell that holds it has one.
        dtype: `float32` unit vectors, or `int8` as stored (nearest only).
        bands: the bands to return, a range with step 1. With int8 no others are read; a unit
            vector needs them all.
        progress: show a bar on stderr.

    Raises:
        StoreError: if bytes cannot be read.
        DamagedError: if a cell is valid and its vector is missing.
    """
    if method == "nearest":
        return _nearest(modality, points, dtype, bands, progress)
    if dtype != "float32":
        raise ValueError(f"{method} vectors are means and not stored: ask for dtype='float32'")
    return _interpolated(modality, points, _KERNELS[method], bands, progress)


def _nearest(
    modality: Modality,
    points: Points,
    dtype: Numbers,
    bands: slice,
    progress: bool,
) -> Sampled:
    rowcol, status = locate_points(modality.grid, *points.metres(modality.grid.crs))
    on_grid = status == Status.VALID
    width = len(range(modality.vectors.bands)[bands])
    fill = FILL if dtype == "int8" else np.nan
    vectors = np.empty((len(points), width), dtype)
    out_rows = None
    if not on_grid.all():
        vectors[~on_grid] = fill
        out_rows = np.flatnonzero(on_grid)
        rowcol = rowcol[out_rows]

    def unit_vectors(stored: np.ndarray) -> np.ndarray:
        return dequantize(stored)[:, bands]  # the length is that of all bands

    as_stored = dtype == "int8"
    with progress_bar(modality.name, len(rowcol), "points", progress) as advance:
        modality.vectors.gather(
            rowcol,
            vectors,
            bands=bands if as_stored else slice(None),
            out_rows=out_rows,
            transform=None if as_stored else unit_vectors,
            on_progress=advance,
        )
    first_band = vectors[:, 0]
    missing = on_grid & ((first_band == FILL) if as_stored else np.isnan(first_band))
    if missing.any():
        points_missing = np.flatnonzero(missing)
        # `rowcol` holds the points on the grid only: find each missing point's row in it.
        rows = points_missing if out_rows is None else np.searchsorted(out_rows, points_missing)
        status[points_missing] = missing_reasons(modality, rowcol[rows])
    return Sampled(vectors, status)


def locate_points(
    grid: Grid, x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"]
) -> tuple[Int[np.ndarray, "point 2"], UInt8[np.ndarray, " point"]]:
    """Find the cell of each point.

    Args:
        grid: the cells.
        x: eastings in the grid's CRS; NaN without a position.
        y: northings.

    Returns:
        Row and column, -1 for points off the grid; and each point's status: valid on the grid,
        outside the region off it, or no position.
    """
    rowcol, on_grid = grid.locate_m(x, y)
    status = np.full(len(x), Status.VALID, np.uint8)
    if not on_grid.all():
        status[~on_grid] = np.where(np.isnan(x[~on_grid]), NO_POSITION, Status.OUTSIDE_REGION)
    return rowcol, status


def read_status(modality: Modality, points: Points) -> UInt8[np.ndarray, " point"]:
    """Read why each point has or lacks a vector, without reading any vector."""
    rowcol, status = locate_points(modality.grid, *points.metres(modality.grid.crs))
    on_grid = np.flatnonzero(status == Status.VALID)
    codes = np.empty((len(on_grid), 1), np.uint8)
    modality.status.gather(rowcol[on_grid], codes)
    status[on_grid] = codes[:, 0]
    return status


def missing_reasons(
    modality: Modality, rowcol: Int[np.ndarray, "cell 2"]
) -> UInt8[np.ndarray, " cell"]:
    """Read the status of cells that have no vector.

    Raises:
        DamagedError: if a cell has the status valid: then the store has lost a part.
    """
    codes = np.empty((len(rowcol), 1), np.uint8)
    modality.status.gather(rowcol, codes)
    lost = np.flatnonzero(codes == Status.VALID)
    if len(lost):
        row, col = rowcol[lost[0]]
        raise DamagedError(
            f"{len(lost)} of {len(rowcol)} cells with no {numbers_of(modality.name)} have the "
            f"status valid, the first in row {row}, column {col}: the store has lost a shard, or "
            "does not let it be read. Copy the store anew."
        )
    return codes[:, 0]


def numbers_of(array: str) -> str:
    """Name what a cell has or lacks in an array, for messages: `dsm vector`, `covariates`."""
    return array if array == COVARIATES else f"{array} vector"


def valid_points(status: dict[str, UInt8[np.ndarray, " point"]]) -> Bool[np.ndarray, " point"]:
    """Return which points have a vector in every modality."""
    every: np.ndarray = np.all([codes == Status.VALID for codes in status.values()], axis=0)
    return every


Kernel = Callable[[Float[np.ndarray, " point"]], Float[np.ndarray, "point step"]]
"""Returns the weights of the cells around a point along one axis, from the point's position
between its two nearest cell centres, 0 to 1."""


def _linear(t: Float[np.ndarray, " point"]) -> Float[np.ndarray, "point step"]:
    return np.stack([1 - t, t], axis=-1)


_KERNELS: dict[str, Kernel] = {"bilinear": _linear, "bicubic": catmull_rom}


def _interpolated(
    modality: Modality,
    points: Points,
    kernel: Kernel,
    bands: slice,
    progress: bool,
) -> Sampled:
    x, y = points.metres(modality.grid.crs)
    home, status = locate_points(modality.grid, x, y)
    position = modality.grid.position_m(x, y)
    width = len(range(modality.vectors.bands)[bands])
    vectors = np.full((len(points), width), np.nan, np.float32)
    on_grid = np.flatnonzero(status == Status.VALID)
    order = on_grid[order_by_block(position[on_grid])]
    with progress_bar(modality.name, len(order), "points", progress) as advance:
        for first in range(0, len(order), _BATCH):
            part = order[first : first + _BATCH]
            unit, codes = _interpolate(modality, position[part], home[part], kernel)
            vectors[part], status[part] = unit[:, bands], codes
            advance(len(part))
    return Sampled(vectors, status)


def order_by_block(position: Float[np.ndarray, "point 2"]) -> Int[np.ndarray, " point"]:
    """Return the order of points by blocks of 16 x 16 cells.

    Points of one batch then share most of the cells that are read round them.

    Args:
        position: fractional rows and columns; points without one, which are NaN, come last.
    """
    row, col = np.floor(position / 16).T
    order: np.ndarray = np.lexsort((position[:, 1], col, row))
    return order


def _interpolate(
    modality: Modality,
    position: Float[np.ndarray, "point 2"],
    home: Int[np.ndarray, "point 2"],
    kernel: Kernel,
) -> tuple[Float[np.ndarray, "point band"], UInt8[np.ndarray, " point"]]:
    """Interpolate unit vectors between the cells around each point.

    Args:
        modality: the arrays to read.
        position: fractional rows and columns on the grid; cell centres are at .5.
        home: row and column of the cell that holds each point.
        kernel: the weights along one axis, of 2 (bilinear) or 4 (bicubic) cells.

    Returns:
        Unit vectors, NaN where the home cell has none, and the status of the home cells.
    """
    # The last cell centre north and west of each point, and how far (0 to 1) the point is from it
    # towards the next one.
    corner = np.floor(position - 0.5).astype(np.int64)
    t = position - 0.5 - corner
    steps = kernel(np.zeros(1)).shape[1]
    offsets = np.arange(steps) - (steps // 2 - 1)  # 0, 1 or -1, 0, 1, 2
    grid_rows, grid_cols = modality.grid.shape
    row = corner[:, :1] + offsets
    col = corner[:, 1:] + offsets
    on_grid = ((row >= 0) & (row < grid_rows))[:, :, None] & ((col >= 0) & (col < grid_cols))[
        :, None, :
    ]
    # Number the cells row by row, -1 off the grid, and read each one of the batch only once.
    # `slots` has one row per point: its steps x steps neighbours, then its home cell.
    number = np.where(on_grid, row[:, :, None] * grid_cols + col[:, None, :], -1)
    home_number = home[:, 0] * grid_cols + home[:, 1]
    wanted, slots = np.unique(
        np.concatenate([number.reshape(len(position), -1), home_number[:, None]], axis=1),
        return_inverse=True,
    )
    slots = slots.reshape(len(position), -1)
    cells = np.stack(np.divmod(np.maximum(wanted, 0), grid_cols), axis=-1)
    vectors = np.full((len(wanted), modality.vectors.bands), np.nan, np.float32)
    readable = np.flatnonzero(wanted >= 0)
    modality.vectors.gather(cells[readable], vectors, out_rows=readable, transform=dequantize)
    codes = np.full(len(wanted), Status.VALID, np.uint8)
    empty = np.flatnonzero(np.isnan(vectors[:, 0]) & (wanted >= 0))
    codes[empty] = missing_reasons(modality, cells[empty])
    has_vector = ~np.isnan(vectors[:, 0])
    vectors[~has_vector] = 0  # NaN times a weight of zero would still be NaN
    around = slots[:, :-1]
    weight = kernel(t[:, 0])[:, :, None] * kernel(t[:, 1])[:, None, :]
    weight = weight.reshape(len(position), -1)
    partial = ~has_vector[around].all(axis=1)
    if steps > 2 and partial.any():
        # Catmull-Rom's negative weights need all sixteen cells: with some left out the others no
        # longer balance. Use bilinear weights on the inner 2 x 2 instead.
        inner = _linear(t[partial, 0])[:, :, None] * _linear(t[partial, 1])[:, None, :]
        padded = np.zeros((int(partial.sum()), steps, steps))
        padded[:, 1:3, 1:3] = inner
        weight[partial] = padded.reshape(len(padded), -1)
    weight = weight * has_vector[around]
    # Sum one neighbour at a time: all of them at once would take sixteen times the memory.
    total = np.zeros((len(position), modality.vectors.bands))
    for step in range(around.shape[1]):
        total += weight[:, step, None] * vectors[around[:, step]]
    # Normalizing the sum makes dividing by the sum of the weights unnecessary. Opposite vectors
    # cancel and leave no direction; such a point gets the vector of its home cell.
    home_slot = slots[:, -1]
    length = np.linalg.norm(total, axis=1)
    has_direction = length > _LEAST_LENGTH
    unit = vectors[home_slot]
    unit[has_direction] = total[has_direction] / length[has_direction, None]
    unit[~has_vector[home_slot]] = np.nan
    return unit, codes[home_slot]
