"""Write one object, whole or not at all, and try again where a store stumbles.

The same code writes a local folder and any object store. An object is put by one request: a shard
of 768 bands is 48 MiB, and a single request carries up to 5 GB on every store in use, so no half
uploaded parts stay behind a killed run.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, ObjectStore

from unigeo.schemas.stores import unreachable_errors

TRIES = 6
"""Times that an object store is asked, at most; its own client tries again in each."""
FIRST_WAIT_S = 0.5
_FINAL = {
    "PermissionDeniedError",
    "UnauthenticatedError",
    "NotFoundError",
    "FileNotFoundError",
    "AlreadyExistsError",
    "NotSupportedError",
    "InvalidPathError",
}
"""Answers that stay the same however often one asks."""


def put(store: Any, key: str, body: memoryview | bytes) -> None:
    """Write an object in the place of an older one.

    Raises:
        OSError, obstore.exceptions.BaseError: if the store cannot be written, after all tries.
    """
    if isinstance(store, ObjectStore):
        import obstore

        patiently(lambda: obstore.put(store.store, key, body, use_multipart=False))
        return
    array = np.frombuffer(body, np.uint8)
    try:
        sync(store.set(key, default_buffer_prototype().buffer.from_array_like(array)))
    except FileNotFoundError:
        # Another producer has done this shard and swept what it took for a leftover of ours.
        if not (isinstance(store, LocalStore) and sync(store.exists(key))):
            raise


def exists(store: Any, key: str) -> bool:
    """Whether the store holds an object."""
    return bool(patiently(lambda: sync(store.exists(key)), isinstance(store, ObjectStore)))


def delete(store: Any, key: str) -> None:
    """Remove an object, if it is there."""
    patiently(lambda: sync(store.delete(key)), isinstance(store, ObjectStore))


def patiently[T](ask: Callable[[], T], again: bool = True) -> T:
    """Ask a store, and again where it answers with an error that may pass."""
    wait_s = FIRST_WAIT_S
    for left in range(TRIES - 1, -1, -1):
        try:
            return ask()
        except unreachable_errors() as error:
            names = {kind.__name__ for kind in type(error).__mro__}
            if not again or left == 0 or names & _FINAL:
                raise
        time.sleep(wait_s * random.uniform(0.5, 1.0))
        wait_s *= 2
    raise AssertionError
