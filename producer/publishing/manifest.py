"""The manifest: what every object of the store should be, written after all of them."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import zarr

from unigeo.producer.publishing.derive import Objects
from unigeo.producer.publishing.shard_facts import ShardFacts
from unigeo.producer.raster.planning import stored_shards
from unigeo.producer.storage.objects import digest, list_objects, need_object
from unigeo.producer.storage.staged_groups import add_whole, draft, replace_group
from unigeo.schemas.geo.bounds import shard_bounds
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.layout import COVARIATES, Layout, status_name
from unigeo.schemas.store.manifest import (
    ATTRIBUTE_BYTE,
    BOUNDS,
    BYTE,
    GROUP,
    KEY_BYTE,
    OBJECTS,
    SHARDS,
    ArrayManifest,
    manifest_digest,
    run_name,
    shard_key,
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
    """Write the group, in the place of an unfinished one.

    Args:
        group: the root.
        grid: of the field.
        layout: of the field.
        facts: of each modality.
        made: objects whose hashes are known; others are read.
        runs: what made the shards: an `id` each, and what tells it from others.
        run_of: for each modality the number of the run that made each shard; the first by default.
        held: the root's attributes, by `schemas.held_attributes`.

    Returns:
        The digest of the whole manifest, hexadecimal.
    """
    manifest = draft({"runs": runs})
    for modality in layout.modalities:
        one = facts[modality]
        for array, listed in ((modality, one.vectors), (status_name(modality), one.status)):
            add_whole(manifest, f"{array}_sha256", listed.sha256, (*SHARDS, BYTE))
            add_whole(manifest, f"{array}_bytes", listed.size_bytes, SHARDS)
        add_whole(manifest, f"{modality}_valid_cells", one.valid_cells, SHARDS)
        add_whole(manifest, task_name(modality), one.tasks, (*SHARDS, BYTE))
        number = (run_of or {}).get(modality, np.zeros(layout.shards(grid), np.int32))
        add_whole(manifest, run_name(modality), number, SHARDS)
    if layout.covariates:
        listed = _covariates(group, layout.shards(grid))
        add_whole(manifest, f"{COVARIATES}_sha256", listed.sha256, (*SHARDS, BYTE))
        add_whole(manifest, f"{COVARIATES}_bytes", listed.size_bytes, SHARDS)
    bounds = shard_bounds(grid, layout.shard)
    add_whole(manifest, BOUNDS, bounds, (*SHARDS, "edge"))
    add_whole(manifest, ARRAY, attributes_to_bytes(held), (ATTRIBUTE_BYTE,))
    _add_objects(manifest, group, layout, made)
    return manifest_digest(replace_group(group.store, GROUP, manifest))


def _covariates(group: zarr.Group, shards: tuple[int, int]) -> ArrayManifest:
    """What is stored of the plain numbers beside the vectors."""
    listed = ArrayManifest.empty(shards)
    for row, col in stored_shards(group.store, COVARIATES):
        sha256, listed.size_bytes[row, col] = _read(group, shard_key(COVARIATES, row, col, 3))
        listed.sha256[row, col] = np.frombuffer(bytes.fromhex(sha256), np.uint8)
    return listed


def run_entry(own: Mapping[str, Any]) -> dict[str, Any]:
    """A run as the manifest names it: the same inputs and code have the same id.

    `code_sha256` is empty where the run did not say it.

    Args:
        own: the root's `unigeo` attribute.
    """
    parts = {key: own[key] for key in ("region", "grid", "layout", "observations", "seed")}
    parts |= {"model": own["model"]["sha256"], "code_version": own["code_version"]}
    if "code_sha256" in own:
        parts["code_sha256"] = own["code_sha256"]
    text = json.dumps(parts, sort_keys=True).encode()
    return {
        "id": hashlib.sha256(text).hexdigest()[:16],
        "release": own.get("release", "1"),
        "code_version": own["code_version"],
        "code_sha256": own.get("code_sha256", ""),
        "model_sha256": own["model"]["sha256"],
        "settings_sha256": _digest(own["model"]["settings"]),
        "observations": str(own["observations"].get("name", "not stated")),
        "observations_sha256": _digest(own["observations"]),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _add_objects(manifest: zarr.Group, group: zarr.Group, layout: Layout, made: Objects) -> None:
    """List everything but the field's own shards, the root and the manifest itself."""
    keys = sorted(_others(group, layout))
    hashes, sizes = np.zeros((len(keys), 32), np.uint8), np.zeros(len(keys), np.int64)
    for number, key in enumerate(keys):
        sha256, sizes[number] = made.get(key) or _read(group, key)
        hashes[number] = np.frombuffer(bytes.fromhex(sha256), np.uint8)
    add_whole(manifest, f"{OBJECTS}_keys", texts_to_bytes(keys), (KEY_BYTE,))
    add_whole(manifest, f"{OBJECTS}_sha256", hashes, ("object", BYTE))
    add_whole(manifest, f"{OBJECTS}_bytes", sizes, ("object",))


def _read(group: zarr.Group, key: str) -> tuple[str, int]:
    body = need_object(group.store, key)
    return digest(body).hex(), len(body)


def _others(group: zarr.Group, layout: Layout) -> Iterator[str]:
    own = {*layout.modalities, *map(status_name, layout.modalities)}
    own |= {COVARIATES} if layout.covariates else set()
    stored = [key for key in list_objects(group.store) if not key.startswith(f"{GROUP}/")]
    known = set(stored)
    for key in stored:
        path, _, name = key.rpartition("/")
        if name != "zarr.json" or not path:
            continue
        yield key
        node = json.loads(need_object(group.store, key))
        if node["node_type"] == "array" and path not in own:
            side = node["chunk_grid"]["configuration"]["chunk_shape"]
            counts = [math.ceil(n / c) for n, c in zip(node["shape"], side, strict=True)]
            for place in np.ndindex(*counts):
                chunk = "/".join([path, "c", *map(str, place)])
                if chunk in known:
                    yield chunk
