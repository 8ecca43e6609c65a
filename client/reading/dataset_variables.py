"""Checks that the variables of a Dataset can be read as a field."""

from typing import TYPE_CHECKING

import numpy as np

from unigeo.schemas.errors import DamagedError, LayoutError
from unigeo.schemas.store.layout import COVARIATES, Layout, status_name

if TYPE_CHECKING:
    import xarray as xr


def check_variables(dataset: "xr.Dataset", layout: Layout) -> None:
    """Check that arrays hold all bands as stored, on y and x in any order of axes.

    Raises:
        LayoutError: naming the array.
        DamagedError: if the values of the band coordinate are lost.
    """
    for array in layout.arrays:
        bands = layout.width(array)
        for name, dtype in ((array, layout.dtype(array)), (status_name(array), np.dtype("u1"))):
            variable = dataset[name]
            others = [str(dim) for dim in variable.dims if dim not in ("y", "x")]
            is_vector = name == array
            if len(variable.dims) != 2 + len(others) or len(others) != int(is_vector):
                raise LayoutError(
                    f"{name!r} of the Dataset has the dimensions "
                    f"{', '.join(map(str, variable.dims))}; a field's are y, x"
                    f"{' and the band' if is_vector else ''}: cut windows of it with slices"
                )
            if variable.dtype != dtype:
                raise LayoutError(
                    f"{name!r} of the Dataset is {variable.dtype}, not {dtype} as it is "
                    "stored: sample the Dataset as xr.open_zarr gives it"
                )
            if not is_vector or array == COVARIATES:
                continue
            (band,) = others
            numbers = variable[band].values if band in variable.coords else np.arange(bands)
            if len(numbers) == bands and (numbers == -1).all():  # the coordinate's fill value
                raise DamagedError(
                    f"the coordinate {band!r} of the Dataset holds no numbers: {band}/c/0 of the "
                    "store is lost, which xarray does not say. Copy the store anew"
                )
            if variable.sizes[band] != bands or not np.array_equal(numbers, np.arange(bands)):
                raise LayoutError(
                    f"{name!r} of the Dataset has {variable.sizes[band]} of the field's {bands} "
                    "bands, or has them in another order; a unit vector needs them all: sample the "
                    "whole Dataset and take the bands from the answer"
                )
