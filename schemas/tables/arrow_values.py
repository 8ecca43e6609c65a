"""Values of Arrow columns as text, for CSV, and as JSON: each as exactly as it can be said."""

import json
import math
import re
from decimal import Decimal
from typing import Any

_FRACTION = re.compile(r"\.(\d*?)0*(?=Z|[+-]|$)")
"""Of a second, and the zeros at its end."""


def texts_of(column: Any) -> list[str]:
    """Write a column as text, empty where it is null.

    Integers and decimals keep every digit, floats have as few digits as tell them from others of
    their width. Dates and times are as in ISO 8601, with the offset of their zone if they have one;
    durations are a number and its unit. Lists, structs and maps are JSON, bytes are hexadecimal.

    Args:
        column: an Arrow array, chunked or not.
    """
    return ["" if value is None else _text(value) for value in _values(column)]


def json_values_of(column: Any) -> list[Any]:
    """Write a column as `json.dumps` takes it: None where it is null or no finite number.

    Integers, floats, truth values, lists and structs are JSON's own; what it lacks is text, as in
    `texts_of`.
    """
    return [_json(value) for value in _values(column)]


def _values(column: Any) -> list[Any]:
    """Values as Python has them; times as text, as Python has no nanoseconds."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind) and pa.types.is_primitive(kind.value_type):
        return _values(column.cast(kind.value_type))
    if pa.types.is_duration(kind):
        counts = column.cast(pa.int64()).to_pylist()
        return [None if count is None else f"{count} {kind.unit}" for count in counts]
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        texts = column.cast(pa.string()).to_pylist()
        return [text and _FRACTION.sub(_without_zeros, text) for text in texts]
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        numbers, has = column.to_numpy(), column.is_valid().to_pylist()
        return [float(str(n)) if there else None for n, there in zip(numbers, has, strict=True)]
    values: list[Any] = column.to_pylist()
    return values


def _without_zeros(fraction: re.Match[str]) -> str:
    return f".{fraction[1]}" if fraction[1] else ""


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict | list | tuple):
        return json.dumps(_json(value), ensure_ascii=False)
    return str(value)


def _json(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    return _text(value)
