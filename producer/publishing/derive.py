"""What is made of a field's shards: their hashes, the overviews and the pictures' finest level.

Each object is read once, some rows of cells at a time. A shard's task writes only objects of its
own, and then notes the hashes of what it read and wrote: a publication that was killed reads the
shards again, but makes nothing twice. Some tasks run at once; each holds its shard as it is stored
and the objects that it makes, a third of that.
"""

import json
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import zarr
from jaxtyping import Int8, UInt8
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from unigeo.producer.publishing.cell_means import overviews_of
from unigeo.producer.publishing.principal_directions import (
    SAMPLED_CELLS,
    SAMPLED_SHARDS,
    Colours,
    fit_colours,
    spread,
)
from unigeo.producer.publishing.releases import digest_of_shard
from unigeo.producer.publishing.shard_facts import ShardFacts
from unigeo.producer.raster.planning import stored_shards
from unigeo.producer.storage.code_identity import DERIVING, code_sha256
from unigeo.producer.storage.object_io import put
from unigeo.producer.storage.objects import digest, need_object, read_object, write_object
from unigeo.producer.storage.shard_codec import (
    Buffers,
    VectorObject,
    rows_of_vectors,
    status_object,
    status_of,
)
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.attributes import UnigeoAttributes
from unigeo.schemas.store.layout import Layout, status_name
from unigeo.schemas.store.manifest import ArrayManifest, shard_key
from unigeo.schemas.store.overviews import coarser_layout, overview_path
from unigeo.schemas.store.preview import preview_path
from unigeo.schemas.store.quantization import FILL
from unigeo.schemas.store.status import Status

NOTES = "publishing"
"""Where the notes of an unfinished publication stand; they are removed at its end."""
MOST_TASKS = 8
"""At once, where there are as many processors."""

Objects = dict[str, tuple[str, int]]
"""SHA-256, hexadecimal, and bytes of objects by key."""


def sample_vectors(
    group: zarr.Group, modality: str, layout: Layout
) -> Int8[np.ndarray, "cell band"]:
    """Vectors spread evenly over the shards that hold any, and over each shard's cells."""
    shards = sorted(stored_shards(group.store, modality))
    width = layout.width(modality)
    parts = [np.empty((0, width), np.int8)]
    for number in spread(len(shards), SAMPLED_SHARDS).tolist():
        row, col = shards[number]
        key = shard_key(modality, row, col, 3)
        with _named(key):
            (stored,) = rows_of_vectors(need_object(group.store, key), layout, width, layout.shard)
        cells = np.flatnonzero(stored[..., 0] != FILL)
        chosen = cells[spread(len(cells), SAMPLED_CELLS)]
        parts.append(stored.reshape(-1, width)[chosen])
    return np.concatenate(parts)


def colours_of(group: zarr.Group, modality: str, layout: Layout) -> Colours:
    """Fit a modality's colours to the store."""
    return fit_colours(sample_vectors(group, modality, layout))


def derive(
    group: zarr.Group,
    own: UnigeoAttributes,
    colours: Mapping[str, Colours],
    factors: tuple[int, ...],
    *,
    progress: bool = False,
) -> tuple[dict[str, ShardFacts], Objects]:
    """Hash every shard; write its overviews and its part of the picture where they are not yet.

    Args:
        group: the root, with the groups of overviews and pictures in it.
        own: of the field.
        colours: by modality.
        factors: of the overviews.
        progress: show a bar on stderr.

    Returns:
        What is stored of each modality, and the objects made of it.

    Raises:
        LayoutError: if a shard is damaged, naming it.
    """
    layout = own.field_layout()
    shards = layout.shards(own.grid.grid())
    facts = {modality: ShardFacts.empty(shards) for modality in layout.modalities}
    made: Objects = {}
    making = _DerivedObjects(group.store, own, colours, factors, facts)
    tasks = list(_tasks(group, layout))
    with (
        tqdm(total=len(tasks), unit="shard", desc="publish", disable=not progress) as bar,
        threadpool_limits(1, user_api="blas"),  # the tasks are the threads
        ThreadPoolExecutor(min(MOST_TASKS, os.cpu_count() or 1)) as pool,
    ):
        for objects in _in_turn(pool, (partial(making, *task) for task in tasks)):
            made |= objects
            bar.update()
    return facts, made


def _tasks(group: zarr.Group, layout: Layout) -> Iterator[tuple[str, int, int]]:
    for modality in layout.modalities:
        for row, col in sorted(stored_shards(group.store, status_name(modality))):
            yield modality, row, col


def _in_turn[T](pool: ThreadPoolExecutor, tasks: Iterator[partial[T]]) -> Iterator[T]:
    """Results in order, a few tasks ahead; where one fails those not begun never are."""
    futures: deque[Future[T]] = deque(pool.submit(task) for task in islice(tasks, 2 * MOST_TASKS))
    try:
        while futures:
            result = futures.popleft().result()
            futures.extend(pool.submit(task) for task in islice(tasks, 1))
            yield result
    finally:
        for future in futures:
            future.cancel()


