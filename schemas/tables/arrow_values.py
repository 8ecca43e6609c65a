"""Values of Arrow columns as text for CSV and as JSON, without loss of digits."""

import json
import math
import re
from decimal import Decimal
from typing import Any

_FRACTION = re.compile(r"\.(\d*?)0*(?=Z|[+-]|$)")
"""Pattern of a fraction of a second, and the zeros at its end."""


def format_texts(column: Any) -> list[str]:
    """Format the values of a column as text, empty where null.

    Integers and decimals keep every digit; floats have the fewest digits that distinguish them from
    other floats of their width. Dates and times are in ISO 8601, with the offset of their zone if
    they have one; durations are a number and its unit. Lists, structs and maps are JSON, bytes are
    hexadecimal.

    Args:
        column: an Arrow array, chunked or not.
    """
    return ["" if value is None else _format_text(value) for value in _to_python(column)]


def format_json_values(column: Any) -> list[Any]:
    """Convert the values of a column for `json.dumps`; None where null, NaN or infinite.

    Integers, floats, booleans, lists and structs have a form in JSON; other values are text, as in
    `format_texts`.
    """
    return [_to_json(value) for value in _to_python(column)]


def _to_python(column: Any) -> list[Any]:
    """Convert values to Python; times become text, as Python's have no nanoseconds."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind) and pa.types.is_primitive(kind.value_type):
        return _to_python(column.cast(kind.value_type))
    if pa.types.is_duration(kind):
        counts = column.cast(pa.int64()).to_pylist()
        return [None if count is None else f"{count} {kind.unit}" for count in counts]
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        texts = column.cast(pa.string()).to_pylist()
        return [text and _FRACTION.sub(_trim_zeros, text) for text in texts]
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        numbers, valid = column.to_numpy(), column.is_valid().to_pylist()
        # By way of text: 0.1 of float32 would become 0.10000000149011612 in Python's double.
        return [float(str(n)) if known else None for n, known in zip(numbers, valid, strict=True)]
    values: list[Any] = column.to_pylist()
    return values


def _trim_zeros(fraction: re.Match[str]) -> str:
    return f".{fraction[1]}" if fraction[1] else ""


def _format_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict | list | tuple):
        return json.dumps(_to_json(value), ensure_ascii=False)
    return str(value)


def _to_json(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _to_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(one) for one in value]
    return _format_text(value)


def to_arrow_array(values: list[Any]) -> Any:
    """Convert values to an Arrow array without loss; to their JSON text if that is impossible."""
    import pyarrow as pa

    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pa.nulls(len(values), pa.string())
    try:
        if bool in kinds and len(kinds) > 1:
            raise pa.ArrowInvalid("truth values are no numbers")
        array = pa.array(values)
        # Objects of different keys get nulls for each other's keys: they are JSON text instead.
        if array.to_pylist() == values:
            return array
    except (pa.ArrowException, OverflowError):
        pass
    return pa.array(
        [None if value is None else format_json_text(value) for value in values], pa.string()
    )


def format_json_text(value: Any) -> str:
    """Return text as it is, and any other value in JSON; empty for None."""
    if value is None:
        return ""
    return value if isinstance(value, str) else dump_json(value)


def dump_json(value: Any) -> str:
    """Write a value as JSON; those that JSON lacks, such as dates, as text."""
    return json.dumps(value, ensure_ascii=False, default=str)
