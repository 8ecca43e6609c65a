"""Checks shapes and types in annotations while the tests run."""

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as in mypy


def check[T](thing: T) -> T:
    """Check calls against annotations, except where a type is imported for type checkers only."""
    annotations = getattr(thing, "__annotations__", {})
    if any(isinstance(a, str) for a in annotations.values()):
        return thing
    return _checked(thing)
