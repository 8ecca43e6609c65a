"""The group `preview` of a store: creation of its empty levels, and the pyramid from the finest."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import zarr
from jaxtyping import UInt8

from unigeo.producer.publishing.principal_directions import Colours, unit_axes
from unigeo.producer.storage.staged_groups import add_array, new_group, write_group
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.layout import (
    Layout,
    axis_attributes,
    georeferenced,
    georeferenced_array,
    spatial_ref_attributes,
)
from unigeo.schemas.store.multiscales import multiscale_attributes
from unigeo.schemas.store.preview import (
    COLOUR,
    GROUP,
    NO_COLOUR,
    axes_name,
    colour_attributes,
    preview_factors,
    preview_path,
    stretch_name,
)


def create_preview(
    group: zarr.Group, grid: Grid, layout: Layout, colours: Mapping[str, Colours]
) -> None:
    """Create the empty images; an image of an interrupted publication keeps its chunks."""
    preview = new_group()
    for modality in layout.modalities:
        chosen = colours[modality]
        add_array(
            preview,
            axes_name(modality),
            unit_axes(chosen.axes),
            (COLOUR, layout.dimension(modality)),
        )
        add_array(preview, stretch_name(modality), chosen.stretch, (COLOUR, "end"))
    for factor, level in _levels(grid, layout).items():
        _add_level(preview, factor, level, layout)
    write_group(group.store, GROUP, preview, as_group=False)


def preview_attributes(grid: Grid, layout: Layout) -> dict[str, Any]:
    """Return the attributes of the group `preview`."""
    return multiscale_attributes(_levels(grid, layout))


def _levels(grid: Grid, layout: Layout) -> dict[int, Grid]:
    return {factor: grid.coarsen(factor) for factor in preview_factors(grid, layout)}


def _add_level(preview: zarr.Group, factor: int, grid: Grid, layout: Layout) -> None:
    path = preview_path(factor).removeprefix(f"{GROUP}/")
    preview.create_group(path, attributes=georeferenced({}, grid))
    for modality in layout.modalities:
        preview.create_array(
            f"{path}/{modality}",
            shape=(3, *grid.shape),
            dtype="uint8",
            chunks=(3, layout.shard, layout.shard),
            compressors=None,
            filters=None,
            fill_value=NO_COLOUR,
            dimension_names=(COLOUR, "y", "x"),
            attributes=georeferenced_array(
                {
                    "long_name": f"{modality} vectors, main directions 1 to 3 as red, green, blue",
                    "grid_mapping": "spatial_ref",
                    "coordinates": "spatial_ref",
                    "nodata": NO_COLOUR,
                },
                grid,
            ),
        )
    add_array(
        preview, f"{path}/{COLOUR}", np.arange(3, dtype=np.int16), (COLOUR,), colour_attributes()
    )
    add_array(preview, f"{path}/x", grid.x, ("x",), axis_attributes("x"))
    add_array(preview, f"{path}/y", grid.y, ("y",), axis_attributes("y"))
    zero = np.array(0, np.int32)
    add_array(preview, f"{path}/spatial_ref", zero, (), spatial_ref_attributes(grid))


def build_pyramid(group: zarr.Group, grid: Grid, layout: Layout) -> None:
    """Compute each coarser level from the one before it, one chunk at a time.

    A pixel is the mean of the pixels below it that have data, rounded half up.
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
                    rgb = below[:, 2 * row : 2 * (row + height), 2 * col : 2 * (col + width)]
                    level[:, row : row + height, col : col + width] = halved(np.asarray(rgb))


def halved(rgb: UInt8[np.ndarray, "3 row col"]) -> UInt8[np.ndarray, "3 row2 col2"]:
    """Average every two by two pixels; pixels of 0 have no data and do not count."""
    _, rows, cols = rgb.shape
    # uint16 because the sum of four bytes overflows uint8.
    blocks = rgb.reshape(3, rows // 2, 2, cols // 2, 2).astype(np.uint16)
    count = (blocks > 0).sum(axis=(2, 4), dtype=np.uint16)
    total = blocks.sum(axis=(2, 4), dtype=np.uint16)
    # Adding half the count before the integer division rounds half up, without floats.
    return np.where(count > 0, (total + count // 2) // np.maximum(count, 1), 0).astype(np.uint8)
