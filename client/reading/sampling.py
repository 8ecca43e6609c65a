"""Vectors at points: of the cell that holds a point, or between the cells around it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from unigeo.client.progress import progress_bar
from unigeo.client.reading.point_status import NO_POSITION
from unigeo.client.reading.protocol import Cells
from unigeo.schemas.errors import DamagedError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.splines import catmull_rom
from unigeo.schemas.store.quantization import FILL, dequantize
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

Method = Literal["nearest", "bilinear", "bicubic"]
Numbers = Literal["float32", "int8"]

_BATCH = 1024
"""Points interpolated at a time: up to sixteen vectors each."""
_LEAST_LENGTH = 1e-6
"""A mean of unit vectors shorter than this is rounding, and points nowhere."""


@dataclass(frozen=True)
class Modality:
    """One modality's arrays in a field."""

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
    """Why a point has or lacks a vector, by `client.point_status`."""


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
        modality: whose arrays.
        points: any; those without a position get no vector.
        method: `nearest`: the cell that holds the point. `bilinear`: between the four nearest
            cell centres, weighted by nearness; cells without a vector take no part. `bicubic`:
            Catmull-Rom between sixteen, or bilinear where one of them has no vector. With any of
            them a point has a vector if, and only if, the cell that holds it has one.
        dtype: `float32` unit vectors, or `int8` as stored (nearest only).
        bands: a plain range of them. Of int8 no others are read; a unit vector needs all.
        progress: show a bar on stderr.

    Raises:
        StoreError: if bytes cannot be read.
        DamagedError: if a cell is valid and its vector is not there.
    """
    if method == "nearest":
        return _nearest(modality, points, dtype, bands, progress)
    if dtype != "float32":
        raise ValueError(f"{method} vectors are means and not stored: ask for dtype='float32'")
    return _between(modality, points, _KERNELS[method], bands, progress)


def _nearest(
    modality: Modality,
    points: Points,
    dtype: Numbers,
    bands: slice,
    progress: bool,
) -> Sampled:
    rowcol, status = located(modality.grid, *points.metres(modality.grid.crs))
    inside = status == Status.VALID
    width = len(range(modality.vectors.bands)[bands])
    fill = FILL if dtype == "int8" else np.nan
    vectors = np.empty((len(points), width), dtype)
    at = None
    if not inside.all():
        vectors[~inside] = fill
        at = np.flatnonzero(inside)
        rowcol = rowcol[at]

    def unit(stored: np.ndarray) -> np.ndarray:
        return dequantize(stored)[:, bands]

    as_stored = dtype == "int8"
    with progress_bar(modality.name, len(rowcol), "points", progress) as watch:
        modality.vectors.gather(
            rowcol,
            vectors,
            bands=bands if as_stored else slice(None),
            at=at,
            rows=None if as_stored else unit,
            watch=watch,
        )
    first = vectors[:, 0]
    missing = inside & ((first == FILL) if as_stored else np.isnan(first))
    if missing.any():
        within = np.flatnonzero(missing)
        cells = rowcol[missing] if at is None else rowcol[np.searchsorted(at, within)]
        status[within] = reasons(modality, cells)
    return Sampled(vectors, status)


def located(
    grid: Grid, x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"]
) -> tuple[Int[np.ndarray, "point 2"], UInt8[np.ndarray, " point"]]:
    """Find the cell of each point, and why some have none.

    Args:
        grid: whose cells.
        x: eastings in the grid's CRS; NaN without a position.
        y: northings.

    Returns:
        Row and column, -1 where there is no cell; and the status: valid on the grid, outside the
        region off it, or no position.
    """
    rowcol, inside = grid.locate_m(x, y)
    status = np.full(len(x), Status.VALID, np.uint8)
    if not inside.all():
        status[~inside] = np.where(np.isnan(x[~inside]), NO_POSITION, Status.OUTSIDE_REGION)
    return rowcol, status


def statuses(modality: Modality, points: Points) -> UInt8[np.ndarray, " point"]:
    """Why points have or lack a vector, without reading any."""
    rowcol, status = located(modality.grid, *points.metres(modality.grid.crs))
    inside = np.flatnonzero(status == Status.VALID)
    codes = np.empty((len(inside), 1), np.uint8)
    modality.status.gather(rowcol[inside], codes)
    status[inside] = codes[:, 0]
    return status


def reasons(modality: Modality, rowcol: Int[np.ndarray, "cell 2"]) -> UInt8[np.ndarray, " cell"]:
    """Why cells have no vector.

    Raises:
        DamagedError: if the status says that they have one: then the store has lost a part.
    """
    codes = np.empty((len(rowcol), 1), np.uint8)
    modality.status.gather(rowcol, codes)
    lost = np.flatnonzero(codes == Status.VALID)
    if len(lost):
        row, col = rowcol[lost[0]]
        raise DamagedError(
            f"{len(lost)} of {len(rowcol)} cells without a {modality.name} vector have the status "
            f"valid, the first in row {row}, column {col}: the store has lost a shard, or does not "
            "let it be read. Copy the store anew."
        )
    return codes[:, 0]


def valid_points(status: dict[str, UInt8[np.ndarray, " point"]]) -> Bool[np.ndarray, " point"]:
    """Points that have a vector in every modality."""
    every: np.ndarray = np.all([codes == Status.VALID for codes in status.values()], axis=0)
    return every


Kernel = Callable[[Float[np.ndarray, " point"]], Float[np.ndarray, "point step"]]
"""From a point's place between two cell centres, 0 to 1, to the weights of the cells around."""


