"""The objects of a published store and their sizes, by the store's own metadata.

The root repeats the metadata of every array, from which the size of an uncompressed object follows;
the manifest lists the rest. It is read once, and only when an object is not found.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Int

from unigeo.client.reading.range_requests import Requests, Span
from unigeo.schemas.errors import DamagedError, UnigeoError
from unigeo.schemas.io.limits import check_memory
from unigeo.schemas.store.concepts import GROUP as CONCEPTS
from unigeo.schemas.store.encoder import GROUP as ENCODER
from unigeo.schemas.store.layout import is_coordinate
from unigeo.schemas.store.manifest import GROUP, OBJECTS, manifest_digest, manifest_keys
from unigeo.schemas.store.sharding import CRC_BYTES
from unigeo.schemas.store.text_arrays import texts_of_bytes

if TYPE_CHECKING:
    from zarr.abc.store import Store

Sizes = Int[np.ndarray, "object_row object_col"]
"""Bytes of each stored object by the manifest; 0 where there is none."""
_COMPLETE_GROUPS = (GROUP, ENCODER, CONCEPTS)
"""Groups whose writer leaves out no chunk, so that a missing one is lost."""


@dataclass(frozen=True)
class ArrayNode:
    """The objects of one array, by its metadata."""

    grid: tuple[int, ...]
    """Objects along each axis."""
    object_bytes: int | None
    """Bytes of every object, if each is one chunk that is not compressed; else None."""
    index_chunks: tuple[int, int] | None
    """Rows and columns of chunks in a shard that ends with an index and its CRC-32C; else None."""
    complete: bool
    """Whether every object must exist."""


class Listing:
    """The objects of a published store, by its root's metadata and its manifest."""

    def __init__(self, store: "Store") -> None:
        """Take the store; its root is read when it is needed, unless `set_root` was called."""
        self._store, self._root = store, cast(Any, None)
        self._nodes: dict[str, ArrayNode | None] = {}
        self._values: dict[str, Any] = {}
        self._tasks: dict[tuple[Any, str], asyncio.Task[Any]] = {}

    def set_root(self, root: Any) -> None:
        """Take the root's metadata as Zarr read them; the first call counts."""
        self._root = self._root or root

    async def node(self, key: str) -> ArrayNode | None:
        """Return the array of an object; None if the object is metadata, or of no known array."""
        path = array_path(key)
        if path is None:
            return None
        if path not in self._nodes:
            self._nodes[path] = _node(path, (await self.metadata()).get(path))
        return self._nodes[path]

    async def metadata(self) -> Mapping[str, Any]:
        """Return the metadata of every group and array below the root, by path."""
        nodes: Mapping[str, Any] = (
            await self._root_metadata()
        ).consolidated_metadata.flattened_metadata
        return nodes

    async def attributes(self) -> dict[str, Any]:
        """Return the root's attributes as they were when it was opened."""
        return dict((await self._root_metadata()).attributes)

    async def _root_metadata(self) -> Any:
        if self._root is None:
            from zarr.api.asynchronous import open_group

            group = await open_group(
                store=self._store, mode="r", zarr_format=3, use_consolidated=True
            )
            self._root = group.metadata
        return self._root

    async def size(self, key: str) -> int | None:
        """Return the bytes that an object should have: 0 if it should not exist, None if unknown.

        Raises:
            StoreError: if the manifest cannot be read.
        """
        path, node = array_path(key), await self.node(key)
        if path is None or node is None:
            return None
        if node.complete:
            return node.object_bytes or 1  # compressed: at least it exists
        sizes = await self.sizes(path)
        indices = tuple(int(part) for part in key.removeprefix(f"{path}/c/").split("/"))
        if sizes is not None and len(indices) >= 2 and not any(indices[2:]):
            inside = indices[0] < sizes.shape[0] and indices[1] < sizes.shape[1]
            return int(sizes[indices[:2]]) if inside else 0
        objects = await self._objects()
        return None if objects is None else objects.get(key, (0, b""))[0]

    async def sizes(self, path: str) -> Sizes | None:
        """Return the bytes of each object of an array of cells; None if they are not listed."""
        node = await self.node(f"{path}/c")
        if node is None or len(node.grid) < 2:
            return None
        sizes: Sizes | None = await self._once(path, lambda: self._read_sizes(path, node))
        return sizes

    async def _read_sizes(self, path: str, node: ArrayNode) -> Sizes | None:
        if f"{GROUP}/{path}_bytes" in await self.metadata():
            listed = await self._array(f"{path}_bytes")
            return listed if listed.shape == node.grid[:2] else None
        objects = await self._objects()
        if objects is None or any(side > 1 for side in node.grid[2:]):
            return None
        sizes = np.zeros(node.grid[:2], np.int64)
        for row, col in np.ndindex(*node.grid[:2]):
            key = "/".join([path, "c", str(row), str(col), *["0"] * (len(node.grid) - 2)])
            sizes[row, col] = objects.get(key, (0, b""))[0]
        return sizes

    async def sha256(self, key: str) -> bytes | None:
        """Return an object's SHA-256; None if unknown, or the manifest is not the root's."""
        path = array_path(key)
        if path is None or not await self._once("manifest", self._manifest_matches_root):
            return None
        if f"{GROUP}/{path}_sha256" in await self.metadata():
            listed = await self._array(f"{path}_sha256")
            indices = tuple(int(part) for part in key.removeprefix(f"{path}/c/").split("/"))
            return bytes(listed[indices[:2]].tobytes())
        objects = await self._objects()
        return None if objects is None else objects.get(key, (0, None))[1]

    async def _manifest_matches_root(self) -> bool:
        """Return whether the manifest has the digest that the root holds."""
        attributes = (await self.attributes()).get("unigeo")
        digest = attributes.get("manifest_sha256") if isinstance(attributes, dict) else None
        keys = await self.manifest_objects()
        bodies = await asyncio.gather(*map(self._content, keys)) if digest else []
        return bool(digest) and digest == manifest_digest(
            {key: body or b"" for key, body in zip(keys, bodies, strict=True)}
        )

    async def manifest_objects(self) -> list[str]:
        """Return the keys of the objects that hold the manifest itself."""
        return list(
            manifest_keys(
                {path: tuple(node.shape) for path, node in (await self.metadata()).items()
                 if path.startswith(f"{GROUP}/") and hasattr(node, "shape")}
            )
        )  # fmt: skip

    async def _objects(self) -> dict[str, tuple[int, bytes]] | None:
        """Return the size and SHA-256 of every object that is no shard of the field, by key."""
        objects: dict[str, tuple[int, bytes]] | None = await self._once(OBJECTS, self._read_objects)
        return objects

    async def _read_objects(self) -> dict[str, tuple[int, bytes]] | None:
        names = [f"{OBJECTS}_{part}" for part in ("keys", "bytes", "sha256")]
        known = await self.metadata()
        if not all(f"{GROUP}/{name}" in known for name in names):
            return None
        keys, sizes, hashes = [await self._array(name) for name in names]
        texts = texts_of_bytes(keys, f"{GROUP}/{names[0]}")
        if sizes.shape != (len(texts),) or hashes.shape != (len(texts), 32):
            raise DamagedError(
                f"{GROUP}/{names[0]} lists {len(texts)} objects, and {names[1]} {len(sizes)}: the "
                "manifest is damaged. Copy the store anew"
            )
        return {
            key: (int(size), sha256.tobytes())
            for key, size, sha256 in zip(texts, sizes, hashes, strict=True)
        }

    async def _array(self, name: str) -> np.ndarray:
        """Return an array of the manifest."""
        values: np.ndarray = await self._once(f"{GROUP}/{name}", lambda: self._read_array(name))
        return values

    async def _read_array(self, name: str) -> np.ndarray:
        from zarr import Array
        from zarr.core.array import AsyncArray
        from zarr.storage import StorePath

        path = f"{GROUP}/{name}"
        metadata = (await self.metadata())[path]
        array = AsyncArray(metadata=metadata, store_path=StorePath(self._store, path))
        check_memory(Array(array), path)
        key = f"{path}/{metadata.encode_chunk_key((0,) * len(metadata.shape))}"
        node = await self.node(key)
        expected = None if node is None or any(n > 1 for n in node.grid) else node.object_bytes
        if expected is None:  # chunked or compressed by another writer
            return np.asarray(await array.getitem(...))
        # Zarr reads zeros where the object is missing, and would hide the loss.
        body = await self._content(key)
        if body is None:
            raise lost_error(key)
        if len(body) != expected:
            raise size_error(key, len(body), expected)
        return np.frombuffer(body, array.dtype.newbyteorder("<")).reshape(metadata.shape)

    async def _content(self, key: str) -> bytes | None:
        body = await Requests(self._store).request(Span(key))
        return None if body is None else body.tobytes()

    async def _once(self, name: str, read: Callable[[], Awaitable[Any]]) -> Any:
        """Return a value that the first caller reads, while the others await the same task."""
        if name not in self._values:
            # A task belongs to one event loop, and Zarr's is not the only one: key by both.
            task_key = (asyncio.get_running_loop(), name)
            if task_key not in self._tasks:
                self._tasks[task_key] = asyncio.ensure_future(read())
            task = self._tasks[task_key]
            try:
                # Shielded, since a caller that is cancelled must not cancel it for the others.
                self._values[name] = await asyncio.shield(task)
            finally:
                if task.done():
                    self._tasks.pop(task_key, None)
        return self._values[name]


