"""Vectors at points: find each point's cell, read each touched part of the store once, scatter.

The arrays are read through a function, so that a Zarr store and an xarray Dataset are sampled by
the same lines.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, UInt8
from tqdm import tqdm

from unigeo.schemas.errors import StoreError
from unigeo.schemas.grid import Grid
from unigeo.schemas.layout import Layout, status_name
from unigeo.schemas.quantization import FILL, dequantize
from unigeo.schemas.status import Status

Read = Callable[[str, slice, slice], np.ndarray]
"""From an array's name and a window of rows and columns to its values."""
Method = Literal["nearest", "bilinear"]

_WHOLE_SHARD_SHARE = 1 / 8
"""A shard is read whole when more than this share of its chunks is wanted: a read of one chunk
costs about 2 ms of overhead, the time in which a memory-speed read moves several chunks."""

_LEAST_LENGTH = 1e-6
"""A mean of unit vectors shorter than this is rounding, and points nowhere."""


@dataclass(frozen=True)
class Sampled:
    """One modality's vectors at points."""

    stored: Int8[np.ndarray, "point band"]
    """As stored, -128 where there is none."""
    status: UInt8[np.ndarray, " point"]
    """Why a point has or lacks a vector, by `Status`."""

    @property
    def vectors(self) -> Float[np.ndarray, "point band"]:
        """Unit vectors, float32, NaN where there is none."""
        return dequantize(self.stored)


def sample_nearest(
    read: Read,
    grid: Grid,
    layout: Layout,
    modality: str,
    lonlat: Float[np.ndarray, "point 2"],
    *,
    progress: bool = False,
) -> Sampled:
    """The vector of the cell that holds each point.

    Args:
        read: access to the arrays.
        grid: the field's cells.
        layout: how they are cut, which decides what is read together.
        modality: whose vectors.
        lonlat: WGS 84 degrees, longitude first.
        progress: show a bar on stderr.
    """
    rowcol, inside = grid.locate(lonlat)
    stored = np.full((len(lonlat), layout.bands), FILL, np.int8)
    status = np.full(len(lonlat), Status.OUTSIDE_REGION, np.uint8)
    status[inside] = gather_status(read, layout, modality, rowcol[inside])
    wanted = np.flatnonzero(status == Status.VALID)
    stored[wanted] = gather(read, layout, modality, rowcol[wanted], progress=progress)
    return Sampled(stored, status)


def sample_bilinear(
    read: Read,
    grid: Grid,
    layout: Layout,
    modality: str,
    lonlat: Float[np.ndarray, "point 2"],
    *,
    progress: bool = False,
) -> tuple[Float[np.ndarray, "point band"], UInt8[np.ndarray, " point"]]:
    """Unit vectors between the four nearest cell centres, weighted by nearness.

    Cells without a vector take no part; the others' weights are scaled up, and the mean is made a
    unit vector again. A point has a vector if the cell that holds it has one.
    """
    exact, _ = grid.position(lonlat)
    nearest = sample_nearest(read, grid, layout, modality, lonlat)
    wanted = np.flatnonzero(nearest.status == Status.VALID)
    vectors = np.full(nearest.stored.shape, np.nan, np.float32)
    total = np.zeros((len(wanted), layout.bands), np.float64)
    corner = np.floor(exact[wanted] - 0.5).astype(np.int64)
    share = exact[wanted] - 0.5 - corner
    for step in np.ndindex(2, 2):
        rowcol = corner + step
        weight = np.prod(np.where(step, share, 1 - share), axis=1)
        on_grid = np.flatnonzero(np.all((rowcol >= 0) & (rowcol < grid.shape), axis=1))
        code = gather_status(read, layout, modality, rowcol[on_grid])
        valid = on_grid[code == Status.VALID]
        neighbours = gather(read, layout, modality, rowcol[valid], progress=progress)
        total[valid] += weight[valid, None] * dequantize(neighbours)
    length = np.linalg.norm(total, axis=1)
    sure = length > _LEAST_LENGTH
    vectors[wanted] = nearest.vectors[wanted]  # opposite vectors cancel: no mean, the cell's own
    vectors[wanted[sure]] = total[sure] / length[sure, None]
    return vectors, nearest.status


def gather(
    read: Read,
    layout: Layout,
    modality: str,
    rowcol: Int[np.ndarray, "point 2"],
    *,
    progress: bool = False,
) -> Int8[np.ndarray, "point band"]:
    """Stored vectors of valid cells; each touched shard or chunk is read once.

    Raises:
        StoreError: if a cell holds no vector, since then the store has lost a part.
    """
    stored = np.empty((len(rowcol), layout.bands), np.int8)
    chunks_per_shard = (layout.shard // layout.chunk) ** 2
    with tqdm(total=len(rowcol), unit="point", desc=modality, disable=not progress) as bar:
        for members in _groups(rowcol // layout.shard):
            chunk_of = rowcol[members] // layout.chunk
            touched = list(_groups(chunk_of))
            if len(touched) > chunks_per_shard * _WHOLE_SHARD_SHARE:
                touched = [np.arange(len(members))]
            for part in touched:
                rows = members[part]
                stored[rows] = _read_cells(read, modality, rowcol[rows])
            bar.update(len(members))
    lost = np.flatnonzero(stored[:, 0] == FILL)
    if len(lost):
        row, col = rowcol[lost[0]]
        raise StoreError(
            f"{len(lost)} of {len(rowcol)} cells have the status valid and no {modality} vector, "
            f"the first in row {row}, column {col}: the store has lost a shard, or does not let "
            "it be read. Copy the store anew."
        )
    return stored


def gather_status(
    read: Read, layout: Layout, modality: str, rowcol: Int[np.ndarray, "point 2"]
) -> UInt8[np.ndarray, " point"]:
    """Status codes of cells; each touched shard's part is read once."""
    status = np.empty(len(rowcol), np.uint8)
    for members in _groups(rowcol // layout.shard):
        status[members] = _read_cells(read, status_name(modality), rowcol[members])
    return status


def valid_points(status: dict[str, UInt8[np.ndarray, " point"]]) -> Bool[np.ndarray, " point"]:
    """Points that have a vector in every modality."""
    every: np.ndarray = np.all([codes == Status.VALID for codes in status.values()], axis=0)
    return every


def _read_cells(read: Read, name: str, rowcol: Int[np.ndarray, "point 2"]) -> np.ndarray:
    """Read the smallest window that holds the cells, and take them from it."""
    low, high = rowcol.min(axis=0), rowcol.max(axis=0) + 1
    window = read(name, slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])))
    row, col = (rowcol - low).T
    cells: np.ndarray = window[row, col]
    return cells


def _groups(key: Int[np.ndarray, "point 2"]) -> Iterator[Int[np.ndarray, " member"]]:
    """Indices of the points that share a key, group by group, in order of the key."""
    if not len(key):
        return
    order = np.lexsort((key[:, 1], key[:, 0]))
    ordered = key[order]
    starts = np.flatnonzero(np.any(ordered[1:] != ordered[:-1], axis=1)) + 1
    yield from np.split(order, starts)
