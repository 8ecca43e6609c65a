"""Cells of a stored array, each byte read once and little else."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, Shaped

from unigeo.client.arrays import StoredArray
from unigeo.client.fetching import Body, Files, Source, Span, in_threads
from unigeo.client.planning import Places, coalesce, grouped, places_of
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.sharding import EMPTY, index_bytes, parse_index

Rows = Callable[[Shaped[np.ndarray, "row band"]], np.ndarray]
"""What becomes of stored cells before they go into the output, row by row."""
Sizes = Int[np.ndarray, "object_row object_col"]
"""Bytes of each stored object by the manifest; 0 where there is none."""
Watch = Callable[[int], None]
"""Told how many more cells are done."""

_BLOCK = 1024
"""Cells copied at a time: a block stays in the processor's cache."""
_WHOLE_OBJECT_SHARE = 1 / 8
"""An object is read whole when more than this share of its chunks is wanted: for Zarr, reading one
chunk costs about 2 ms of overhead, the time in which a memory-speed read moves several chunks."""
_MOST_INDEXES = 4096
"""Of shards, kept; 4 KiB each in the usual layout."""


@runtime_checkable
class Cells(Protocol):
    """An array whose cells can be asked for in any order."""

    bands: int
    dtype: np.dtype[Any]

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
        """Put the cells' numbers into `out`, one row per cell.

        Args:
            rowcol: rows and columns of the array, in any order, with repeats.
            out: (row, band), or of whatever width `rows` makes.
            bands: which, a plain range.
            at: the row of `out` for each cell; in their own order by default.
            rows: applied to blocks of cells on their way.
            watch: told of progress, from any thread.

        Raises:
            StoreError: if bytes cannot be read, or are damaged.
        """


