"""Lists of texts as plain arrays of bytes: strings in Zarr v3 are not read everywhere yet."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from unigeo.schemas.errors import LayoutError


def texts_to_bytes(texts: Sequence[str]) -> UInt8[np.ndarray, " byte"]:
    r"""UTF-8, each text ended by a line feed.

    >>> bytes(texts_to_bytes(["a", "b"]))
    b'a\nb\n'
    """
    if any("\n" in text for text in texts):
        raise ValueError("a text of several lines cannot be stored in a list of lines")
    return np.frombuffer("".join(f"{text}\n" for text in texts).encode(), np.uint8)


def texts_of_bytes(stored: UInt8[np.ndarray, " byte"], name: str) -> list[str]:
    """Read the texts back.

    Raises:
        LayoutError: if the bytes are no UTF-8, or end amid a text.
    """
    try:
        text = stored.tobytes().decode()
    except UnicodeDecodeError as error:
        raise LayoutError(f"{name} is no list of UTF-8 texts: {error}") from error
    if text and not text.endswith("\n"):
        raise LayoutError(f"{name} ends amid a text: it is cut off. Copy the store anew.")
    return text.split("\n")[:-1]
