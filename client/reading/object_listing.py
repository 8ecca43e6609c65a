"""What a published store says of its own objects: which there are, and how large each is.

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
_WHOLE = (GROUP, ENCODER, CONCEPTS)
"""Groups whose writer leaves out no chunk, so that a missing one is a loss."""


@dataclass(frozen=True)
class ArrayNode:
    """How the objects of one array look, as far as its metadata tell."""

    grid: tuple[int, ...]
    """Objects along each axis."""
    object_bytes: int | None
    """Of every object, where they are not compressed and of one chunk each."""
    index_chunks: tuple[int, int] | None
    """Rows and columns of chunks in a shard that ends in an index with its CRC-32C."""
    whole: bool
    """Whether every object must be there."""


class Listing:
    """The objects of a store that is published, by its root's metadata and its manifest."""

    def __init__(self, store: "Store") -> None:
        """Take the store, whose root is read when it is needed, if `opened` does not give it."""
        self._store, self._root = store, cast(Any, None)
        self._nodes: dict[str, ArrayNode | None] = {}
        self._values: dict[str, Any] = {}
        self._tasks: dict[tuple[Any, str], asyncio.Task[Any]] = {}

    def opened(self, root: Any) -> None:
        """Take the root's metadata, as Zarr read them first."""
        self._root = self._root or root

    async def node(self, key: str) -> ArrayNode | None:
        """The array that an object belongs to; None if it is metadata, or of no known array."""
        path = path_of(key)
        if path is None:
            return None
        if path not in self._nodes:
            self._nodes[path] = _node(path, (await self.metadata()).get(path))
        return self._nodes[path]

    async def metadata(self) -> Mapping[str, Any]:
        """Metadata of every group and array below the root, by path."""
        nodes: Mapping[str, Any] = (await self._opened()).consolidated_metadata.flattened_metadata
        return nodes

    async def attributes(self) -> dict[str, Any]:
        """The root's, as they were when it was opened."""
        return dict((await self._opened()).attributes)

    async def _opened(self) -> Any:
        if self._root is None:
            from zarr.api.asynchronous import open_group

            opened = await open_group(
                store=self._store, mode="r", zarr_format=3, use_consolidated=True
            )
            self._root = opened.metadata
        return self._root

    async def size(self, key: str) -> int | None:
        """Bytes that an object should have, 0 where none should be; None if nothing says it.

        Raises:
            StoreError: if the manifest cannot be read.
        """
        path, node = path_of(key), await self.node(key)
        if path is None or node is None:
            return None
        if node.whole:
            return node.object_bytes or 1
        sizes = await self.sizes(path)
        place = tuple(int(part) for part in key.removeprefix(f"{path}/c/").split("/"))
        if sizes is not None and len(place) >= 2 and not any(place[2:]):
            inside = place[0] < sizes.shape[0] and place[1] < sizes.shape[1]
            return int(sizes[place[:2]]) if inside else 0
        objects = await self._objects()
        return None if objects is None else objects.get(key, (0, b""))[0]

    async def sizes(self, path: str) -> Sizes | None:
        """Bytes of the objects of an array of cells, on its grid; None if they are not listed."""
        node = await self.node(f"{path}/c")
        if node is None or len(node.grid) < 2:
            return None
        found: Sizes | None = await self._once(path, lambda: self._read_sizes(path, node))
        return found

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
        """An object's SHA-256 by the manifest that the root names; None if nothing says it."""
        path = path_of(key)
        if path is None or not await self._once("manifest", self._is_the_root_s):
            return None
        if f"{GROUP}/{path}_sha256" in await self.metadata():
            listed = await self._array(f"{path}_sha256")
            place = tuple(int(part) for part in key.removeprefix(f"{path}/c/").split("/"))[:2]
            return bytes(listed[place].tobytes())
        objects = await self._objects()
        return None if objects is None else objects.get(key, (0, None))[1]

    async def _is_the_root_s(self) -> bool:
        """Whether the manifest has the digest that the root holds."""
        own = (await self.attributes()).get("unigeo")
        digest = own.get("manifest_sha256") if isinstance(own, dict) else None
        keys = await self.manifest_objects()
        bodies = [await self._content(key) for key in keys] if digest else []
        return bool(digest) and digest == manifest_digest(
            {key: body or b"" for key, body in zip(keys, bodies, strict=True)}
        )

    async def manifest_objects(self) -> list[str]:
        """Keys of the objects that the manifest itself is stored in."""
        return list(
            manifest_keys(
                {path: tuple(node.shape) for path, node in (await self.metadata()).items()
                 if path.startswith(f"{GROUP}/") and hasattr(node, "shape")}
            )
        )  # fmt: skip

    async def _objects(self) -> dict[str, tuple[int, bytes]] | None:
        """Size and SHA-256 of every object beside the field's own shards."""
        found: dict[str, tuple[int, bytes]] | None = await self._once(OBJECTS, self._read_objects)
        return found

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
        """An array of the manifest."""
        read: np.ndarray = await self._once(f"{GROUP}/{name}", lambda: self._read_array(name))
        return read

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
        if expected is None:  # cut or compressed by another writer
            return np.asarray(await array.getitem(...))
        body = await self._content(key)
        if body is None:
            raise lost(key)
        if len(body) != expected:
            raise short(key, len(body), expected)
        return np.frombuffer(body, array.dtype.newbyteorder("<")).reshape(metadata.shape)

    async def _content(self, key: str) -> bytes | None:
        body = await Requests(self._store).one(Span(key))
        return None if body is None else body.tobytes()

    async def _once(self, name: str, read: Callable[[], Awaitable[Any]]) -> Any:
        """A value, read by the first who asks for it while others wait."""
        if name not in self._values:
            place = (asyncio.get_running_loop(), name)
            if place not in self._tasks:
                self._tasks[place] = asyncio.ensure_future(read())
            task = self._tasks[place]
            try:
                self._values[name] = await asyncio.shield(task)
            finally:
                if task.done():
                    self._tasks.pop(place, None)
        return self._values[name]


