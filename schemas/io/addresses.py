"""Addresses of stores and files: paths and URLs, made absolute, split, and checked."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from unigeo.schemas.errors import StoreError


def absolute_url(url: Any) -> Any:
    """Return an address that does not depend on the working directory; a Zarr store as it is.

    Symbolic links are resolved, so an open field keeps reading the store that they led to.

    Raises:
        StoreError: if a `file://` URL names another machine.

    >>> absolute_url("s3://bucket/conus.zarr"), absolute_url("file:///tmp/../srv/conus.zarr")
    ('s3://bucket/conus.zarr', '/srv/conus.zarr')
    """
    text = os.fspath(url) if isinstance(url, os.PathLike) else url
    if not isinstance(text, str):
        return url
    if text.startswith("file:"):
        from urllib.request import url2pathname

        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise StoreError(
                f"{text} names the machine {parts.netloc!r}; write file:///path, with three strokes"
            )
        text = url2pathname(parts.path)
    elif "://" in text:
        return text
    return str(Path(text).expanduser().resolve())


def check_destination(path: Path, what: str, *, makes_folders: bool = False) -> None:
    """Refuse a path that nothing can be written to, before any work is done for it.

    Into the folder of a Zarr store nothing is written: its manifest lists what belongs there.

    Args:
        path: of the new file or folder.
        what: name of the file or folder in the message.
        makes_folders: whether folders above it that do not exist are made.

    Raises:
        StoreError: if the name cannot be one of a file, its folder does not exist or cannot be
            written to, or it lies inside a Zarr store.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # too long a name, or a folder that may not be looked into
        raise StoreError(f"cannot write {what}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"cannot write {what}: {error}") from error
    folder = path.absolute().parent
    while makes_folders and not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        shown = path.parent if folder == path.absolute().parent else folder
        raise StoreError(f"cannot write {what}: there is no folder {shown}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(f"cannot write {what}: the folder {folder} is not yours to write to")
    for folder in path.absolute().parents:
        if (folder / "zarr.json").is_file():
            raise StoreError(
                f"cannot write {what}: it lies inside the Zarr store {folder}, and would damage "
                "it; name a place outside"
            )


def folder_and_name(url: Any) -> tuple[str, str]:
    """Split an address into its folder and its name there.

    >>> folder_and_name("s3://bucket/conus/conus.zarr/")
    ('s3://bucket/conus', 'conus.zarr')
    """
    text = str(url).rstrip("/")
    if "://" not in text:
        path = Path(text).expanduser()
        return str(path.parent), path.name
    folder, _, name = text.rpartition("/")
    return folder, name
