"""What is made of a field's shards: their hashes, the overviews and the pictures' finest level.

Each object is read once. A shard's task writes only objects of its own, and then notes the hashes
of what it read: a publication that was killed reads the shards again, but makes nothing twice.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from jaxtyping import Int8
from tqdm import tqdm

from unigeo.producer.publishing.averaging import overviews_of
from unigeo.producer.publishing.objects import (
    decode_object,
    digest,
    need_object,
    read_object,
    write_object,
)
from unigeo.producer.publishing.principal import (
    SAMPLED_CELLS,
    SAMPLED_SHARDS,
    Colours,
    fit_colours,
    spread,
)
from unigeo.producer.publishing.releases import digest_of_shard
from unigeo.producer.raster.planning import stored_shards
from unigeo.schemas.attributes import UnigeoAttributes
from unigeo.schemas.grid import Window
from unigeo.schemas.layout import Layout, status_name
from unigeo.schemas.manifest import ArrayManifest, shard_key
from unigeo.schemas.overviews import overview_path
from unigeo.schemas.preview import preview_path
from unigeo.schemas.quantization import FILL
from unigeo.schemas.status import Status

NOTES = "publishing"
"""Where the notes of an unfinished publication stand; they are removed at its end."""


@dataclass(frozen=True, eq=False)
class Facts:
    """What is stored of one modality."""

    vectors: ArrayManifest
    status: ArrayManifest
    valid_cells: np.ndarray
    tasks: np.ndarray
    """SHA-256 of what decided each shard's content."""


def sample_vectors(
    group: zarr.Group, modality: str, layout: Layout
) -> Int8[np.ndarray, "cell band"]:
    """Vectors spread evenly over the shards that hold any, and over each shard's cells."""
    shards = sorted(stored_shards(group.store, modality))
    parts = [np.empty((0, layout.bands), np.int8)]
    for number in spread(len(shards), SAMPLED_SHARDS).tolist():
        stored, _ = _read(group, modality, layout, *shards[number])
        if stored is not None:
            cells = stored[stored[..., 0] != FILL]
            parts.append(cells[spread(len(cells), SAMPLED_CELLS)])
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
) -> dict[str, Facts]:
    """Hash every shard; write its overviews and its part of the picture where they are not yet.

    Args:
        group: the root, with the groups of overviews and pictures in it.
        own: of the field.
        colours: by modality.
        factors: of the overviews.
        progress: show a bar on stderr.
    """
    layout = own.layout.layout()
    shards = layout.shards(own.grid.grid())
    facts = {
        modality: Facts(
            ArrayManifest.empty(shards),
            ArrayManifest.empty(shards),
            np.zeros(shards, np.int64),
            np.zeros((*shards, 32), np.uint8),
        )
        for modality in layout.modalities
    }
    tasks = list(_tasks(group, layout))
    for modality, row, col in tqdm(tasks, unit="shard", desc="publish", disable=not progress):
        one = facts[modality]
        status_body = need_object(group.store, shard_key(status_name(modality), row, col, 2))
        body = read_object(group.store, shard_key(modality, row, col, 3))
        _note(one.status, row, col, status_body)
        if body is not None:
            _note(one.vectors, row, col, body)
        status = _decode(group, status_name(modality), layout, row, col, status_body)
        one.valid_cells[row, col] = np.count_nonzero(status == Status.VALID)
        window = Window(row * layout.shard, col * layout.shard, layout.shard, layout.shard)
        task = digest_of_shard(own, modality, window, status)
        one.tasks[row, col] = np.frombuffer(task, np.uint8)
        key = f"{NOTES}/{modality}.{row}.{col}.json"
        made_of = {
            "vectors": digest(body or b"").hex(),
            "status": digest(status_body).hex(),
            "colours": colours[modality].digest(),
            "factors": list(factors),
        }
        note = json.dumps(made_of, sort_keys=True).encode()
        if read_object(group.store, key) == note:
            continue
        if body is None:
            stored = np.full((*status.shape, layout.bands), FILL, np.int8)
        else:
            stored = _decode(group, modality, layout, row, col, body)
        _write(group, modality, layout, (row, col), stored, status, colours[modality], factors)
        write_object(group.store, key, note)
    return facts


def _tasks(group: zarr.Group, layout: Layout) -> Iterator[tuple[str, int, int]]:
    for modality in layout.modalities:
        for row, col in sorted(stored_shards(group.store, status_name(modality))):
            yield modality, row, col


def _note(manifest: ArrayManifest, row: int, col: int, content: bytes) -> None:
    manifest.sha256[row, col] = np.frombuffer(digest(content), np.uint8)
    manifest.size_bytes[row, col] = len(content)


def _read(
    group: zarr.Group, modality: str, layout: Layout, row: int, col: int
) -> tuple[np.ndarray | None, bytes | None]:
    body = read_object(group.store, shard_key(modality, row, col, 3))
    return (None if body is None else _decode(group, modality, layout, row, col, body)), body


def _decode(
    group: zarr.Group, array: str, layout: Layout, row: int, col: int, body: bytes
) -> np.ndarray:
    found: Any = group[array]
    key = shard_key(array, row, col, found.ndim).removeprefix(f"{array}/")
    return decode_object(found, key, body, _window(layout.shard, row, col))


def _window(side: int, row: int, col: int) -> tuple[slice, slice]:
    return slice(row * side, (row + 1) * side), slice(col * side, (col + 1) * side)


def _write(
    group: zarr.Group,
    modality: str,
    layout: Layout,
    place: tuple[int, int],
    stored: np.ndarray,
    status: np.ndarray,
    colours: Colours,
    factors: tuple[int, ...],
) -> None:
    """Everything that one shard's content decides alone."""
    writable: Any = group
    picture = colours.paint(stored)
    writable[f"{preview_path(1)}/{modality}"][:, *_window(layout.shard, *place)] = picture
    for factor, vectors, codes in overviews_of(stored, status, factors):
        window = _window(layout.shard // factor, *place)
        path = f"{overview_path(factor)}/{modality}"
        writable[path][window] = vectors
        writable[status_name(path)][window] = codes
