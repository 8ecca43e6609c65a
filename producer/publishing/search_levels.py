"""The group `search` of a store: its empty arrays, and the objects that `derive` fills."""

from collections.abc import Iterator, Mapping

import numpy as np
import zarr
from jaxtyping import Int, Int8, Int16

from unigeo.producer.publishing.principal_directions import project, unit_axes
from unigeo.producer.storage.field_arrays import create_numbers
from unigeo.producer.storage.shard_codec import Buffers, VectorObject
from unigeo.producer.storage.staged_groups import add_array, new_group, write_group
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.layout import (
    Layout,
    axis_attributes,
    band_numbers,
    georeferenced,
    spatial_ref_attributes,
)
from unigeo.schemas.store.search_levels import (
    GROUP,
    NUMBERS,
    axes_name,
    search_factors,
    search_layout,
    searched_modalities,
)


def create_search(
    group: zarr.Group, grid: Grid, layout: Layout, axes: Mapping[str, np.ndarray]
) -> tuple[int, ...]:
    """Create the empty arrays; those of an interrupted publication keep their chunks.

    Returns:
        Factors of the levels; none if no modality is wide.
    """
    factors = search_factors(layout)
    if not factors:
        return ()
    search = new_group()
    for name in searched_modalities(layout):
        dimensions = (search_layout(layout, 1).dimension(name), layout.dimension(name))
        add_array(search, axes_name(name), unit_axes(axes[name]), dimensions)
    for factor in factors:
        _add_level(search, factor, grid.coarsen(factor) if factor > 1 else grid, layout)
    write_group(group.store, GROUP, search, as_group=False)
    return factors


def _add_level(search: zarr.Group, factor: int, grid: Grid, layout: Layout) -> None:
    path, level = f"{factor}/", search_layout(layout, factor)
    search.create_group(str(factor), attributes=georeferenced({}, grid))
    for name in level.modalities:
        about = {"long_name": f"{name} vectors along {NUMBERS} main directions, quantized"}
        create_numbers(search, name, grid, level, about, path=path)
    dimension = level.dimension(level.modalities[0])
    about = {"long_name": "number of the main direction"}
    add_array(search, f"{path}{dimension}", band_numbers(NUMBERS), (dimension,), about)
    add_array(search, f"{path}x", grid.x, ("x",), axis_attributes("x"))
    add_array(search, f"{path}y", grid.y, ("y",), axis_attributes("y"))
    zero = np.array(0, np.int32)
    add_array(search, f"{path}spatial_ref", zero, (), spatial_ref_attributes(grid))


class SearchObjects:
    """Builder of the objects of one shard in each level; there are none without axes."""

    def __init__(
        self,
        layout: Layout,
        axes: Int16[np.ndarray, "axis band"] | None,
        buffers: Mapping[int, Buffers],
    ) -> None:
        """Start without data.

        Args:
            layout: layout of the field.
            axes: directions in units of 2^-14; None if the modality is narrow.
            buffers: memory for the objects of each level, by its factor.
        """
        self._axes = axes
        factors = () if axes is None else search_factors(layout)
        self._objects = {
            factor: VectorObject(search_layout(layout, factor), NUMBERS, buffers[factor])
            for factor in factors
        }

    def put(
        self,
        factor: int,
        cells: Int[np.ndarray, " cell"],
        stored: Int8[np.ndarray, "cell band"],
    ) -> None:
        """Store the numbers of some cells of a level.

        Args:
            factor: factor of the level.
            cells: cells of its shard, counted row by row.
            stored: their vectors, quantized, none of them missing.
        """
        if self._axes is not None and len(cells):
            self._objects[factor].put(cells, project(stored, self._axes))

    def finish(self) -> Iterator[tuple[int, memoryview]]:
        """Yield each object that has a vector, by its factor; its memory is reused afterwards."""
        for factor, one in self._objects.items():
            content = one.finish()
            if content is not None:
                yield factor, content
            one.release()
