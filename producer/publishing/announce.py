"""The files beside a store: STAC item and collection, card, and the catalogue that lists it.

They are written after the store is published, and only where they differ from what is there. Many
producers may announce into one catalogue at once: it changes by one at a time, and a collection is
written again until it is that of the catalogue.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from unigeo.producer.publishing.field_card import field_card
from unigeo.producer.publishing.stac import (
    STORE_ENDING,
    catalogue,
    collection,
    item,
    item_id,
    release_of,
)
from unigeo.producer.publishing.terms import providers_of
from unigeo.producer.storage.objects import need_object, read_object, update_object, write_object
from unigeo.producer.storage.retrying import retrying
from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.addresses import folder_and_name
from unigeo.schemas.io.store_errors import unreachable_errors
from unigeo.schemas.io.stores import open_group, open_store
from unigeo.schemas.store.attributes import UnigeoAttributes, read_attributes
from unigeo.schemas.store.catalogue import NAME, Entry, read_catalogue, relative_inside


def names_beside(store: str, own: UnigeoAttributes) -> dict[str, str]:
    """Names of a store and of the files beside it; the item's is its id."""
    return {
        "store": store,
        "item": f"{item_id(own, store)}.json",
        "card": f"{store.removesuffix(STORE_ENDING)}.card.md",
        "collection": f"{own.region}.collection.json",
        "catalogue": NAME,
    }


def announce(
    url: Any, *, model_card: str | None = None, providers: Sequence[str] | None = None
) -> Entry | None:
    """Write what stands beside a published field.

    Args:
        url: of the store; beside a Zarr store that has no URL nothing is written.
        model_card: of the model that made it; the card that is there is kept if it is None.
        providers: who made the field, if not as it says itself.

    Returns:
        The field's entry in the catalogue.

    Raises:
        StoreError: if the store is not published, or something cannot be written.
    """
    from zarr.abc.store import Store

    if isinstance(url, Store):
        return None
    group = open_group(url)
    own = read_attributes(dict(group.attrs), str(url))
    if own.state != "published":
        raise StoreError(f"{url} is not published yet, so it cannot be announced")
    folder, name = folder_and_name(url)
    names = names_beside(name, own)
    beside = retrying(open_store(folder, read_only=False))
    try:
        root_sha256 = hashlib.sha256(need_object(group.store, "zarr.json")).hexdigest()
        licence, citation = str(group.attrs["license"]), str(group.attrs["citation"])
        providers = providers or providers_of(dict(group.attrs))
        if model_card is not None or read_object(beside, names["card"]) is None:
            card = field_card(model_card, own, licence, citation, providers)
            _write(beside, names["card"], card.encode())
        described = item(group, own, names, root_sha256, providers)
        _write(beside, names["item"], _json(described))
        entry = Entry(
            region=own.region,
            release=release_of(own),
            href=name,
            item=names["item"],
            collection=names["collection"],
            resolution_m=own.grid.resolution_m,
            modalities=own.layout.modalities,
            model_sha256=own.model.sha256,
            root_sha256=root_sha256,
        )
        entries = _with(_entries(beside, f"{folder}/{NAME}"), [entry])
        settled = False
        while not settled:
            mine = _collection(beside, own.region, entries, names["collection"])
            _write(beside, names["collection"], mine)
            listed = _list(beside, f"{folder}/{NAME}", NAME, [entry])
            same = sorted(listed, key=repr) == sorted(entries, key=repr)
            settled = same and read_object(beside, names["collection"]) == mine
            entries = listed
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write beside {url}: {error}") from error
    return entry


def gather(catalogue_url: str, stores: Sequence[str]) -> tuple[Entry, ...]:
    """List fields of several folders in one catalogue above them.

    Args:
        catalogue_url: of the `catalog.json` to write, or to add to.
        stores: URLs of published stores, each below the catalogue's folder.

    Raises:
        StoreError: if a store lies elsewhere, was not announced, or something cannot be written.
    """
    folder, name = folder_and_name(catalogue_url)
    found = []
    for url in stores:
        inside = _inside(folder, url)
        store_folder, store_name = folder_and_name(url)
        listed = _entries(open_store(store_folder), f"{store_folder}/{NAME}")
        own = [entry for entry in listed if entry.href == store_name]
        if not own:
            raise StoreError(
                f"{url} is not in the catalogue beside it; publish it with unigeo-produce first"
            )
        prefix = inside[: len(inside) - len(store_name)]
        found.append(
            own[0].model_copy(
                update={
                    key: prefix + getattr(own[0], key) for key in ("href", "item", "collection")
                }
            )
        )
    beside = retrying(open_store(folder, read_only=False))
    try:
        entries = _list(beside, catalogue_url, name, found)
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write {catalogue_url}: {error}") from error
    return entries


def _inside(folder: str, url: str) -> str:
    """A store's path below the catalogue's folder."""
    from pathlib import Path

    if "://" in folder or "://" in url:
        root, whole = folder.rstrip("/") + "/", url.rstrip("/")
        inside = whole.removeprefix(root) if whole.startswith(root) else ""
    else:
        place, root_path = Path(url).resolve(), Path(folder).resolve()
        inside = place.relative_to(root_path).as_posix() if place.is_relative_to(root_path) else ""
    try:
        return relative_inside(inside)
    except ValueError as error:
        raise StoreError(
            f"{url} does not lie below {folder}, the folder of the catalogue; put the catalogue "
            "into a folder above all its stores"
        ) from error


def _entries(beside: Any, url: str, name: str = NAME) -> tuple[Entry, ...]:
    content = read_object(beside, name)
    return () if content is None else read_catalogue(content, url)


def _with(entries: Sequence[Entry], new: Sequence[Entry]) -> tuple[Entry, ...]:
    """Entries with others added, or put in the place of those of the same store."""
    hrefs = {entry.href for entry in new}
    return (*(entry for entry in entries if entry.href not in hrefs), *new)


def _list(beside: Any, url: str, name: str, new: Sequence[Entry]) -> tuple[Entry, ...]:
    """Add entries to a catalogue, whoever else does; all that it lists then."""

    def with_new(content: bytes | None) -> bytes:
        known = () if content is None else read_catalogue(content, url)
        return _json(catalogue(_with(known, new), name))

    return read_catalogue(update_object(beside, name, with_new), url)


def _collection(beside: Any, region: str, entries: Sequence[Entry], name: str) -> bytes:
    """The collection of a region's fields that lie here."""
    own = [one.item for one in entries if one.region == region and "/" not in one.item]
    return _json(collection(region, [(file, _item(beside, file)) for file in own], name))


def _item(beside: Any, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(need_object(beside, name))
    except ValueError as error:
        raise StoreError(f"the STAC item {name} is no JSON: {error}") from error
    if not isinstance(found, dict) or "properties" not in found:
        raise StoreError(f"{name} is no STAC item; remove it and announce its store again")
    return found


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _write(store: Any, name: str, content: bytes) -> None:
    """Write unless the same is there."""
    if read_object(store, name) != content:
        write_object(store, name, content)