def path_of(key: str) -> str | None:
    """The array that an object is of; None where the key is none of an array's object.

    >>> path_of("aerial/c/0/1/0"), path_of("spatial_ref/c"), path_of("aerial/zarr.json")
    ('aerial', 'spatial_ref', None)
    """
    if key.endswith("/c"):
        return key.removesuffix("/c")
    path, found, place = key.rpartition("/c/")
    return path if found and all(part.isdecimal() for part in place.split("/")) else None


def _node(path: str, metadata: Any) -> ArrayNode | None:
    """What an array's metadata say of its objects."""
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
        inside = codecs[0]["configuration"]
        coded = [codec["name"] for codec in inside["index_codecs"]]
        if inside.get("index_location", "end") == "end" and coded == ["bytes", "crc32c"]:
            along = [a // b for a, b in zip(chunk, inside["chunk_shape"], strict=True)]
            index = (along[0], along[1]) if all(n == 1 for n in along[2:]) else None
    return ArrayNode(
        grid=tuple(-(-n // c) for n, c in zip(metadata.shape, chunk, strict=True)),
        object_bytes=plain,
        index_chunks=index,
        whole=is_coordinate(path) or path.split("/")[0] in _WHOLE,
    )


def lost(key: str) -> DamagedError:
    """The error of an object that should be there and is not."""
    return DamagedError(
        f"{key} is not there, and the store's manifest or index says it is: the store has lost a "
        "shard, or does not let it be read. Copy the store anew."
    )


def short(key: str, size_bytes: int, expected: int) -> DamagedError:
    """The error of an object that is cut off, or replaced by another."""
    return DamagedError(
        f"{key} holds {size_bytes:,} bytes where {expected:,} belong: it is cut off, or another "
        "object. Copy it anew."
    )


def damaged(key: str, error: UnigeoError) -> DamagedError:
    """An error of an object's bytes with its name."""
    return DamagedError(f"cannot read {key}: {error}")
