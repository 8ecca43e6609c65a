"""Writes the manifest of a part that was cut from a field."""

import hashlib
from typing import Any

import numpy as np

from unigeo.client.areas.subset_nodes import SubsetNodes
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.layout import Layout, status_name
from unigeo.schemas.store.manifest import (
    ATTRIBUTE_BYTE,
    BYTE,
    KEY_BYTE,
    OBJECTS,
    ArrayManifest,
    manifest_digest,
    shard_key,
)
from unigeo.schemas.store.manifest import GROUP as MANIFEST
from unigeo.schemas.store.published_attributes import (
    ARRAY,
    DIGEST,
    attributes_digest,
    attributes_to_bytes,
    held_attributes,
)
from unigeo.schemas.store.status import Status
from unigeo.schemas.store.text_arrays import texts_to_bytes


def write_manifest(nodes: SubsetNodes, grid: Grid, layout: Layout) -> None:
    """Write the manifest of a part whose other objects are all written.

    The order matters: each step lists what the steps before it wrote.
    """
    _write_shard_lists(nodes, grid, layout)
    _write_object_list(nodes)
    _write_root_attributes(nodes)


def _write_shard_lists(nodes: SubsetNodes, grid: Grid, layout: Layout) -> None:
    """List every shard of cells, and count the valid cells of each."""
    shards = layout.shards(grid)
    nodes.write_group(MANIFEST)
    group: Any = open_group(str(nodes.folder), consolidated=False)
    for name in layout.arrays:
        valid = np.zeros(shards, np.int64)
        for (row, col), window in zip(np.ndindex(*shards), grid.windows(layout.shard), strict=True):
            codes = group[status_name(name)][window.slices]
            valid[row, col] = np.count_nonzero(codes == Status.VALID)
        nodes.write_array(f"{MANIFEST}/{name}_valid_cells", valid)
        _list_shards(nodes, name, 3, shards)
        _list_shards(nodes, status_name(name), 2, shards)


def _list_shards(nodes: SubsetNodes, array: str, dimensions: int, shards: tuple[int, int]) -> None:
    """Write the size and SHA-256 of each object of an array."""
    listed = ArrayManifest.empty(shards)
    for row, col in np.ndindex(*shards):
        stored = nodes.folder / shard_key(array, row, col, dimensions)
        if stored.exists():
            content = stored.read_bytes()
            digest = hashlib.sha256(content).digest()
            listed.sha256[row, col] = np.frombuffer(digest, np.uint8)
            listed.size_bytes[row, col] = len(content)
    nodes.write_array(f"{MANIFEST}/{array}_sha256", listed.sha256)
    nodes.write_array(f"{MANIFEST}/{array}_bytes", listed.size_bytes)


def _write_object_list(nodes: SubsetNodes) -> None:
    """List every object that is no shard of cells and no part of the manifest or the root."""
    listed = {name for name in nodes.written if f"{MANIFEST}/{name}_bytes" in nodes.written}
    shards = tuple(f"{name}/c/" for name in listed)
    keys = sorted(
        key
        for file in nodes.folder.rglob("*")
        if file.is_file()
        and (key := file.relative_to(nodes.folder).as_posix()) != "zarr.json"
        and not key.startswith((f"{MANIFEST}/", *shards))
    )
    bodies = [(nodes.folder / key).read_bytes() for key in keys]
    hashes = np.array([list(hashlib.sha256(body).digest()) for body in bodies], np.uint8)
    sizes = np.array([len(body) for body in bodies], np.int64)
    nodes.write_new_array(f"{MANIFEST}/{OBJECTS}_keys", texts_to_bytes(keys), KEY_BYTE)
    nodes.write_new_array(f"{MANIFEST}/{OBJECTS}_sha256", hashes, "object", BYTE)
    nodes.write_new_array(f"{MANIFEST}/{OBJECTS}_bytes", sizes, "object")


def _write_root_attributes(nodes: SubsetNodes) -> None:
    """Write the root's attributes into the manifest, and the hashes of both into the root.

    The root itself is written by `SubsetNodes.consolidate`.
    """
    attributes = nodes.written[""]["attributes"]
    held = held_attributes(attributes)
    nodes.write_new_array(f"{MANIFEST}/{ARRAY}", attributes_to_bytes(held), ATTRIBUTE_BYTE)
    files = sorted(file for file in (nodes.folder / MANIFEST).rglob("*") if file.is_file())
    manifest = {file.relative_to(nodes.folder).as_posix(): file.read_bytes() for file in files}
    attributes["unigeo"] |= {
        DIGEST: attributes_digest(held),
        "manifest_sha256": manifest_digest(manifest),
    }
