"""The fields that have a name: in the user's `fields.toml`, installed, and in catalogues.

    catalogues = ["https://example.org/fields/catalog.json"]

    [fields]
    alps = "s3://bucket/alps.zarr"
    mine = "~/fields/mine.zarr"

A name in the file comes before an installed one, and both before those of catalogues, which are
read only if the others have no such name.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.installed_fields import (
    DEFAULT,
    how_to_install,
    installed_folder,
    installed_names,
)

_NAME = re.compile(r"[^\W_][\w.@+ -]*")


@dataclass(frozen=True)
class KnownField:
    """A field that has a name."""

    name: str
    address: str
    origin: str
    """Where the name is known from: a distribution, a file or a catalogue."""


def address_of(text: str) -> str:
    """Return the address of a field, given its name or its address.

    A path that exists is an address, and so is text with a scheme, a path separator, or the ending
    of a store or a catalogue.

    Raises:
        StoreError: if the text can only be a name, and no field has it.

    >>> address_of("s3://bucket/conus.zarr")
    's3://bucket/conus.zarr'
    """
    if not is_name(text) or os.path.lexists(Path(text).expanduser()):
        return text
    unread: list[str] = []
    names: list[str] = []
    for field in _each_field(unread):
        if field.name == text:
            return field.address
        names.append(field.name)
    if text == DEFAULT:
        raise StoreError(f"the field {text!r} is not installed: {how_to_install()}")
    near = get_close_matches(text.lower(), names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    listed = ", ".join(dict.fromkeys(names)) or "none"
    raise StoreError(
        f"there is neither a path nor a field {text!r}{hint}; known fields: {listed}"
        + "".join(f". {reason}" for reason in unread)
    )


def is_name(text: str) -> bool:
    """Return whether text can be the name of a field.

    >>> [is_name(text) for text in ("conus-1", "gulf@2", "a/b", "gulf.zarr", "https://a.org")]
    [True, True, False, False, False]
    """
    return bool(_NAME.fullmatch(text)) and not text.lower().endswith((".zarr", ".json"))


def known_fields() -> tuple[list[KnownField], list[str]]:
    """Return every field that has a name, and a sentence on each catalogue that cannot be read.

    Of fields of one name the first is the one that is opened.
    """
    unread: list[str] = []
    return list(_each_field(unread)), unread


def _each_field(unread: list[str]) -> Iterator[KnownField]:
    """Yield the known fields in the order of precedence; catalogues are read when they are due."""
    from unigeo.client.naming.catalogues import named_stores

    settings, path = _read_settings()
    for name, address in settings.get("fields", {}).items():
        yield KnownField(name, _beside(path, address), str(path))
    for name in installed_names():
        yield KnownField(name, str(installed_folder(name) / "field.zarr"), "installed")
    for url in settings.get("catalogues", []):
        catalogue = _beside(path, url)
        try:
            listed = named_stores(catalogue)
        except StoreError as error:
            unread.append(str(error))
            continue
        for name, address in listed.items():
            yield KnownField(name, address, catalogue)


def _read_settings() -> tuple[dict[str, Any], Path]:
    """Read the user's `fields.toml`; empty if there is none.

    Raises:
        StoreError: if it is not TOML, or has other keys.
    """
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    path = Path(home) / "unigeo" / "fields.toml"
    if not path.is_file():
        return {}, path
    from unigeo.schemas.io.toml_files import check_keys, read_toml

    what = "the list of fields"
    settings = read_toml(path, what, StoreError)
    check_keys(settings, {"catalogues": list, "fields": dict}, str(path), StoreError)
    texts = [*settings.get("catalogues", []), *settings.get("fields", {}).values()]
    for text in texts:
        if not isinstance(text, str):
            raise StoreError(f"{path}: {text!r} is no address; write it between quotes")
    for name in settings.get("fields", {}):
        if not is_name(name):
            raise StoreError(f"{path}: {name!r} cannot be the name of a field: it reads as a path")
    return settings, path


def _beside(path: Path, address: str) -> str:
    """Return an address of the file `path`; a relative one is relative to its folder."""
    return address if "://" in address else str(path.parent / Path(address).expanduser())
