"""Reads cells by the bytes of an array's stored objects, each byte at most once."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from unigeo.client.reading.array_layout import StoredArray
from unigeo.client.reading.byte_ranges import (
    CellAddresses,
    cell_addresses,
    coalesce,
    sort_by_group,
)
from unigeo.client.reading.cell_protocol import CellWriter, OnProgress, Transform
from unigeo.client.reading.mapped_files import MOST_MAPPED, MappedFile, MappedFiles, joined_items
from unigeo.client.reading.object_listing import Sizes, damaged_error, lost_error
from unigeo.client.reading.range_requests import Body, ObjectSource, Span, run_in_threads
from unigeo.client.reading.shard_indexes import ShardIndexes
from unigeo.schemas.errors import DamagedError, StoreError
from unigeo.schemas.store.sharding import EMPTY, index_bytes

_BLOCK = 1024
"""Cells copied by one numpy call: a block stays in the processor's cache."""
_THREAD_CELLS = 16 * _BLOCK
"""Cells that a thread copies before it takes the next part."""
_MOST_OPEN = MOST_MAPPED // 2
"""Files that one gather maps at the same time."""
_FAULT_BYTES = 2**16
"""Bytes that the system maps when one byte of a file is touched, approximately."""


class StoredCells:
    """Cells of one stored array, read by the bytes of its objects; see `cell_protocol.Cells`."""

    def __init__(
        self,
        array: StoredArray,
        source: ObjectSource,
        sizes: Callable[[], Sizes | None] = lambda: None,
    ) -> None:
        """Take the array's layout, the source of its objects, and the manifest's object sizes."""
        self.array, self.source = array, source
        self.bands, self.dtype = array.bands, array.dtype
        self._sizes = sizes
        self._indexes = ShardIndexes(array, source)

    def gather(
        self,
        rowcol: Int[np.ndarray, "cell 2"],
        out: np.ndarray,
        *,
        bands: slice = slice(None),
        out_rows: Int[np.ndarray, " cell"] | None = None,
        transform: Transform | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Read cells into `out`; see `Cells.gather`."""
        if not len(rowcol):
            return
        addresses = cell_addresses(self.array, rowcol)
        start, length = self._chunk_ranges(addresses)
        stored = np.flatnonzero(start != EMPTY)
        wanted = range(self.bands)[bands]
        writer = CellWriter(out, out_rows, transform, on_progress)
        if len(stored) < len(rowcol):
            self._fill(np.flatnonzero(start == EMPTY), len(wanted), writer)
        if not len(stored):
            return
        if self.array.direct:
            start = start + addresses.cell_number * self.array.cell_bytes
            start += wanted.start * self.dtype.itemsize
            width = len(wanted) * self.dtype.itemsize
            self._gather_bytes(addresses, start, stored, width, writer)
        else:
            self._gather_chunks(addresses, start, length, stored, bands, writer)

    def cost(self, rowcol: Int[np.ndarray, "cell 2"]) -> list[tuple[int, int]]:
        """Count the shard indexes still to be read, then vectors or chunks; see `Cells.cost`."""
        if not len(rowcol):
            return []
        array, sizes = self.array, self._sizes()
        addresses = cell_addresses(array, rowcol)
        present = self._present_objects(addresses, sizes)
        unknown = 0
        if array.sharded:
            shards = addresses.objects[present].tolist()
            unknown = sum(tuple(shard) not in self._indexes for shard in shards)
        stored = present[addresses.object_number]
        chunks_per_object = math.prod(array.chunks)
        chunk = addresses.object_number[stored] * chunks_per_object + addresses.chunk_number[stored]
        start = addresses.cell_number[stored] * array.cell_bytes
        order = np.lexsort((start, chunk))
        chunk, start = chunk[order], start[order]
        if array.direct:
            length = np.full(len(start), array.cell_bytes)
            runs = coalesce(chunk, start, length, self.source.most_gap_bytes)
            reads = (len(runs), int((runs.stop - runs.start).sum()))
        else:
            chunks = len(np.unique(chunk))
            chunk_bytes = array.cell_bytes * math.prod(array.chunk_cells)
            if sizes is not None and present.any():  # compressed: the mean of what is stored
                mean = sizes[sizes > 0].mean() / np.prod(array.chunks)
                chunk_bytes = min(chunk_bytes, int(mean)) or chunk_bytes
            reads = (chunks, chunks * chunk_bytes)
        return [(unknown, unknown * index_bytes(array.chunks)), reads]

    def read_some(self, most_bytes: int) -> int:
        """Read up to `most_bytes` of the largest object, and return how many were read."""
        sizes = self._sizes()
        if sizes is None or not sizes.any():
            return 0
        row, col = np.unravel_index(int(sizes.argmax()), sizes.shape)
        counts: list[int] = []

        def count(number: int, body: Body | None) -> None:
            counts.append(0 if body is None else len(body))

        size = min(most_bytes, int(sizes[row, col]))
        self.source.fetch([Span(self.array.object_key(int(row), int(col)), 0, size)], count)
        return counts[0]

    def _gather_bytes(
        self,
        addresses: CellAddresses,
        start: Int[np.ndarray, " cell"],
        stored: Int[np.ndarray, " stored"],
        width: int,
        writer: CellWriter,
    ) -> None:
        """Read `width` bytes at the byte `start` of each stored cell's object."""
        object_number = addresses.object_number[stored]
        keys = self._keys(addresses)
        if isinstance(self.source, MappedFiles):
            for positions, objects in _batches_of_objects(object_number, len(keys)):
                cells = stored if positions is None else stored[positions]
                self._gather_mapped(addresses, keys, start, cells, objects, width, writer)
            return
        cells = stored[np.lexsort((start[stored], object_number))]
        begin = start[cells]
        runs = coalesce(
            addresses.object_number[cells],
            begin,
            np.full(len(begin), width),
            self.source.most_gap_bytes,
        )

        def copy_run(number: int, body: Body | None) -> None:
            part = slice(runs.first[number], runs.first[number + 1])
            key = keys[runs.object_number[number]]
            if body is None:
                self._absent(key, cells[part], width // self.dtype.itemsize, writer)
            else:
                offset = begin[part] - runs.start[number]
                _copy(body, key, offset, width, self.dtype, cells[part], writer)

        self.source.fetch(_spans(keys, runs.object_number, runs.start, runs.stop), copy_run)

    def _gather_mapped(
        self,
        addresses: CellAddresses,
        keys: list[str],
        start: Int[np.ndarray, " cell"],
        cells: Int[np.ndarray, " member"],
        objects: Int[np.ndarray, " object"],
        width: int,
        writer: CellWriter,
    ) -> None:
        """Copy cells of a few mapped files.

        The files are sources of one fancy-indexing call, so the cells need not be sorted by file:
        they are copied in the order of the output, which is then written sequentially.
        """
        assert isinstance(self.source, MappedFiles)
        opened = [self.source.open(keys[number]) for number in objects]
        if not all(opened):
            present = np.zeros(len(keys), bool)
            present[objects] = [file is not None for file in opened]
            readable = present[addresses.object_number[cells]]
            lost = cells[~readable]
            if len(lost):
                numbers = width // self.dtype.itemsize
                self._absent(keys[addresses.object_number[lost[0]]], lost, numbers, writer)
            cells = cells[readable]
            objects = objects[[file is not None for file in opened]]
        files = [file for file in opened if file is not None]
        if not len(cells):
            return
        # `objects` index all keys; `file_number` indexes the few files that are open now.
        rank = np.full(len(keys), -1)
        rank[objects] = np.arange(len(objects))
        file_number = rank[addresses.object_number[cells]]
        begin = start[cells]
        # A read beyond the end of a mapped file kills the process (SIGBUS), so refuse it first.
        ends = np.array([len(file.memory) for file in files])
        beyond = np.flatnonzero(begin + width > ends[file_number])
        if len(beyond):
            first = beyond[0]
            file = files[file_number[first]]
            raise _cut_off(file.path, len(file.memory), int(begin[first]))
        self._read_ahead(files, file_number, begin, width)
        base, items = joined_items(files, width)
        begin += base[file_number]  # from offsets in each file to indices of `items`
        in_order = len(cells) == len(writer.out) and writer.out_rows is None

        def copy(number: int) -> None:
            stop = min((number + 1) * _THREAD_CELLS, len(cells))
            for first in range(number * _THREAD_CELLS, stop, _BLOCK):
                block = slice(first, min(first + _BLOCK, len(cells)))
                # A slice of rows is a plain copy; an index array would scatter.
                rows = block if in_order else cells[block]
                writer.write_items(rows, items[begin[block]], self.dtype)

        run_in_threads(copy, -(-len(cells) // _THREAD_CELLS))
        # Only now is it known that the bytes are of the files that were opened.
        self.source.confirm(files)
        touched = np.bincount(file_number, minlength=len(files))
        for file, count in zip(files, touched.tolist(), strict=True):
            self.source.count_resident(file, count * _FAULT_BYTES)

    def _read_ahead(
        self,
        files: list[MappedFile],
        file_number: Int[np.ndarray, " member"],
        begin: Int[np.ndarray, " member"],
        width: int,
    ) -> None:
        """Read the cells' bytes into the system's cache, before page faults read them singly."""
        assert isinstance(self.source, MappedFiles)
        source = self.source
        order, edges = sort_by_group(file_number, len(files))
        run_in_threads(
            lambda number: source.read_ahead(
                files[number], begin[order[edges[number] : edges[number + 1]]], width
            ),
            len(files),
        )

    def _gather_chunks(
        self,
        addresses: CellAddresses,
        start: Int[np.ndarray, " cell"],
        length: Int[np.ndarray, " cell"],
        stored: Int[np.ndarray, " stored"],
        bands: slice,
        writer: CellWriter,
    ) -> None:
        """Read and decode each touched chunk once.

        Args:
            addresses: of all cells.
            start: first byte of each cell's chunk in its object.
            length: bytes of the chunk; `EMPTY` where the chunk is the whole object.
            stored: the cells whose chunk is stored.
            bands: the bands to write.
            writer: of the output.
        """
        # Sort the cells by chunk. Chunk c then serves the cells order[edges[c] : edges[c + 1]].
        order = stored[np.lexsort((start[stored], addresses.object_number[stored]))]
        object_number, begin = addresses.object_number[order], start[order]
        new_chunk = (object_number[1:] != object_number[:-1]) | (begin[1:] != begin[:-1])
        first = np.flatnonzero(np.concatenate([[True], new_chunk]))
        edges = np.append(first, len(order))
        object_number, begin, size = object_number[first], begin[first], length[order][first]
        keys = self._keys(addresses)
        whole_object = size == EMPTY  # an object without shards: its length is not known
        # A gap of -1 joins nothing: the length 0 of a whole object says nothing about its end.
        gap = self.source.most_gap_bytes if not whole_object.any() else -1
        runs = coalesce(object_number, begin, np.where(whole_object, 0, size), gap)

        def decode_run(number: int, body: Body | None) -> None:
            for chunk in range(runs.first[number], runs.first[number + 1]):
                cells = order[edges[chunk] : edges[chunk + 1]]
                key = keys[object_number[chunk]]
                if body is None:
                    self._absent(key, cells, len(range(self.bands)[bands]), writer)
                    continue
                offset = int(begin[chunk] - runs.start[number])
                piece = body if whole_object[chunk] else body[offset : offset + int(size[chunk])]
                try:
                    decoded = self.array.decode(piece)
                except StoreError as error:
                    raise damaged_error(key, error) from error
                row, col = np.divmod(addresses.cell_number[cells], self.array.chunk_cells[1])
                writer.write(cells, decoded[row, col, bands])

        stops = np.where(whole_object[runs.first[:-1]], EMPTY, runs.stop)
        self.source.fetch(_spans(keys, runs.object_number, runs.start, stops), decode_run)

    def _keys(self, addresses: CellAddresses) -> list[str]:
        return [self.array.object_key(row, col) for row, col in addresses.objects.tolist()]

    def _present_objects(
        self, addresses: CellAddresses, sizes: Sizes | None
    ) -> Bool[np.ndarray, " object"]:
        """Whether the manifest lists each object; without a manifest any may be present."""
        if sizes is None:
            return np.ones(len(addresses.objects), bool)
        return np.asarray(sizes[tuple(addresses.objects.T)] > 0)

    def _chunk_ranges(
        self, addresses: CellAddresses
    ) -> tuple[Int[np.ndarray, " cell"], Int[np.ndarray, " cell"]]:
        """Return the first byte and the length of each cell's chunk; `EMPTY` if not stored.

        The length of a chunk that is a whole object is not known, and `EMPTY` too.
        """
        sizes = self._sizes()
        present = self._present_objects(addresses, sizes)
        if not self.array.sharded:
            start = np.where(present, 0, EMPTY)[addresses.object_number]
            return start, np.full(len(start), EMPTY)
        shape = (len(addresses.objects), math.prod(self.array.chunks), 2)
        table = np.full(shape, EMPTY, np.int64)
        for number, index in self._indexes.read(addresses.objects, present, sizes).items():
            table[number] = index
        ranges = table[addresses.object_number, addresses.chunk_number]
        return ranges[:, 0], ranges[:, 1]

    def _fill(self, cells: Int[np.ndarray, " cell"], width: int, writer: CellWriter) -> None:
        """Write the fill value to cells of chunks that are not stored."""
        fill = np.full((1, width), self.array.fill, self.dtype)
        for first in range(0, len(cells), _BLOCK):
            block = cells[first : first + _BLOCK]
            writer.write(block, np.broadcast_to(fill, (len(block), width)))

    def _absent(
        self, key: str, cells: Int[np.ndarray, " cell"], width: int, writer: CellWriter
    ) -> None:
        """Fill the cells of an object that does not exist, or raise if it should exist.

        A shard is only read after its index, or with the manifest's word, so its absence is a
        loss. An array without shards and manifest leaves out empty chunks.
        """
        if self.array.sharded or self._sizes() is not None:
            raise lost_error(key)
        self._fill(cells, width, writer)


def _copy(
    body: Body,
    key: str,
    start: Int[np.ndarray, " cell"],
    width: int,
    dtype: np.dtype[Any],
    cells: Int[np.ndarray, " cell"],
    writer: CellWriter,
) -> None:
    """Copy `width` bytes from each `start` in `body`."""
    if len(start) and int(start.max()) + width > len(body):
        raise _cut_off(key, len(body), int(start.max()))
    # Overlapping items, one beginning at each byte: indexing them copies unaligned runs of bytes.
    items = np.ndarray(
        max(len(body) - width + 1, 0), np.dtype((np.void, width)), body, strides=(1,)
    )
    for first in range(0, len(cells), _BLOCK):
        block = slice(first, first + _BLOCK)
        writer.write_items(cells[block], items[start[block]], dtype)


def _cut_off(name: Any, size: int, start: int) -> DamagedError:
    return DamagedError(
        f"{name} ends after {size} bytes, before or amid a vector at byte {start}: it is cut off. "
        "Copy it anew."
    )


def _batches_of_objects(
    object_number: Int[np.ndarray, " cell"], count: int
) -> Iterator[tuple[Int[np.ndarray, " member"] | None, Int[np.ndarray, " object"]]]:
    """Yield batches of objects that may be open together, and their cells (None: all cells)."""
    touched = np.flatnonzero(np.bincount(object_number, minlength=count))
    if len(touched) <= _MOST_OPEN:
        yield None, touched
        return
    order, edges = sort_by_group(object_number, count)
    for first in range(0, len(touched), _MOST_OPEN):
        batch = touched[first : first + _MOST_OPEN]
        # Untouched objects between the first and the last of the batch have no cells.
        yield np.sort(order[edges[batch[0]] : edges[batch[-1] + 1]]), batch


def _spans(
    keys: list[str],
    object_number: Int[np.ndarray, " run"],
    start: Int[np.ndarray, " run"],
    stop: Int[np.ndarray, " run"],
) -> list[Span]:
    """Return one span per run; the stop `EMPTY` stands for the object's end."""
    return [
        Span(keys[number], low, None if high == EMPTY else high)
        for number, low, high in zip(
            object_number.tolist(), start.tolist(), stop.tolist(), strict=True
        )
    ]
