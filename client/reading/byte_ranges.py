"""From cells to byte ranges: the object that holds each cell, and the reads that serve them all."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from unigeo.client.reading.array_layout import StoredArray

MOST_RUN_BYTES = 8 * 2**20
"""Length at which a run of wanted bytes is split into several reads, which run concurrently."""


@dataclass(frozen=True)
class CellAddresses:
    """The object and chunk of each cell, and the cell's offset in the chunk."""

    objects: Int[np.ndarray, "object 2"]
    """Row and column, on the grid of objects, of each object that holds a requested cell."""
    object_number: Int[np.ndarray, " cell"]
    """Number of each cell's object, an index into `objects`."""
    chunk_number: Int[np.ndarray, " cell"]
    """Number of the chunk in its object, row by row."""
    cell_number: Int[np.ndarray, " cell"]
    """Number of the cell in its chunk, row by row."""


def cell_addresses(array: StoredArray, rowcol: Int[np.ndarray, "cell 2"]) -> CellAddresses:
    """Return the object, the chunk and the offset in the chunk of each cell."""
    row, col = rowcol.T
    (object_rows, object_cols), (chunk_rows, chunk_cols) = array.object_cells, array.chunk_cells
    grid_rows, grid_cols = array.objects
    objects, object_number = _unique_inverse(
        (row // object_rows) * grid_cols + col // object_cols, grid_rows * grid_cols
    )
    row, col = row % object_rows, col % object_cols
    return CellAddresses(
        objects=np.stack(np.divmod(objects, grid_cols), axis=-1),
        object_number=object_number,
        chunk_number=(row // chunk_rows) * array.chunks[1] + col // chunk_cols,
        cell_number=(row % chunk_rows) * chunk_cols + col % chunk_cols,
    )


def _unique_inverse(
    labels: Int[np.ndarray, " cell"], count: int
) -> tuple[Int[np.ndarray, " label"], Int[np.ndarray, " cell"]]:
    """Return `np.unique(labels, return_inverse=True)` for labels below `count`."""
    if count > 4 * len(labels) + 1000:
        unique, inverse = np.unique(labels, return_inverse=True)
        return unique, inverse.reshape(-1)
    # np.unique sorts; counting is linear, and fast as long as the table of labels is small.
    unique = np.flatnonzero(np.bincount(labels, minlength=count))
    rank = np.zeros(count, np.int64)
    rank[unique] = np.arange(len(unique))
    return unique, rank[labels]


def sort_by_group(
    group: Int[np.ndarray, " cell"], count: int
) -> tuple[Int[np.ndarray, " cell"], Int[np.ndarray, " edge"]]:
    """Sort cells by group.

    Returns:
        The cells' indices in the order of their group, stable; and `count + 1` edges: group g
        stands from `edges[g]` up to `edges[g + 1]`.
    """
    # numpy sorts 16-bit integers by radix, in linear time.
    keys = group.astype(np.uint16) if count <= 2**16 else group
    order = np.argsort(keys, kind="stable")
    edges = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(group, minlength=count), out=edges[1:])
    return order, edges


@dataclass(frozen=True)
class ByteRuns:
    """Reads that serve sorted byte ranges; ranges with a narrow gap share one read.

    Run r serves the ranges from `first[r]` up to `first[r + 1]`.
    """

    first: Int[np.ndarray, " edge"]
    start: Int[np.ndarray, " run"]
    stop: Int[np.ndarray, " run"]
    object_number: Int[np.ndarray, " run"]
    """Number of the object that each run is read from."""

    def __len__(self) -> int:
        return len(self.start)


def coalesce(
    object_number: Int[np.ndarray, " range"],
    start: Int[np.ndarray, " range"],
    length: Int[np.ndarray, " range"],
    most_gap_bytes: int,
) -> ByteRuns:
    """Join byte ranges whose gap costs less to read than another request.

    Args:
        object_number: the object of each range.
        start: its first byte; ranges are sorted by object, then by start.
        length: its bytes.
        most_gap_bytes: the widest gap that is read along.
    """
    if not len(start):
        none = np.empty(0, np.int64)
        return ByteRuns(np.zeros(1, np.int64), none, none, none)
    stop = start + length
    same_object = object_number[1:] == object_number[:-1]
    joined: Bool[np.ndarray, " _"] = same_object & (start[1:] - stop[:-1] <= most_gap_bytes)
    first = np.flatnonzero(np.concatenate([[True], ~joined]))
    # Split long runs: a range begins a new run where its distance from the run's first byte passes
    # a multiple of MOST_RUN_BYTES.
    run_start = np.repeat(start[first], np.diff(np.append(first, len(start))))
    part = (start - run_start) // MOST_RUN_BYTES
    joined &= part[1:] == part[:-1]
    first = np.flatnonzero(np.concatenate([[True], ~joined]))
    edges = np.append(first, len(start))
    return ByteRuns(edges, start[first], stop[edges[1:] - 1], object_number[first])
