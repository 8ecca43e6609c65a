"""Vectors that a shard's other tasks stored, from which its fused vectors are made.

They are read from the store, not kept in memory: whoever fuses, and however often a run was killed,
the inputs are the same bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Int, Int8

from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.shard_encoder import Observe, ObservedCells
from unigeo.producer.storage.objects import read_object
from unigeo.producer.storage.shard_codec import rows_of_vectors
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.layout import FUSED, Layout
from unigeo.schemas.store.manifest import shard_key
from unigeo.schemas.store.quantization import FILL


def fused_from(layout: Layout) -> tuple[str, ...]:
    """Return the modalities of which fused vectors are made: those of the model's width."""
    return tuple(name for name in layout.model_width_modalities if name != FUSED)


@contextmanager
def stored_vectors(store: Any, layout: Layout, task: Task) -> Iterator[Observe]:
    """Read the vectors of a shard in every modality that is fused.

    Args:
        store: Zarr store of the field.
        layout: its layout.
        task: the task of the fused shard.

    Yields:
        A function from cells of the shard, counted row by row, to quantized vectors (cell,
        modality, band), where a missing vector is filled with `FILL`.

    Raises:
        LayoutError: if a shard is damaged, naming it.
    """
    arrays = [_read_shard(store, layout, name, task) for name in fused_from(layout)]

    def observe(part: Int[np.ndarray, " cell"]) -> ObservedCells:
        codes = np.stack([array[part] for array in arrays], axis=1)
        return ObservedCells(codes, (codes[..., 0] != FILL).any(axis=1))

    yield observe


def _read_shard(
    store: Any, layout: Layout, modality: str, task: Task
) -> Int8[np.ndarray, "cell band"]:
    """Read all cells of a modality's shard, row by row."""
    key = shard_key(modality, task.shard_row, task.shard_col, 3)
    width = layout.width(modality)
    try:
        (stored,) = rows_of_vectors(read_object(store, key), layout, width, layout.shard)
    except LayoutError as error:
        raise LayoutError(f"{key}: {error}") from error
    vectors: Int8[np.ndarray, "cell band"] = stored.reshape(-1, width)
    return vectors
