"""Make a finished store a product: manifest, encoder, then the root's metadata, last."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from unigeo.producer.raster.planning import plan, stored_shards
from unigeo.schemas.attributes import read_attributes
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.layout import Layout, status_name
from unigeo.schemas.manifest import GROUP, ArrayManifest, shard_key
from unigeo.schemas.status import Status
from unigeo.schemas.stores import unreachable_errors
from unigeo.schemas.validation import field_problems


def publish(
    group: zarr.Group,
    *,
    encoder: Mapping[str, np.ndarray] | None = None,
    encoder_settings: Mapping[str, Any] | None = None,
) -> zarr.Group:
    """Write the manifest and the encoder group, then consolidated metadata, state `published`.

    Args:
        group: the root of a store whose every shard is written.
        encoder: the coordinate encoder's weights, so that a reader can evaluate it off the grid.
        encoder_settings: what is needed to rebuild it.

    Returns:
        The published root.

    Raises:
        StoreError: if shards are missing, or the store cannot be written.
        LayoutError: if the store does not keep the layout.
    """
    attributes = dict(group.attrs)
    own = read_attributes(attributes, str(group.store))
    grid, layout = own.grid.grid(), own.layout.layout()
    left = plan(group, grid, layout)
    if left:
        raise StoreError(f"{len(left)} shards are not written yet, the first: {left[0]}")
    problems = field_problems(group)
    if problems:
        raise LayoutError("the store does not keep the layout: " + "; ".join(problems))
    try:
        _write_manifest(group, layout, layout.shards(grid))
        if encoder is not None:
            _write_encoder(group, encoder, encoder_settings or {})
        published = own.model_copy(update={"state": "published"}).model_dump(mode="json")
        return _write_root(group, {**attributes, "unigeo": published})
    except unreachable_errors() as error:
        raise StoreError(f"cannot publish the store: {error}") from error


def _write_manifest(group: zarr.Group, layout: Layout, shards: tuple[int, int]) -> None:
    manifest = _make_group(group, GROUP, {})
    for modality in layout.modalities:
        for array, dimensions in ((modality, 3), (status_name(modality), 2)):
            listed = _hash_shards(group.store, array, dimensions, shards)
            _put(manifest, f"{array}_sha256", listed.sha256, ("shard_row", "shard_col", "byte"))
            _put(manifest, f"{array}_bytes", listed.size_bytes, ("shard_row", "shard_col"))
        status = group[status_name(modality)]
        valid = np.zeros(shards, np.int64)
        for row, col in np.ndindex(*shards):
            window = np.s_[
                row * layout.shard : (row + 1) * layout.shard,
                col * layout.shard : (col + 1) * layout.shard,
            ]
            valid[row, col] = np.count_nonzero(status[window] == Status.VALID)  # type: ignore[index]
        _put(manifest, f"{modality}_valid_cells", valid, ("shard_row", "shard_col"))


def _hash_shards(store: Any, array: str, dimensions: int, shards: tuple[int, int]) -> ArrayManifest:
    """Read every stored object of an array back and hash what is really there."""
    manifest = ArrayManifest.empty(shards)
    prototype = default_buffer_prototype()
    for row, col in sorted(stored_shards(store, array)):
        body = sync(store.get(shard_key(array, row, col, dimensions), prototype))
        if body is None:
            raise StoreError(f"shard ({row}, {col}) of {array} vanished while it was hashed")
        content = body.to_bytes()
        manifest.sha256[row, col] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        manifest.size_bytes[row, col] = len(content)
    return manifest


def _write_encoder(
    group: zarr.Group, weights: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> None:
    encoder = _make_group(group, "encoder", {"settings": dict(settings)})
    for name in sorted(weights):
        values = np.asarray(weights[name])
        _put(encoder, name, values, tuple(f"axis{i}" for i in range(values.ndim)))


def _make_group(parent: zarr.Group, name: str, attributes: dict[str, Any]) -> zarr.Group:
    """A subgroup without the arrays an earlier, interrupted publication left in it."""
    if name in parent:
        del parent[name]
    return parent.create_group(name, attributes=attributes)


def _put(
    group: zarr.Group, name: str, values: np.ndarray, dimension_names: tuple[str, ...]
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        # An encoder without registers has an array of no rows, and zarr no chunk of no length.
        chunks=tuple(max(1, side) for side in values.shape) or "auto",
        compressors=None,
        filters=None,
        fill_value=0,
        config={"write_empty_chunks": True},
        dimension_names=dimension_names,
    )
    array[...] = values


def _write_root(group: zarr.Group, attributes: dict[str, Any]) -> zarr.Group:
    """One write of the root's metadata: attributes and everything below, consolidated."""
    store = group.store
    nodes = {}

    async def keys() -> list[str]:
        return sorted([key async for key in store.list() if key.endswith("/zarr.json")])

    for key in sync(keys()):
        nodes[key.removesuffix("/zarr.json")] = json.loads(_get(store, key))
    document = {
        "attributes": attributes,
        "zarr_format": 3,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": nodes},
        "node_type": "group",
    }
    content = json.dumps(document, indent=2).encode()
    buffer = default_buffer_prototype().buffer.from_bytes(content)
    sync(store.set("zarr.json", buffer))
    return zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=True)


def _get(store: Any, key: str) -> bytes:
    body = sync(store.get(key, default_buffer_prototype()))
    if body is None:
        raise StoreError(f"{key} vanished while the metadata were consolidated")
    content: bytes = body.to_bytes()
    return content
