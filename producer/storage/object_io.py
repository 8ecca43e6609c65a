"""Write one object, whole or not at all, with retries where a store fails for the moment.

The same code writes a local folder and any object store. An object is put by one request, so a
killed run leaves no half-uploaded parts: a shard of 768 bands is 48 MiB, and a single request
carries up to 5 GB on every store in use.
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

from unigeo.producer.storage.retrying_store import needs_retry
from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.atomic_files import file_beside
from unigeo.schemas.io.retrying import with_retries
from unigeo.schemas.io.store_errors import describe_error, unreachable_errors

_DIRECT_BYTES = 1 << 20
"""Size from which objects are written past the system's cache: as fast as the disk, and without
evicting what others read."""


def put(store: Any, key: str, body: memoryview | bytes) -> None:
    """Write an object, over an older one if there is one.

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
            # Another run has written this shard, and swept our unfinished file as a leftover.
            if not path.exists():
                raise
        return
    sync(store.set(key, default_buffer_prototype().buffer.from_bytes(bytes(body))))


def create(store: Any, key: str, body: bytes) -> None:
    """Write an object unless it exists; one that another run wrote is kept.

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
    """Write full pages past the system's cache, if possible; return what is left to write."""
    if not hasattr(os, "O_DIRECT"):
        return body
    import fcntl  # not on Windows

    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_DIRECT)
    except OSError:  # a file system without direct writing
        return body
    try:
        while len(body) >= mmap.PAGESIZE:
            body = body[os.write(file, body[: len(body) // mmap.PAGESIZE * mmap.PAGESIZE]) :]
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: memory that does not begin at a page
            raise
    finally:
        fcntl.fcntl(file, fcntl.F_SETFL, flags)
    return body


def exists(store: Any, key: str) -> bool:
    """Return whether the store holds an object."""
    return bool(with_retries(lambda: sync(store.exists(key)), needs_retry(store)))


def delete(store: Any, key: str) -> None:
    """Remove an object, if it is there."""
    with_retries(lambda: sync(store.delete(key)), needs_retry(store))


@contextmanager
def explaining(what: str) -> Iterator[None]:
    """Turn the errors of a store into one that says what was tried and how to continue.

    Args:
        what: verb and object of the action, such as `write shard (0, 0) of aerial`.

    Raises:
        StoreError: instead of the store's error.
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
