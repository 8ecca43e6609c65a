"""Checks of what a run will write to, before any work is done for it."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import obstore
from zarr.storage import LocalStore, ObjectStore

from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.addresses import check_destination
from unigeo.schemas.io.retrying import with_retries
from unigeo.schemas.io.store_errors import describe_error, unreachable_errors
from unigeo.schemas.io.stores import open_store

PROBE_S = 5.0
"""Seconds that a check without patience waits for one answer; it asks for three times as long."""
_PROBE = "unigeo-may-i-write"
"""Key of the object that is written to test for permission."""


def check_writable(url: Any, *, waits: bool = True) -> None:
    """Refuse a store that cannot be written, before hours of training.

    An empty object is written to an object store and removed: nothing else tells who may write.

    Args:
        url: a path, an object store's URL, or a Zarr store.
        waits: whether to ask an object store again that does not answer; without it the answer
            takes at most `3 * PROBE_S` seconds.

    Raises:
        StoreError: naming the folder or the object store's answer; or if the folder holds other
            files, or lies inside a store.
    """
    store = open_store(url, read_only=False, **({} if waits else {"timeout_s": PROBE_S}))
    if isinstance(store, LocalStore):
        check_writable_path(store.root, str(url))
        refuse_other_files(store, url)
    elif isinstance(store, ObjectStore):
        try:
            with_retries(lambda: obstore.put(store.store, _PROBE, b""), waits)
            with_retries(lambda: obstore.delete(store.store, _PROBE), waits)
        except unreachable_errors() as error:
            raise StoreError(f"cannot write {url}: {describe_error(error)}") from error


def check_writable_path(path: Path, what: str, *, is_file: bool = False) -> None:
    """Refuse a file or folder that could not be written, by writing in the folder or beside it.

    Args:
        path: of the file or folder, which need not exist; nor need folders above it.
        what: its name in the message.
        is_file: whether it is a file.

    Raises:
        StoreError: naming the folder and why.
    """
    check_destination(path, what, makes_folders=True)
    folder = path.absolute().parent if is_file else path.absolute()
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):  # permissions alone mislead where root asks
            pass
    except OSError as error:
        raise StoreError(
            f"cannot write {what}: {folder} is not a folder you may write to ({error.strerror})"
        ) from error


def free_bytes(url: str) -> int | None:
    """Return how much the disk of a store has left; None where it is not a local one."""
    if "://" in url:
        return None
    folder = Path(url).absolute()
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def refuse_other_files(store: LocalStore, url: Any) -> None:
    """Refuse a folder that holds other files and no root of a store."""
    if holds_files(store.root) and not (store.root / "zarr.json").exists():
        raise StoreError(
            f"{url} is a folder that holds other files and no store; name another --out"
        )


def holds_files(folder: Path) -> bool:
    """Return whether a folder holds more than files that are about to be renamed."""
    return folder.is_dir() and any(file.suffix != ".partial" for file in folder.iterdir())
