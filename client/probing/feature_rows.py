"""Vectors of a table's rows that are read by row numbers, a block at a time.

The vectors can be a numpy array, a memory map, an array of h5py, or one of the classes below:
several sets side by side, some of the rows, and rows in a temporary file.
"""

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

_BLOCK_NUMBERS = 2**23
"""Numbers in one block: 64 MB in float64."""
_MAX_GAP = 16
"""Distance between two rows of a file, up to which one read covers both."""
_MAX_READ_ROWS = 4096
"""Rows of a file that one read covers at most."""


@runtime_checkable
class FeatureRows(Protocol):
    """Vectors that are read by row numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows and of bands."""
        ...

    def __getitem__(self, rows: Int[np.ndarray, " row"], /) -> Float[np.ndarray, "row band"]:
        """Read the vectors of some rows, in the order given."""
        ...


class JoinedRows:
    """Several sets of bands of the same rows, side by side without a copy."""

    def __init__(self, parts: Sequence[FeatureRows]) -> None:
        self.parts = tuple(parts)
        self.shape = (self.parts[0].shape[0], sum(part.shape[1] for part in self.parts))

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row band"]:
        return np.concatenate([part[rows] for part in self.parts], axis=1)

    def consists_of(self, sets: Iterable[FeatureRows]) -> bool:
        """Return whether every part is one of the given sets."""
        known = {id(each) for each in sets}
        return all(id(part) in known for part in self.parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"JoinedRows({self.shape[0]:,} rows, {self.shape[1]} bands)"


class SelectedRows:
    """Some rows of vectors, without a copy."""

    def __init__(self, every: FeatureRows, rows: Int[np.ndarray, " row"]) -> None:
        self.every, self.rows = every, rows
        self.shape = (len(rows), every.shape[1])

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row band"]:
        return self.every[self.rows[rows]]

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"SelectedRows({self.shape[0]:,} of {self.every.shape[0]:,} rows)"


class ScatteredRows:
    """Vectors of some of a table's rows, scattered among all; the other rows are NaN."""

    def __init__(self, some: FeatureRows, marked: Bool[np.ndarray, " row"]) -> None:
        self.some = some
        # Position of each row in `some`, -1 where it has no vector.
        self.position = np.where(marked, np.cumsum(marked) - 1, -1)
        self.shape = (len(marked), some.shape[1])

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row band"]:
        position = self.position[rows]
        if (position >= 0).all():
            return self.some[position]
        vectors = np.full((len(rows), self.shape[1]), np.nan, np.float32)
        vectors[position >= 0] = self.some[position[position >= 0]]
        return vectors

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"ScatteredRows({self.some.shape[0]:,} among {self.shape[0]:,} rows)"


class FileRows:
    """Vectors in a temporary file, float32, so that memory holds only a block of them.

    The file is deleted with the object. It is read, not mapped: mapped pages count as memory.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="unigeo-vectors-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self.shape = (0, 0)

    def append(self, block: Float[np.ndarray, "row band"]) -> None:
        """Append rows."""
        self._file.write(np.ascontiguousarray(block, np.float32).data)
        self._file.flush()
        self.shape = (self.shape[0] + len(block), block.shape[1])

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row band"]:
        vectors = np.empty((len(rows), self.shape[1]), np.float32)
        order = np.argsort(rows, kind="stable")
        ordered = np.asarray(rows)[order]
        done = 0
        while done < len(rows):
            first = int(ordered[done])
            # One read covers rows that are close to each other: a read takes more time than the
            # rows in the gaps. It ends at the first wide gap, or when it is long enough.
            ahead = ordered[done : done + _MAX_READ_ROWS]
            too_far = (np.diff(ahead) > _MAX_GAP) | (ahead[1:] >= first + _MAX_READ_ROWS)
            ends = np.flatnonzero(too_far)
            count = int(ends[0]) + 1 if len(ends) else len(ahead)
            read = self._read_rows(first, int(ahead[count - 1]) + 1)
            vectors[order[done : done + count]] = read[ahead[:count] - first]
            done += count
        return vectors

    def _read_rows(self, start: int, stop: int) -> Float[np.ndarray, "row band"]:
        size = 4 * self.shape[1]
        raw = _read_at(self._file.fileno(), (stop - start) * size, start * size)
        return np.frombuffer(raw, np.float32).reshape(-1, self.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"FileRows({self.shape[0]:,} rows, {self.shape[1]} bands)"


def _read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read bytes of a file; threads may do so at once where the system has `pread`."""
    if hasattr(os, "pread"):
        content = os.pread(descriptor, size, offset)
    else:  # Windows
        os.lseek(descriptor, offset, os.SEEK_SET)
        content = os.read(descriptor, size)
    assert len(content) == size, "the temporary file was cut short"
    return content


def row_blocks(
    rows: Int[np.ndarray, " row"], bands: int, block_numbers: int = _BLOCK_NUMBERS
) -> Iterator[Int[np.ndarray, " row"]]:
    """Cut row numbers into blocks whose vectors fit into memory."""
    step = max(1, block_numbers // max(bands, 1))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def select_rows(features: FeatureRows, rows: Bool[np.ndarray, " row"]) -> FeatureRows:
    """Select the marked rows, without a copy."""
    return features if rows.all() else SelectedRows(features, np.flatnonzero(rows))


def as_array(features: FeatureRows) -> Shaped[np.ndarray, "row band"]:
    """Read all vectors into one array; a numpy array is returned as it is."""
    if isinstance(features, np.ndarray):
        return features
    return features[np.arange(features.shape[0])]
