"""Whether a store is whole: each object against the manifest, each chunk against its CRC.

The manifest lists every object but the root's metadata, which holds the digest of the manifest. The
root itself is compared with the hash in the catalogue beside the store, where there is one: without
that a changed licence, say, goes unnoticed.
"""

import asyncio
import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unigeo.client.progress import progress_bar
from unigeo.client.verifying_others import (
    digest_problems,
    other_objects,
    other_problems,
    root_problems,
)
from unigeo.schemas.attributes import UnigeoAttributes, attribute_problems
from unigeo.schemas.concepts import GROUP as CONCEPTS
from unigeo.schemas.encoder import GROUP as ENCODER
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.layout import Layout, status_name
from unigeo.schemas.limits import OBJECT_BYTES, check_memory
from unigeo.schemas.manifest import GROUP as MANIFEST
from unigeo.schemas.manifest import ArrayManifest, shard_key
from unigeo.schemas.sharding import CRC_BYTES, EMPTY, crc_matches, parse_index
from unigeo.schemas.status import Status
from unigeo.schemas.stores import damage_errors, open_group, unreachable_errors
from unigeo.schemas.validation import field_problems

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

Nodes = dict[str, dict[str, Any]]
"""Metadata of every group and array below the root, by path, as the root repeats them."""
Level = Literal["presence", "hash"]

IN_FLIGHT = 4
"""Objects held at once; with the default shard of 48 MiB that bounds the memory to some 400 MB."""


@dataclass(frozen=True)
class Report:
    """What a verification found."""

    level: Level
    problems: tuple[str, ...]
    """One sentence each: which object, and what is wrong with it."""
    notes: tuple[str, ...]
    """What could not be checked, and why."""
    objects: int
    """Objects of the manifest that were looked at."""
    chunks: int
    """Chunks whose CRC was computed; none at the level `presence`."""
    size_bytes: int
    """Bytes read of these objects; none at the level `presence`."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        found = f"{len(self.problems)} problems" if self.problems else "no problem"
        read = f", {self.chunks:,} chunks, {self.size_bytes:,} bytes" if self.chunks else ""
        head = f"{self.objects:,} objects{read} checked ({self.level}): {found}"
        return "\n".join([*self.problems, *(f"Note: {note}" for note in self.notes), head])


@dataclass(frozen=True)
class _Shard:
    """One stored object, and what the manifest says of it."""

    array: str
    row: int
    col: int
    key: str
    size_bytes: int
    sha256: bytes
    valid_cells: int | None
    """Of a status array's shard; None for vectors."""

    def __str__(self) -> str:
        return f"{self.array} shard ({self.row}, {self.col}), {self.key}"


@dataclass(frozen=True)
class _Found:
    problems: list[str]
    chunks: int = 0
    size_bytes: int = 0


def verify_store(url: Any, *, level: Level = "hash", progress: bool = False) -> Report:
    """Compare everything in a published store with what it says of itself.

    Args:
        url: as `schemas.stores.open_store` takes it.
        level: `presence`: metadata, and each object's presence and size; `hash`: also read every
            object, and compare its SHA-256, the CRC of its index and of each chunk, and the
            number of valid cells.
        progress: show a bar on stderr.

    Raises:
        StoreError: if there is no published store, or it cannot be reached.
    """
    from zarr.core.sync import sync

    if level not in ("presence", "hash"):
        raise ValueError(f"level must be 'presence' or 'hash', not {level!r}")
    group = open_group(url)
    broken = attribute_problems(dict(group.attrs))
    if broken:  # without grid and layout there is nothing to compare with
        return Report(level, tuple(broken), (), 0, 0, 0)
    own = UnigeoAttributes.model_validate(group.attrs["unigeo"])
    layout, shards = own.layout.layout(), own.layout.layout().shards(own.grid.grid())
    try:
        problems = field_problems(group)
        nodes = sync(_document(group.store, "zarr.json"))["consolidated_metadata"]["metadata"]
        listed, more = _manifest(group, layout, shards)
        problems += more + _valid_without_object(listed)
        keys, notes = sync(_keys(group.store))
        problems += sync(_node_problems(group.store, nodes))
        problems += sync(_plain_problems(group.store, nodes))
        others, more = other_objects(group, url)
        problems += more
        told = {word.rstrip(":,") for problem in problems for word in problem.split()}
        others = [other for other in others if other.key not in told]
        problems += sync(other_problems(group.store, others, level))
        if level == "hash" and not any(MANIFEST in problem for problem in problems):
            problems += sync(digest_problems(group.store, own))
        problems += root_problems(url, group.store)
    except unreachable_errors() as error:
        raise StoreError(f"cannot read the store at {url}: {error}") from error
    problems += _strays(keys or set(), listed, nodes, layout)
    expected = [shard for shard in listed if shard.size_bytes or keys is None]
    found = sync(_each(group.store, expected, layout, level, progress))
    return Report(
        level,
        tuple(problems + [problem for one in found for problem in one.problems]),
        tuple(notes),
        sum(shard.size_bytes > 0 for shard in expected),
        sum(one.chunks for one in found),
        sum(one.size_bytes for one in found),
    )


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


