"""Vectors that a shard's other tasks stored, from which its fused vectors are made.

They are read from the store, not kept in memory: whoever fuses, and however often a run was killed,
the inputs are the same bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Int8, UInt8

from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.shard_encoder import Observe, ObservedCells
from unigeo.producer.storage.objects import need_object, read_object
from unigeo.producer.storage.shard_codec import check_fit, naming_shard, rows_of_vectors, status_of
from unigeo.schemas.store.layout import FUSED, Layout, status_name
from unigeo.schemas.store.manifest import shard_key
from unigeo.schemas.store.quantization import FILL
from unigeo.schemas.store.status import Status


@dataclass(frozen=True, eq=False)
class VectorsToFuse:
    """Quantized vectors of cells in several modalities, `FILL` where there is none."""

    modalities: tuple[str, ...]
    codes: Int8[np.ndarray, "cell modality band"]


def fused_from(layout: Layout) -> tuple[str, ...]:
    """Return the modalities of which fused vectors may be made: those of the model's width."""
    return tuple(name for name in layout.model_width_modalities if name != FUSED)


@contextmanager
def stored_vectors(
    store: Any, layout: Layout, task: Task, modalities: tuple[str, ...]
) -> Iterator[Observe]:
    """Read the vectors of a shard in every modality that is fused.

    Args:
        store: Zarr store of the field.
        layout: its layout.
        task: the task of the fused shard.
        modalities: modalities that are fused; a cell that has none of them has no fused vector.

    Yields:
        A function from cells of the shard, counted row by row, to `VectorsToFuse`. A cell that
        failed in one of the modalities is unreadable: fused of the others it would pass for a
        whole one.

    Raises:
        LayoutError: if a shard is damaged or has lost its vectors, naming it and what to do.
    """
    shards = {name: _read_shard(store, layout, name, task) for name in modalities}
    failed = {name: status == Status.FAILED for name, (_, status) in shards.items()}
    lost = np.any(list(failed.values()), axis=0)
    cause = f"failed in {', '.join(name for name, cells in failed.items() if cells.any())}"

    def observe(part: Int[np.ndarray, " cell"]) -> ObservedCells:
        codes = np.stack([vectors[part] for vectors, _ in shards.values()], axis=1)
        valid = (codes[..., 0] != FILL).any(axis=1) & ~lost[part]
        return ObservedCells(VectorsToFuse(tuple(shards), codes), valid, lost[part], cause=cause)

    yield observe


def _read_shard(
    store: Any, layout: Layout, modality: str, task: Task
) -> tuple[Int8[np.ndarray, "cell band"], UInt8[np.ndarray, " cell"]]:
    """Read vectors and statuses of all cells of a modality's shard, row by row."""
    key = shard_key(modality, task.shard_row, task.shard_col, 3)
    status_key = shard_key(status_name(modality), task.shard_row, task.shard_col, 2)
    width = layout.width(modality)
    with naming_shard(key):
        status = status_of(need_object(store, status_key), layout)
        (stored,) = rows_of_vectors(read_object(store, key), layout, width, layout.shard)
        check_fit(stored[..., 0] != FILL, status, "a vector")
    return stored.reshape(-1, width), status.ravel()