def _linear(share: Float[np.ndarray, " point"]) -> Float[np.ndarray, "point step"]:
    return np.stack([1 - share, share], axis=-1)


_KERNELS: dict[str, Kernel] = {"bilinear": _linear, "bicubic": catmull_rom}


def _between(
    modality: Modality,
    points: Points,
    kernel: Kernel,
    bands: slice,
    progress: bool,
) -> Sampled:
    x, y = points.metres(modality.grid.crs)
    home, status = located(modality.grid, x, y)
    exact = modality.grid.position_m(x, y)
    width = len(range(modality.vectors.bands)[bands])
    vectors = np.full((len(points), width), np.nan, np.float32)
    order = np.flatnonzero(status == Status.VALID)
    near = (exact[order] // 16).astype(np.int64)  # neighbours come together: their cells are shared
    order = order[np.lexsort((exact[order, 1], near[:, 1], near[:, 0]))]
    with progress_bar(modality.name, len(order), "points", progress) as watch:
        for first in range(0, len(order), _BATCH):
            part = order[first : first + _BATCH]
            mixed, codes = _mixed(modality, exact[part], home[part], kernel)
            vectors[part], status[part] = mixed[:, bands], codes
            watch(len(part))
    return Sampled(vectors, status)


def _mixed(
    modality: Modality,
    exact: Float[np.ndarray, "point 2"],
    home: Int[np.ndarray, "point 2"],
    kernel: Kernel,
) -> tuple[Float[np.ndarray, "point band"], UInt8[np.ndarray, " point"]]:
    """Unit vectors at exact rows and columns on the grid, and the status of the home cells."""
    corner = np.floor(exact - 0.5).astype(np.int64)
    share = exact - 0.5 - corner
    steps = kernel(np.zeros(1)).shape[1]
    offsets = np.arange(steps) - (steps // 2 - 1)
    grid_rows, grid_cols = modality.grid.shape
    row = corner[:, :1] + offsets
    col = corner[:, 1:] + offsets
    on_grid = ((row >= 0) & (row < grid_rows))[:, :, None] & ((col >= 0) & (col < grid_cols))[
        :, None, :
    ]
    number = np.where(on_grid, row[:, :, None] * grid_cols + col[:, None, :], -1)
    home_number = home[:, 0] * grid_cols + home[:, 1]
    wanted, place = np.unique(
        np.concatenate([number.reshape(len(exact), -1), home_number[:, None]], axis=1),
        return_inverse=True,
    )
    place = place.reshape(len(exact), -1)
    cells = np.stack(np.divmod(np.maximum(wanted, 0), grid_cols), axis=-1)
    found = np.full((len(wanted), modality.vectors.bands), np.nan, np.float32)
    real = np.flatnonzero(wanted >= 0)
    modality.vectors.gather(cells[real], found, at=real, rows=dequantize)
    codes = np.full(len(wanted), Status.VALID, np.uint8)
    empty = np.flatnonzero(np.isnan(found[:, 0]) & (wanted >= 0))
    codes[empty] = reasons(modality, cells[empty])
    has = ~np.isnan(found[:, 0])
    found[~has] = 0
    around = place[:, :-1]
    weight = kernel(share[:, 0])[:, :, None] * kernel(share[:, 1])[:, None, :]
    weight = weight.reshape(len(exact), -1)
    partial = ~has[around].all(axis=1)
    if steps > 2 and partial.any():  # between cells without data, negative weights mislead
        inner = _linear(share[partial, 0])[:, :, None] * _linear(share[partial, 1])[:, None, :]
        edge = np.zeros((int(partial.sum()), steps, steps))
        edge[:, 1:3, 1:3] = inner
        weight[partial] = edge.reshape(len(edge), -1)
    weight = weight * has[around]
    total = np.zeros((len(exact), modality.vectors.bands))
    for step in range(around.shape[1]):
        total += weight[:, step, None] * found[around[:, step]]
    own = place[:, -1]
    length = np.linalg.norm(total, axis=1)
    sure = length > _LEAST_LENGTH  # opposite vectors cancel: there is no mean, but the cell's own
    mixed = found[own]
    mixed[sure] = total[sure] / length[sure, None]
    mixed[~has[own]] = np.nan
    return mixed, codes[own]
