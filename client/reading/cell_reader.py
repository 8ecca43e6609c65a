"""Cells of a stored array, each byte read once and little else."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from unigeo.client.reading.array_layout import StoredArray
from unigeo.client.reading.byte_ranges import CellAddresses, coalesce, grouped, places_of
from unigeo.client.reading.mapped_files import MOST_MAPPED, MappedFile, MappedFiles, addresses
from unigeo.client.reading.object_listing import Sizes, damaged, lost
from unigeo.client.reading.protocol import CellWriter, Rows, Watch
from unigeo.client.reading.range_requests import Body, ObjectSource, Span, in_threads
from unigeo.schemas.errors import DamagedError, LayoutError, StoreError
from unigeo.schemas.store.sharding import EMPTY, index_bytes, parse_index

_BLOCK = 1024
"""Cells copied at a time: a block stays in the processor's cache."""
_PART = 16 * _BLOCK
"""Cells that one thread copies before it takes on others."""
_MOST_AT_ONCE = MOST_MAPPED // 2
"""Files read together."""
_FAULT_BYTES = 2**16  # about what the system maps when a byte of a file is touched
_MOST_INDEXES = 4096
"""Of shards, kept; 4 KiB each in the usual layout."""


class StoredCells:
    """The cells of one stored array, by the bytes of its objects."""

    def __init__(
        self,
        array: StoredArray,
        source: ObjectSource,
        sizes: Callable[[], Sizes | None] = lambda: None,
    ) -> None:
        self.array, self.source = array, source
        self.bands, self.dtype = array.bands, array.dtype
        self._sizes = sizes
        self._indexes: OrderedDict[tuple[int, int], np.ndarray | None] = OrderedDict()
        self._lock = threading.Lock()

    def gather(
        self,
        rowcol: Int[np.ndarray, "cell 2"],
        out: np.ndarray,
        *,
        bands: slice = slice(None),
        at: Int[np.ndarray, " cell"] | None = None,
        rows: Rows | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Put the cells' numbers into `out`; see `Cells.gather`."""
        if not len(rowcol):
            return
        places = places_of(self.array, rowcol)
        start, length = self._chunk_bytes(places)
        stored = np.flatnonzero(start != EMPTY)
        band = range(self.bands)[bands]
        put = CellWriter(out, at, rows, watch)
        if len(stored) < len(rowcol):
            self._fill(np.flatnonzero(start == EMPTY), len(band), put)
        if not len(stored):
            return
        if self.array.direct:
            start = start + places.within * self.array.cell_bytes + band.start
            self._gather_bytes(places, start, stored, len(band), put)
        else:
            self._gather_chunks(places, start, length, stored, bands, put)

    def cost(self, rowcol: Int[np.ndarray, "cell 2"]) -> list[tuple[int, int]]:
        """Indexes that are not known yet, then vectors or chunks; see `Cells.cost`."""
        if not len(rowcol):
            return []
        array, sizes = self.array, self._sizes()
        places = places_of(array, rowcol)
        there = np.ones(len(places.objects), bool)
        if sizes is not None:
            there = sizes[tuple(places.objects.T)] > 0
        unknown = 0
        if array.sharded:
            listed = places.objects[there].tolist()
            unknown = sum(tuple(place) not in self._indexes for place in listed)
        stored = there[places.which]
        chunk = places.which[stored] * math.prod(array.chunks) + places.chunk[stored]
        start = places.within[stored] * array.cell_bytes
        order = np.lexsort((start, chunk))
        chunk, start = chunk[order], start[order]
        if array.direct:
            length = np.full(len(start), array.cell_bytes)
            runs = coalesce(chunk, start, length, self.source.most_gap_bytes)
            reads = (len(runs), int((runs.stop - runs.start).sum()))
        else:
            chunks = len(np.unique(chunk))
            whole = array.cell_bytes * math.prod(array.chunk_cells)
            if sizes is not None and there.any():
                mean = sizes[sizes > 0].mean() / np.prod(array.chunks)
                whole = min(whole, int(mean)) or whole
            reads = (chunks, chunks * whole)
        return [(unknown, unknown * index_bytes(array.chunks)), reads]

    def some_bytes(self, most: int) -> int:
        """Read up to that many bytes of some object, and say how many there were."""
        sizes = self._sizes()
        if sizes is None or not sizes.any():
            return 0
        row, col = np.unravel_index(int(sizes.argmax()), sizes.shape)
        got: list[int] = []

        def take(number: int, body: Body | None) -> None:
            got.append(0 if body is None else len(body))

        size = min(most, int(sizes[row, col]))
        self.source.fetch([Span(self.array.object_key(int(row), int(col)), 0, size)], take)
        return got[0]

    def _gather_bytes(
        self,
        places: CellAddresses,
        start: Int[np.ndarray, " cell"],
        stored: Int[np.ndarray, " stored"],
        width: int,
        put: "CellWriter",
    ) -> None:
        """Read no more than the cells' own bytes."""
        which = places.which[stored]
        keys = [self.array.object_key(row, col) for row, col in places.objects.tolist()]
        if isinstance(self.source, MappedFiles):
            for members, objects in _some_objects(which, len(keys)):
                part = stored if members is None else stored[members]
                self._gather_mapped(places, keys, start, part, objects, width, put)
            return
        members = stored[np.lexsort((start[stored], which))]
        begin = start[members]
        runs = coalesce(
            places.which[members],
            begin,
            np.full(len(begin), width),
            self.source.most_gap_bytes,
        )

        def take(number: int, body: Body | None) -> None:
            part = slice(runs.first[number], runs.first[number + 1])
            if body is None:
                self._absent(keys[runs.which[number]], members[part], width, put)
            else:
                low = begin[part] - runs.start[number]
                _copy(body, keys[runs.which[number]], low, width, self.dtype, members[part], put)

        self.source.fetch(_spans(keys, runs.which, runs.start, runs.stop), take)

    def _gather_mapped(
        self,
        places: CellAddresses,
        keys: list[str],
        start: Int[np.ndarray, " cell"],
        members: Int[np.ndarray, " member"],
        objects: Int[np.ndarray, " object"],
        width: int,
        put: CellWriter,
    ) -> None:
        """Copy cells of a few mapped files, in the order of the output."""
        assert isinstance(self.source, MappedFiles)
        opened = [self.source.open(keys[number]) for number in objects]
        if not all(opened):
            there = np.zeros(len(keys), bool)
            there[objects] = [file is not None for file in opened]
            has = there[places.which[members]]
            lost = members[~has]
            if len(lost):
                self._absent(keys[places.which[lost[0]]], lost, width, put)
            members = members[has]
            objects = objects[[file is not None for file in opened]]
        files = [file for file in opened if file is not None]
        if not len(members):
            return
        rank = np.full(len(keys), -1)
        rank[objects] = np.arange(len(objects))
        which = rank[places.which[members]]
        begin = start[members]
        ends = np.array([len(file.memory) for file in files])
        beyond = np.flatnonzero(begin + width > ends[which])
        if len(beyond):
            first = beyond[0]
            raise _cut_off(files[which[first]].path, int(ends[which[first]]), int(begin[first]))
        self._read_ahead(files, which, begin, width)
        base, items = addresses(files, width)
        begin += base[which]
        everything = len(members) == len(put.out) and put.at is None

        def copy(number: int) -> None:
            for first in range(number * _PART, min((number + 1) * _PART, len(members)), _BLOCK):
                block = slice(first, min(first + _BLOCK, len(members)))
                rows = block if everything else members[block]
                put.items(rows, items[begin[block]], self.dtype)

        in_threads(copy, -(-len(members) // _PART))
        self.source.confirm(files)
        touched = np.bincount(which, minlength=len(files))
        for file, cells in zip(files, touched.tolist(), strict=True):
            self.source.count(file, cells * _FAULT_BYTES)

    def _read_ahead(
        self,
        files: list[MappedFile],
        which: Int[np.ndarray, " member"],
        begin: Int[np.ndarray, " member"],
        width: int,
    ) -> None:
        """Have files that are not in the system's cache read before they are touched."""
        assert isinstance(self.source, MappedFiles)
        source = self.source
        order, edges = grouped(which, len(files))
        in_threads(
            lambda number: source.read_ahead(
                files[number], begin[order[edges[number] : edges[number + 1]]], width
            ),
            len(files),
        )

    def _gather_chunks(
        self,
        places: CellAddresses,
        start: Int[np.ndarray, " cell"],
        length: Int[np.ndarray, " cell"],
        stored: Int[np.ndarray, " stored"],
        bands: slice,
        put: "CellWriter",
    ) -> None:
        """Read and decode each touched chunk once."""
        order = stored[np.lexsort((start[stored], places.which[stored]))]
        which, begin = places.which[order], start[order]
        new = (which[1:] != which[:-1]) | (begin[1:] != begin[:-1])
        first = np.flatnonzero(np.concatenate([[True], new]))
        edges = np.append(first, len(order))
        which, begin, size = which[first], begin[first], length[order][first]
        keys = [self.array.object_key(row, col) for row, col in places.objects.tolist()]
        whole = size == EMPTY  # an object without shards: its length is not known
        gap = self.source.most_gap_bytes if not whole.any() else -1
        runs = coalesce(which, begin, np.where(whole, 0, size), gap)

        def take(number: int, body: Body | None) -> None:
            for chunk in range(runs.first[number], runs.first[number + 1]):
                part = order[edges[chunk] : edges[chunk + 1]]
                if body is None:
                    self._absent(keys[which[chunk]], part, len(range(self.bands)[bands]), put)
                    continue
                low = int(begin[chunk] - runs.start[number])
                piece = body if whole[chunk] else body[low : low + int(size[chunk])]
                try:
                    cells = self.array.decode(piece)
                except StoreError as error:
                    raise damaged(keys[which[chunk]], error) from error
                row, col = np.divmod(places.within[part], self.array.chunk_cells[1])
                put(part, cells[row, col, bands])

        stops = np.where(whole[runs.first[:-1]], EMPTY, runs.stop)
        self.source.fetch(_spans(keys, runs.which, runs.start, stops), take)

    def _chunk_bytes(
        self, places: CellAddresses
    ) -> tuple[Int[np.ndarray, " cell"], Int[np.ndarray, " cell"]]:
        """First byte and length of each cell's chunk in its object; -1 where it is not stored."""
        sizes = self._sizes()
        there = np.ones(len(places.objects), bool)
        if sizes is not None:
            there = sizes[tuple(places.objects.T)] > 0
        if not self.array.sharded:
            start = np.where(there, 0, EMPTY)[places.which]
            return start, np.full(len(start), EMPTY)
        table = np.full((len(places.objects), math.prod(self.array.chunks), 2), EMPTY, np.int64)
        for number, index in self._indexes_of(places.objects, there, sizes).items():
            table[number] = index
        found = table[places.which, places.chunk]
        return found[:, 0], found[:, 1]

    def _fill(self, part: Int[np.ndarray, " cell"], width: int, put: "CellWriter") -> None:
        """Cells of chunks that are not stored."""
        nothing = np.full((1, width), self.array.fill, self.dtype)
        for first in range(0, len(part), _BLOCK):
            block = part[first : first + _BLOCK]
            put(block, np.broadcast_to(nothing, (len(block), width)))

    def _absent(
        self, key: str, part: Int[np.ndarray, " cell"], width: int, put: "CellWriter"
    ) -> None:
        """Cells of an object that is not there: no data, or a loss."""
        if self.array.sharded or self._sizes() is not None:
            raise lost(key)
        self._fill(part, width, put)

    def _indexes_of(
        self, objects: Int[np.ndarray, "object 2"], there: Bool[np.ndarray, " object"], sizes: Any
    ) -> dict[int, np.ndarray]:
        """The index of each shard that is there, by its number; each is fetched once and kept."""
        places = [tuple(place) for place in objects.tolist()]
        found: dict[int, np.ndarray | None] = {}
        with self._lock:
            for number in np.flatnonzero(there).tolist():
                if places[number] in self._indexes:
                    self._indexes.move_to_end(places[number])
                    found[number] = self._indexes[places[number]]
        wanted = [number for number in np.flatnonzero(there).tolist() if number not in found]
        length = index_bytes(self.array.chunks)
        spans = [Span(self.array.object_key(*places[number]), -length) for number in wanted]

        def take(number: int, body: Body | None) -> None:
            place = places[wanted[number]]
            index = None
            if body is None and sizes is not None:
                raise lost(spans[number].key)
            if body is not None:
                size = None if sizes is None else int(sizes[place])
                try:
                    index = parse_index(body.tobytes(), self.array.chunks, size).reshape(-1, 2)
                except LayoutError as error:
                    raise damaged(spans[number].key, error) from error
            with self._lock:
                found[wanted[number]] = self._indexes[place] = index
                while len(self._indexes) > _MOST_INDEXES:
                    self._indexes.popitem(last=False)

        if spans:
            self.source.fetch(spans, take)
        return {number: index for number, index in found.items() if index is not None}


def _copy(
    body: Body,
    key: str,
    start: Int[np.ndarray, " cell"],
    width: int,
    dtype: np.dtype[Any],
    part: Int[np.ndarray, " cell"],
    put: CellWriter,
) -> None:
    """Copy runs of `width` bytes that begin anywhere in `body`."""
    if len(start) and int(start.max()) + width > len(body):
        raise _cut_off(key, len(body), int(start.max()))
    items = np.ndarray(
        max(len(body) - width + 1, 0), np.dtype((np.void, width)), body, strides=(1,)
    )
    for first in range(0, len(part), _BLOCK):
        block = slice(first, first + _BLOCK)
        put.items(part[block], items[start[block]], dtype)


def _cut_off(name: Any, size: int, start: int) -> DamagedError:
    return DamagedError(
        f"{name} ends after {size} bytes, before or amid a vector at byte {start}: it is cut off. "
        "Copy it anew."
    )


def _some_objects(
    which: Int[np.ndarray, " cell"], count: int
) -> Iterator[tuple[Int[np.ndarray, " member"] | None, Int[np.ndarray, " object"]]]:
    """Cells (None: all of them) and objects, as many at a time as may be mapped."""
    touched = np.flatnonzero(np.bincount(which, minlength=count))
    if len(touched) <= _MOST_AT_ONCE:
        yield None, touched
        return
    order, edges = grouped(which, count)
    for first in range(0, len(touched), _MOST_AT_ONCE):
        some = touched[first : first + _MOST_AT_ONCE]
        yield np.sort(order[edges[some[0]] : edges[some[-1] + 1]]), some


def _spans(
    keys: list[str],
    which: Int[np.ndarray, " run"],
    start: Int[np.ndarray, " run"],
    stop: Int[np.ndarray, " run"],
) -> list[Span]:
    return [
        Span(keys[number], low, None if high == EMPTY else high)
        for number, low, high in zip(which.tolist(), start.tolist(), stop.tolist(), strict=True)
    ]
