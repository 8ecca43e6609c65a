"""Writes the page of a store into a folder that a web server serves."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.addresses import absolute_url, check_destination
from unigeo.schemas.io.atomic_files import file_beside
from unigeo.schemas.store.page import is_page, page_name, page_of


def export_page(store: Any, folder: Path | str) -> Path:
    """Write the page of a store.

    Args:
        store: path of the store, or the https:// address at which browsers can read it.
        folder: where the page is written, under the store's name. A store on this machine is
            found from there by its relative path, so one web server has to serve both.

    Returns:
        Path of the page.

    Raises:
        StoreError: if browsers cannot read the address, or the folder cannot be written to.
    """
    folder = Path(folder).expanduser().resolve()
    url = str(absolute_url(store))
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme not in ("", "http", "https"):
        raise StoreError(
            f"a browser cannot read {scheme}:// addresses: name the https:// address at which "
            f"{url} is public"
        )
    target = folder / page_name(url)
    check_destination(target, str(target), makes_folders=True)
    if target.exists() and not (target.is_file() and is_page(target.read_bytes())):
        raise StoreError(f"cannot write {target}: it is there already, and is no page of a field")
    address = url if scheme else quote(Path(os.path.relpath(url, folder)).as_posix())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_beside(target) as draft:
            draft.write_bytes(page_of(address))
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror}") from error
    return target
