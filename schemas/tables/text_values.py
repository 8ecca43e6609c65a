"""Values of the fields of a text table: numbers, missing numbers, or text."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import PointsError

MISSING_TEXTS = {"", "na", "n/a", "#n/a", "#na", "#n/a n/a", "<na>", "nat", "null", "none", "nil"}
MISSING_TEXTS |= {"-", "--", ".", "\\n", "nan", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
"""Texts that stand for a missing number, in lower case."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_CODE = re.compile(r"[+-]?0\d", re.ASCII)
_EXACT = 2**53
"""Largest integer up to which float64 represents every integer."""


def parse_number(text: str, commas: bool = False) -> float:
    """Parse a number; white space around it and a typographic minus sign are accepted.

    Args:
        text: text such as "-105.0", "1e3" or "NA".
        commas: whether a comma may be the decimal point.

    Returns:
        The number; NaN for a text of `MISSING_TEXTS`.

    Raises:
        ValueError: if it is neither.

    >>> parse_number(" -105.50 "), parse_number("-105,5", commas=True)
    (-105.5, -105.5)
    """
    plain = text.strip().replace("−", "-")
    if plain.casefold() in MISSING_TEXTS:
        return math.nan
    if commas and "." not in plain:
        plain = plain.replace(",", ".")
    number = float(plain) if _NUMBER.fullmatch(plain) else math.inf
    if math.isinf(number):
        raise ValueError(f"{text!r:.60} is no number")
    return number


def parse_numbers(
    texts: Sequence[str], described: Callable[[int], str], commas: bool = False
) -> Float[np.ndarray, " row"]:
    """Parse a column of coordinates by `parse_number`.

    Args:
        texts: one text per row.
        described: returns the name of a row's field for messages.
        commas: whether a comma may be the decimal point.

    Raises:
        PointsError: for the first text that is not a number.
    """
    try:
        numbers = np.array(list(map(float, texts)), np.float64)
        # Python's `float` also reads "nan", "inf" and "1_000".
        if np.isfinite(numbers).all() and "_" not in "".join(texts):
            return numbers
    except ValueError:
        pass
    numbers = np.empty(len(texts))
    for row, text in enumerate(texts):
        try:
            numbers[row] = parse_number(text, commas)
        except ValueError as error:
            advice = "Write coordinates as plain numbers, such as -105.25"
            if "," in text:
                advice += "; decimal commas are read where no comma separates fields"
            raise PointsError(
                f"{described(row)} is {text!r:.60}, which is no number. {advice}."
            ) from error
    return numbers


Kind = Literal["int", "float", "text"]


def column_kind(texts: Sequence[str], so_far: Kind | None = None) -> Kind | None:
    """Return the type that keeps every text of a column: formatted again, it is the same text.

    Args:
        texts: some rows of the column; empty ones are nulls of any type.
        so_far: type of the rows before these.

    Returns:
        None as long as all texts are empty.

    >>> [column_kind(texts) for texts in (["1", ""], ["1.5", "2.0"], ["1.5", "1.10"], ["01"])]
    ['int', 'float', 'text', 'text']
    """
    if so_far == "text":
        return "text"
    given = list(filter(None, texts))
    if not given:
        return so_far
    for kind, is_exact in _CHECKS.items():
        # The first text rules out most types without a look at the others.
        if so_far in (None, kind) and is_exact(given[:1]) and is_exact(given):
            return kind
    return "text"


def _are_exact_ints(texts: list[str]) -> bool:
    try:
        numbers = list(map(int, texts))
    except ValueError:
        return False
    in_range = min(numbers) >= -(2**63) and max(numbers) < 2**63
    return in_range and list(map(str, numbers)) == texts


def _are_exact_floats(texts: list[str]) -> bool:
    try:
        numbers = list(map(float, texts))
    except ValueError:
        return False
    return all(map(math.isfinite, numbers)) and list(map(repr, numbers)) == texts


_CHECKS: dict[Kind, Callable[[list[str]], bool]] = {
    "int": _are_exact_ints,
    "float": _are_exact_floats,
}


def parse_values(texts: Sequence[str], commas: bool = False) -> Any:
    """Parse a column for computation.

    Args:
        texts: one text per row.
        commas: whether a comma may be the decimal point.

    Returns:
        int64 or float64 if all fields are numbers or missing, with NaN where missing; else an array
        of text, None where the field is empty. Codes such as "01001" are text, and so are integers
        that the array would not hold exactly.
    """
    as_text = np.array([text or None for text in texts], object)
    if any(map(_CODE.match, texts)):
        return as_text
    try:
        numbers = np.array([parse_number(text, commas) for text in texts], np.float64)
    except ValueError:
        return as_text
    missing = np.isnan(numbers)
    if missing.all():
        return as_text if any(texts) else numbers
    digits = [text.strip().lstrip("+-").isdecimal() for text in texts]
    if all(digits) and (np.abs(numbers) < 2.0**63).all():
        return np.array(list(map(int, texts)), np.int64)
    inexact = np.array(digits) & (np.abs(numbers) >= _EXACT)
    return as_text if inexact.any() else numbers
