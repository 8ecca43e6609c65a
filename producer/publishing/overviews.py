"""The group `overviews` of a store: fields of coarser cells, created empty."""

import numpy as np
import zarr

from unigeo.producer.publishing.derive import Objects
from unigeo.producer.storage.field_store import create_arrays
from unigeo.producer.storage.staged_groups import add_whole, draft, replace_group
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.layout import Layout, status_name
from unigeo.schemas.store.manifest import GROUP as MANIFEST
from unigeo.schemas.store.manifest import SHARDS, shard_key
from unigeo.schemas.store.overviews import (
    coarser_layout,
    overview_factors,
    overview_path,
)


def create_overviews(group: zarr.Group, grid: Grid, layout: Layout) -> tuple[int, ...]:
    """Make the arrays that are not there yet; they become groups when they are full.

    Args:
        group: the field's root.
        grid: of the field.
        layout: of the field.

    Returns:
        Their factors.
    """
    factors = overview_factors(layout)
    for factor in factors:
        coarser = grid.coarsen(factor), coarser_layout(layout, factor)
        create_arrays(group.store, overview_path(factor), *coarser)
    return factors


def write_sizes(
    group: zarr.Group, factors: tuple[int, ...], layout: Layout, grid: Grid, made: Objects
) -> None:
    """Note the bytes of each object, so that a lost one is told from one of no data."""
    for factor in factors:
        path = overview_path(factor)
        manifest = draft()
        for modality in layout.modalities:
            for array, dimensions in ((modality, 3), (status_name(modality), 2)):
                sizes = np.zeros(layout.shards(grid), np.int64)
                for row, col in np.ndindex(*sizes.shape):
                    key = f"{path}/{shard_key(array, row, col, dimensions)}"
                    if key in made:
                        sizes[row, col] = made[key][1]
                add_whole(manifest, f"{array}_bytes", sizes, SHARDS)
        replace_group(group.store, f"{path}/{MANIFEST}", manifest)
