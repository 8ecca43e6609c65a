"""Write one object, whole or not at all, and try again where a store stumbles.

The same code writes a local folder and any object store. An object is put by one request: a shard
of 768 bands is 48 MiB, and a single request carries up to 5 GB on every store in use, so no half
uploaded parts stay behind a killed run.
"""

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, ObjectStore

from unigeo.producer.storage.retrying import needs_retry
from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.atomic_files import file_beside
from unigeo.schemas.io.retrying import with_retries
from unigeo.schemas.io.store_errors import describe_error, unreachable_errors

_DIRECT_BYTES = 1 << 20
"""Objects of so many bytes are written past the system's cache: as fast as the disk, and without
driving out of memory what others read."""


def put(store: Any, key: str, body: memoryview | bytes) -> None:
    """Write an object in the place of an older one.

    Raises:
        OSError, obstore.exceptions.BaseError: if the store cannot be written, after all tries.
    """
    if isinstance(store, ObjectStore):
        import obstore

        with_retries(lambda: obstore.put(store.store, key, body, use_multipart=False))
        return
    if isinstance(store, LocalStore):
        path = store.root / key
        try:
            _put_file(path, body)
        except FileNotFoundError:
            # Another producer has done this shard and swept what it took for a leftover of ours.
            if not path.exists():
                raise
        return
    sync(store.set(key, default_buffer_prototype().buffer.from_bytes(bytes(body))))


def create(store: Any, key: str, body: bytes) -> None:
    """Write an object that is not there yet; where it is, by whomever, it stays.

    Raises:
        OSError, obstore.exceptions.BaseError: if the store cannot be written, after all tries.
    """
    if isinstance(store, ObjectStore):
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError

        try:
            with_retries(lambda: obstore.put(store.store, key, body, mode="create"))
        except AlreadyExistsError:
            return
        except (NotImplementedError, NotSupportedError):  # a store without conditional writes
            put(store, key, body)
    elif isinstance(store, LocalStore):
        with suppress(FileExistsError):
            _put_file(store.root / key, body, overwrite=False)
    else:
        prototype = default_buffer_prototype()
        sync(store.set_if_not_exists(key, prototype.buffer.from_bytes(body)))


def _put_file(path: Path, body: memoryview | bytes, *, overwrite: bool = True) -> None:
    """Write a file of a local store as a whole; several producers may write the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        file_beside(path, unique=True, overwrite=overwrite) as part,
        part.open("wb", buffering=0) as file,
    ):
        left = memoryview(body)
        if len(left) >= _DIRECT_BYTES:
            left = _write_direct(file.fileno(), left)
        while left:
            left = left[file.write(left) :]


def _write_direct(file: int, body: memoryview) -> memoryview:
    """Write whole pages past the system's cache, where disk and memory allow it; what is left."""
    if not hasattr(os, "O_DIRECT"):
        return body
    import fcntl  # of Unix only

    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_DIRECT)
    except OSError:  # a file system without it
        return body
    try:
        while len(body) >= mmap.PAGESIZE:
            body = body[os.write(file, body[: len(body) // mmap.PAGESIZE * mmap.PAGESIZE]) :]
    except OSError as error:
        if error.errno != errno.EINVAL:  # memory that begins within a page
            raise
    finally:
        fcntl.fcntl(file, fcntl.F_SETFL, flags)
    return body


def exists(store: Any, key: str) -> bool:
    """Whether the store holds an object."""
    return bool(with_retries(lambda: sync(store.exists(key)), needs_retry(store)))


def delete(store: Any, key: str) -> None:
    """Remove an object, if it is there."""
    with_retries(lambda: sync(store.delete(key)), needs_retry(store))


@contextmanager
def named(what: str) -> Iterator[None]:
    """Let a store's error say what was tried, and that the same command goes on.

    Raises:
        StoreError: in the place of it.
    """
    try:
        yield
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"cannot {what}: {describe_error(error)}. What was written before is kept; make room, "
            "renew the credentials or mend the connection, and run the same command again: it goes "
            "on from there."
        ) from error
