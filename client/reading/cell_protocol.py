"""The protocol of an array whose cells are read in any order, and its plain implementation."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped

Transform = Callable[[Shaped[np.ndarray, "row band"]], np.ndarray]
"""Converts a block of stored cells, one per row, before it is written to the output."""
CellIndex = Int[np.ndarray, " _"] | slice
"""Selects some of the requested cells, by their position in the request."""
OnProgress = Callable[[int], None]
"""Called with the number of cells that were written since the last call."""


_WHOLE_OBJECT_SHARE = 1 / 8
"""An object is read whole when more than this share of its chunks is wanted: for Zarr, reading one
chunk costs about 2 ms of overhead, the time in which a memory-speed read moves several chunks."""


@runtime_checkable
class Cells(Protocol):
    """An array whose cells can be read in any order."""

    bands: int
    dtype: np.dtype[Any]

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
        """Read cells into `out`, one row per cell.

        Args:
            rowcol: rows and columns of the array, in any order, with repeats.
            out: (row, band), or the width that `transform` returns.
            bands: the bands to read, a range with step 1.
            out_rows: the row of `out` for each cell; by default 0, 1, 2, ...
            transform: applied to each block of cells before it is written.
            on_progress: called from any thread.

        Raises:
            StoreError: if bytes cannot be read, or are damaged.
        """

    def cost(self, rowcol: Int[np.ndarray, "cell 2"]) -> list[tuple[int, int]]:
        """Return an upper bound of what gathering the cells reads.

        Returns:
            One pair per round of reads: the number of reads, and their bytes.
        """


class CellWriter:
    """Writes gathered cells to the rows of an output array, from several threads.

    No lock is needed, since no two threads write the same row.
    """

    def __init__(
        self,
        out: np.ndarray,
        out_rows: Int[np.ndarray, " cell"] | None,
        transform: Transform | None,
        on_progress: OnProgress | None,
    ) -> None:
        self.out, self.out_rows = out, out_rows
        self.transform, self.on_progress = transform, on_progress

    def write(self, index: CellIndex, cells: np.ndarray) -> None:
        """Write cells, given in the order of `index`."""
        self.out[self._rows(index)] = cells if self.transform is None else self.transform(cells)
        self._report(index)

    def write_items(self, index: CellIndex, items: np.ndarray, dtype: np.dtype[Any]) -> None:
        """Write cells, each given as one item of all its bytes (`np.void`)."""
        if self.transform is None:
            # One assignment per row instead of one per number: several times faster.
            self.out.view(items.dtype)[:, 0][self._rows(index)] = items
            self._report(index)
        else:
            self.write(index, items.view(dtype).reshape(len(items), -1))

    def _rows(self, index: CellIndex) -> CellIndex:
        return index if self.out_rows is None else self.out_rows[index]

    def _report(self, index: CellIndex) -> None:
        if self.on_progress is not None:
            self.on_progress(index.stop - index.start if isinstance(index, slice) else len(index))


class WindowCells:
    """Cells of an array that is read by windows of rows and columns, as plain Zarr reads it."""

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
        out_rows: Int[np.ndarray, " cell"] | None = None,
        transform: Transform | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Read each touched object or chunk once; see `Cells.gather`."""
        writer = CellWriter(out, out_rows, transform, on_progress)
        most_chunks = np.prod(self._object_cells // self._chunk_cells) * _WHOLE_OBJECT_SHARE
        for in_object in _group_equal(rowcol // self._object_cells):
            groups = _group_equal(rowcol[in_object] // self._chunk_cells)
            if len(groups) > most_chunks:
                groups = [np.arange(len(in_object))]
            for group in groups:
                cells = in_object[group]
                low, high = rowcol[cells].min(axis=0), rowcol[cells].max(axis=0) + 1
                window = self._read(
                    slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
                )
                row, col = (rowcol[cells] - low).T
                writer.write(cells, window.reshape(*window.shape[:2], self.bands)[row, col, bands])

    def cost(self, rowcol: Int[np.ndarray, "cell 2"]) -> list[tuple[int, int]]:
        """Count each touched chunk as one read; see `Cells.cost`."""
        chunks = len(_group_equal(rowcol // self._chunk_cells))
        return [(chunks, chunks * int(np.prod(self._chunk_cells)) * self.bands)]


def _group_equal(keys: Int[np.ndarray, "cell 2"]) -> list[Int[np.ndarray, " member"]]:
    """Return the indices of the cells that share a key, group by group."""
    if not len(keys):
        return []
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    starts = np.flatnonzero(np.any(ordered[1:] != ordered[:-1], axis=1)) + 1
    return np.split(order, starts)
