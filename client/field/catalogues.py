"""From a catalogue to the store of one of its fields."""

from pathlib import Path

from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.addresses import folder_and_name
from unigeo.schemas.io.stores import TIMEOUT_S, read_document
from unigeo.schemas.store.catalogue import NAME, Entry, choose_entry, read_catalogue


def entries_of(url: str, *, timeout_s: float = TIMEOUT_S) -> tuple[str, tuple[Entry, ...]]:
    """A catalogue's folder, and the fields that it lists.

    Args:
        url: of a `catalog.json`, or of the folder that holds it.
        timeout_s: as in `open_field`.

    Raises:
        StoreError: if there is none, it cannot be reached, or it is none of fields.
    """
    if not url.endswith(".json"):
        url = f"{url.rstrip('/')}/{NAME}"
    content = read_document(url, timeout_s=timeout_s)
    if content is None:
        raise StoreError(f"there is no catalogue at {url}; check the address")
    return folder_and_name(url)[0], read_catalogue(content, url)


def store_of_catalogue(
    url: str, region: str | None, release: str | None, *, timeout_s: float = TIMEOUT_S
) -> str:
    """The address of a field's store.

    Raises:
        StoreError: if the catalogue cannot be read, lists no such field, or leads elsewhere.
    """
    folder, entries = entries_of(url, timeout_s=timeout_s)
    entry = choose_entry(entries, url, region, release)
    address = f"{folder.rstrip('/')}/{entry.href.removeprefix('./')}"
    if "://" not in address:
        root = Path(folder).resolve()
        if not Path(address).resolve().is_relative_to(root):
            raise StoreError(
                f"{entry.href} of the catalogue {url} is a link that leads out of {root}; open the "
                "store it leads to by its own address, if you trust it"
            )
    return address
