"""Whether the objects beside a field's shards are whole: metadata, encoder, concepts, pictures.

The manifest lists them by key, and the root holds the manifest's digest.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.verifying.node_metadata import Nodes, in_turn
from unigeo.client.verifying.shard_objects import stored_size
from unigeo.schemas.errors import StoreError, UnigeoError
from unigeo.schemas.io.limits import OBJECT_BYTES, check_memory
from unigeo.schemas.io.stores import damage_errors, folder_and_name, read_beside
from unigeo.schemas.store.attributes import UnigeoAttributes
from unigeo.schemas.store.catalogue import NAME, read_catalogue
from unigeo.schemas.store.manifest import GROUP, OBJECTS, manifest_digest, manifest_keys
from unigeo.schemas.store.text_arrays import texts_of_bytes

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store


@dataclass(frozen=True)
class ListedObject:
    """One object, and what the manifest says of it."""

    key: str
    size_bytes: int
    sha256: bytes


def other_objects(group: "zarr.Group", url: Any) -> tuple[list[ListedObject], list[str]]:
    """What the manifest lists beside the shards, and what is wrong with that list.

    Stores of older versions have no list; then there is nothing to compare.
    """
    import zarr

    names = [f"{GROUP}/{OBJECTS}_{part}" for part in ("keys", "sha256", "bytes")]
    arrays = [group.get(name) for name in names]
    if all(array is None for array in arrays):
        return [], []
    values = []
    for name, array in zip(names, arrays, strict=True):
        if not isinstance(array, zarr.Array):
            return [], [f"array '{name}' is missing"]
        try:
            check_memory(array, url)
            values.append(np.asarray(array[...]))
        except damage_errors() as error:
            return [], [f"array '{name}' cannot be read: {error}"]
    keys, hashes, sizes = values
    try:
        listed = texts_of_bytes(keys, names[0])
    except UnigeoError as error:
        return [], [str(error)]
    if hashes.shape != (len(listed), 32) or sizes.shape != (len(listed),):
        return [], [
            f"the manifest lists {len(listed)} keys, {len(hashes)} hashes and {len(sizes)} sizes"
        ]
    outside = [key for key in listed if key.startswith("/") or ".." in key.split("/")]
    if outside:
        return [], [f"the manifest lists {outside[0]!r}, which is no key of this store"]
    return [
        ListedObject(key, int(size), sha256.tobytes())
        for key, size, sha256 in zip(listed, sizes, hashes, strict=True)
    ], []


async def other_problems(store: "Store", others: list[ListedObject], level: str) -> list[str]:
    """Compare every listed object with what is stored."""

    async def look(other: ListedObject) -> list[str]:
        size = await stored_size(store, other.key)
        if size is None:
            return [f"{other.key} is missing"]
        if size != other.size_bytes:
            return [f"{other.key} holds {size} bytes, expected {other.size_bytes}"]
        if level == "presence" or size > OBJECT_BYTES:
            return []
        content = await _content(store, other.key)
        if hashlib.sha256(content).digest() != other.sha256:
            return [f"{other.key}: its SHA-256 is not the manifest's"]
        return []

    found = await in_turn(map(look, others))
    return [problem for one in found for problem in one]


async def digest_problems(store: "Store", own: UnigeoAttributes, nodes: Nodes) -> list[str]:
    """Compare the manifest with the digest of it that the root holds."""
    digest = (own.model_extra or {}).get("manifest_sha256")
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
        return ["the manifest is not the one whose digest the root holds"]
    return []


def forgotten_problems(others: list[ListedObject], nodes: Nodes) -> list[str]:
    """Groups and arrays that were published, and of which the root says nothing any more."""
    keys = (other.key for other in others if other.key.endswith("/zarr.json"))
    return [
        f"{key} was published, and the root does not repeat it"
        for key in keys
        if key.removesuffix("/zarr.json") not in nodes
    ]


def root_problems(url: Any, store: "Store") -> list[str]:
    """Compare the root's metadata with the hash in the catalogue beside the store, if it is there.

    A catalogue that cannot be read, or is another's, vouches for nothing.
    """
    from zarr.abc.store import Store as AnyStore
    from zarr.core.sync import sync

    if isinstance(url, AnyStore):
        return []
    folder, name = folder_and_name(url)
    try:
        content = read_beside(f"{folder}/{NAME}")
        entries = () if content is None else read_catalogue(content, f"{folder}/{NAME}")
    except StoreError:
        return []
    hashes = [entry.root_sha256 for entry in entries if entry.href.removeprefix("./") == name]
    if not hashes:
        return []
    found = hashlib.sha256(sync(_content(store, "zarr.json"))).hexdigest()
    if found not in hashes:
        return [f"zarr.json: its SHA-256 is not that in {folder}/{NAME}"]
    return []


async def _content(store: "Store", key: str) -> bytes:
    from zarr.core.buffer import default_buffer_prototype

    body = await store.get(key, default_buffer_prototype())
    return b"" if body is None else bytes(body.to_bytes())
