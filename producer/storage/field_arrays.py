"""The arrays of an empty field: vectors, covariates, statuses and coordinates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec

from unigeo.producer.storage.object_io import exists, put
from unigeo.producer.storage.staged_groups import add_array, new_group, objects_of
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.covariates import Covariate, covariate_attributes
from unigeo.schemas.store.layout import (
    COVARIATES,
    NAME,
    Layout,
    array_attributes,
    axis_attributes,
    band_numbers,
    spatial_ref_attributes,
    status_name,
)


def create_arrays(
    store: Any, path: str, grid: Grid, layout: Layout, covariates: Sequence[Covariate] = ()
) -> None:
    """Write the objects of an empty field that are missing: a run may have been killed on its way.

    Nothing is ever removed, so that two runs that begin together end with the same objects.
    """
    empty = new_group()
    for array in layout.arrays:
        about = covariate_attributes(covariates) if array == COVARIATES else {}
        create_numbers(empty, array, grid, layout, about)
        _create_status(empty, array, grid, layout)
    _create_coordinates(empty, grid, layout)
    prefix = f"{path}/" if path else ""
    for key, body in objects_of(empty).items():
        if key != "zarr.json" and not exists(store, prefix + key):
            put(store, prefix + key, body)


def create_numbers(
    group: zarr.Group,
    name: str,
    grid: Grid,
    layout: Layout,
    about: dict[str, Any],
    *,
    path: str = "",
) -> None:
    """Create an empty array of vectors or covariates.

    Args:
        group: group in memory.
        name: name of the array in the layout.
        grid: grid of its cells.
        layout: layout of the array.
        about: attributes beside those of any such array.
        path: path of the array's group.
    """
    inner: list[Any] = [BytesCodec(), Crc32cCodec()]
    width = layout.width(name)
    if layout.codec == "zstd":
        inner.insert(1, ZstdCodec(level=3))
    group.create_array(
        f"{path}{name}",
        shape=(*grid.shape, width),
        dtype=layout.dtype(name),
        chunks=(layout.shard, layout.shard, width),
        serializer=ShardingCodec(chunk_shape=(layout.chunk, layout.chunk, width), codecs=inner),
        compressors=None,
        filters=None,
        fill_value=layout.fill(name),
        dimension_names=("y", "x", layout.dimension(name)),
        attributes=array_attributes(name, grid) | about,
    )


def _create_status(group: zarr.Group, modality: str, grid: Grid, layout: Layout) -> None:
    group.create_array(
        status_name(modality),
        shape=grid.shape,
        dtype="uint8",
        chunks=(layout.shard, layout.shard),
        compressors=None,
        # No CRC either, which GDAL 3.12 refuses: the hashes of these objects are in the manifest.
        filters=None,
        fill_value=0,
        dimension_names=("y", "x"),
        attributes=array_attributes(modality, grid, status=True),
    )


def _create_coordinates(group: zarr.Group, grid: Grid, layout: Layout) -> None:
    about = {"long_name": "number of the vector's dimension"}
    coordinates: list[tuple[str, np.ndarray, dict[str, Any]]] = [
        ("x", grid.x, axis_attributes("x")),
        ("y", grid.y, axis_attributes("y")),
        *((name, band_numbers(n), about) for name, n in layout.band_dimensions.items()),
        ("spatial_ref", np.array(0, np.int32), spatial_ref_attributes(grid)),
    ]
    if layout.covariates:
        names = np.array(layout.covariates, np.dtypes.StringDType())
        coordinates.append((NAME, names, {"long_name": "name of the covariate"}))
    for name, values, attributes in coordinates:
        # A fill value that no coordinate has.
        fills: dict[str, float | str] = {"f": np.nan, "T": ""}
        fill_value = fills.get(values.dtype.kind, -1)
        add_array(
            group, name, values, (name,) if values.ndim else (), attributes, fill_value=fill_value
        )
