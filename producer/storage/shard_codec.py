"""Encoding and decoding of one shard's objects, byte for byte as Zarr's sharding codec does it.

Each vector is written directly at its offset in the object, so a shard is in memory only once:
nothing is transposed, joined or copied before the object is stored. Callers deliver cells in the
order of the object, so most vectors are moved in whole blocks. The memory of a stored object is
reused for the next one.
"""

import mmap
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import google_crc32c
import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt8
from numcodecs.zstd import Zstd

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.quantization import FILL
from unigeo.schemas.store.sharding import (
    CRC_BYTES,
    EMPTY,
    NOT_STORED,
    crc_matches,
    index_bytes,
    parse_index,
)
from unigeo.schemas.store.status import Status

INT8 = np.dtype(np.int8)


@dataclass(frozen=True, eq=False)
class ShardOrder:
    """Order of a shard's cells in its object, where chunks follow each other in Morton order."""

    offset: Int[np.ndarray, " cell"]
    """Offset of each cell in the object, counted in cells; the array lists cells row by row."""
    rowcol: Int[np.ndarray, "chunk 2"]
    """Row and column of each chunk, in the order of the object."""
    order: Int[np.ndarray, " cell"]
    """Cells in the order of the object; the inverse of `offset`."""


@lru_cache(maxsize=16)
def shard_order(shard: int, chunk: int) -> ShardOrder:
    """Return the order of cells in the object of a shard; both sides are in cells."""
    side = shard // chunk
    row, col = np.divmod(np.arange(side * side), side)
    # The Morton code interleaves the bits of row and column. Zarr gives the row the lower bit.
    code = np.zeros(side * side, np.int64)
    for bit in range(side.bit_length()):
        code |= ((row >> bit) & 1) << (2 * bit)
        code |= ((col >> bit) & 1) << (2 * bit + 1)
    by_code = np.argsort(code)
    rank = np.empty(side * side, np.int64)  # of each chunk in the object: the inverse of by_code
    rank[by_code] = np.arange(side * side)
    cell_row, cell_col = np.divmod(np.arange(shard * shard), shard)
    chunk_rank = rank[(cell_row // chunk) * side + cell_col // chunk]
    inner = (cell_row % chunk) * chunk + cell_col % chunk
    offset = chunk_rank * chunk * chunk + inner
    return ShardOrder(offset, np.stack([row[by_code], col[by_code]], axis=1), np.argsort(offset))


class Buffers:
    """Memory of stored objects for reuse: mapping fresh pages costs as much as filling them."""

    def __init__(self) -> None:
        """Start without buffers."""
        self._free: defaultdict[int, list[np.ndarray]] = defaultdict(list)

    def take(self, size_bytes: int) -> UInt8[np.ndarray, " byte"]:
        """Return uninitialized memory that starts on a page, as direct writing requires."""
        with suppress(IndexError):  # none is free, or another thread was faster
            return self._free[size_bytes].pop()
        # Anonymous pages are aligned, and huge ones spare most page faults of a 48 MiB object.
        pages = mmap.mmap(-1, size_bytes)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):
                pages.madvise(mmap.MADV_HUGEPAGE)
        return np.frombuffer(pages, np.uint8)

    def give_back(self, body: UInt8[np.ndarray, " byte"]) -> None:
        """Make memory available again; the caller must not use it any more."""
        self._free[len(body)].append(body)


class VectorObject:
    """Builder of the object of one shard's vectors, 48 MiB at 768 bands, or of its covariates."""

    def __init__(
        self,
        layout: Layout,
        width: int,
        buffers: Buffers | None = None,
        *,
        dtype: np.dtype[Any] = INT8,
    ) -> None:
        """Start without data, in memory from `buffers`; a cell has `width` numbers."""
        self._layout = layout
        self._buffers = buffers or Buffers()
        self._order = shard_order(layout.shard, layout.chunk)
        self._chunks = len(self._order.rowcol)
        self._area = layout.chunk**2
        self._data_bytes = self._area * width * dtype.itemsize
        self._fill = FILL if dtype.kind == "i" else np.nan
        side = layout.shard // layout.chunk
        stride = self._data_bytes + CRC_BYTES
        self._body = self._buffers.take(self._chunks * stride + index_bytes((side, side)))
        # Views of one buffer: a row is a chunk with its checksum, a cell is a vector in it.
        self._rows = self._body[: self._chunks * stride].reshape(self._chunks, stride)
        vectors = self._rows[:, : self._data_bytes].view(dtype)
        self._cells = vectors.reshape(self._chunks, self._area, width)
        self._used = np.zeros(self._chunks, bool)
        self._summed = np.zeros(self._chunks, bool)

    def put(self, cells: Int[np.ndarray, " cell"], codes: Shaped[np.ndarray, "cell band"]) -> None:
        """Store quantized vectors, or covariates.

        Args:
            cells: cells of the shard, counted row by row, ideally in the object's order.
            codes: their numbers.
        """
        offset = self._order.offset[cells]
        if (np.diff(offset) < 0).any():
            order = np.argsort(offset)
            offset, codes = offset[order], codes[order]
        chunk = offset // self._area
        # Offsets rise, so each chunk's cells are one run, from one cut to the next.
        cuts = [0, *(np.flatnonzero(np.diff(chunk)) + 1), len(offset)] if len(offset) else []
        for first, end in pairwise(cuts):
            number = chunk[first]
            inner = offset[first:end] - number * self._area
            block = self._cells[number]
            if not self._used[number]:
                self._used[number] = True
                # The memory is uninitialized; a chunk that comes complete need not be filled.
                if end - first < self._area:
                    block[...] = self._fill
            # Consecutive cells are copied as one slice, much faster than by an index array.
            if inner[-1] - inner[0] == len(inner) - 1:
                block[inner[0] : inner[-1] + 1] = codes[first:end]
            else:
                block[inner] = codes[first:end]
            self._summed[number] = False
            if end - first == self._area:
                self._write_crc(number)  # while the chunk is in the processor's cache

    def release(self) -> None:
        """Return the memory to the buffers; the object was stored, or will not be."""
        self._buffers.give_back(self._body)

    def finish(self) -> memoryview | None:
        """Return the object's bytes; None if the shard has no vector, hence no object."""
        if not self._used.any():
            return None
        if self._layout.codec == "zstd":
            return self._compressed()
        stride = self._rows.shape[1]
        # Close the gaps of missing chunks in the buffer. A chunk only moves towards the start, over
        # a row that is unused or was moved before.
        for row, number in enumerate(np.flatnonzero(self._used)):
            if not self._summed[number]:
                self._write_crc(number)
            chunk = self._rows[number]
            if row != number:
                self._rows[row] = chunk
        lengths = np.full(int(self._used.sum()), stride, np.uint64)
        end = len(lengths) * stride
        index = _index(self._order, self._used, lengths)
        self._body[end : end + len(index)] = index
        return memoryview(self._body[: end + len(index)])

    def _write_crc(self, number: np.int64) -> None:
        """Write the CRC-32C of a chunk behind its data."""
        chunk = self._rows[number]
        chunk[self._data_bytes :] = _crc(chunk[: self._data_bytes])
        self._summed[number] = True

    def _compressed(self) -> memoryview:
        codec = Zstd(level=3)
        parts = []
        for number in np.flatnonzero(self._used):
            packed = np.frombuffer(codec.encode(self._cells[number]), np.uint8)
            parts += [packed, _crc(packed)]
        # Two parts for each chunk, data and checksum, whose lengths the index adds.
        lengths = np.array([len(part) for part in parts], np.uint64).reshape(-1, 2).sum(axis=1)
        return memoryview(np.concatenate([*parts, _index(self._order, self._used, lengths)]))


def status_object(status: UInt8[np.ndarray, "row col"], layout: Layout) -> memoryview:
    """Return the object of one shard's status codes."""
    codes = np.ascontiguousarray(status).ravel()
    return memoryview(np.concatenate([codes, _crc(codes)]) if layout.checked_status else codes)


def rows_of_vectors(
    body: bytes | None, layout: Layout, width: int, rows: int, *, dtype: np.dtype[Any] = INT8
) -> Iterator[Shaped[np.ndarray, "row col band"]]:
    """Decode a shard's vectors, or covariates, from north to south, `rows` rows at a time.

    Args:
        body: the object; None if the shard has no vector.
        layout: layout of the shard.
        width: number of values in a vector.
        rows: rows of cells to yield at once, a multiple of a chunk's side.
        dtype: type of the values.

    Raises:
        LayoutError: if a chunk or the index does not match its CRC-32C.
    """
    chunk, shard = layout.chunk, layout.shard
    index = None if body is None else parse_index(body, (shard // chunk,) * 2, len(body))
    for first in range(0, shard, rows):
        fill = FILL if dtype.kind == "i" else np.nan
        stored = np.full((rows, shard, width), fill, dtype)
        for row, col in np.ndindex(rows // chunk, 0 if index is None else shard // chunk):
            offset, length = index[first // chunk + row, col]  # type: ignore[index]
            if offset != EMPTY:
                data = _checked(body[offset : offset + length])  # type: ignore[index]
                data = Zstd().decode(data) if layout.codec == "zstd" else data
                cells = np.frombuffer(data, dtype).reshape(chunk, chunk, width)
                stored[row * chunk : (row + 1) * chunk, col * chunk : (col + 1) * chunk] = cells
        yield stored


def status_of(body: bytes, layout: Layout) -> UInt8[np.ndarray, "row col"]:
    """Decode a shard's status codes.

    Raises:
        LayoutError: if they do not match their CRC-32C, if they have one, or are no codes.
    """
    if len(body) != layout.status_bytes:
        raise LayoutError(
            f"a shard's status has {len(body)} bytes where {layout.status_bytes} belong. The "
            "object is damaged."
        )
    codes = _checked(body) if layout.checked_status else body
    status = np.frombuffer(codes, np.uint8).reshape(layout.shard, layout.shard)
    lowest, highest = int(status.min()), int(status.max())
    if lowest == Status.NOT_PRODUCED or highest > max(Status):
        wrong = lowest if lowest == Status.NOT_PRODUCED else highest
        raise LayoutError(f"{wrong} is no status of a finished shard's cell. It is damaged.")
    return status


def check_fit(
    filled: Bool[np.ndarray, "row col"], status: UInt8[np.ndarray, "row col"], what: str
) -> None:
    """Check that exactly the valid cells are filled.

    Only in layout 1 statuses have a CRC; in later layouts this check finds damaged ones.

    Raises:
        LayoutError: if a valid cell is empty, or a cell that is not valid has one.
    """
    wrong = np.count_nonzero(filled != (status == Status.VALID))
    if wrong:
        raise LayoutError(
            f"{wrong} cells have {what} and another status than valid, or the reverse: the "
            "shard or its status is damaged."
        )


@contextmanager
def naming_shard(key: str) -> Iterator[None]:
    """Name the damaged object in errors that are raised inside."""
    try:
        yield
    except LayoutError as error:
        raise LayoutError(
            f"{key}: {error} Remove the shard's vectors and status, and run the command again: it "
            "is made anew."
        ) from error


def _checked(content: bytes) -> bytes:
    if not crc_matches(content):
        raise LayoutError("a chunk does not match its CRC-32C. The object is damaged.")
    return content[:-CRC_BYTES]


def _index(
    order: ShardOrder, used: Bool[np.ndarray, " chunk"], lengths: np.ndarray
) -> UInt8[np.ndarray, " byte"]:
    """Return the index of a shard with its CRC-32C: offset and length of each chunk, row by row."""
    side = int(order.rowcol.max()) + 1
    entries = np.full((side, side, 2), NOT_STORED, "<u8")
    row, col = order.rowcol[used].T
    entries[row, col, 1] = lengths
    entries[row, col, 0] = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    content = entries.reshape(-1).view(np.uint8)
    return np.concatenate([content, _crc(content)])


def _crc(content: UInt8[np.ndarray, " byte"]) -> UInt8[np.ndarray, " 4"]:
    value = google_crc32c.value(content)
    return np.frombuffer(value.to_bytes(CRC_BYTES, "little"), np.uint8)
