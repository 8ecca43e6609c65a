"""Checks shapes and types in annotations while the tests run."""

from beartype import beartype


def check(thing):
    """Check calls against annotations, except where a type is imported for type checkers only."""
    annotations = getattr(thing, "__annotations__", {})
    if any(isinstance(a, str) for a in annotations.values()):
        return thing
    return beartype(thing)
