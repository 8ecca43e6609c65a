"""Ids of cells of other systems, geohash and H3, as the longitude and latitude of their centres."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import MissingExtraError, PointsError

_LETTERS = "0123456789bcdefghjkmnpqrstuvwxyz"
"""Digits of base 32 in geohashes. Source: G. Niemeyer (2008), geohash.org."""
GEOHASH = re.compile(f"[{_LETTERS}]{{4,12}}")
H3 = re.compile(r"8[0-9a-f]{14}")
_INTEGER = re.compile(r"\d{18,19}", re.ASCII)
"""Pattern of an H3 index as an integer in decimal digits."""


def as_h3(text: str) -> str | None:
    """Return an H3 index in hexadecimal digits; None if the text is none.

    >>> as_h3("599686042433355775"), as_h3("85283473FFFFFFF"), as_h3("9q9j")
    ('85283473fffffff', '85283473fffffff', None)
    """
    text = text.strip().lower()
    if _INTEGER.fullmatch(text):
        text = f"{int(text):x}"
    return text if H3.fullmatch(text) else None


def geohash_centres(codes: Sequence[str]) -> Float[np.ndarray, "code 2"]:
    """Return the centres of geohashes.

    >>> geohash_centres(["ezs42"]).round(3).tolist()
    [[-5.603, 42.605]]
    """
    centres = np.empty((len(codes), 2))
    for row, code in enumerate(codes):
        low, high, axis = [-180.0, -90.0], [180.0, 90.0], 0
        for letter in code.lower():
            digit = _LETTERS.index(letter)
            for bit in (16, 8, 4, 2, 1):
                middle = (low[axis] + high[axis]) / 2
                (low if digit & bit else high)[axis] = middle
                axis = 1 - axis
        centres[row] = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
    return centres


def h3_centres(indexes: Sequence[str]) -> Float[np.ndarray, "index 2"]:
    """Return the centres of H3 cells.

    Args:
        indexes: in hexadecimal digits.

    Raises:
        MissingExtraError: if h3 is not installed.
        PointsError: naming the first that is no cell.
    """
    try:
        import h3
    except ImportError as error:
        raise MissingExtraError("H3 cells need the package h3: pip install h3") from error
    wrong = next((index for index in indexes if not h3.is_valid_cell(index)), None)
    if wrong is not None:
        raise PointsError(f"{wrong!r} is no cell of H3")
    latlon = [h3.cell_to_latlng(index) for index in indexes]
    return np.array(latlon, np.float64).reshape(-1, 2)[:, ::-1].copy()
