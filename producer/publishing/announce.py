"""The files beside a store: STAC item and collection, card, page, and the catalogue that lists it.

They are written after the store is published, and only if their content changed. Several producers
may announce into one catalogue at the same time: each update of the catalogue is atomic, and the
collection is rewritten until it agrees with the catalogue.
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
from unigeo.producer.storage.retrying_store import retrying
from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.addresses import folder_and_name
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.io.store_errors import describe_error, unreachable_errors
from unigeo.schemas.io.stores import open_group, open_store
from unigeo.schemas.store.attributes import UnigeoAttributes, read_attributes
from unigeo.schemas.store.catalogue import NAME, Entry, read_catalogue, relative_inside
from unigeo.schemas.store.page import address_beside, is_page, page_name, page_of


def names_beside(store: str, attributes: UnigeoAttributes) -> dict[str, str]:
    """Return the names of a store and of the files beside it; the item is named by its id."""
    return {
        "store": store,
        "item": f"{item_id(attributes, store)}.json",
        "card": f"{store.removesuffix(STORE_ENDING)}.card.md",
        "page": page_name(store),
        "collection": f"{attributes.region}.collection.json",
        "catalogue": NAME,
    }


def announce(
    url: Any, *, model_card: str | None = None, providers: Sequence[str] | None = None
) -> Entry | None:
    """Write the STAC item, the collection, the card, the page and the catalogue beside a field.

    Args:
        url: URL of the published store. Nothing is written beside a Zarr store without a URL.
        model_card: card of the model that made the field; None keeps an existing card.
        providers: who made the field; by default the providers in its attributes.

    Returns:
        The field's entry in the catalogue.

    Raises:
        StoreError: if the store is not published, or something cannot be written.
    """
    from zarr.abc.store import Store

    if isinstance(url, Store):
        return None
    group = open_group(url)
    attributes = read_attributes(dict(group.attrs), str(url))
    if attributes.state != "published":
        raise StoreError(f"{url} is not published yet, so it cannot be announced")
    folder, name = folder_and_name(url)
    names = names_beside(name, attributes)
    beside = retrying(open_store(folder, read_only=False))
    try:
        root_sha256 = hashlib.sha256(need_object(group.store, "zarr.json")).hexdigest()
        licence, citation = str(group.attrs["license"]), str(group.attrs["citation"])
        providers = providers or providers_of(dict(group.attrs))
        if model_card is not None or read_object(beside, names["card"]) is None:
            card = field_card(model_card, attributes, licence, citation, providers)
            _write(beside, names["card"], card.encode())
        _write_page(beside, names["page"], name)
        stac_item = item(group, attributes, names, root_sha256, providers)
        _write(beside, names["item"], _json(stac_item))
        entry = Entry(
            region=attributes.region,
            release=release_of(attributes),
            href=name,
            item=names["item"],
            collection=names["collection"],
            resolution_m=attributes.grid.resolution_m,
            modalities=attributes.layout.modalities,
            model_sha256=attributes.model.sha256,
            root_sha256=root_sha256,
        )
        entries = _with(_entries(beside, f"{folder}/{NAME}"), [entry])
        # The catalogue is updated atomically, the collection is not: another producer of the region
        # may overwrite it between our read and our write. Repeat until the catalogue lists what the
        # collection was built from and the collection is still ours. The collection is written
        # first, so that the catalogue never links to a file that does not exist.
        settled = False
        while not settled:
            content = _collection(beside, attributes.region, entries, names["collection"])
            _write(beside, names["collection"], content)
            listed = _list(beside, f"{folder}/{NAME}", NAME, [entry])
            same = sorted(listed, key=repr) == sorted(entries, key=repr)
            settled = same and read_object(beside, names["collection"]) == content
            entries = listed
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write beside {url}: {describe_error(error)}") from error
    return entry


def _write_page(beside: Any, name: str, store_name: str) -> None:
    """Write the page of a store; a file of somebody else's by this name is left as it is."""
    known = read_object(beside, name)
    if known is None or is_page(known):
        _write(beside, name, page_of(address_beside(store_name)))


def gather(catalogue_url: str, stores: Sequence[str]) -> tuple[Entry, ...]:
    """List fields of several folders in one catalogue above them.

    Args:
        catalogue_url: URL of the `catalog.json` to create or extend.
        stores: URLs of published stores, each below the catalogue's folder.

    Raises:
        StoreError: if a store lies elsewhere or is not published, or something cannot be written.
    """
    folder, name = folder_and_name(catalogue_url)
    new = []
    for url in stores:
        inside = _inside(folder, url)
        store_folder, store_name = folder_and_name(url)
        listed = _entries(open_store(store_folder), f"{store_folder}/{NAME}")
        matching = [entry for entry in listed if entry.href == store_name]
        # A store that was copied alone, or whose catalogue was lost, is announced anew.
        entry = matching[0] if matching else announce(url)
        assert entry is not None, "a store with a URL"
        # Links in an entry are relative to its catalogue, and this one lies higher up.
        prefix = inside[: len(inside) - len(store_name)]
        paths = {key: prefix + getattr(entry, key) for key in ("href", "item", "collection")}
        new.append(entry.model_copy(update=paths))
    beside = retrying(open_store(folder, read_only=False))
    try:
        entries = _list(beside, catalogue_url, name, new)
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write {catalogue_url}: {describe_error(error)}") from error
    return entries


def _inside(folder: str, url: str) -> str:
    """Return a store's path relative to the catalogue's folder."""
    from pathlib import Path

    if "://" in folder or "://" in url:
        root, full = folder.rstrip("/") + "/", url.rstrip("/")
        inside = full.removeprefix(root) if full.startswith(root) else ""
    else:
        path, root_path = Path(url).resolve(), Path(folder).resolve()
        inside = path.relative_to(root_path).as_posix() if path.is_relative_to(root_path) else ""
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
    """Add entries, and replace those of the same stores."""
    hrefs = {entry.href for entry in new}
    return (*(entry for entry in entries if entry.href not in hrefs), *new)


def _list(beside: Any, url: str, name: str, new: Sequence[Entry]) -> tuple[Entry, ...]:
    """Add entries to a catalogue atomically, and return all its entries after the update."""

    # Called again with the newer content if another producer wrote the catalogue in between.
    def with_new(content: bytes | None) -> bytes:
        known = () if content is None else read_catalogue(content, url)
        return _json(catalogue(_with(known, new), name))

    return read_catalogue(update_object(beside, name, with_new), url)


def _collection(beside: Any, region: str, entries: Sequence[Entry], name: str) -> bytes:
    """Return the collection of a region's fields that lie in this folder, not below it."""
    files = [one.item for one in entries if one.region == region and "/" not in one.item]
    return _json(collection(region, [(file, _item(beside, file)) for file in files], name))


def _item(beside: Any, name: str) -> Mapping[str, Any]:
    try:
        document = load_json(need_object(beside, name))
    except ValueError as error:
        raise StoreError(f"the STAC item {name} is no JSON: {error}") from error
    if not isinstance(document, dict) or "properties" not in document:
        raise StoreError(f"{name} is no STAC item; remove it and announce its store again")
    return document


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _write(store: Any, name: str, content: bytes) -> None:
    """Write an object unless it has this content already."""
    if read_object(store, name) != content:
        write_object(store, name, content)
