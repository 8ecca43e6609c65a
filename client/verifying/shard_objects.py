"""Whether shards are whole: each object against the manifest, each chunk against its CRC."""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from unigeo.client.progress import progress_bar
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.io.limits import OBJECT_BYTES
from unigeo.schemas.io.stores import unreachable_errors
from unigeo.schemas.store.layout import COVARIATES, Layout
from unigeo.schemas.store.sharding import EMPTY, crc_matches, parse_index
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    from zarr.abc.store import Store

Level = Literal["presence", "hash"]

IN_FLIGHT = 4
"""Objects held at once; with the default shard of 48 MiB that bounds the memory to some 400 MB."""


@dataclass(frozen=True)
class ListedShard:
    """One stored object, and what the manifest says of it."""

    array: str
    row: int
    col: int
    key: str
    size_bytes: int
    sha256: bytes
    valid_cells: int | None
    """Of a status array's shard; None of others."""

    def __str__(self) -> str:
        return f"{self.array} shard ({self.row}, {self.col}), {self.key}"


@dataclass(frozen=True)
class ObjectState:
    """What one object was found to be."""

    problems: list[str]
    chunks: int = 0
    size_bytes: int = 0


def shard_problems(content: bytes, layout: Layout) -> tuple[list[str], int]:
    """What is wrong inside the shard of a vector array, and how many chunks it holds.

    Args:
        content: the whole stored object.
        layout: how shards are cut into chunks.
    """
    side = layout.shard // layout.chunk
    try:
        index = parse_index(content, (side, side), len(content))
    except LayoutError as error:
        return [str(error)], 0
    problems = []
    stored = np.argwhere(index[..., 0] != EMPTY).tolist()
    for row, col in stored:
        offset, size = index[row, col].tolist()
        if not crc_matches(content[offset : offset + size]):
            problems.append(
                f"the CRC-32C of chunk ({row}, {col}) differs: {size} bytes at {offset}"
            )
    return problems, len(stored)


async def look_at_shards(
    store: "Store", shards: list[ListedShard], layout: Layout, level: Level, progress: bool
) -> list[ObjectState]:
    """Look at every object, `IN_FLIGHT` at a time; the answers in the shards' order."""
    gate = asyncio.Semaphore(IN_FLIGHT)
    owners = {shard.sha256: shard for shard in shards if shard.size_bytes}
    with progress_bar("verify", len(shards), "objects", progress) as push:

        async def look(shard: ListedShard) -> ObjectState:
            async with gate:
                try:
                    if level == "presence" or not shard.size_bytes:
                        found = ObjectState(
                            _size_problems(shard, await stored_size(store, shard.key))
                        )
                    else:
                        found = await _read(store, shard, layout, owners)
                except unreachable_errors() as error:
                    found = ObjectState([f"{shard} cannot be read: {error}"])
            push(1)
            return found

        return await asyncio.gather(*map(look, shards))


async def _read(
    store: "Store", shard: ListedShard, layout: Layout, owners: dict[bytes, ListedShard]
) -> ObjectState:
    from zarr.core.buffer import default_buffer_prototype

    size = await stored_size(store, shard.key)
    if size is None or size > OBJECT_BYTES:  # one that is too large is not read
        return ObjectState(_size_problems(shard, size))
    body = await store.get(shard.key, default_buffer_prototype())
    if body is None:
        return ObjectState(_size_problems(shard, None))
    content = body.to_bytes()
    return await asyncio.to_thread(_check, shard, content, layout, owners)


def _check(
    shard: ListedShard, content: bytes, layout: Layout, owners: dict[bytes, ListedShard]
) -> ObjectState:
    """Everything that the bytes of one object can be asked."""
    problems = _size_problems(shard, len(content))
    sha256 = hashlib.sha256(content).digest()
    if sha256 != shard.sha256:
        owner = owners.get(sha256)
        whose = "" if owner is None else f"; it is that of {owner}"
        problems.append(f"{shard}: its SHA-256 is not the manifest's{whose}")
    if shard.valid_cells is not None:
        inside, chunks = _status_problems(content, layout, shard.valid_cells), 1
    elif shard.array == COVARIATES:
        inside, chunks = [], 1
    else:
        inside, chunks = shard_problems(content, layout)
    problems += [f"{shard}: {problem}" for problem in inside]
    return ObjectState(problems, chunks, len(content))


def _size_problems(shard: ListedShard, size_bytes: int | None) -> list[str]:
    if size_bytes is None:
        missing = f"{shard} is missing; the manifest says {shard.size_bytes} bytes"
        return [missing] if shard.size_bytes else []
    if not shard.size_bytes:
        return [f"{shard} is not in the manifest, which says that the shard is empty"]
    if size_bytes != shard.size_bytes:
        return [f"{shard} holds {size_bytes} bytes, the manifest says {shard.size_bytes}"]
    return []


def _status_problems(content: bytes, layout: Layout, valid_cells: int) -> list[str]:
    """What is wrong inside a status shard, which is one chunk of one byte per cell."""
    if len(content) != layout.status_bytes:
        return []  # told by its size
    problems = []
    if layout.checked_status and not crc_matches(content):
        problems.append("the CRC-32C of chunk (0, 0) differs")
    codes = np.frombuffer(content, np.uint8, layout.shard**2)
    valid = int(np.count_nonzero(codes == Status.VALID))
    if valid != valid_cells:
        problems.append(f"{valid} cells have the status valid, the manifest says {valid_cells}")
    return problems


async def stored_size(store: "Store", key: str) -> int | None:
    """Bytes of an object; None if it is not there."""
    try:
        return await store.getsize(key)
    except FileNotFoundError:
        return None
