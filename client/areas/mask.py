"""Arrays of a field whose cells outside a geometry read as no data, found when they are read."""

from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from unigeo.client.areas.coverage import holds_centre
from unigeo.client.areas.outlines import Outlines
from unigeo.schemas.geo.window import Window


def masked(array: xr.DataArray, outlines: Outlines, window: Window, fill: int) -> xr.DataArray:
    """Fill cells whose centre lies outside every polygon, lazily.

    Args:
        array: over y, x and perhaps band: the part of the field in the window.
        outlines: polygons on the field's grid.
        window: of that grid.
        fill: what those cells read as.
    """
    lazy = indexing.LazilyIndexedArray(_Masked(array, outlines, window, fill))
    variable = xr.Variable(array.dims, lazy, array.attrs, array.encoding)
    return xr.DataArray(variable, coords=array.coords, name=array.name)


class _Masked(BackendArray):
    """Reads a part of an array and the mask of that part only."""

    def __init__(self, array: xr.DataArray, outlines: Outlines, window: Window, fill: int) -> None:
        self.array, self.outlines, self.window, self.fill = array, outlines, window, fill
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        values = np.asarray(self.array.variable[key].values)
        inside = self._inside(key[0], key[1])
        if len(key) > 2 and isinstance(key[2], slice):
            inside = inside[..., None]
        return np.where(inside, values, self.dtype.type(self.fill))

    def _inside(self, rows: Any, cols: Any) -> np.ndarray:
        """The mask of the cells that the two keys choose."""
        every_row, every_col = np.arange(self.shape[0])[rows], np.arange(self.shape[1])[cols]
        if not (every_row.size and every_col.size):
            return np.zeros((*every_row.shape, *every_col.shape), bool)
        top, left = int(every_row.min()), int(every_col.min())
        height, width = int(every_row.max()) - top + 1, int(every_col.max()) - left + 1
        part = Window(top, left, height, width).shifted(self.window.row, self.window.col)
        inside = holds_centre(self.outlines, part)
        chosen: np.ndarray = inside[every_row - top][..., every_col - left]
        return chosen
