"""What the texts of a table's fields mean: numbers, nothing, or words that stay as they are."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import PointsError

NOTHING = {"", "na", "n/a", "#n/a", "#na", "#n/a n/a", "<na>", "nat", "null", "none", "nil"}
NOTHING |= {"-", "--", ".", "\\n", "nan", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
"""Words, in lower case, that say a number is missing; so does the empty text."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_CODE = re.compile(r"[+-]?0\d", re.ASCII)
_EXACT = 2**53
"""Integers beyond it are not all numbers of float64."""


def number_in(text: str, commas: bool = False) -> float:
    """Read one number; white space round it and a typographic minus do no harm.

    Args:
        text: such as "-105.0", "1e3" or "NA".
        commas: whether a comma may stand for the decimal point.

    Returns:
        NaN if the text says that there is none.

    Raises:
        ValueError: if it is neither.

    >>> number_in(" -105.50 "), number_in("-105,5", commas=True)
    (-105.5, -105.5)
    """
    plain = text.strip().replace("−", "-")
    if plain.casefold() in NOTHING:
        return math.nan
    if commas and "." not in plain:
        plain = plain.replace(",", ".")
    number = float(plain) if _NUMBER.fullmatch(plain) else math.inf
    if math.isinf(number):
        raise ValueError(f"{text!r:.60} is no number")
    return number


def numbers_in(
    texts: Sequence[str], described: Callable[[int], str], commas: bool = False
) -> Float[np.ndarray, " row"]:
    """Read a column of coordinates by `number_in`.

    Args:
        texts: one per row.
        described: names the field of a row in errors.
        commas: whether a comma may stand for the decimal point.

    Raises:
        PointsError: for the first text that is no number.
    """
    try:
        numbers = np.array(list(map(float, texts)), np.float64)
        if np.isfinite(numbers).all() and "_" not in "".join(texts):  # Python reads 1_000
            return numbers
    except ValueError:
        pass
    numbers = np.empty(len(texts))
    for row, text in enumerate(texts):
        try:
            numbers[row] = number_in(text, commas)
        except ValueError as error:
            advice = "Write coordinates as plain numbers, such as -105.25"
            if "," in text:
                advice += "; decimal commas are read where no comma separates fields"
            raise PointsError(
                f"{described(row)} is {text!r:.60}, which is no number. {advice}."
            ) from error
    return numbers


Kind = Literal["int", "float", "text"]


def kind_of_all(texts: Sequence[str], so_far: Kind | None = None) -> Kind | None:
    """The type from which every text of a column comes back as it is written.

    Args:
        texts: some rows of the column; empty ones are nulls of any type.
        so_far: what the rows before these are.

    Returns:
        None while all are empty.

    >>> [kind_of_all(texts) for texts in (["1", ""], ["1.5", "2.0"], ["1.5", "1.10"], ["01"])]
    ['int', 'float', 'text', 'text']
    """
    if so_far == "text":
        return "text"
    given = list(filter(None, texts))
    if not given:
        return so_far
    for kind, come_back in _COME_BACK.items():
        if so_far in (None, kind) and come_back(given[:1]) and come_back(given):
            return kind
    return "text"


def _ints_come_back(texts: list[str]) -> bool:
    try:
        numbers = list(map(int, texts))
    except ValueError:
        return False
    in_range = min(numbers) >= -(2**63) and max(numbers) < 2**63
    return in_range and list(map(str, numbers)) == texts


def _floats_come_back(texts: list[str]) -> bool:
    try:
        numbers = list(map(float, texts))
    except ValueError:
        return False
    return all(map(math.isfinite, numbers)) and list(map(repr, numbers)) == texts


_COME_BACK: dict[Kind, Callable[[list[str]], bool]] = {
    "int": _ints_come_back,
    "float": _floats_come_back,
}


def values_in(texts: Sequence[str], commas: bool = False) -> Any:
    """Read a column as it is computed with, not as it is written.

    Args:
        texts: one per row.
        commas: whether a comma may stand for the decimal point.

    Returns:
        int64 or float64 if there is a number and nothing else, NaN for what `NOTHING` lists; of
        words an array of objects, None where the field is empty. Codes such as "01001" are words,
        and so are integers that the array would not hold exactly.
    """
    words = np.array([text or None for text in texts], object)
    if any(map(_CODE.match, texts)):
        return words
    try:
        numbers = np.array([number_in(text, commas) for text in texts], np.float64)
    except ValueError:
        return words
    missing = np.isnan(numbers)
    if missing.all():
        return words if any(texts) else numbers
    digits = [text.strip().lstrip("+-").isdecimal() for text in texts]
    if all(digits) and (np.abs(numbers) < 2.0**63).all():
        return np.array(list(map(int, texts)), np.int64)
    inexact = np.array(digits) & (np.abs(numbers) >= _EXACT)
    return words if inexact.any() else numbers