class StoredCells:
    """The cells of one stored array, by the bytes of its objects."""

    def __init__(
        self,
        array: StoredArray,
        source: Source,
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
        put = _Put(out, at, rows, watch)
        if len(stored) < len(rowcol):
            self._fill(np.flatnonzero(start == EMPTY), len(band), put)
        if not len(stored):
            return
        if self.array.direct:
            start = start + places.within * self.array.cell_bytes + band.start
            self._gather_bytes(places, start, stored, len(band), put)
        else:
            self._gather_chunks(places, start, length, stored, bands, put)

    def _gather_bytes(
        self,
        places: Places,
        start: Int[np.ndarray, " cell"],
        stored: Int[np.ndarray, " stored"],
        width: int,
        put: "_Put",
    ) -> None:
        """Read no more than the cells' own bytes."""
        which = places.which[stored]
        order, edges = grouped(which, len(places.objects))
        members = stored[order]
        keys = [self.array.object_key(row, col) for row, col in places.objects.tolist()]
        touched = np.flatnonzero(np.diff(edges))
        if isinstance(self.source, Files):
            files = self.source

            def copy(number: int) -> None:
                at = touched[number]
                part = members[edges[at] : edges[at + 1]]
                with files.mapped(keys[at], start[part], width) as body:
                    if body is None:
                        self._absent(keys[at], part, width, put)
                    else:
                        _copy(body, start[part], width, self.dtype, part, put)

            in_threads(copy, len(touched))
            return
        sort = np.lexsort((start[members], which[order]))
        members = members[sort]
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
                _copy(body, begin[part] - runs.start[number], width, self.dtype, members[part], put)

        self.source.fetch(_spans(keys, runs.which, runs.start, runs.stop), take)

    def _gather_chunks(
        self,
        places: Places,
        start: Int[np.ndarray, " cell"],
        length: Int[np.ndarray, " cell"],
        stored: Int[np.ndarray, " stored"],
        bands: slice,
        put: "_Put",
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
                    raise StoreError(f"cannot read {keys[which[chunk]]}: {error}") from error
                row, col = np.divmod(places.within[part], self.array.chunk_cells[1])
                put(part, cells[row, col, bands])

        stops = np.where(whole[runs.first[:-1]], EMPTY, runs.stop)
        self.source.fetch(_spans(keys, runs.which, runs.start, stops), take)

    def _chunk_bytes(
        self, places: Places
    ) -> tuple[Int[np.ndarray, " cell"], Int[np.ndarray, " cell"]]:
        """First byte and length of each cell's chunk in its object; -1 where it is not stored."""
        sizes = self._sizes()
        there = np.ones(len(places.objects), bool)
        if sizes is not None:
            there = sizes[tuple(places.objects.T)] > 0
        if not self.array.sharded:
            start = np.where(there, 0, EMPTY)[places.which]
            return start, np.full(len(start), EMPTY)
        table = np.full((len(places.objects), int(np.prod(self.array.chunks)), 2), EMPTY, np.int64)
        for number, index in self._indexes_of(places.objects, there, sizes).items():
            table[number] = index
        found = table[places.which, places.chunk]
        return found[:, 0], found[:, 1]

    def _fill(self, part: Int[np.ndarray, " cell"], width: int, put: "_Put") -> None:
        """Cells of chunks that are not stored."""
        nothing = np.full((1, width), self.array.fill, self.dtype)
        for first in range(0, len(part), _BLOCK):
            block = part[first : first + _BLOCK]
            put(block, np.broadcast_to(nothing, (len(block), width)))

    def _absent(self, key: str, part: Int[np.ndarray, " cell"], width: int, put: "_Put") -> None:
        """Cells of an object that is not there: no data, or a loss."""
        if self.array.sharded or self._sizes() is not None:
            raise _lost(key)
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
                raise _lost(spans[number].key)
            if body is not None:
                size = None if sizes is None else int(sizes[place])
                try:
                    index = parse_index(body.tobytes(), self.array.chunks, size).reshape(-1, 2)
                except LayoutError as error:
                    raise StoreError(f"cannot read {spans[number].key}: {error}") from error
            with self._lock:
                found[wanted[number]] = self._indexes[place] = index
                while len(self._indexes) > _MOST_INDEXES:
                    self._indexes.popitem(last=False)

        if spans:
            self.source.fetch(spans, take)
        return {number: index for number, index in found.items() if index is not None}


class WindowCells:
    """The cells of an array that is read by windows of rows and columns: the way of plain Zarr."""

    def __init__(
        self,
        read: Callable[[slice, slice], np.ndarray],
        bands: int,
        dtype: np.dtype[Any],
        object_cells: tuple[int, int],
        chunk_cells: tuple[int, int],
    ) -> None:
        self._read = read
        self.bands, self.dtype = bands, dtype
        self._object_cells, self._chunk_cells = np.array(object_cells), np.array(chunk_cells)

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
        """Read each touched object or chunk once; see `Cells.gather`."""
        put = _Put(out, at, rows, watch)
        most = np.prod(self._object_cells // self._chunk_cells) * _WHOLE_OBJECT_SHARE
        for members in _alike(rowcol // self._object_cells):
            touched = list(_alike(rowcol[members] // self._chunk_cells))
            if len(touched) > most:
                touched = [np.arange(len(members))]
            for part in touched:
                cells = members[part]
                low, high = rowcol[cells].min(axis=0), rowcol[cells].max(axis=0) + 1
                window = self._read(
                    slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
                )
                row, col = (rowcol[cells] - low).T
                put(cells, window.reshape(*window.shape[:2], self.bands)[row, col, bands])


class _Put:
    """Where gathered cells go; each row is written by one thread."""

    def __init__(
        self,
        out: np.ndarray,
        at: Int[np.ndarray, " cell"] | None,
        rows: Rows | None,
        watch: Watch | None,
    ) -> None:
        self.out, self.at, self.rows, self.watch = out, at, rows, watch

    def __call__(self, part: Int[np.ndarray, " cell"], cells: np.ndarray) -> None:
        where = part if self.at is None else self.at[part]
        self.out[where] = cells if self.rows is None else self.rows(cells)
        if self.watch is not None:
            self.watch(len(part))

    def items(self, part: Int[np.ndarray, " cell"], found: np.ndarray) -> None:
        """Put whole rows, as items of their bytes."""
        where = part if self.at is None else self.at[part]
        self.out.view(found.dtype)[:, 0][where] = found
        if self.watch is not None:
            self.watch(len(part))


def _copy(
    body: Body,
    start: Int[np.ndarray, " cell"],
    width: int,
    dtype: np.dtype[Any],
    part: Int[np.ndarray, " cell"],
    put: _Put,
) -> None:
    """Copy runs of `width` bytes that begin anywhere in `body`."""
    if len(start) and int(start.max()) + width > len(body):
        raise StoreError(
            f"an object ends after {len(body)} bytes, before a vector at byte {start.max()}: it is "
            "cut off. Copy it anew."
        )
    # One item of `width` bytes may begin at any byte; as such items they are copied whole.
    items = np.dtype((np.void, width))
    anywhere = np.ndarray(max(len(body) - width + 1, 0), items, body, strides=(1,))
    for first in range(0, len(part), _BLOCK):
        block = slice(first, first + _BLOCK)
        found = anywhere[start[block]]
        if put.rows is None:
            put.items(part[block], found)
        else:
            put(part[block], found.view(dtype).reshape(-1, width))


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


def _lost(key: str) -> StoreError:
    return StoreError(
        f"{key} is not there, and the store's manifest or index says it is: the store has lost a "
        "shard, or does not let it be read. Copy the store anew."
    )


def _alike(key: Int[np.ndarray, "cell 2"]) -> list[Int[np.ndarray, " member"]]:
    """Indices of the cells that share a key, group by group."""
    if not len(key):
        return []
    order = np.lexsort((key[:, 1], key[:, 0]))
    ordered = key[order]
    starts = np.flatnonzero(np.any(ordered[1:] != ordered[:-1], axis=1)) + 1
    return np.split(order, starts)