def array_path(key: str) -> str | None:
    """Return the path of the array that an object belongs to; None if it is no array's object.

    >>> array_path("aerial/c/0/1/0"), array_path("spatial_ref/c"), array_path("aerial/zarr.json")
    ('aerial', 'spatial_ref', None)
    """
    if key.endswith("/c"):
        return key.removesuffix("/c")
    path, separator, indices = key.rpartition("/c/")
    is_object = separator and all(part.isdecimal() for part in indices.split("/"))
    return path if is_object else None


def _node(path: str, metadata: Any) -> ArrayNode | None:
    """Read from an array's metadata how its objects are stored; None if it is a group."""
    if not hasattr(metadata, "codecs"):
        return None
    chunk = getattr(metadata.chunk_grid, "chunk_shape", None)
    if chunk is None:
        return None
    codecs = [codec.to_dict() for codec in metadata.codecs]
    names = [codec["name"] for codec in codecs]
    size = math.prod(chunk) * np.dtype(metadata.data_type.to_native_dtype()).itemsize
    plain = {("bytes",): size, ("bytes", "crc32c"): size + CRC_BYTES}.get(tuple(names))
    index = None
    if names == ["sharding_indexed"]:
        sharding = codecs[0]["configuration"]
        index_codecs = [codec["name"] for codec in sharding["index_codecs"]]
        at_end = sharding.get("index_location", "end") == "end"
        if at_end and index_codecs == ["bytes", "crc32c"]:
            counts = [a // b for a, b in zip(chunk, sharding["chunk_shape"], strict=True)]
            index = (counts[0], counts[1]) if all(n == 1 for n in counts[2:]) else None
    return ArrayNode(
        grid=tuple(-(-n // c) for n, c in zip(metadata.shape, chunk, strict=True)),
        object_bytes=plain,
        index_chunks=index,
        complete=is_coordinate(path) or path.split("/")[0] in _COMPLETE_GROUPS,
    )


def lost_error(key: str) -> DamagedError:
    """Return the error of an object that should exist and does not."""
    return DamagedError(
        f"{key} is not there, and the store's manifest or index says it is: the store has lost a "
        "shard, or does not let it be read. Copy the store anew."
    )


def size_error(key: str, size_bytes: int, expected: int) -> DamagedError:
    """Return the error of an object that is truncated, or replaced by another."""
    return DamagedError(
        f"{key} holds {size_bytes:,} bytes where {expected:,} belong: it is cut off, or another "
        "object. Copy it anew."
    )


def damaged_error(key: str, error: UnigeoError) -> DamagedError:
    """Return an error of an object's bytes that names the object."""
    return DamagedError(f"cannot read {key}: {error}")
