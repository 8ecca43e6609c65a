"""The manifest: hash and size of every object of a store, written after all of them."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import zarr

from unigeo.producer.publishing.derive import Objects
from unigeo.producer.publishing.shard_facts import ShardFacts
from unigeo.producer.storage.objects import digest, list_objects, need_object
from unigeo.producer.storage.staged_groups import add_array, new_group, replace_group
from unigeo.schemas.geo.bounds import shard_bounds
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.store.layout import Layout, status_name
from unigeo.schemas.store.manifest import (
    ATTRIBUTE_BYTE,
    BOUNDS,
    BYTE,
    GROUP,
    KEY_BYTE,
    OBJECTS,
    SHARDS,
    manifest_digest,
    run_name,
    task_name,
)
from unigeo.schemas.store.published_attributes import ARRAY, attributes_to_bytes
from unigeo.schemas.store.text_arrays import texts_to_bytes


def write_manifest(
    group: zarr.Group,
    grid: Grid,
    layout: Layout,
    facts: Mapping[str, ShardFacts],
    made: Objects,
    runs: list[dict[str, Any]],
    run_of: Mapping[str, np.ndarray] | None = None,
    *,
    held: Mapping[str, Any],
) -> str:
    """Write the group `manifest`; an unfinished one is replaced.

    Args:
        group: the root.
        grid: grid of the field.
        layout: layout of the field.
        facts: facts of the shards by array.
        made: objects whose hashes are known; all others are read to hash them.
        runs: runs that made the shards, each as `run_entry` returns it.
        run_of: for each array the number of the run that made each shard; the first by default.
        held: the root's attributes, as `published_attributes.held_attributes` returns them.

    Returns:
        The digest of the whole manifest, hexadecimal.
    """
    manifest = new_group({"runs": runs})
    for modality in layout.arrays:
        one = facts[modality]
        for array, listed in ((modality, one.vectors), (status_name(modality), one.status)):
            add_array(manifest, f"{array}_sha256", listed.sha256, (*SHARDS, BYTE))
            add_array(manifest, f"{array}_bytes", listed.size_bytes, SHARDS)
        add_array(manifest, f"{modality}_valid_cells", one.valid_cells, SHARDS)
        add_array(manifest, task_name(modality), one.tasks, (*SHARDS, BYTE))
        number = (run_of or {}).get(modality, np.zeros(layout.shards(grid), np.int32))
        add_array(manifest, run_name(modality), number, SHARDS)
    bounds = shard_bounds(grid, layout.shard)
    add_array(manifest, BOUNDS, bounds, (*SHARDS, "edge"))
    add_array(manifest, ARRAY, attributes_to_bytes(held), (ATTRIBUTE_BYTE,))
    _add_objects(manifest, group, layout, made)
    return manifest_digest(replace_group(group.store, GROUP, manifest))


def run_entry(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest's entry of a run; runs of equal inputs and code have equal ids.

    `code_sha256` is empty if the run did not record it.

    Args:
        attributes: the root's `unigeo` attribute.
    """
    parts = {key: attributes[key] for key in ("region", "grid", "layout", "observations", "seed")}
    parts |= {"model": attributes["model"]["sha256"], "code_version": attributes["code_version"]}
    # Absent rather than empty in what is hashed: the ids of older runs must not change.
    if "code_sha256" in attributes:
        parts["code_sha256"] = attributes["code_sha256"]
    text = json.dumps(parts, sort_keys=True).encode()
    return {
        "id": hashlib.sha256(text).hexdigest()[:16],
        "release": attributes.get("release", "1"),
        "code_version": attributes["code_version"],
        "code_sha256": attributes.get("code_sha256", ""),
        "model_sha256": attributes["model"]["sha256"],
        "settings_sha256": _digest(attributes["model"]["settings"]),
        "observations": str(attributes["observations"].get("name", "not stated")),
        "observations_sha256": _digest(attributes["observations"]),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _add_objects(manifest: zarr.Group, group: zarr.Group, layout: Layout, made: Objects) -> None:
    """List every object except the field's shards, the root and the manifest itself."""
    keys = sorted(_others(group, layout))
    hashes, sizes = np.zeros((len(keys), 32), np.uint8), np.zeros(len(keys), np.int64)
    for number, key in enumerate(keys):
        sha256, sizes[number] = made.get(key) or _read(group, key)
        hashes[number] = np.frombuffer(bytes.fromhex(sha256), np.uint8)
    add_array(manifest, f"{OBJECTS}_keys", texts_to_bytes(keys), (KEY_BYTE,))
    add_array(manifest, f"{OBJECTS}_sha256", hashes, ("object", BYTE))
    add_array(manifest, f"{OBJECTS}_bytes", sizes, ("object",))


def _read(group: zarr.Group, key: str) -> tuple[str, int]:
    body = need_object(group.store, key)
    return digest(body).hex(), len(body)


def _others(group: zarr.Group, layout: Layout) -> Iterator[str]:
    """Yield keys of metadata and chunks that belong to the store and are not the field's shards.

    Chunks are found through their arrays' metadata, so that stray objects are never listed.
    """
    field_arrays = {*layout.arrays, *map(status_name, layout.arrays)}
    stored = [key for key in list_objects(group.store) if not key.startswith(f"{GROUP}/")]
    known = set(stored)
    for key in stored:
        path, _, name = key.rpartition("/")
        if name != "zarr.json" or not path:  # without a path: the root, which holds our digest
            continue
        yield key
        node = load_json(need_object(group.store, key))
        if node["node_type"] == "array" and path not in field_arrays:
            chunk_shape = node["chunk_grid"]["configuration"]["chunk_shape"]
            counts = [math.ceil(n / c) for n, c in zip(node["shape"], chunk_shape, strict=True)]
            for position in np.ndindex(*counts):
                chunk_key = "/".join([path, "c", *map(str, position)])
                if chunk_key in known:
                    yield chunk_key