class _DerivedObjects:
    """Makes of one shard after another what is derived from it alone."""

    def __init__(
        self,
        store: Any,
        own: UnigeoAttributes,
        colours: Mapping[str, Colours],
        factors: tuple[int, ...],
        facts: Mapping[str, ShardFacts],
    ) -> None:
        self._store, self._own = store, own
        self._layout = own.field_layout()
        self._colours, self._factors, self._facts = colours, factors, facts
        self._buffers = {factor: Buffers() for factor in factors}

    def __call__(self, modality: str, row: int, col: int) -> Objects:
        """Note a shard's facts; write what is made of it, or find it written."""
        one, side = self._facts[modality], self._layout.shard
        status_key, key = (
            shard_key(status_name(modality), row, col, 2),
            shard_key(modality, row, col, 3),
        )
        status_body = need_object(self._store, status_key)
        body = read_object(self._store, key)
        _note(one.status, row, col, status_body)
        if body is not None:
            _note(one.vectors, row, col, body)
        with _named(status_key):
            status = status_of(status_body, self._layout)
        one.valid_cells[row, col] = np.count_nonzero(status == Status.VALID)
        window = Window(row * side, col * side, side, side)
        task = digest_of_shard(self._own, modality, window, status)
        one.tasks[row, col] = np.frombuffer(task, np.uint8)
        made_of = {
            "vectors": bytes(one.vectors.sha256[row, col]).hex(),
            "status": bytes(one.status.sha256[row, col]).hex(),
            "colours": self._colours[modality].digest(),
            "factors": list(self._factors),
            "code": code_sha256(DERIVING),
        }
        note = f"{NOTES}/{modality}.{row}.{col}.json"
        before = read_object(self._store, note)
        if before is not None:
            noted = json.loads(before)
            if noted["made_of"] == made_of:
                return {key: (sha256, size) for key, (sha256, size) in noted["objects"].items()}
        with _named(key):
            objects = self._write(modality, row, col, body, status)
        content = json.dumps({"made_of": made_of, "objects": objects}, sort_keys=True)
        write_object(self._store, note, content.encode())
        return objects

    def _write(
        self,
        modality: str,
        row: int,
        col: int,
        body: bytes | None,
        status: UInt8[np.ndarray, "row col"],
    ) -> Objects:
        """Everything that one shard's content decides alone."""
        layout, factors, width = self._layout, self._factors, self._layout.width(modality)
        picture = np.zeros((3, layout.shard, layout.shard), np.uint8)
        coarse = {factor: coarser_layout(layout, factor) for factor in factors}
        vectors = {f: VectorObject(coarse[f], width, self._buffers[f]) for f in factors}
        codes = {f: np.zeros((coarse[f].shard,) * 2, np.uint8) for f in factors}
        rows = math.lcm(layout.chunk, *factors)
        for number, stored in enumerate(rows_of_vectors(body, layout, width, rows)):
            first = number * rows
            _check_fit(stored, status[first : first + rows])
            picture[:, first : first + rows] = self._colours[modality].paint(stored)
            thinned = overviews_of(stored, status[first : first + rows], factors)
            for factor, means, reasons in thinned:
                place = slice(first // factor, (first + rows) // factor)
                codes[factor][place] = reasons
                cells = np.flatnonzero(reasons == Status.VALID)
                vectors[factor].put(
                    cells + place.start * coarse[factor].shard,
                    means.reshape(-1, width)[cells],
                )
        objects: Objects = {}
        if picture.any():
            key = f"{preview_path(1)}/{modality}/c/0/{row}/{col}"
            self._put(objects, key, memoryview(picture.reshape(-1)))
        for factor in factors:
            path = f"{overview_path(factor)}/{modality}"
            content = vectors[factor].finish()
            if content is not None:
                self._put(objects, shard_key(path, row, col, 3), content)
            vectors[factor].release()
            if codes[factor].any():
                key = shard_key(status_name(path), row, col, 2)
                self._put(objects, key, status_object(codes[factor], layout))
        return objects

    def _put(self, objects: Objects, key: str, content: memoryview) -> None:
        put(self._store, key, content)
        objects[key] = digest(content).hex(), len(content)


def _check_fit(
    stored: Int8[np.ndarray, "row col band"], status: UInt8[np.ndarray, "row col"]
) -> None:
    """Refuse statuses that say something else than the vectors: they have no CRC of their own.

    Raises:
        LayoutError: if a valid cell has no vector, or another has one.
    """
    wrong = np.count_nonzero((stored[..., 0] != FILL) != (status == Status.VALID))
    if wrong:
        raise LayoutError(
            f"{wrong} cells have a vector and another status than valid, or the reverse: the "
            "shard or its status is damaged."
        )


def _note(manifest: ArrayManifest, row: int, col: int, content: bytes) -> None:
    manifest.sha256[row, col] = np.frombuffer(digest(content), np.uint8)
    manifest.size_bytes[row, col] = len(content)


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Say which object is damaged."""
    try:
        yield
    except LayoutError as error:
        raise LayoutError(
            f"{key}: {error} Remove the shard's vectors and status, and run the command again: it "
            "is made anew."
        ) from error
