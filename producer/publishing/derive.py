"""Objects derived from a field's shards: hashes, overviews, what is searched, the finest preview.

Each object is read once, a few rows of cells at a time. The task of a shard writes objects that no
other task writes, and then a note with the hashes of everything it read and wrote: a publication
that was killed reads the shards again, but derives nothing twice. Several tasks run at once; each
holds its stored shard in memory and the objects derived from it, a third of that size.
"""

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import zarr
from jaxtyping import Int8, Int16, UInt8
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from unigeo.producer.publishing.cell_means import overviews_of
from unigeo.producer.publishing.principal_directions import (
    SAMPLED_CELLS,
    SAMPLED_SHARDS,
    Colours,
    fit_axes,
    fit_colours,
    spread,
)
from unigeo.producer.publishing.search_levels import SearchObjects
from unigeo.producer.publishing.shard_facts import ShardFacts
from unigeo.producer.publishing.task_digests import digest_of_shard
from unigeo.producer.raster.planning import stored_shards
from unigeo.producer.storage.code_identity import DERIVING, code_sha256
from unigeo.producer.storage.object_io import put
from unigeo.producer.storage.objects import digest, need_object, read_object, write_object
from unigeo.producer.storage.shard_codec import (
    Buffers,
    VectorObject,
    check_fit,
    naming_shard,
    rows_of_vectors,
    status_object,
    status_of,
)
from unigeo.schemas.geo.window import Window
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.store.attributes import UnigeoAttributes
from unigeo.schemas.store.layout import COVARIATES, Layout, status_name
from unigeo.schemas.store.manifest import ArrayManifest, shard_key
from unigeo.schemas.store.overviews import coarser_layout, overview_path
from unigeo.schemas.store.preview import preview_path
from unigeo.schemas.store.quantization import FILL
from unigeo.schemas.store.search_levels import (
    NUMBERS,
    search_factors,
    search_path,
    searched_modalities,
)
from unigeo.schemas.store.status import Status

NOTES = "publishing"
"""Group of the notes of an unfinished publication; it is removed at the end."""
MOST_TASKS = 8
"""Largest number of tasks at once, if there are as many processors."""

Objects = dict[str, tuple[str, int]]
"""Hexadecimal SHA-256 and size in bytes of objects by key."""


def sample_vectors(
    group: zarr.Group, modality: str, layout: Layout
) -> Int8[np.ndarray, "cell band"]:
    """Read a sample of vectors, spread evenly over the stored shards and over each shard's cells.

    The sample depends on nothing but the store, so that a repeated publication has equal colours.
    """
    shards = sorted(stored_shards(group.store, modality))
    width = layout.width(modality)
    parts = [np.empty((0, width), np.int8)]  # so that a field without shards concatenates, too
    for number in spread(len(shards), SAMPLED_SHARDS).tolist():
        row, col = shards[number]
        key = shard_key(modality, row, col, 3)
        with naming_shard(key):
            (stored,) = rows_of_vectors(need_object(group.store, key), layout, width, layout.shard)
        cells = np.flatnonzero(stored[..., 0] != FILL)
        chosen = cells[spread(len(cells), SAMPLED_CELLS)]
        parts.append(stored.reshape(-1, width)[chosen])
    return np.concatenate(parts)


@dataclass(frozen=True)
class Directions:
    """Main directions of the vectors of each modality."""

    colours: Mapping[str, Colours]
    """Colours of the preview by modality."""
    search: Mapping[str, Int16[np.ndarray, "axis band"]]
    """Axes, in units of 2^-14, of the modalities that are searched by fewer numbers."""

    def digests(self, modality: str) -> list[str]:
        """Return a SHA-256 of each of a modality's directions."""
        search = self.search.get(modality, np.empty((0, 0), np.int16))
        return [self.colours[modality].digest(), hashlib.sha256(search.tobytes()).hexdigest()]


def directions_of(group: zarr.Group, layout: Layout) -> Directions:
    """Fit the main directions of every modality to the store."""
    colours, search = {}, {}
    for name in layout.modalities:
        sample = sample_vectors(group, name, layout)
        is_searched = name in searched_modalities(layout)
        axes = fit_axes(sample, NUMBERS if is_searched else 3)
        colours[name] = fit_colours(sample, axes[:3])
        if is_searched:
            search[name] = axes
    return Directions(colours, search)


