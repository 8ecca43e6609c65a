"""Lazy arrays whose cells outside polygons read as no data; the mask is computed when read."""

from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from unigeo.client.shapes.coverage import holds_centre
from unigeo.client.shapes.outlines import Outlines
from unigeo.schemas.geo.window import Window


def mask_outside(
    array: xr.DataArray, outlines: Outlines, window: Window, fill: float
) -> xr.DataArray:
    """Fill cells whose centre lies outside every polygon, lazily.

    Args:
        array: the part of a field's array in the window, over y, x and perhaps band.
        outlines: the polygons on the field's grid.
        window: the window of that grid.
        fill: the value of cells outside.
    """
    lazy = indexing.LazilyIndexedArray(_Masked(array, outlines, window, fill))
    variable = xr.Variable(array.dims, lazy, array.attrs, array.encoding)
    return xr.DataArray(variable, coords=array.coords, name=array.name)


class _Masked(BackendArray):
    """Reads a part of an array and the mask of that part only."""

    def __init__(
        self, array: xr.DataArray, outlines: Outlines, window: Window, fill: float
    ) -> None:
        self.array, self.outlines, self.window, self.fill = array, outlines, window, fill
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        values = np.asarray(self.array.variable[key].values)
        inside = self._inside(key[0], key[1])
        if len(key) > 2 and isinstance(key[2], slice):  # an integer key drops the band axis
            inside = inside[..., None]
        return np.where(inside, values, self.dtype.type(self.fill))

    def _inside(self, rows: Any, cols: Any) -> np.ndarray:
        """Return which of the selected cells have their centre in a polygon.

        The keys are integers or slices, also with negative steps. The mask is computed for the
        window that holds all selected cells, and then indexed in their order.
        """
        row_index, col_index = np.arange(self.shape[0])[rows], np.arange(self.shape[1])[cols]
        if not (row_index.size and col_index.size):
            return np.zeros((*row_index.shape, *col_index.shape), bool)
        top, left = int(row_index.min()), int(col_index.min())
        height, width = int(row_index.max()) - top + 1, int(col_index.max()) - left + 1
        part = Window(top, left, height, width).shifted(self.window.row, self.window.col)
        inside = holds_centre(self.outlines, part)
        selected: np.ndarray = inside[row_index - top][..., col_index - left]
        return selected
