"""Columns of any library as float64 numbers, NaN where a value is missing."""

import datetime
from typing import Any

import numpy as np

from unigeo.schemas.errors import PointsError

MISSING = ("NoneType", "NAType", "NaTType", "MaskedConstant")
"""Names of the types of Python's, pandas' and numpy's missing values."""
_NO_NUMBER = (
    bool,
    np.bool_,
    bytes,
    complex,
    np.complexfloating,
    datetime.date,
    datetime.timedelta,
    np.datetime64,
    np.timedelta64,
    np.ndarray,
)
"""Types of objects that numpy would make numbers of."""
_NO_NUMBERS: dict[str, str] = {
    "b": "True and False",
    "c": "complex numbers",
    "M": "dates",
    "m": "time differences",
    "S": "bytes",
    "V": "records",
}
"""What arrays of these kinds hold, by `numpy.dtype.kind`."""


def as_numbers(values: Any, what: str) -> np.ndarray:
    """Read numbers as float64, in the shape that they have.

    Text that spells a number is that number, as in a table that was read as text.

    Args:
        values: an array or column of numpy, pandas, polars or Arrow, or lists of numbers.
        what: names the values in errors.

    Returns:
        NaN where a value is masked, null, None, `pandas.NA`, NaN or empty text. Without any of
        these, an array of float64 is returned as it is.

    Raises:
        PointsError: for truth values, complex numbers, dates, and text that is no number.

    >>> as_numbers(["1.5", None, 2], "the column").tolist()
    [1.5, nan, 2.0]
    """
    if isinstance(values, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(values)
        if not mask.any():
            return as_numbers(values.data, what)
        kept = np.full(values.shape, np.nan)
        kept[~mask] = as_numbers(values.data[~mask], what)
        return kept
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise PointsError(f"{what} must hold numbers: {error}") from error
    if array.dtype.kind in "fiu":
        return array.astype(np.float64, copy=False)
    if array.dtype.kind in _NO_NUMBERS:
        raise PointsError(f"{what} must hold numbers, not {_NO_NUMBERS[array.dtype.kind]}")
    return _of_objects(array.astype(object, copy=False), what)


def _of_objects(array: np.ndarray, what: str) -> np.ndarray:
    """Numbers from an array of Python objects."""
    flat = array.ravel()
    missing = {kind for kind in set(map(type, flat)) if kind.__name__ in MISSING}
    has = np.array([type(one) not in missing and not _is_blank(one) for one in flat], bool)
    numbers = np.full(array.size, np.nan)
    try:
        if any(issubclass(kind, _NO_NUMBER) for kind in set(map(type, flat[has]))):
            raise TypeError
        numbers[has] = flat[has].astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        place = next(place for place in np.flatnonzero(has) if not _is_number(flat[place]))
        row = int(np.unravel_index(place, array.shape)[0]) if array.ndim else 0
        raise PointsError(
            f"{what} must hold numbers, and row {row} holds {flat[place]!r:.60}"
        ) from error
    return numbers.reshape(array.shape)


def _is_blank(one: Any) -> bool:
    return isinstance(one, str) and not one.strip()


def _is_number(one: Any) -> bool:
    if isinstance(one, _NO_NUMBER):
        return False
    try:
        float(one)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