def derive(
    group: zarr.Group,
    attributes: UnigeoAttributes,
    directions: Directions,
    factors: tuple[int, ...],
    *,
    progress: bool = False,
) -> tuple[dict[str, ShardFacts], Objects]:
    """Hash every shard; write all that is derived from it unless it exists.

    Args:
        group: the root, with the empty arrays of overviews, search and preview in it.
        attributes: the field's attributes.
        directions: main directions of the modalities.
        factors: factors of the overviews.
        progress: show a bar on stderr.

    Returns:
        The facts of each array's shards, and the objects derived from them.

    Raises:
        LayoutError: if a shard is damaged, naming it.
    """
    layout = attributes.field_layout()
    shards = layout.shards(attributes.grid.grid())
    facts = {array: ShardFacts.empty(shards) for array in layout.arrays}
    made: Objects = {}
    derive_shard = _ShardDeriver(group.store, attributes, directions, factors, facts)
    tasks = list(_tasks(group, layout))
    with (
        tqdm(total=len(tasks), unit="shard", desc="publish", disable=not progress) as bar,
        threadpool_limits(1, user_api="blas"),  # the tasks are the threads
        ThreadPoolExecutor(min(MOST_TASKS, os.cpu_count() or 1)) as pool,
    ):
        for objects in _results_in_order(pool, (partial(derive_shard, *task) for task in tasks)):
            made |= objects
            bar.update()
    return facts, made


def _tasks(group: zarr.Group, layout: Layout) -> Iterator[tuple[str, int, int]]:
    """List array, row and column of every shard by its status, which even an empty shard has."""
    for array in layout.arrays:
        for row, col in sorted(stored_shards(group.store, status_name(array))):
            yield array, row, col


def _results_in_order[T](pool: ThreadPoolExecutor, tasks: Iterator[partial[T]]) -> Iterator[T]:
    """Yield results in order, a few tasks ahead; after a failure no further task begins."""
    # Submitting all tasks at once would keep a future per shard, and run on after a failure.
    futures: deque[Future[T]] = deque(pool.submit(task) for task in islice(tasks, 2 * MOST_TASKS))
    try:
        while futures:
            result = futures.popleft().result()
            futures.extend(pool.submit(task) for task in islice(tasks, 1))
            yield result
    finally:
        for future in futures:
            future.cancel()


