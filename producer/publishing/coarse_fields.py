"""The group `overviews` of a store: fields of coarser cells, created empty."""

from typing import Any

import numpy as np
import zarr

from unigeo.producer.publishing.objects import list_objects, object_size
from unigeo.producer.publishing.pictures import put_whole
from unigeo.producer.raster.store import create_arrays
from unigeo.schemas.grid import Grid
from unigeo.schemas.layout import Layout, status_name
from unigeo.schemas.manifest import GROUP as MANIFEST
from unigeo.schemas.manifest import shard_key
from unigeo.schemas.overviews import (
    GROUP,
    coarser_grid,
    coarser_layout,
    overview_attributes,
    overview_factors,
    overview_path,
)


def create_overviews(
    group: zarr.Group, attributes: dict[str, Any], grid: Grid, layout: Layout
) -> tuple[int, ...]:
    """Make the groups and arrays that are not there yet.

    Args:
        group: the field's root.
        attributes: of the root, once it is published.
        grid: of the field.
        layout: of the field.

    Returns:
        Their factors.
    """
    factors = overview_factors(layout)
    if factors and GROUP not in group:
        group.create_group(GROUP, attributes={"factors": list(factors)})
    for factor in factors:
        path = overview_path(factor)
        told = overview_attributes(attributes, grid, factor)
        if path not in group:
            group.create_group(path)
        one: Any = group[path]
        if dict(one.attrs) != told:
            one.attrs.put(told)
        create_arrays(one, coarser_grid(grid, factor), coarser_layout(layout, factor))
    return factors


def write_sizes(group: zarr.Group, factors: tuple[int, ...], layout: Layout, grid: Grid) -> None:
    """Note the bytes of each object, so that a lost one is told from one of no data."""
    for factor in factors:
        path = overview_path(factor)
        if f"{path}/{MANIFEST}" not in group:
            group.create_group(f"{path}/{MANIFEST}")
        for modality in layout.modalities:
            for array, dimensions in ((modality, 3), (status_name(modality), 2)):
                sizes = np.zeros(layout.shards(grid), np.int64)
                stored = set(list_objects(group.store, f"{path}/{array}/c/"))
                for row, col in np.ndindex(*sizes.shape):
                    key = f"{path}/{shard_key(array, row, col, dimensions)}"
                    if key in stored:
                        sizes[row, col] = object_size(group.store, key)
                put_whole(
                    group,
                    f"{path}/{MANIFEST}/{array}_bytes",
                    sizes,
                    ("shard_row", "shard_col"),
                )
