"""A probe's map as a file: a GeoTIFF or a Zarr store, written beside its place and then renamed."""

import json
import os
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np

from unigeo.client.probing.prediction_map import PredictionMap
from unigeo.schemas.errors import MissingExtraError, StoreError
from unigeo.schemas.io.atomic_files import file_beside, folder_beside, partial_path
from unigeo.schemas.io.store_errors import unreachable_errors
from unigeo.schemas.io.stores import absolute_url, open_store, refuse_inside_a_store
from unigeo.schemas.store.layout import axis_attributes, georeferenced, spatial_ref_attributes

_ROOTS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
"""Files that a Zarr store has one of in its folder."""


def write_geotiff(made: PredictionMap, path: Path, *, progress: bool = False) -> Path:
    """Write a tiled, deflated GeoTIFF, one band per layer.

    Args:
        made: the map.
        path: that `check_geotiff_path` has let pass; a file that is there is replaced.
        progress: show a bar on stderr.

    Raises:
        StoreError: if it cannot be written; nothing is left then.
        MissingExtraError: without rasterio.
    """
    rasterio = _rasterio()
    layers = made.model.layers
    rows, cols = made.grid.shape
    profile = {
        "driver": "GTiff", "dtype": "float32", "nodata": np.nan, "count": len(layers),
        "height": rows, "width": cols, "crs": made.grid.crs,
        "transform": rasterio.Affine(*made.grid.affine), "tiled": True, "blockxsize": 256,
        "blockysize": 256, "compress": "deflate", "predictor": 3, "bigtiff": "if_safer",
    }  # fmt: skip
    try:
        with file_beside(path) as part, rasterio.open(part, "w", **profile) as raster:
            for number, layer in enumerate(layers, start=1):
                raster.set_band_description(number, layer)
                raster.update_tags(number, **_texts(made.own_attributes(layer)))
            raster.update_tags(**_texts(made.root_attributes()))
            for window, values in made.parts(progress):
                at = rasterio.windows.Window(window.col, window.row, window.width, window.height)
                raster.write(values, window=at)
    except (OSError, rasterio.errors.RasterioError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write the map {path}: {error}") from error
    return path


def check_zarr_place(url: Any, overwrite: bool) -> Path | None:
    """Refuse a store that cannot be written, before any work is done for it.

    Args:
        url: a path, an address, or a Zarr store object.
        overwrite: whether a map may be there already.

    Returns:
        The local path; None for an address or an object.

    Raises:
        StoreError: if it is no address, the name is empty, there is no such folder, or the place is
            taken by what must not be replaced: anything without `overwrite`; with it a file, a
            folder that is no Zarr store, and a unigeo field.
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
    if not path.parent.is_dir():
        raise StoreError(f"cannot write the map {url}: there is no folder {path.parent}")
    refuse_inside_a_store(path, f"the map {url}")
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
    made: PredictionMap, url: Any, *, overwrite: bool = False, progress: bool = False
) -> None:
    """Write a Zarr store, its consolidated metadata last.

    A local store is written beside its place. One that is there is replaced when the new one is
    whole; at an address or in an object nothing is ever replaced.

    Raises:
        StoreError: if it cannot be written, or there is what must not be replaced.
    """
    path = check_zarr_place(url, overwrite)
    if path is None:
        _fill(made, url, progress)
        return
    part = partial_path(path)
    if os.path.lexists(part) and (part.is_symlink() or not _is_store(part)):
        raise StoreError(f"cannot write the map {url}: {part} is in the way; remove it")
    try:
        with folder_beside(path, overwrite=overwrite) as part:
            _fill(made, part, progress)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write the map {url}: {error}") from error


def _is_store(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in _ROOTS)


def _is_field(path: Path) -> bool:
    try:
        root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(root, dict) and "unigeo" in (root.get("attributes") or {})


def _fill(made: PredictionMap, url: Any, progress: bool) -> None:
    import zarr
    from zarr.errors import ContainsArrayError, ContainsGroupError

    store = open_store(url, read_only=False)
    shard = made.field.layout.shard
    try:
        attributes = georeferenced(made.root_attributes(), made.grid)
        group = zarr.create_group(store, attributes=attributes)
        _write_coordinates(made, group)
        arrays = [
            group.create_array(
                layer,
                shape=made.grid.shape,
                chunks=tuple(min(shard, size) for size in made.grid.shape),
                dtype="float32",
                fill_value=np.nan,
                dimension_names=("y", "x"),
                attributes=georeferenced(
                    made.attributes(layer) | {"coordinates": "spatial_ref"}, made.grid
                ),
            )
            for layer in made.model.layers
        ]
        for window, values in made.parts(progress, aligned=True):
            for array, layer in zip(arrays, values, strict=True):
                array[window.slices] = layer
        with warnings.catch_warnings():
            # zarr: consolidation is "not part of the specification"; readers know it
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


def _write_coordinates(made: PredictionMap, group: Any) -> None:
    for axis in ("y", "x"):
        values = getattr(made.grid, axis)
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
        attributes=spatial_ref_attributes(made.grid),
    )


def _texts(attributes: dict[str, Any]) -> dict[str, str]:
    return {key.upper().replace(":", "_"): str(value) for key, value in attributes.items()}


def _rasterio() -> Any:
    try:
        import rasterio
        import rasterio.windows
    except ImportError as error:
        raise MissingExtraError(
            "a GeoTIFF needs rasterio: pip install 'unigeo[geo]', or write .to_zarr()"
        ) from error
    return rasterio
