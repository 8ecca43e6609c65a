"""The group `preview` of a store: created empty, and its coarser levels made of the finer ones."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import zarr
from jaxtyping import UInt8

from unigeo.producer.publishing.principal import Colours
from unigeo.schemas.grid import Grid
from unigeo.schemas.layout import (
    Layout,
    axis_attributes,
    georeference,
    spatial_ref_attributes,
)
from unigeo.schemas.overviews import coarser_grid
from unigeo.schemas.preview import (
    GROUP,
    axes_name,
    multiscales,
    preview_factors,
    preview_path,
    stretch_name,
)


def create_preview(
    group: zarr.Group, grid: Grid, layout: Layout, colours: Mapping[str, Colours]
) -> None:
    """Make the group, or take up the one that is there: the same colours give the same metadata."""
    factors = preview_factors(grid, layout)
    if GROUP not in group:
        group.create_group(GROUP, attributes=multiscales(factors) | georeference(grid))
    for modality in layout.modalities:
        chosen = colours[modality]
        put_whole(group, f"{GROUP}/{axes_name(modality)}", chosen.unit_axes, ("rgb", "band"))
        put_whole(group, f"{GROUP}/{stretch_name(modality)}", chosen.stretch, ("rgb", "end"))
    for factor in factors:
        _create_level(group, factor, coarser_grid(grid, factor), layout)


def _create_level(group: zarr.Group, factor: int, grid: Grid, layout: Layout) -> None:
    path = preview_path(factor)
    if path not in group:
        group.create_group(path, attributes=georeference(grid))
    for modality in layout.modalities:
        if f"{path}/{modality}" in group:
            continue
        group.create_array(
            f"{path}/{modality}",
            shape=(3, *grid.shape),
            dtype="uint8",
            chunks=(3, layout.shard, layout.shard),
            compressors=None,
            filters=None,
            fill_value=0,
            dimension_names=("rgb", "y", "x"),
            attributes={
                "long_name": f"{modality} vectors, main directions 1 to 3 as red, green, blue",
                "grid_mapping": "spatial_ref",
                "coordinates": "spatial_ref",
                **georeference(grid),
            },
        )
    put_whole(group, f"{path}/x", grid.x, ("x",), axis_attributes("x"))
    put_whole(group, f"{path}/y", grid.y, ("y",), axis_attributes("y"))
    put_whole(group, f"{path}/spatial_ref", np.array(0, np.int32), (), spatial_ref_attributes(grid))


def build_pyramid(group: zarr.Group, grid: Grid, layout: Layout) -> None:
    """Make each coarser level of the one before it, one chunk at a time.

    A pixel is the mean of the pixels below it that show something, rounded half up.
    """
    factors = preview_factors(grid, layout)
    side, arrays = layout.shard, group
    for modality in layout.modalities:
        for finer, coarser in pairwise(factors):
            below: Any = arrays[f"{preview_path(finer)}/{modality}"]
            level: Any = arrays[f"{preview_path(coarser)}/{modality}"]
            rows, cols = level.shape[1:]
            for row in range(0, rows, side):
                for col in range(0, cols, side):
                    height, width = min(side, rows - row), min(side, cols - col)
                    seen = below[:, 2 * row : 2 * (row + height), 2 * col : 2 * (col + width)]
                    level[:, row : row + height, col : col + width] = halved(np.asarray(seen))


def halved(rgb: UInt8[np.ndarray, "3 row col"]) -> UInt8[np.ndarray, "3 row2 col2"]:
    """Means of two by two pixels; those that are 0, no data, do not count."""
    _, rows, cols = rgb.shape
    blocks = rgb.reshape(3, rows // 2, 2, cols // 2, 2).astype(np.uint16)
    count = (blocks > 0).sum(axis=(2, 4), dtype=np.uint16)
    total = blocks.sum(axis=(2, 4), dtype=np.uint16)
    return np.where(count > 0, (total + count // 2) // np.maximum(count, 1), 0).astype(np.uint8)


def put_whole(
    group: zarr.Group,
    name: str,
    values: np.ndarray,
    dimension_names: tuple[str, ...],
    attributes: dict[str, Any] | None = None,
) -> None:
    """Write a small array as one chunk, in the place of one that is there."""
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        # An encoder without registers has an array of no rows, and zarr no chunk of no length.
        chunks=tuple(max(1, side) for side in values.shape) or "auto",
        compressors=None,
        filters=None,
        fill_value=0,
        config={"write_empty_chunks": True},
        dimension_names=dimension_names,
        attributes=attributes,
        overwrite=True,
    )
    array[...] = values
