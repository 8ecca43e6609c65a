"""Stored objects as bytes: read, written, changed, listed and hashed."""

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, ObjectStore

from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.retrying import with_retries

_JITTER = random.Random()
"""Random numbers of its own: the caller's `random` is left alone."""
_UPDATES = 100
"""Times that an object is read again because another writer was faster."""


def read_object(store: Any, key: str) -> bytes | None:
    """Read an object; None if it does not exist."""
    body = sync(store.get(key, default_buffer_prototype()))
    return None if body is None else bytes(body.to_bytes())


def need_object(store: Any, key: str) -> bytes:
    """Read an object that existed a moment ago.

    Raises:
        StoreError: if it is gone.
    """
    content = read_object(store, key)
    if content is None:
        raise StoreError(f"{key} vanished from the store; run the command again")
    return content


def write_object(store: Any, key: str, content: bytes) -> None:
    """Write an object through Zarr."""
    sync(store.set(key, default_buffer_prototype().buffer.from_bytes(content)))


def update_object(store: Any, key: str, change: Callable[[bytes | None], bytes]) -> bytes:
    """Change an object; of several processes that do so at once, none loses its change.

    A local folder is locked. An object store writes only over the version that was read; where
    another process was faster, the object is read and changed again. A store that can do neither is
    written without protection.

    Args:
        store: store of Zarr.
        key: key of the object.
        change: returns the new bytes for the old ones, which are None if there is no object; may be
            called repeatedly.

    Returns:
        The new bytes.

    Raises:
        StoreError: if others keep changing it.
    """
    if isinstance(store, ObjectStore):
        return _update_remote(store.store, key, change)
    with _locked(store):
        old = read_object(store, key)
        new = change(old)
        if new != old:
            write_object(store, key, new)
        return new


def _update_remote(store: Any, key: str, change: Callable[[bytes | None], bytes]) -> bytes:
    import obstore
    from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

    for _ in range(_UPDATES):
        mode: Any
        try:
            got = with_retries(lambda: obstore.get(store, key))
            old: bytes | None = bytes(got.bytes())
            mode = {name: got.meta[name] for name in ("e_tag", "version") if got.meta[name]}
        except FileNotFoundError:
            old, mode = None, "create"
        new = change(old)
        if new == old:
            return new
        try:
            with_retries(lambda new=new, mode=mode: obstore.put(store, key, new, mode=mode))  # type: ignore[misc]
        except (AlreadyExistsError, PreconditionError):
            time.sleep(_JITTER.uniform(0.0, 0.1))  # so that two writers do not stay in step
        except (NotImplementedError, NotSupportedError):
            with_retries(lambda new=new: obstore.put(store, key, new))  # type: ignore[misc]
            return new
        else:
            return new
    raise StoreError(f"{key} is changed by others all the time; run the command again")


@contextmanager
def _locked(store: Any) -> Iterator[None]:
    """Lock a local folder against other processes of this machine that do the same."""
    try:
        import fcntl  # not on Windows
    except ImportError:
        fcntl = None  # type: ignore[assignment]
    if fcntl is None or not isinstance(store, LocalStore):
        yield
        return
    folder = os.open(store.root, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def delete_objects(store: Any, prefix: str) -> None:
    """Remove every object below a prefix."""
    sync(store.delete_dir(prefix))


def list_objects(store: Any, prefix: str = "") -> list[str]:
    """List the keys of every object below a prefix, sorted."""

    async def listed() -> list[str]:
        return sorted([key async for key in store.list_prefix(prefix)])

    return list(sync(listed()))


def digest(content: bytes | memoryview) -> bytes:
    """Return the SHA-256."""
    return hashlib.sha256(content).digest()
