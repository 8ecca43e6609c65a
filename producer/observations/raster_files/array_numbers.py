"""The numbers of a NetCDF or Zarr array: their type, and which of them are data."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Shaped

from unigeo.producer.observations.raster_files.raster_source import has_value


@dataclass(frozen=True, kw_only=True)
class ArrayNumbers:
    """What the attributes of CF, or this project's, say of an array's numbers."""

    dtype: np.dtype[Any]
    """Type in which they are read; NetCDF-3 stores unsigned integers as signed ones."""
    no_data: tuple[float, ...]
    """Numbers that stand for no data."""
    lowest: float | None
    highest: float | None
    """Limits of the valid numbers; None without one."""

    @classmethod
    def of(cls, array: xr.DataArray) -> "ArrayNumbers":
        """Read the attributes of an array, nothing of which is decoded.

        Raises:
            ValueError: a limit is no number.
        """
        attributes = array.attrs
        dtype = array.dtype
        if dtype.kind == "i" and str(attributes.get("_Unsigned", "")).lower() == "true":
            dtype = np.dtype(f"u{dtype.itemsize}")
        stated = [
            _as_read(value, array.dtype, dtype)
            for name in ("_FillValue", "missing_value", "nodata")
            for value in np.atleast_1d(attributes.get(name, []))
        ]
        both = np.ravel(attributes.get("valid_range", []))
        low = attributes.get("valid_min", both[0] if len(both) == 2 else None)
        high = attributes.get("valid_max", both[1] if len(both) == 2 else None)
        return cls(
            dtype=dtype,
            no_data=tuple(dict.fromkeys(number for number in stated if number is not None)),
            lowest=None if low is None else float(low),
            highest=None if high is None else float(high),
        )

    def data(self, numbers: Shaped[np.ndarray, "*pixel"]) -> Bool[np.ndarray, "*pixel"]:
        """Return which numbers are data."""
        known = has_value(numbers, None)
        for value in self.no_data:
            known &= has_value(numbers, value)
        if self.lowest is not None:
            known &= numbers >= self.lowest
        if self.highest is not None:
            known &= numbers <= self.highest
        return known


def _as_read(value: Any, stored: np.dtype[Any], read: np.dtype[Any]) -> float | None:
    """Return the number as which a stored value is read; None where the type cannot hold it."""
    if value.dtype.kind not in "iuf" or not np.isfinite(value):
        return None
    if stored.kind == "f":
        return float(value) if abs(value) <= np.finfo(stored).max else None
    whole = int(value)
    if whole != value:
        return None
    if whole in _integers(stored):
        return int(np.array(whole, stored).astype(read))
    return whole if whole in _integers(read) else None


def _integers(dtype: np.dtype[Any]) -> range:
    """Return the integers that a type holds."""
    limits = np.iinfo(dtype)
    return range(int(limits.min), int(limits.max) + 1)
