"""Groups built in memory and then written, every object once and with its final content.

An object store may still execute a request that its client has given up and repeated. If the second
request had other content, or removed the object, the late first one would undo it.
"""

from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from unigeo.producer.storage.object_io import delete, put
from unigeo.producer.storage.objects import list_objects


def new_group(attributes: dict[str, Any] | None = None) -> zarr.Group:
    """Create an empty group in memory."""
    return zarr.create_group(MemoryStore(), zarr_format=3, attributes=attributes)


def add_array(
    group: zarr.Group,
    name: str,
    values: np.ndarray,
    dimension_names: tuple[str, ...],
    attributes: dict[str, Any] | None = None,
    fill_value: float | str = 0,
) -> None:
    """Add a small array as one chunk; an array without elements is left out."""
    if not values.size:
        return
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=values.shape or "auto",
        compressors=None,
        filters=None,
        fill_value=fill_value,
        config={"write_empty_chunks": True},
        dimension_names=dimension_names,
        attributes=attributes,
    )
    array[...] = values


def objects_of(group: zarr.Group) -> dict[str, bytes]:
    """Return the objects of a group in memory by key, sorted."""

    async def contents() -> dict[str, bytes]:
        prototype = default_buffer_prototype()
        objects = {}
        async for key in group.store.list():
            body = await group.store.get(key, prototype)
            assert body is not None
            objects[key] = body.to_bytes()
        return objects

    return dict(sorted(sync(contents()).items()))


def write_group(
    store: Any, path: str, group: zarr.Group, *, as_group: bool = True
) -> dict[str, bytes]:
    """Write a group at a path, over objects of the same keys; other objects stay.

    Args:
        store: store to write to.
        path: path of the group in it.
        group: group in memory.
        as_group: write the group's own metadata too; without them it is no group to readers yet.

    Returns:
        The objects that were written, by key.

    Raises:
        OSError, obstore.exceptions.BaseError: if the store cannot be written.
    """
    objects = {f"{path}/{key}": body for key, body in objects_of(group).items()}
    if not as_group:
        del objects[f"{path}/zarr.json"]
    for key, body in objects.items():
        put(store, key, body)
    return objects


def replace_group(store: Any, path: str, group: zarr.Group) -> dict[str, bytes]:
    """Write a group at a path, and remove every other object there.

    Returns:
        The objects that were written, by key.
    """
    objects = write_group(store, path, group)
    for key in list_objects(store, f"{path}/"):
        if key not in objects:
            delete(store, key)
    return objects
