"""From cells to bytes: which objects hold them, where, and which reads serve them all."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from unigeo.client.reading.array_layout import StoredArray

MOST_RUN_BYTES = 8 * 2**20
"""A longer run of wanted bytes is read in pieces, which come at the same time."""


@dataclass(frozen=True)
class CellAddresses:
    """Where cells lie, object by object."""

    objects: Int[np.ndarray, "object 2"]
    """Row and column on the grid of objects of each that holds a cell."""
    which: Int[np.ndarray, " cell"]
    """Number of a cell's object in `objects`."""
    chunk: Int[np.ndarray, " cell"]
    """Number of its chunk in the object, row by row."""
    within: Int[np.ndarray, " cell"]
    """Its number in the chunk, row by row."""


def places_of(array: StoredArray, rowcol: Int[np.ndarray, "cell 2"]) -> CellAddresses:
    """Find object, chunk and place in the chunk of each cell."""
    row, col = rowcol.T
    (high, wide), (tall, broad) = array.object_cells, array.chunk_cells
    across = array.objects[1]
    objects, which = _numbered((row // high) * across + col // wide, array.objects[0] * across)
    row, col = row % high, col % wide
    return CellAddresses(
        objects=np.stack(np.divmod(objects, across), axis=-1),
        which=which,
        chunk=(row // tall) * array.chunks[1] + col // broad,
        within=(row % tall) * broad + col % broad,
    )


def _numbered(
    labels: Int[np.ndarray, " cell"], count: int
) -> tuple[Int[np.ndarray, " label"], Int[np.ndarray, " cell"]]:
    """`np.unique` with its inverse; by counting where there are few labels."""
    if count > 4 * len(labels) + 1000:
        found, which = np.unique(labels, return_inverse=True)
        return found, which.reshape(-1)
    found = np.flatnonzero(np.bincount(labels, minlength=count))
    rank = np.zeros(count, np.int64)
    rank[found] = np.arange(len(found))
    return found, rank[labels]


def grouped(
    which: Int[np.ndarray, " cell"], count: int
) -> tuple[Int[np.ndarray, " cell"], Int[np.ndarray, " edge"]]:
    """Cells in the order of their group, and where each of `count` groups begins and ends."""
    few = which.astype(np.uint16) if count <= 2**16 else which  # sorted by radix, in linear time
    order = np.argsort(few, kind="stable")
    edges = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(which, minlength=count), out=edges[1:])
    return order, edges


@dataclass(frozen=True)
class ByteRuns:
    """Reads that serve sorted pieces of bytes: piece by piece where gaps are wide, else together.

    Run r serves the pieces from `first[r]` up to `first[r + 1]`.
    """

    first: Int[np.ndarray, " edge"]
    start: Int[np.ndarray, " run"]
    stop: Int[np.ndarray, " run"]
    which: Int[np.ndarray, " run"]
    """Its object."""

    def __len__(self) -> int:
        return len(self.start)


def coalesce(
    which: Int[np.ndarray, " piece"],
    start: Int[np.ndarray, " piece"],
    length: Int[np.ndarray, " piece"],
    most_gap_bytes: int,
) -> ByteRuns:
    """Join pieces whose gap costs less than a request.

    Args:
        which: object of each piece.
        start: its first byte; pieces are sorted by object, then by start.
        length: its bytes.
        most_gap_bytes: the widest gap that is read along.
    """
    if not len(start):
        none = np.empty(0, np.int64)
        return ByteRuns(np.zeros(1, np.int64), none, none, none)
    stop = start + length
    same = which[1:] == which[:-1]
    joined: Bool[np.ndarray, " _"] = same & (start[1:] - stop[:-1] <= most_gap_bytes)
    first = np.flatnonzero(np.concatenate([[True], ~joined]))
    # A run that is too long is cut where it passes a multiple of the most bytes.
    began = np.repeat(start[first], np.diff(np.append(first, len(start))))
    part = (start - began) // MOST_RUN_BYTES
    joined &= part[1:] == part[:-1]
    first = np.flatnonzero(np.concatenate([[True], ~joined]))
    edges = np.append(first, len(start))
    return ByteRuns(edges, start[first], stop[edges[1:] - 1], which[first])
