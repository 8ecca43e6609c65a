"""Vectors of a table's rows, wherever they are: taken by row numbers, a block at a time.

A numpy array is such vectors, and so is a memory map, an array of h5py, or what stands below: sets
side by side, some of the rows, and rows kept in a file.
"""

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

_BLOCK_NUMBERS = 2**23
"""Of one block: 64 MB in float64."""
_APART = 16
"""Rows between two that are still read together."""
_READ_ROWS = 4096
"""Rows that are read together at most."""


@runtime_checkable
class FeatureRows(Protocol):
    """Vectors that are read by row numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and bands."""
        ...

    def __getitem__(self, rows: Int[np.ndarray, " row"], /) -> Float[np.ndarray, "row band"]:
        """The vectors of some rows, in their order."""
        ...


class SideBySide:
    """Several sets of bands of the same rows, without a copy."""

    def __init__(self, parts: Sequence[FeatureRows]) -> None:
        self.parts = tuple(parts)
        self.shape = (self.parts[0].shape[0], sum(part.shape[1] for part in self.parts))

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row band"]:
        return np.concatenate([part[rows] for part in self.parts], axis=1)

    def is_of(self, sets: Iterable[FeatureRows]) -> bool:
        """Whether every part is one of some sets itself."""
        known = {id(each) for each in sets}
        return all(id(part) in known for part in self.parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"SideBySide({self.shape[0]:,} rows, {self.shape[1]} bands)"


class SomeRows:
    """Some rows of vectors, without a copy."""

    def __init__(self, whole: FeatureRows, rows: Int[np.ndarray, " row"]) -> None:
        self.whole, self.rows = whole, rows
        self.shape = (len(rows), whole.shape[1])

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row band"]:
        return self.whole[self.rows[rows]]

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"SomeRows({self.shape[0]:,} of {self.whole.shape[0]:,} rows)"


class SpreadRows:
    """Vectors of some rows among all; the others are NaN."""

    def __init__(self, some: FeatureRows, marked: Bool[np.ndarray, " row"]) -> None:
        self.some = some
        self.position = np.where(marked, np.cumsum(marked) - 1, -1)
        self.shape = (len(marked), some.shape[1])

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row band"]:
        position = self.position[rows]
        if (position >= 0).all():
            return self.some[position]
        found = np.full((len(rows), self.shape[1]), np.nan, np.float32)
        found[position >= 0] = self.some[position[position >= 0]]
        return found

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"SpreadRows({self.some.shape[0]:,} among {self.shape[0]:,} rows)"


class FiledRows:
    """Vectors in a temporary file, float32, so that memory holds a block of them only.

    The file is gone with the object. It is read, not mapped: mapped pages count as memory.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="unigeo-vectors-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self.shape = (0, 0)

    def append(self, block: Float[np.ndarray, "row band"]) -> None:
        """Add rows at the end."""
        self._file.write(np.ascontiguousarray(block, np.float32).data)
        self._file.flush()
        self.shape = (self.shape[0] + len(block), block.shape[1])

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row band"]:
        found = np.empty((len(rows), self.shape[1]), np.float32)
        order = np.argsort(rows, kind="stable")
        ordered = np.asarray(rows)[order]
        done = 0
        while done < len(rows):
            first = int(ordered[done])
            # Rows that lie near each other are read together: a read costs more than what is
            # between them.
            inside = ordered[done : done + _READ_ROWS]
            gaps = np.flatnonzero((np.diff(inside) > _APART) | (inside[1:] >= first + _READ_ROWS))
            count = int(gaps[0]) + 1 if len(gaps) else len(inside)
            near = self._read(first, int(inside[count - 1]) + 1)
            found[order[done : done + count]] = near[inside[:count] - first]
            done += count
        return found

    def _read(self, start: int, stop: int) -> Float[np.ndarray, "row band"]:
        size = 4 * self.shape[1]
        raw = _read_at(self._file.fileno(), (stop - start) * size, start * size)
        return np.frombuffer(raw, np.float32).reshape(-1, self.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"FiledRows({self.shape[0]:,} rows, {self.shape[1]} bands)"


def _read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read bytes of a file, without moving its position where the system can."""
    if hasattr(os, "pread"):
        found = os.pread(descriptor, size, offset)
    else:  # Windows
        os.lseek(descriptor, offset, os.SEEK_SET)
        found = os.read(descriptor, size)
    assert len(found) == size, "the temporary file was cut short"
    return found


def row_blocks(
    rows: Int[np.ndarray, " row"], bands: int, block_numbers: int = _BLOCK_NUMBERS
) -> Iterator[Int[np.ndarray, " row"]]:
    """Cut row numbers into blocks whose vectors fit into memory."""
    step = max(1, block_numbers // max(bands, 1))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def some_rows(features: FeatureRows, rows: Bool[np.ndarray, " row"]) -> FeatureRows:
    """The rows that are marked, without a copy."""
    return features if rows.all() else SomeRows(features, np.flatnonzero(rows))


def all_of(features: FeatureRows) -> Shaped[np.ndarray, "row band"]:
    """All vectors as one array, which a numpy array is already."""
    if isinstance(features, np.ndarray):
        return features
    return features[np.arange(features.shape[0])]