class _ShardDeriver:
    """Derives the objects that depend on a single shard; called from several threads."""

    def __init__(
        self,
        store: Any,
        attributes: UnigeoAttributes,
        directions: Directions,
        factors: tuple[int, ...],
        facts: Mapping[str, ShardFacts],
    ) -> None:
        self._store, self._attributes = store, attributes
        self._layout = attributes.field_layout()
        self._directions, self._factors, self._facts = directions, factors, facts
        self._buffers = {factor: Buffers() for factor in factors}
        self._search_buffers = {f: Buffers() for f in search_factors(self._layout)}

    def __call__(self, modality: str, row: int, col: int) -> Objects:
        """Record a shard's facts, and write the objects derived from it unless a note has them."""
        # Threads share these arrays, but each writes only the elements of its own shard.
        one, side = self._facts[modality], self._layout.shard
        status_key, key = (
            shard_key(status_name(modality), row, col, 2),
            shard_key(modality, row, col, 3),
        )
        status_body = need_object(self._store, status_key)
        body = read_object(self._store, key)
        _record(one.status, row, col, status_body)
        if body is not None:
            _record(one.vectors, row, col, body)
        with naming_shard(status_key):
            status = status_of(status_body, self._layout)
        one.valid_cells[row, col] = np.count_nonzero(status == Status.VALID)
        window = Window(row * side, col * side, side, side)
        task = digest_of_shard(self._attributes, modality, window, status)
        one.tasks[row, col] = np.frombuffer(task, np.uint8)
        if modality == COVARIATES:  # nothing is derived from numbers that can be read
            with naming_shard(key):
                self._check_covariates(body, status)
            return {}
        # Everything that the derived objects depend on: a note with other inputs is out of date.
        inputs = {
            "vectors": bytes(one.vectors.sha256[row, col]).hex(),
            "status": bytes(one.status.sha256[row, col]).hex(),
            "directions": self._directions.digests(modality),
            "factors": list(self._factors),
            "code": code_sha256(DERIVING),
        }
        note = f"{NOTES}/{modality}.{row}.{col}.json"
        earlier = read_object(self._store, note)
        if earlier is not None:
            noted = load_json(earlier)
            if noted["made_of"] == inputs:
                return {key: (sha256, size) for key, (sha256, size) in noted["objects"].items()}
        with naming_shard(key):
            objects = self._write(modality, row, col, body, status)
        # The note is written after its objects: a killed task leaves none, and is repeated.
        content = json.dumps({"made_of": inputs, "objects": objects}, sort_keys=True)
        write_object(self._store, note, content.encode())
        return objects

    def _check_covariates(self, body: bytes | None, status: UInt8[np.ndarray, "row col"]) -> None:
        layout = self._layout
        width, dtype = layout.width(COVARIATES), layout.dtype(COVARIATES)
        for number, stored in enumerate(
            rows_of_vectors(body, layout, width, layout.chunk, dtype=dtype)
        ):
            rows = slice(number * layout.chunk, (number + 1) * layout.chunk)
            check_fit(~np.isnan(stored).all(axis=2), status[rows], "a number")

    def _write(
        self,
        modality: str,
        row: int,
        col: int,
        body: bytes | None,
        status: UInt8[np.ndarray, "row col"],
    ) -> Objects:
        """Write a shard's part of the preview, of every overview and of what is searched."""
        layout, factors, width = self._layout, self._factors, self._layout.width(modality)
        axes = self._directions.search.get(modality)
        searched = SearchObjects(layout, axes, self._search_buffers)
        rgb = np.zeros((3, layout.shard, layout.shard), np.uint8)
        coarse = {factor: coarser_layout(layout, factor) for factor in factors}
        vectors = {f: VectorObject(coarse[f], width, self._buffers[f]) for f in factors}
        codes = {f: np.zeros((coarse[f].shard,) * 2, np.uint8) for f in factors}
        rows = math.lcm(layout.chunk, *factors)  # whole chunks to decode, whole cells of overviews
        for number, stored in enumerate(rows_of_vectors(body, layout, width, rows)):
            first = number * rows
            check_fit(stored[..., 0] != FILL, status[first : first + rows], "a vector")
            rgb[:, first : first + rows] = self._directions.colours[modality].paint(stored)
            valid = np.flatnonzero(stored[..., 0] != FILL)
            searched.put(1, valid + first * layout.shard, stored.reshape(-1, width)[valid])
            overviews = overviews_of(stored, status[first : first + rows], factors)
            for factor, means, coarse_codes in overviews:
                coarse_rows = slice(first // factor, (first + rows) // factor)
                codes[factor][coarse_rows] = coarse_codes
                cells = np.flatnonzero(coarse_codes == Status.VALID)
                # Counted from the first of these rows; `put` counts from the shard's corner.
                inside = cells + coarse_rows.start * coarse[factor].shard
                vectors[factor].put(inside, means.reshape(-1, width)[cells])
                searched.put(factor, inside, means.reshape(-1, width)[cells])
        objects: Objects = {}
        # An object that holds nothing but fill values is not stored, as in Zarr itself.
        if rgb.any():
            key = f"{preview_path(1)}/{modality}/c/0/{row}/{col}"
            self._put(objects, key, memoryview(rgb.reshape(-1)))
        for factor in factors:
            path = f"{overview_path(factor)}/{modality}"
            content = vectors[factor].finish()
            if content is not None:
                self._put(objects, shard_key(path, row, col, 3), content)
            vectors[factor].release()
            if codes[factor].any():
                key = shard_key(status_name(path), row, col, 2)
                self._put(objects, key, status_object(codes[factor], layout))
        for factor, content in searched.finish():
            key = shard_key(f"{search_path(factor)}/{modality}", row, col, 3)
            self._put(objects, key, content)
        return objects

    def _put(self, objects: Objects, key: str, content: memoryview) -> None:
        put(self._store, key, content)
        objects[key] = digest(content).hex(), len(content)


def _record(manifest: ArrayManifest, row: int, col: int, content: bytes) -> None:
    manifest.sha256[row, col] = np.frombuffer(digest(content), np.uint8)
    manifest.size_bytes[row, col] = len(content)
