"""JSON that somebody else wrote: text that is none raises ValueError, however it is made."""

import json
from typing import Any


def load_json(content: str | bytes | bytearray) -> Any:
    """Parse JSON text.

    Raises:
        ValueError: if it is no JSON, or nested deeper than Python can follow: `json.loads` raises
            RecursionError then, which no caller expects of a text.

    >>> load_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: the JSON is nested too deeply
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
