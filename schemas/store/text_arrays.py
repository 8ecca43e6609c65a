"""Lists of texts as arrays of bytes, as not every reader supports strings of Zarr v3."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from unigeo.schemas.errors import LayoutError


def texts_to_bytes(texts: Sequence[str]) -> UInt8[np.ndarray, " byte"]:
    r"""Encode texts as UTF-8, each followed by a line feed.

    Raises:
        ValueError: if a text contains a line feed.

    >>> bytes(texts_to_bytes(["a", "b"]))
    b'a\nb\n'
    """
    if any("\n" in text for text in texts):
        raise ValueError("a text of several lines cannot be stored in a list of lines")
    return np.frombuffer("".join(f"{text}\n" for text in texts).encode(), np.uint8)


def texts_of_bytes(stored: UInt8[np.ndarray, " byte"], name: str) -> list[str]:
    """Decode a list of texts.

    Args:
        stored: bytes of the array.
        name: name of the array, for errors.

    Raises:
        LayoutError: if the bytes are not UTF-8, or end inside a text.
    """
    try:
        text = stored.tobytes().decode()
    except UnicodeDecodeError as error:
        raise LayoutError(f"{name} is no list of UTF-8 texts: {error}") from error
    if text and not text.endswith("\n"):
        raise LayoutError(f"{name} ends amid a text: it is cut off. Copy the store anew.")
    return text.split("\n")[:-1]  # nothing follows the last line feed
