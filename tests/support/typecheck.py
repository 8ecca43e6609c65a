"""Checks shapes and types in annotations while the tests run."""

import random
from unittest import mock

# beartype looks at one item of a container, drawn at random. hypothesis watches the global
# generator while a strategy draws, and checks in other threads must not change it then.
with mock.patch.object(random, "getrandbits", random.Random().getrandbits):
    from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as in mypy


def check[T](thing: T) -> T:
    """Check calls against annotations, except where a type is imported for type checkers only."""
    annotations = getattr(thing, "__annotations__", {})
    if any(isinstance(a, str) for a in annotations.values()):
        return thing
    return _checked(thing)
