"""Columns of any library converted to float64, NaN where a value is missing."""

import datetime
import re
from typing import Any

import numpy as np

from unigeo.schemas.errors import PointsError

MISSING = ("NoneType", "NAType", "NaTType", "MaskedConstant")
"""Names of the types of missing values in Python, pandas and numpy."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_NON_NUMBERS = (
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
"""Types of objects that numpy would convert to numbers."""
_NON_NUMBER_DTYPES: dict[str, str] = {
    "b": "True and False",
    "c": "complex numbers",
    "M": "dates",
    "m": "time differences",
    "S": "bytes",
    "V": "records",
}
"""Content of arrays that hold no numbers, by `numpy.dtype.kind`."""


def as_numbers(values: Any, what: str) -> np.ndarray:
    """Convert values to float64, in their shape.

    Text that spells a number becomes that number, as columns of a text table may hold it.

    Args:
        values: an array or column of numpy, pandas, polars or Arrow, or lists of numbers.
        what: name of the values in errors.

    Returns:
        NaN where a value is masked, null, None, `pandas.NA`, NaN or empty text. An array of float64
        without masked values is returned itself, not a copy.

    Raises:
        PointsError: for booleans, complex numbers, dates, and text that is not a number.

    >>> as_numbers(["1.5", None, 2], "the column").tolist()
    [1.5, nan, 2.0]
    """
    if isinstance(values, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(values)
        if not mask.any():
            return as_numbers(values.data, what)
        # Masked values are skipped, not only replaced: they may be no numbers at all.
        numbers = np.full(values.shape, np.nan)
        numbers[~mask] = as_numbers(values.data[~mask], what)
        return numbers
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise PointsError(f"{what} must hold numbers: {error}") from error
    if array.dtype.kind in "fiu":
        return array.astype(np.float64, copy=False)
    if array.dtype.kind in _NON_NUMBER_DTYPES:
        raise PointsError(f"{what} must hold numbers, not {_NON_NUMBER_DTYPES[array.dtype.kind]}")
    return _from_objects(array.astype(object, copy=False), what)


def _from_objects(array: np.ndarray, what: str) -> np.ndarray:
    """Convert an array of Python objects."""
    flat = array.ravel()
    # Types are few: they are compared once each, not once per value.
    missing = {kind for kind in set(map(type, flat)) if kind.__name__ in MISSING}
    given = np.array([type(one) not in missing and not _is_blank(one) for one in flat], bool)
    numbers = np.full(array.size, np.nan)
    try:
        if any(issubclass(kind, _NON_NUMBERS) for kind in set(map(type, flat[given]))):
            raise TypeError
        numbers[given] = flat[given].astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        index = next(index for index in np.flatnonzero(given) if not _is_number(flat[index]))
        row = int(np.unravel_index(index, array.shape)[0]) if array.ndim else 0
        remedy = ""
        if isinstance(flat[index], str) and _DECIMAL_COMMA.fullmatch(flat[index].strip()):
            remedy = ", with a decimal comma: write points, as by column.str.replace(',', '.')"
        raise PointsError(
            f"{what} must hold numbers, and row {row} holds {flat[index]!r:.60}{remedy}"
        ) from error
    return numbers.reshape(array.shape)


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _is_number(value: Any) -> bool:
    if isinstance(value, _NON_NUMBERS):
        return False
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
