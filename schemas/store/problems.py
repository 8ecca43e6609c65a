"""A problem of a store: what it concerns, and the sentence that a report prints."""

from typing import NamedTuple


class Problem(NamedTuple):
    """Something that is wrong with a store."""

    key: str | None
    """The attribute of the root, or the key or path in the store, that is wrong; None if several
    or none are."""
    text: str
    """One sentence for the user."""


def texts_of(problems: list[Problem]) -> list[str]:
    """Return the sentence of each problem."""
    return [problem.text for problem in problems]
