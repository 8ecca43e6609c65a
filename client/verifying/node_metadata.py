"""Whether the metadata of groups and arrays agree, and the small arrays have all their chunks."""

import asyncio
import json
import math
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.verifying.shard_objects import stored_size
from unigeo.schemas.store.concepts import GROUP as CONCEPTS
from unigeo.schemas.store.encoder import GROUP as ENCODER
from unigeo.schemas.store.layout import is_coordinate
from unigeo.schemas.store.manifest import GROUP as MANIFEST
from unigeo.schemas.store.overviews import GROUP as OVERVIEWS
from unigeo.schemas.store.preview import GROUP as PREVIEW

if TYPE_CHECKING:
    from zarr.abc.store import Store

Nodes = dict[str, dict[str, Any]]
"""Metadata of every group and array below the root, by path, as the root repeats them."""
_IN_FLIGHT = 16


async def document(store: "Store", key: str) -> Any:
    """A JSON object of the store; None if it is not there or is no JSON."""
    from zarr.core.buffer import default_buffer_prototype

    body = await store.get(key, default_buffer_prototype())
    try:
        return None if body is None else json.loads(body.to_bytes())
    except ValueError:
        return None


async def in_turn(requests: Iterable[Awaitable[Any]]) -> list[Any]:
    """Await many requests for small objects, a few at a time: a small server queues no more."""
    few = asyncio.Semaphore(_IN_FLIGHT)

    async def one(request: Awaitable[Any]) -> Any:
        async with few:
            return await request

    return list(await asyncio.gather(*(one(request) for request in requests)))


async def node_problems(store: "Store", nodes: Nodes) -> list[str]:
    """Compare each group's and array's own metadata with what the root repeats of them."""
    problems = []
    keys = [f"{name}/zarr.json" for name in nodes]
    documents = await in_turn(document(store, key) for key in keys)
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


async def plain_problems(store: "Store", nodes: Nodes) -> list[str]:
    """Look for the chunks of coordinates, manifest and encoder, whose hashes stand nowhere.

    Their writer leaves none out, so a missing one would be read as zeros.
    """
    sizes: dict[str, int | None] = {}
    for name, node in nodes.items():
        group, _, last = name.rpartition("/")
        whole = is_coordinate(last) and group.split("/")[0] in ("", OVERVIEWS, PREVIEW)
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
    found = await in_turn(stored_size(store, key) for key in sizes)
    for (key, expected), size in zip(sizes.items(), found, strict=True):
        if size is None:
            problems.append(f"{key} is missing")
        elif expected is not None and size != expected:
            problems.append(f"{key} holds {size} bytes, expected {expected}")
    return problems
