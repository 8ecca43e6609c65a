"""Checks the objects that are no shards of the field: metadata, encoder, concepts, previews.

The manifest lists them by key, and the root holds the manifest's digest.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.verifying.node_metadata import Nodes, gather_few
from unigeo.client.verifying.shard_objects import stored_size
from unigeo.schemas.errors import StoreError, UnigeoError
from unigeo.schemas.io.addresses import folder_and_name
from unigeo.schemas.io.limits import OBJECT_BYTES, check_memory
from unigeo.schemas.io.store_errors import damage_errors
from unigeo.schemas.io.stores import read_document
from unigeo.schemas.store.attributes import UnigeoAttributes
from unigeo.schemas.store.catalogue import NAME, read_catalogue
from unigeo.schemas.store.manifest import GROUP, OBJECTS, manifest_digest, manifest_keys
from unigeo.schemas.store.problems import Problem
from unigeo.schemas.store.text_arrays import texts_of_bytes

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store


@dataclass(frozen=True)
class ListedObject:
    """An object as the manifest lists it."""

    key: str
    size_bytes: int
    sha256: bytes


def other_objects(group: "zarr.Group", url: Any) -> tuple[list[ListedObject], list[Problem]]:
    """Read the manifest's list of other objects, and what is wrong with that list.

    Stores of older versions have no list, and nothing is compared.
    """
    import zarr

    names = [f"{GROUP}/{OBJECTS}_{part}" for part in ("keys", "sha256", "bytes")]
    arrays = [group.get(name) for name in names]
    if all(array is None for array in arrays):
        return [], []
    values = []
    for name, array in zip(names, arrays, strict=True):
        if not isinstance(array, zarr.Array):
            return [], [Problem(name, f"array '{name}' is missing")]
        try:
            check_memory(array, url)
            values.append(np.asarray(array[...]))
        except damage_errors() as error:
            return [], [Problem(name, f"array '{name}' cannot be read: {error}")]
    keys, hashes, sizes = values
    try:
        listed = texts_of_bytes(keys, names[0])
    except UnigeoError as error:
        return [], [Problem(names[0], str(error))]
    if hashes.shape != (len(listed), 32) or sizes.shape != (len(listed),):
        counts = f"{len(listed)} keys, {len(hashes)} hashes and {len(sizes)} sizes"
        return [], [Problem(names[0], f"the manifest lists {counts}")]
    outside = [key for key in listed if key.startswith("/") or ".." in key.split("/")]
    if outside:
        text = f"the manifest lists {outside[0]!r}, which is no key of this store"
        return [], [Problem(names[0], text)]
    return [
        ListedObject(key, int(size), sha256.tobytes())
        for key, size, sha256 in zip(listed, sizes, hashes, strict=True)
    ], []


async def object_problems(store: "Store", others: list[ListedObject], level: str) -> list[Problem]:
    """Compare every listed object with what is stored."""

    async def check(other: ListedObject) -> Problem | None:
        key = other.key
        size = await stored_size(store, key)
        if size is None:
            return Problem(key, f"{key} is missing")
        if size != other.size_bytes:
            return Problem(key, f"{key} holds {size} bytes, expected {other.size_bytes}")
        if level == "presence" or size > OBJECT_BYTES:
            return None
        content = await _content(store, key)
        if hashlib.sha256(content).digest() != other.sha256:
            return Problem(key, f"{key}: its SHA-256 is not the manifest's")
        return None

    results = await gather_few(map(check, others))
    return [problem for problem in results if problem is not None]


async def manifest_problems(
    store: "Store", attributes: UnigeoAttributes, nodes: Nodes
) -> list[Problem]:
    """Compare the manifest with its digest in the root."""
    digest = (attributes.model_extra or {}).get("manifest_sha256")
    if digest is None:
        return []
    keys = manifest_keys(
        {
            name: tuple(node["shape"])
            for name, node in nodes.items()
            if name.startswith(f"{GROUP}/") and node.get("node_type") == "array"
        }
    )
    bodies = {key: await _content(store, key) for key in keys}
    if manifest_digest(bodies) != digest:
        return [Problem(GROUP, "the manifest is not the one whose digest the root holds")]
    return []


def unlisted_problems(others: list[ListedObject], nodes: Nodes) -> list[Problem]:
    """Find groups and arrays that were published and that the root no longer lists."""
    keys = (other.key for other in others if other.key.endswith("/zarr.json"))
    return [
        Problem(key, f"{key} was published, and the root does not repeat it")
        for key in keys
        if key.removesuffix("/zarr.json") not in nodes
    ]


def root_problems(url: Any, store: "Store") -> list[Problem]:
    """Compare the root's metadata with the hash in the catalogue beside the store, if there is one.

    A catalogue that cannot be read, or that does not list this store, is ignored.
    """
    from zarr.abc.store import Store as AnyStore
    from zarr.core.sync import sync

    if isinstance(url, AnyStore):
        return []
    folder, name = folder_and_name(url)
    try:
        content = read_document(f"{folder}/{NAME}")
        entries = () if content is None else read_catalogue(content, f"{folder}/{NAME}")
    except StoreError:
        return []
    hashes = [entry.root_sha256 for entry in entries if entry.href.removeprefix("./") == name]
    if not hashes:
        return []
    sha256 = hashlib.sha256(sync(_content(store, "zarr.json"))).hexdigest()
    if sha256 not in hashes:
        text = f"zarr.json: its SHA-256 is not that in {folder}/{NAME}"
        return [Problem("zarr.json", text)]
    return []


async def _content(store: "Store", key: str) -> bytes:
    from zarr.core.buffer import default_buffer_prototype

    body = await store.get(key, default_buffer_prototype())
    return b"" if body is None else bytes(body.to_bytes())
