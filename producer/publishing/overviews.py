"""The group `overviews` of a store: creation of its empty arrays, and the sizes of its objects."""

from collections.abc import Mapping

import numpy as np
import zarr

from unigeo.producer.publishing.derive import Objects
from unigeo.producer.storage.field_arrays import create_arrays
from unigeo.producer.storage.staged_groups import add_array, new_group, replace_group
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
    """Create the arrays that do not exist yet; the metadata of their groups is written at the end.

    Args:
        group: the field's root.
        grid: grid of the field.
        layout: layout of the field.

    Returns:
        Factors of the overviews.
    """
    factors = overview_factors(layout)
    for factor in factors:
        coarser = grid.coarsen(factor), coarser_layout(layout, factor)
        create_arrays(group.store, overview_path(factor), *coarser)
    return factors


def write_sizes(
    group: zarr.Group,
    path: str,
    arrays: Mapping[str, int],
    shards: tuple[int, int],
    made: Objects,
) -> None:
    """Write the size of each object, so that a reader can tell a lost one from one without data.

    Args:
        group: the root.
        path: path of the level in it.
        arrays: dimensions of the level's sharded arrays, by name.
        shards: rows and columns of shards.
        made: all objects.
    """
    manifest = new_group()
    for array, dimensions in arrays.items():
        sizes = np.zeros(shards, np.int64)
        for row, col in np.ndindex(*shards):
            key = f"{path}/{shard_key(array, row, col, dimensions)}"
            if key in made:  # else 0: no data, hence no object
                sizes[row, col] = made[key][1]
        add_array(manifest, f"{array}_bytes", sizes, SHARDS)
    replace_group(group.store, f"{path}/{MANIFEST}", manifest)


def overview_arrays(layout: Layout) -> dict[str, int]:
    """Return the number of dimensions of an overview's sharded arrays, by name."""
    return {
        array: dimensions
        for name in layout.modalities
        for array, dimensions in ((name, 3), (status_name(name), 2))
    }
