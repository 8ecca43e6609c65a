"""Files of a predicted map: a GeoTIFF, or a Zarr store that is renamed when it is complete."""

import os
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np

from unigeo.client.areas.geotiff_files import create_geotiff, import_rasterio, raster_window
from unigeo.client.probing.prediction_map import PredictionMap
from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.addresses import absolute_url, check_destination
from unigeo.schemas.io.atomic_files import folder_beside, partial_path
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.io.store_errors import unreachable_errors
from unigeo.schemas.io.stores import open_store
from unigeo.schemas.store.layout import (
    axis_attributes,
    georeferenced,
    georeferenced_array,
    spatial_ref_attributes,
)

_ROOTS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
"""Files in the root folder of a Zarr store, of which it has at least one."""


def write_geotiff(predictions: PredictionMap, path: Path, *, progress: bool = False) -> Path:
    """Write a tiled, deflated GeoTIFF, one band per layer.

    Args:
        predictions: map to write.
        path: file that `check_geotiff_path` accepted; an existing one is replaced.
        progress: show a bar on stderr.

    Raises:
        StoreError: if the file cannot be written; no part of it is left then.
        MissingExtraError: without rasterio.
    """
    import_rasterio(", or write .to_zarr()")
    layers = predictions.model.layers
    with create_geotiff(
        path,
        "the map",
        predictions.grid,
        count=len(layers),
        dtype="float32",
        nodata=np.nan,
        compress="deflate",
        predictor=3,
    ) as raster:
        for number, layer in enumerate(layers, start=1):
            raster.set_band_description(number, layer)
            raster.update_tags(number, **_geotiff_tags(predictions.layer_attributes(layer)))
        raster.update_tags(**_geotiff_tags(predictions.root_attributes()))
        for window, values in predictions.predict_parts(progress):
            raster.write(values, window=raster_window(window))
    return path


def check_zarr_path(url: Any, overwrite: bool) -> Path | None:
    """Refuse a path to which no map can be written, before any cell is predicted.

    Args:
        url: a path, an address, or a Zarr store object.
        overwrite: whether an existing map may be replaced.

    Returns:
        The local path; None for an address or a store object.

    Raises:
        StoreError: if `url` is none of these, the name is empty, the parent folder does not exist,
            or something exists at the path that must not be replaced: anything without `overwrite`;
            with it a file, a folder that is no Zarr store, and a unigeo field.
    """
    from zarr.abc.store import Store

    if isinstance(url, Store):
        return None
    if not isinstance(url, str | os.PathLike):
        raise StoreError(
            f"cannot write the map to a {type(url).__name__}: give a path, an address or a Zarr "
            "store"
        )
    name = os.fspath(url)
    if name.startswith("file:"):
        name = str(absolute_url(name))
    if "://" in name:
        return None
    path = Path(name)
    if not name.strip() or not path.name:
        raise StoreError(f"cannot write the map {name!r}: name a new folder, such as map.zarr")
    path = path.absolute()
    check_destination(path, f"the map {url}")
    if not os.path.lexists(path):
        return path
    if not overwrite:
        raise StoreError(
            f"cannot write the map {url}: it is there already; allow it to be replaced "
            "(overwrite=True, or --overwrite), remove it, or name another"
        )
    if path.is_symlink() or not _is_store(path):
        raise StoreError(
            f"cannot write the map {url}: what is there is no Zarr store, and is not overwritten; "
            "name another"
        )
    if _is_field(path):
        raise StoreError(
            f"cannot write the map {url}: a unigeo field is there, and is not overwritten; name "
            "another"
        )
    return path


def write_zarr(
    predictions: PredictionMap, url: Any, *, overwrite: bool = False, progress: bool = False
) -> None:
    """Write a Zarr store, its consolidated metadata last.

    A local store is written into a folder beside its path and renamed when it is complete; only
    then is an existing store replaced. At an address or in a store object nothing is replaced.

    Raises:
        StoreError: if the store cannot be written, or something exists that must not be replaced.
    """
    path = check_zarr_path(url, overwrite)
    if path is None:
        _write_store(predictions, url, progress)
        return
    partial = partial_path(path)
    if os.path.lexists(partial) and (partial.is_symlink() or not _is_store(partial)):
        raise StoreError(f"cannot write the map {url}: {partial} is in the way; remove it")
    try:
        with folder_beside(path, overwrite=overwrite) as partial:
            _write_store(predictions, partial, progress)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write the map {url}: {error}") from error


def _is_store(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in _ROOTS)


def _is_field(path: Path) -> bool:
    try:
        root = load_json((path / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(root, dict) and "unigeo" in (root.get("attributes") or {})


def _write_store(predictions: PredictionMap, url: Any, progress: bool) -> None:
    import zarr
    from zarr.errors import ContainsArrayError, ContainsGroupError

    store = open_store(url, read_only=False)
    shard = predictions.field.layout.shard
    try:
        attributes = georeferenced(predictions.root_attributes(), predictions.grid)
        group = zarr.create_group(store, attributes=attributes)
        _write_coordinates(predictions, group)
        arrays = [
            group.create_array(
                layer,
                shape=predictions.grid.shape,
                chunks=tuple(min(shard, size) for size in predictions.grid.shape),
                dtype="float32",
                fill_value=np.nan,
                dimension_names=("y", "x"),
                attributes=georeferenced_array(
                    predictions.array_attributes(layer) | {"coordinates": "spatial_ref"},
                    predictions.grid,
                ),
            )
            for layer in predictions.model.layers
        ]
        for window, layers in predictions.predict_parts(progress, aligned=True):
            for array, values in zip(arrays, layers, strict=True):
                array[window.slices] = values
        with warnings.catch_warnings():
            # zarr warns that format 3 does not specify consolidation; readers support it
            warnings.simplefilter("ignore", UserWarning)
            zarr.consolidate_metadata(store)
    except (ContainsGroupError, ContainsArrayError) as error:
        raise StoreError(
            f"cannot write the map {url}: there is a store already, and only a local one is "
            "overwritten; name another"
        ) from error
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write the map {url}: {error}") from error


def _write_coordinates(predictions: PredictionMap, group: Any) -> None:
    for axis in ("y", "x"):
        values = getattr(predictions.grid, axis)
        group.create_array(
            axis,
            data=values,
            chunks=values.shape,
            dimension_names=(axis,),
            attributes=axis_attributes(cast(Any, axis)),
        )
    group.create_array(
        "spatial_ref",
        data=np.array(0, np.int64),
        dimension_names=(),
        attributes=spatial_ref_attributes(predictions.grid),
    )


def _geotiff_tags(attributes: dict[str, Any]) -> dict[str, str]:
    """Convert attributes to tags of a GeoTIFF, which are text."""
    return {key.upper().replace(":", "_"): str(value) for key, value in attributes.items()}
