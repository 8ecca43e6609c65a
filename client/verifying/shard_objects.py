"""Checks shards: each object against the manifest, each chunk against its CRC."""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from unigeo.client.progress import progress_bar
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.io.limits import OBJECT_BYTES
from unigeo.schemas.io.store_errors import describe_error, is_denied, unreachable_errors
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.problems import Problem
from unigeo.schemas.store.sharding import EMPTY, crc_matches, parse_index
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    from zarr.abc.store import Store

Level = Literal["presence", "hash"]

IN_FLIGHT = 4
"""Objects held in memory at once; about 400 MB with the default shards of 48 MiB."""


@dataclass(frozen=True)
class ListedShard:
    """A shard of an array as the manifest lists it."""

    array: str
    row: int
    col: int
    key: str
    size_bytes: int
    sha256: bytes
    valid_cells: int | None
    """Number of valid cells in a shard of a status array; None for other arrays."""

    def __str__(self) -> str:
        return f"{self.array} shard ({self.row}, {self.col}), {self.key}"


@dataclass(frozen=True)
class ShardResult:
    """The result of checking one shard."""

    problems: list[Problem]
    chunks: int = 0
    size_bytes: int = 0


def _chunk_problems(content: bytes, layout: Layout) -> tuple[list[str], int]:
    """Check the index and the chunks of a shard of vectors or covariates.

    Args:
        content: the stored object.
        layout: the number of chunks in a shard.

    Returns:
        What is wrong, and the number of chunks that are stored.
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


async def check_shards(
    store: "Store", shards: list[ListedShard], layout: Layout, level: Level, progress: bool
) -> list[ShardResult]:
    """Check every shard, `IN_FLIGHT` at a time; the results are in the order of the shards."""
    gate = asyncio.Semaphore(IN_FLIGHT)
    # By hash, to name the shard whose object was stored under the wrong key.
    owners = {shard.sha256: shard for shard in shards if shard.size_bytes}
    with progress_bar("verify", len(shards), "objects", progress) as advance:

        async def check(shard: ListedShard) -> ShardResult:
            async with gate:
                try:
                    if level == "presence" or not shard.size_bytes:
                        size = await stored_size(store, shard.key)
                        result = ShardResult(_size_problems(shard, size))
                    else:
                        result = await _read(store, shard, layout, owners)
                except unreachable_errors() as error:
                    if is_denied(error) and not shard.size_bytes:  # it is not to exist
                        result = ShardResult([])
                    else:
                        text = f"{shard} cannot be read: {describe_error(error)}"
                        result = ShardResult([Problem(shard.key, text)])
            advance(1)
            return result

        return await asyncio.gather(*map(check, shards))


async def _read(
    store: "Store", shard: ListedShard, layout: Layout, owners: dict[bytes, ListedShard]
) -> ShardResult:
    from zarr.core.buffer import default_buffer_prototype

    size = await stored_size(store, shard.key)
    if size is None or size > OBJECT_BYTES:  # do not read an object that may exhaust memory
        return ShardResult(_size_problems(shard, size))
    body = await store.get(shard.key, default_buffer_prototype())
    if body is None:
        return ShardResult(_size_problems(shard, None))
    content = body.to_bytes()
    # Hashing takes seconds for a large shard, and would block the other requests.
    return await asyncio.to_thread(_check_content, shard, content, layout, owners)


def _check_content(
    shard: ListedShard, content: bytes, layout: Layout, owners: dict[bytes, ListedShard]
) -> ShardResult:
    """Check the bytes of one shard."""
    problems = _size_problems(shard, len(content))
    sha256 = hashlib.sha256(content).digest()
    if sha256 != shard.sha256:
        owner = owners.get(sha256)
        whose = "" if owner is None else f"; it is that of {owner}"
        text = f"{shard}: its SHA-256 is not the manifest's{whose}"
        problems.append(Problem(shard.key, text))
    if shard.valid_cells is not None:
        inside, chunks = _status_problems(content, layout, shard.valid_cells), 1
    else:
        inside, chunks = _chunk_problems(content, layout)
    problems += [Problem(shard.key, f"{shard}: {text}") for text in inside]
    return ShardResult(problems, chunks, len(content))


def _size_problems(shard: ListedShard, size_bytes: int | None) -> list[Problem]:
    """Compare a shard's stored size (None: no object) with the manifest's (0: no object)."""
    expected, text = shard.size_bytes, None
    if size_bytes is None:
        if expected:
            text = f"{shard} is missing; the manifest says {expected} bytes"
    elif not expected:
        text = f"{shard} is not in the manifest, which says that the shard is empty"
    elif size_bytes != expected:
        text = f"{shard} holds {size_bytes} bytes, the manifest says {expected}"
    return [] if text is None else [Problem(shard.key, text)]


def _status_problems(content: bytes, layout: Layout, valid_cells: int) -> list[str]:
    """Check the codes of a status shard, which is one chunk of one byte per cell."""
    if len(content) != layout.status_bytes:
        return []  # `_size_problems` reports that
    problems = []
    if layout.checked_status and not crc_matches(content):
        problems.append("the CRC-32C of chunk (0, 0) differs")
    codes = np.frombuffer(content, np.uint8, layout.shard**2)
    valid = int(np.count_nonzero(codes == Status.VALID))
    if valid != valid_cells:
        problems.append(f"{valid} cells have the status valid, the manifest says {valid_cells}")
    return problems


async def stored_size(store: "Store", key: str) -> int | None:
    """Return the bytes of an object; None if it does not exist."""
    try:
        return await store.getsize(key)
    except FileNotFoundError:
        return None
