"""Files and folders that are whole or absent: written beside their path, then renamed to it.

The content reaches the disk before the name does, so an exception, a killed process or a loss of
power leaves what stood at the path before.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"
"""Ending of the name of a file or folder that is still being written."""


def partial_path(path: Path, *, unique: bool = False) -> Path:
    """Return the path beside `path` that is written before it.

    Args:
        path: of the finished file or folder.
        unique: add random digits, so that several writers of one path do not share a file. Without
            them, the next run overwrites what a killed one left.
    """
    return path.with_name(path.name + (f".{secrets.token_hex(4)}" if unique else "") + PARTIAL)


@contextmanager
def file_beside(path: Path, *, unique: bool = False, overwrite: bool = True) -> Iterator[Path]:
    """Yield a path to write to; when the block ends without exception, it is renamed to `path`.

    Args:
        path: of the file, in a folder that exists; a link to a file stays, and its target is
            replaced.
        unique: as in `partial_path`.
        overwrite: replace a file that is there.

    Raises:
        FileExistsError: if `path` exists and must not be replaced.
        OSError: if the file cannot be written.
    """
    path = Path(os.path.realpath(path))
    part = partial_path(path, unique=unique)
    try:
        yield part
        _sync_file(part)
        if overwrite:
            part.replace(path)
        else:
            _link(part, path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # the block's own exception says more
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as a whole; several processes may write the same path.

    Raises:
        OSError: if it cannot be written; a file that was there stays.
    """
    with file_beside(path, unique=True) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file as `write_bytes` does."""
    with file_beside(path, unique=True) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def folder_beside(path: Path, *, unique: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; when the block ends without exception, it becomes `path`.

    Args:
        path: of the folder, in a folder that exists.
        unique: as in `partial_path`; without it, what stands at that path is removed first.
        overwrite: replace a folder that is there.

    Raises:
        OSError: if the folder cannot be written, or `path` exists and must not be replaced.
    """
    part = partial_path(path, unique=unique)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        yield part
        for folder, _, names in os.walk(part, topdown=False):
            for name in names:
                _sync_file(Path(folder, name))
            _sync_folder(Path(folder))
        if overwrite:
            _replace_folder(part, path)
        else:
            part.rename(path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename a folder to `path`; no system call swaps folders, so an old one is moved aside first.

    A process that is killed between the two renames leaves the old folder as `<name>.<hex>.old`.
    """
    if path.is_file():
        raise FileExistsError(errno.EEXIST, "a file has the name of the folder", str(path))
    while True:
        old = path.with_name(f"{path.name}.{secrets.token_hex(4)}.old")
        with suppress(FileNotFoundError):
            path.rename(old)
        try:
            new.rename(path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                with suppress(FileNotFoundError):
                    old.rename(path)
                raise
            _remove(old)  # another writer was faster; its folder is replaced in turn
        else:
            _remove(old)
            return


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _link(part: Path, path: Path) -> None:
    """Give a file a name that is free; of two processes, one gets FileExistsError."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        part.replace(path)


def _sync_file(path: Path) -> None:
    # Windows syncs only what is open for writing.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    """Have the disk keep the names in a folder, where its file system can be asked to."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
