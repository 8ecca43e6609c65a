"""The stored objects of one shard, byte for byte as Zarr's sharding codec writes them.

Vectors go straight to the place in the object where they will lie, so a shard is in memory once:
nothing is transposed, joined or copied before it is written.
"""

from dataclasses import dataclass
from functools import lru_cache

import google_crc32c
import numpy as np
from jaxtyping import Bool, Int, Int8, UInt8
from numcodecs.zstd import Zstd

from unigeo.schemas.layout import Layout
from unigeo.schemas.quantization import FILL
from unigeo.schemas.sharding import CRC_BYTES, index_bytes

_NOT_STORED = np.uint64(2**64 - 1)


@dataclass(frozen=True, eq=False)
class Places:
    """Where the cells of a shard lie in its object. Chunks follow each other in Morton order."""

    chunk: Int[np.ndarray, " cell"]
    """Number of the chunk of each cell, the cells row by row."""
    inner: Int[np.ndarray, " cell"]
    """Number of the cell in its chunk."""
    rowcol: Int[np.ndarray, "chunk 2"]
    """Row and column of each chunk."""
    order: Int[np.ndarray, " cell"]
    """Cells in the order of the object."""


@lru_cache(maxsize=4)
def places(shard: int, chunk: int) -> Places:
    """Find every cell's place in the object of a shard, both sides in cells."""
    side = shard // chunk
    row, col = np.divmod(np.arange(side * side), side)
    code = np.zeros(side * side, np.int64)
    for bit in range(side.bit_length()):
        code |= ((row >> bit) & 1) << (2 * bit)
        code |= ((col >> bit) & 1) << (2 * bit + 1)
    by_code = np.argsort(code)
    number = np.empty(side * side, np.int64)
    number[by_code] = np.arange(side * side)
    cell_row, cell_col = np.divmod(np.arange(shard * shard), shard)
    of_cell = number[(cell_row // chunk) * side + cell_col // chunk]
    inner = (cell_row % chunk) * chunk + cell_col % chunk
    order = np.argsort(of_cell * chunk * chunk + inner)
    return Places(of_cell, inner, np.stack([row[by_code], col[by_code]], axis=1), order)


class VectorObject:
    """The object of one shard's vectors while it is filled: 48 MiB at 768 bands."""

    def __init__(self, layout: Layout) -> None:
        """Start without data."""
        self._layout = layout
        self._places = places(layout.shard, layout.chunk)
        self._chunks = len(self._places.rowcol)
        self._data_bytes = layout.chunk**2 * layout.bands
        side = layout.shard // layout.chunk
        stride = self._data_bytes + CRC_BYTES
        self._body = np.empty(self._chunks * stride + index_bytes((side, side)), np.uint8)
        self._rows = self._body[: self._chunks * stride].reshape(self._chunks, stride)
        vectors = self._rows[:, : self._data_bytes].view(np.int8)
        self._cells = vectors.reshape(self._chunks, layout.chunk**2, layout.bands)
        self._cells[...] = FILL
        self._used = np.zeros(self._chunks, bool)

    def put(self, cells: Int[np.ndarray, " cell"], codes: Int8[np.ndarray, "cell band"]) -> None:
        """Place quantized vectors; cells are counted row by row."""
        chunk = self._places.chunk[cells]
        self._cells[chunk, self._places.inner[cells]] = codes
        self._used[chunk] = True

    def finish(self) -> memoryview | None:
        """The object's bytes; None where the shard holds no vector and so is no object."""
        if not self._used.any():
            return None
        if self._layout.codec == "zstd":
            return self._compressed()
        stride = self._rows.shape[1]
        for place, number in enumerate(np.flatnonzero(self._used)):
            chunk = self._rows[number]
            chunk[self._data_bytes :] = _crc(chunk[: self._data_bytes])
            if place != number:
                self._rows[place] = chunk
        lengths = np.full(int(self._used.sum()), stride, np.uint64)
        end = len(lengths) * stride
        index = _index(self._places, self._used, lengths)
        self._body[end : end + len(index)] = index
        return memoryview(self._body[: end + len(index)])

    def _compressed(self) -> memoryview:
        codec = Zstd(level=3)
        parts = []
        for number in np.flatnonzero(self._used):
            packed = np.frombuffer(codec.encode(self._cells[number]), np.uint8)
            parts += [packed, _crc(packed)]
        lengths = np.array([len(part) for part in parts], np.uint64).reshape(-1, 2).sum(axis=1)
        return memoryview(np.concatenate([*parts, _index(self._places, self._used, lengths)]))


def status_object(status: UInt8[np.ndarray, "row col"]) -> memoryview:
    """The object of one shard's status codes."""
    codes = np.ascontiguousarray(status).ravel()
    return memoryview(np.concatenate([codes, _crc(codes)]))


def _index(
    where: Places, used: Bool[np.ndarray, " chunk"], lengths: np.ndarray
) -> UInt8[np.ndarray, " byte"]:
    side = int(where.rowcol.max()) + 1
    entries = np.full((side, side, 2), _NOT_STORED, "<u8")
    row, col = where.rowcol[used].T
    entries[row, col, 1] = lengths
    entries[row, col, 0] = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    content = entries.reshape(-1).view(np.uint8)
    return np.concatenate([content, _crc(content)])


def _crc(content: UInt8[np.ndarray, " byte"]) -> UInt8[np.ndarray, " 4"]:
    value = google_crc32c.value(content)
    return np.frombuffer(value.to_bytes(CRC_BYTES, "little"), np.uint8)
