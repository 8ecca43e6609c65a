"""Cells in any order: what the sampling engine asks of an array, and the plain way to give it."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped

Rows = Callable[[Shaped[np.ndarray, "row band"]], np.ndarray]
"""What becomes of stored cells before they go into the output, row by row."""
Part = Int[np.ndarray, " _"] | slice
"""Numbers of cells."""
Watch = Callable[[int], None]
"""Told how many more cells are done."""


_WHOLE_OBJECT_SHARE = 1 / 8
"""An object is read whole when more than this share of its chunks is wanted: for Zarr, reading one
chunk costs about 2 ms of overhead, the time in which a memory-speed read moves several chunks."""


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

    def cost(self, rowcol: Int[np.ndarray, "cell 2"]) -> list[tuple[int, int]]:
        """Reads and bytes that gathering the cells takes at most, one pair per round of reads."""


class CellWriter:
    """Where gathered cells go; each row is written by one thread."""

    def __init__(
        self,
        out: np.ndarray,
        at: Int[np.ndarray, " cell"] | None,
        rows: Rows | None,
        watch: Watch | None,
    ) -> None:
        self.out, self.at, self.rows, self.watch = out, at, rows, watch

    def __call__(self, part: Part, cells: np.ndarray) -> None:
        """Put rows of cells, in the order of `part`."""
        self.out[self._where(part)] = cells if self.rows is None else self.rows(cells)
        self._done(part)

    def items(self, part: Part, found: np.ndarray, dtype: np.dtype[Any]) -> None:
        """Put whole rows, each given as one item of its bytes."""
        if self.rows is None:
            self.out.view(found.dtype)[:, 0][self._where(part)] = found
            self._done(part)
        else:
            self(part, found.view(dtype).reshape(len(found), -1))

    def _where(self, part: Part) -> Part:
        return part if self.at is None else self.at[part]

    def _done(self, part: Part) -> None:
        if self.watch is not None:
            self.watch(part.stop - part.start if isinstance(part, slice) else len(part))


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
        put = CellWriter(out, at, rows, watch)
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

    def cost(self, rowcol: Int[np.ndarray, "cell 2"]) -> list[tuple[int, int]]:
        """Each touched chunk is read by itself; see `Cells.cost`."""
        chunks = len(_alike(rowcol // self._chunk_cells))
        return [(chunks, chunks * int(np.prod(self._chunk_cells)) * self.bands)]


def _alike(key: Int[np.ndarray, "cell 2"]) -> list[Int[np.ndarray, " member"]]:
    """Indices of the cells that share a key, group by group."""
    if not len(key):
        return []
    order = np.lexsort((key[:, 1], key[:, 0]))
    ordered = key[order]
    starts = np.flatnonzero(np.any(ordered[1:] != ordered[:-1], axis=1)) + 1
    return np.split(order, starts)
