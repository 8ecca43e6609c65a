"""Stored objects as bytes: read whole, written whole, hashed."""

import hashlib
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from unigeo.schemas.errors import StoreError


def read_object(store: Any, key: str) -> bytes | None:
    """The bytes of an object; None if it is not there."""
    body = sync(store.get(key, default_buffer_prototype()))
    return None if body is None else bytes(body.to_bytes())


def need_object(store: Any, key: str) -> bytes:
    """The bytes of an object that was there a moment ago.

    Raises:
        StoreError: if it is gone.
    """
    content = read_object(store, key)
    if content is None:
        raise StoreError(f"{key} vanished while the store was published; run the command again")
    return content


def write_object(store: Any, key: str, content: bytes) -> None:
    """Write an object in one go."""
    sync(store.set(key, default_buffer_prototype().buffer.from_bytes(content)))


def delete_objects(store: Any, prefix: str) -> None:
    """Remove every object below a prefix."""
    sync(store.delete_dir(prefix))


def list_objects(store: Any, prefix: str = "") -> list[str]:
    """Keys of every object below a prefix, sorted."""

    async def listed() -> list[str]:
        return sorted([key async for key in store.list_prefix(prefix)])

    return list(sync(listed()))


def object_size(store: Any, key: str) -> int:
    """Bytes of an object."""
    return int(sync(store.getsize(key)))


def digest(content: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(content).digest()


def decode_object(array: "zarr.Array[Any]", key: str, content: bytes, window: Any) -> np.ndarray:
    """The cells of one stored object, without reading it again.

    Args:
        array: of which it is part.
        key: of the object, below the array's path.
        content: its bytes.
        window: the cells that it holds.
    """
    buffer = default_buffer_prototype().buffer
    metadata = array.metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"]
    alone = MemoryStore({"zarr.json": metadata, key: buffer.from_bytes(content)})
    return np.asarray(zarr.open_array(alone, mode="r", zarr_format=3)[window])
