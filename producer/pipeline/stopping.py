"""What is kept when a run is stopped, as the message of the KeyboardInterrupt that ends it."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_when_stopped(message: str) -> Iterator[None]:
    """Give a KeyboardInterrupt that has no message yet one that says what is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if stop.args:
            raise
        raise KeyboardInterrupt(message) from stop
