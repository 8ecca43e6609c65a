"""Checks the metadata of groups and arrays, and that small arrays have all their chunks."""

import asyncio
import math
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.verifying.shard_objects import stored_size
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.store.concepts import GROUP as CONCEPTS
from unigeo.schemas.store.encoder import GROUP as ENCODER
from unigeo.schemas.store.layout import is_coordinate
from unigeo.schemas.store.manifest import GROUP as MANIFEST
from unigeo.schemas.store.overviews import GROUP as OVERVIEWS
from unigeo.schemas.store.preview import GROUP as PREVIEW
from unigeo.schemas.store.problems import Problem
from unigeo.schemas.store.search_levels import GROUP as SEARCH

if TYPE_CHECKING:
    from zarr.abc.store import Store

Nodes = dict[str, dict[str, Any]]
"""Metadata of every group and array below the root, by path, as the root repeats them."""
_IN_FLIGHT = 16


async def read_json(store: "Store", key: str) -> Any:
    """Read a JSON object of the store; return None if it does not exist or is no JSON."""
    from zarr.core.buffer import default_buffer_prototype

    body = await store.get(key, default_buffer_prototype())
    try:
        return None if body is None else load_json(body.to_bytes())
    except ValueError:
        return None


async def gather_few(requests: Iterable[Awaitable[Any]]) -> list[Any]:
    """Await requests for small objects, a few at a time, so that no server must queue many."""
    gate = asyncio.Semaphore(_IN_FLIGHT)

    async def one(request: Awaitable[Any]) -> Any:
        async with gate:
            return await request

    return list(await asyncio.gather(*(one(request) for request in requests)))


async def node_problems(store: "Store", nodes: Nodes) -> list[Problem]:
    """Compare each group's and array's own metadata with what the root repeats of them."""
    problems = []
    keys = [f"{name}/zarr.json" for name in nodes]
    documents = await gather_few(read_json(store, key) for key in keys)
    for key, expected, document in zip(keys, nodes.values(), documents, strict=True):
        if not isinstance(document, dict):
            problems.append(Problem(key, f"{key} is missing, or is no JSON"))
            continue
        # Writers that consolidate metadata may repeat those of children in each group, or not.
        differing = sorted(
            part
            for part in (document.keys() | expected.keys()) - {"consolidated_metadata"}
            if document.get(part) != expected.get(part)
        )
        if differing:
            text = f"{key}: {', '.join(differing)} differ from what the root says of it"
            problems.append(Problem(key, text))
    return problems


async def chunk_problems(store: "Store", nodes: Nodes) -> list[Problem]:
    """Check that the chunks of coordinates, manifest, encoder and concepts exist.

    Their writer leaves out none, so a missing one would be read as zeros.
    """
    sizes: dict[str, int | None] = {}
    for name, node in nodes.items():
        group, _, last = name.rpartition("/")
        complete = is_coordinate(last) and group.split("/")[0] in ("", OVERVIEWS, PREVIEW, SEARCH)
        complete = complete or name.startswith((f"{MANIFEST}/", f"{ENCODER}/", f"{CONCEPTS}/"))
        if node.get("node_type") != "array" or not complete:
            continue
        chunk = node["chunk_grid"]["configuration"]["chunk_shape"]
        counts = [math.ceil(n / c) for n, c in zip(node["shape"], chunk, strict=True)]
        uncompressed = [codec["name"] for codec in node["codecs"]] == ["bytes"]
        size_bytes = None  # of compressed numbers, and of texts
        if uncompressed:
            size_bytes = math.prod(chunk) * np.dtype(node["data_type"]).itemsize
        keys = ["/".join([name, "c", *map(str, number)]) for number in np.ndindex(*counts)]
        sizes |= dict.fromkeys(keys, size_bytes)
    problems = []
    stored = await gather_few(stored_size(store, key) for key in sizes)
    for (key, expected), size in zip(sizes.items(), stored, strict=True):
        if size is None:
            problems.append(Problem(key, f"{key} is missing"))
        elif expected is not None and size != expected:
            problems.append(Problem(key, f"{key} holds {size} bytes, expected {expected}"))
    return problems
