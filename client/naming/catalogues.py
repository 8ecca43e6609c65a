"""Finds the store of a field in a catalogue."""

from pathlib import Path

from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.addresses import folder_and_name
from unigeo.schemas.io.stores import TIMEOUT_S, read_document
from unigeo.schemas.store.catalogue import NAME, Entry, choose_entry, read_catalogue


def read_entries(url: str, *, timeout_s: float = TIMEOUT_S) -> tuple[str, tuple[Entry, ...]]:
    """Read a catalogue.

    Args:
        url: of a `catalog.json`, or of the folder that holds it.
        timeout_s: as in `open_field`.

    Returns:
        The catalogue's folder, and the fields that it lists.

    Raises:
        StoreError: if there is none, it cannot be reached, or it is no catalogue of fields.
    """
    if not url.endswith(".json"):
        url = f"{url.rstrip('/')}/{NAME}"
    content = read_document(url, timeout_s=timeout_s)
    if content is None:
        raise StoreError(f"there is no catalogue at {url}; check the address")
    return folder_and_name(url)[0], read_catalogue(content, url)


def store_of_catalogue(
    url: str, region: str | None, release: str | int | None, *, timeout_s: float = TIMEOUT_S
) -> str:
    """Return the address of a field's store.

    Raises:
        StoreError: if the catalogue cannot be read, lists no such field, or leads elsewhere.
    """
    folder, entries = read_entries(url, timeout_s=timeout_s)
    return _address_in(folder, choose_entry(entries, url, region, release), url)


def named_stores(url: str) -> dict[str, str]:
    """Return the addresses of a catalogue's stores by name.

    `conus` is the newest release of a region, `conus@2` a named one, and `conus@2@25000m` one of
    several resolutions.

    Raises:
        StoreError: as `store_of_catalogue`.
    """
    folder, entries = read_entries(url)
    newest: dict[str, Entry] = {}
    releases: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda one: one.order):
        newest[entry.region] = entry
        releases.setdefault(f"{entry.region}@{entry.release}", []).append(entry)
    named = {
        region: entry
        for region, entry in newest.items()
        if len(releases[f"{region}@{entry.release}"]) == 1
    }
    for name, several in releases.items():
        for entry in several:
            named[name if len(several) == 1 else f"{name}@{entry.resolution_m:g}m"] = entry
    return {name: _address_in(folder, entry, url) for name, entry in named.items()}


def _address_in(folder: str, entry: Entry, url: str) -> str:
    """Return the address of an entry's store, which must lie in the catalogue's folder."""
    address = f"{folder.rstrip('/')}/{entry.href.removeprefix('./')}"
    if "://" not in address:  # a local catalogue may come from somebody else: follow no link out
        root = Path(folder).resolve()
        if not Path(address).resolve().is_relative_to(root):
            raise StoreError(
                f"{entry.href} of the catalogue {url} is a link that leads out of {root}; open the "
                "store it leads to by its own address, if you trust it"
            )
    return address