def _manifest(
    group: "zarr.Group", layout: Layout, shards: tuple[int, int]
) -> tuple[list[_Shard], list[str]]:
    """Every shard of the layout as the manifest has it, and what is wrong with the manifest."""
    import zarr

    manifest = group.get(MANIFEST)
    if not isinstance(manifest, zarr.Group):
        return [], ["the store has no group 'manifest', so its objects cannot be verified"]
    listed: list[_Shard] = []
    problems: list[str] = []

    def read(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        array = manifest.get(name)
        if not isinstance(array, zarr.Array) or array.shape != shape:
            there = array.shape if isinstance(array, zarr.Array) else "missing"
            problems.append(f"array '{MANIFEST}/{name}' is {there}, expected the shape {shape}")
            return None
        try:
            check_memory(array, "the store")
            return np.asarray(array[...])
        except damage_errors() as error:
            problems.append(f"array '{MANIFEST}/{name}' cannot be read: {error}")
            return None

    for modality in layout.modalities:
        valid = read(f"{modality}_valid_cells", shards)
        for array, dimensions in ((modality, 3), (status_name(modality), 2)):
            sha256 = read(f"{array}_sha256", (*shards, 32))
            size_bytes = read(f"{array}_bytes", shards)
            if sha256 is None or size_bytes is None or valid is None:
                continue
            one = ArrayManifest(sha256, size_bytes)
            for row, col in np.ndindex(*shards):
                listed.append(
                    _Shard(
                        array,
                        row,
                        col,
                        shard_key(array, row, col, dimensions),
                        int(one.size_bytes[row, col]),
                        one.sha256[row, col].tobytes(),
                        int(valid[row, col]) if dimensions == 2 else None,
                    )
                )
    return listed, problems


async def _keys(store: "Store") -> tuple[set[str] | None, list[str]]:
    """Every key of the store; None, and a note that says why, where it cannot be listed."""
    why = "it cannot be listed"
    failures: tuple[type[BaseException], ...] = (NotImplementedError, *unreachable_errors())
    if store.supports_listing:
        try:
            return {key async for key in store.list()}, []
        except failures as error:
            why = f"listing it failed: {str(error).splitlines()[0]:.200}"
    return None, [f"objects that do not belong to the store were not looked for, since {why}"]


async def _document(store: "Store", key: str) -> Any:
    """A JSON object of the store; None if it is not there or is no JSON."""
    from zarr.core.buffer import default_buffer_prototype

    body = await store.get(key, default_buffer_prototype())
    try:
        return None if body is None else json.loads(body.to_bytes())
    except ValueError:
        return None


async def _node_problems(store: "Store", nodes: Nodes) -> list[str]:
    """Compare each group's and array's own metadata with what the root repeats of them."""
    problems = []
    keys = [f"{name}/zarr.json" for name in nodes]
    documents = await asyncio.gather(*(_document(store, key) for key in keys))
    for key, expected, found in zip(keys, nodes.values(), documents, strict=True):
        if not isinstance(found, dict):
            problems.append(f"{key} is missing, or is no JSON")
            continue
        # Whoever consolidates may repeat what is below in each group, or not.
        differing = sorted(
            part
            for part in (found.keys() | expected.keys()) - {"consolidated_metadata"}
            if found.get(part) != expected.get(part)
        )
        if differing:
            problems.append(f"{key}: {', '.join(differing)} differ from what the root says of it")
    return problems


async def _plain_problems(store: "Store", nodes: Nodes) -> list[str]:
    """Look for the chunks of coordinates, manifest and encoder, whose hashes stand nowhere.

    Their writer leaves none out, so a missing one would be read as zeros.
    """
    sizes: dict[str, int | None] = {}
    for name, node in nodes.items():
        whole = name.split("/")[-1] in ("x", "y", "band", "spatial_ref")
        whole = whole or name.startswith((f"{MANIFEST}/", f"{ENCODER}/", f"{CONCEPTS}/"))
        if node.get("node_type") != "array" or not whole:
            continue
        chunk = node["chunk_grid"]["configuration"]["chunk_shape"]
        counts = [math.ceil(n / c) for n, c in zip(node["shape"], chunk, strict=True)]
        plain = [codec["name"] for codec in node["codecs"]] == ["bytes"]
        size_bytes = math.prod(chunk) * np.dtype(node["data_type"]).itemsize
        keys = ["/".join([name, "c", *map(str, number)]) for number in np.ndindex(*counts)]
        sizes |= dict.fromkeys(keys, size_bytes if plain else None)
    problems = []
    found = await asyncio.gather(*(_size(store, key) for key in sizes))
    for (key, expected), size in zip(sizes.items(), found, strict=True):
        if size is None:
            problems.append(f"{key} is missing")
        elif expected is not None and size != expected:
            problems.append(f"{key} holds {size} bytes, expected {expected}")
    return problems


async def _size(store: "Store", key: str) -> int | None:
    """Bytes of an object; None if it is not there."""
    try:
        return await store.getsize(key)
    except FileNotFoundError:
        return None


def _strays(keys: set[str], listed: list[_Shard], nodes: Nodes, layout: Layout) -> list[str]:
    """Objects that belong to nothing: a shard the manifest does not have, a killed write's part."""
    own = {name for modality in layout.modalities for name in (modality, status_name(modality))}
    known = {"zarr.json"} | {f"{name}/zarr.json" for name in nodes}
    known |= {shard.key for shard in listed if shard.size_bytes}
    others = [name for name, node in nodes.items() if node.get("node_type") == "array"]
    others = [name for name in others if name not in own or not listed]
    chunks = re.compile(f"(?:{'|'.join(map(re.escape, others))})/c(?:/[0-9]+)*")
    return [
        f"{key} is not in the manifest and belongs to no array"
        for key in sorted(keys - known)
        if not (others and chunks.fullmatch(key))
    ]


def _valid_without_object(listed: list[_Shard]) -> list[str]:
    """Shards of which the manifest says that cells are valid, and that nothing is stored."""
    return [
        f"{shard}: the manifest says {shard.valid_cells} valid cells, and no object"
        for shard in listed
        if shard.valid_cells and not shard.size_bytes
    ]


async def _each(
    store: "Store", shards: list[_Shard], layout: Layout, level: Level, progress: bool
) -> list[_Found]:
    """Look at every object, `IN_FLIGHT` at a time; the answers in the shards' order."""
    gate = asyncio.Semaphore(IN_FLIGHT)
    owners = {shard.sha256: shard for shard in shards if shard.size_bytes}
    with progress_bar("verify", len(shards), "objects", progress) as push:

        async def look(shard: _Shard) -> _Found:
            async with gate:
                try:
                    if level == "presence" or not shard.size_bytes:
                        found = _Found(_size_problems(shard, await _size(store, shard.key)))
                    else:
                        found = await _read(store, shard, layout, owners)
                except unreachable_errors() as error:
                    found = _Found([f"{shard} cannot be read: {error}"])
            push(1)
            return found

        return await asyncio.gather(*map(look, shards))


async def _read(
    store: "Store", shard: _Shard, layout: Layout, owners: dict[bytes, _Shard]
) -> _Found:
    from zarr.core.buffer import default_buffer_prototype

    size = await _size(store, shard.key)
    if size is None or size > OBJECT_BYTES:  # one that is too large is not read
        return _Found(_size_problems(shard, size))
    body = await store.get(shard.key, default_buffer_prototype())
    if body is None:
        return _Found(_size_problems(shard, None))
    content = body.to_bytes()
    return await asyncio.to_thread(_check, shard, content, layout, owners)


def _check(shard: _Shard, content: bytes, layout: Layout, owners: dict[bytes, _Shard]) -> _Found:
    """Everything that the bytes of one object can be asked."""
    problems = _size_problems(shard, len(content))
    sha256 = hashlib.sha256(content).digest()
    if sha256 != shard.sha256:
        owner = owners.get(sha256)
        whose = "" if owner is None else f"; it is that of {owner}"
        problems.append(f"{shard}: its SHA-256 is not the manifest's{whose}")
    if shard.valid_cells is None:
        inside, chunks = shard_problems(content, layout)
    else:
        inside, chunks = _status_problems(content, layout, shard.valid_cells), 1
    problems += [f"{shard}: {problem}" for problem in inside]
    return _Found(problems, chunks, len(content))


def _size_problems(shard: _Shard, size_bytes: int | None) -> list[str]:
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
    if len(content) != layout.shard**2 + CRC_BYTES:
        return []  # told by its size
    problems = []
    if not crc_matches(content):
        problems.append("the CRC-32C of chunk (0, 0) differs")
    valid = int(np.count_nonzero(np.frombuffer(content[:-CRC_BYTES], np.uint8) == Status.VALID))
    if valid != valid_cells:
        problems.append(f"{valid} cells have the status valid, the manifest says {valid_cells}")
    return problems
