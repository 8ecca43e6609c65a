"""A fitted probe over a region: a raster whose cells are computed when they are looked at."""

import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr
from jaxtyping import Float
from xarray.backends import BackendArray
from xarray.core import indexing

from unigeo.client.progress import watched
from unigeo.client.threads import one_thread
from unigeo.schemas.errors import MissingExtraError, RegionError, StoreError
from unigeo.schemas.grid import Grid, Window
from unigeo.schemas.layout import (
    axis_attributes,
    georeference,
    spatial_ref_attributes,
    status_name,
)
from unigeo.schemas.quantization import dequantize
from unigeo.schemas.regions import Region, region_of_bbox, region_of_geojson
from unigeo.schemas.regions import region as region_of_name
from unigeo.schemas.status import Status
from unigeo.schemas.stores import open_store, unreachable_errors

if TYPE_CHECKING:
    from unigeo.client.field import Field
    from unigeo.client.probing.probes import Model

_STRIP_NUMBERS = 2**23
"""Components of vectors that are held at once: 64 MB as float64."""
_REMEMBERED = 64
"""Pieces of a shard that are kept, so that the layers of a window share its computation; those of
256 x 256 cells take 64 MB."""


@dataclass(frozen=True, eq=False)
class PredictionMap:
    """One target's predictions in a window of a field."""

    field: "Field"
    modalities: tuple[str, ...]
    """Whose vectors, side by side, the model takes."""
    model: "Model"
    target: str
    window: Window
    """Of the field's grid."""
    region: Region | None
    """Cells whose centre lies outside are NaN."""

    @classmethod
    def of(
        cls,
        field: "Field",
        modalities: tuple[str, ...],
        model: "Model",
        target: str,
        region: Any = None,
    ) -> "PredictionMap":
        """A map of the whole field, or of a region in any form that `read_region` takes.

        Raises:
            RegionError: if the region cannot be read, or lies outside the field.
        """
        rows, cols = field.grid.shape
        window, chosen = Window(0, 0, rows, cols), None
        if region is not None:
            chosen = read_region(region)
            window = _window_of(chosen, field.grid)
        return cls(field, modalities, model, target, window, chosen)

    @property
    def grid(self) -> Grid:
        """The map's cells."""
        whole, window = self.field.grid, self.window
        return Grid(
            whole.crs,
            whole.resolution_m,
            whole.row0 + window.row,
            whole.col0 + window.col,
            (window.height, window.width),
        )

    def dataset(self) -> xr.Dataset:
        """The map as a lazy Dataset; see `Probe.map`."""
        pieces = lru_cache(maxsize=_REMEMBERED)(self.compute)
        variables = {
            layer: xr.Variable(
                ("y", "x"),
                indexing.LazilyIndexedArray(_Layer(self, pieces, layer)),
                self._attributes(layer),
                {"preferred_chunks": dict.fromkeys(("y", "x"), self.field.layout.shard)},
            )
            for layer in self.model.layers
        }
        grid = self.grid
        coords = {
            "y": ("y", grid.y, axis_attributes("y")),
            "x": ("x", grid.x, axis_attributes("x")),
            "spatial_ref": ((), 0, spatial_ref_attributes(grid)),
        }
        return xr.Dataset(variables, coords, self._root_attributes())

    def pieces(self, rows: slice, cols: slice) -> Iterator[Window]:
        """The parts of the field's shards that a window of the map (rows, columns of it) touches.

        Yields:
            Windows of the field's grid, row by row.
        """
        shard, window = self.field.layout.shard, self.window
        top, bottom = window.row + rows.start, window.row + rows.stop
        left, right = window.col + cols.start, window.col + cols.stop
        for row in range(top - top % shard, bottom, shard):
            for col in range(left - left % shard, right, shard):
                first, west = max(row, top), max(col, left)
                height, width = min(row + shard, bottom) - first, min(col + shard, right) - west
                yield Window(first, west, height, width)

    def compute(self, piece: Window, layers: tuple[str, ...]) -> Float[np.ndarray, "layer row col"]:
        """Predict the cells of a window of the field's grid, strip by strip; float32."""
        made = np.full((len(layers), piece.height, piece.width), np.nan, np.float32)
        bands = self.field.bands * len(self.modalities)
        step = max(1, _STRIP_NUMBERS // (bands * piece.width))
        for row in range(0, piece.height, step):
            strip = Window(piece.row + row, piece.col, min(step, piece.height - row), piece.width)
            valid = self._valid(strip)
            if not valid.any():
                continue
            read = self.field.read
            stored = [read(name, *strip.slices)[valid] for name in self.modalities]
            vectors = np.concatenate([dequantize(part) for part in stored], axis=1)
            with one_thread():
                found = self.model.predict(vectors, layers)
            for number, layer in enumerate(layers):
                made[number, row : row + strip.height][valid] = found[layer]
        return made

    def to_geotiff(self, path: str | Path, *, progress: bool = False) -> Path:
        """Write a tiled, deflated GeoTIFF beside its place, then rename it.

        Raises:
            StoreError: if it cannot be written.
            MissingExtraError: without rasterio.
        """
        rasterio = _rasterio()
        path, layers = Path(path), self.model.layers
        part = path.with_name(path.name + ".partial")
        rows, cols = self.grid.shape
        profile = {
            "driver": "GTiff", "dtype": "float32", "nodata": np.nan, "count": len(layers),
            "height": rows, "width": cols, "crs": self.grid.crs,
            "transform": rasterio.Affine(*self.grid.affine), "tiled": True, "blockxsize": 256,
            "blockysize": 256, "compress": "deflate", "predictor": 3, "bigtiff": "if_safer",
        }  # fmt: skip
        try:
            with rasterio.open(part, "w", **profile) as raster:
                for number, layer in enumerate(layers, start=1):
                    raster.set_band_description(number, layer)
                    raster.update_tags(number, **_texts(self._own_attributes(layer)))
                raster.update_tags(**_texts(self._root_attributes()))
                for window, values in self._computed(progress):
                    place = rasterio.windows.Window(
                        window.col, window.row, window.width, window.height
                    )
                    raster.write(values, window=place)
            part.replace(path)
        except (OSError, rasterio.errors.RasterioError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"cannot write the map {path}: {error}") from error
        finally:
            part.unlink(missing_ok=True)
        return path

    def to_zarr(self, url: Any, *, progress: bool = False) -> None:
        """Write a Zarr store, its consolidated metadata last; a local one beside its place first.

        Raises:
            StoreError: if it cannot be written, or there is something already.
        """
        if isinstance(url, Path) or (isinstance(url, str) and "://" not in url):
            path = Path(url)
            if path.exists():
                raise StoreError(f"cannot write the map {path}: it is there already; remove it")
            part = path.with_name(path.name + ".partial")
            shutil.rmtree(part, ignore_errors=True)
            try:
                self._write_zarr(part, progress)
                part.replace(path)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        else:
            self._write_zarr(url, progress)

    def _write_zarr(self, url: Any, progress: bool) -> None:
        import zarr
        from zarr.errors import ContainsGroupError

        store = open_store(url, read_only=False)
        try:
            group = zarr.create_group(store, attributes=self._root_attributes())
            self._write_coordinates(group)
            arrays = [
                group.create_array(
                    layer,
                    shape=self.grid.shape,
                    chunks=tuple(min(self.field.layout.shard, size) for size in self.grid.shape),
                    dtype="float32",
                    fill_value=np.nan,
                    dimension_names=("y", "x"),
                    attributes=self._attributes(layer) | {"coordinates": "spatial_ref"},
                )
                for layer in self.model.layers
            ]
            for window, values in self._computed(progress, aligned=True):
                for array, layer in zip(arrays, values, strict=True):
                    array[window.slices] = layer
            with (
                warnings.catch_warnings()
            ):  # zarr: "not part of the specification"; readers know it
                warnings.simplefilter("ignore", UserWarning)
                zarr.consolidate_metadata(store)
        except ContainsGroupError as error:
            raise StoreError(f"cannot write the map {url}: there is a store already") from error
        except unreachable_errors() as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"cannot write the map {url}: {error}") from error

    def _write_coordinates(self, group: Any) -> None:
        for axis in ("y", "x"):
            values = getattr(self.grid, axis)
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
            attributes=spatial_ref_attributes(self.grid),
        )

    def _computed(
        self, progress: bool, *, aligned: bool = False
    ) -> Iterator[tuple[Window, Float[np.ndarray, "layer row col"]]]:
        """Every part of the map, as a window of the map, and its values.

        Args:
            progress: show a bar on stderr.
            aligned: cut along the map's own chunks, which no two parts then share, instead of
                along the field's shards.
        """
        rows, cols = self.grid.shape
        if aligned:
            parts = [
                Window(self.window.row + w.row, self.window.col + w.col, w.height, w.width)
                for w in self.grid.windows(self.field.layout.shard)
            ]
        else:
            parts = list(self.pieces(slice(0, rows), slice(0, cols)))
        for part in watched(parts, f"map {self.target}", "shards", progress):
            place = Window(
                part.row - self.window.row, part.col - self.window.col, part.height, part.width
            )
            yield place, self.compute(part, self.model.layers)

    def _valid(self, strip: Window) -> np.ndarray:
        """Cells that have every vector and lie in the region."""
        codes = [self.field.read(status_name(name), *strip.slices) for name in self.modalities]
        valid: np.ndarray = np.all(np.stack(codes) == Status.VALID, axis=0)
        if self.region is not None and valid.any():
            valid[valid] = self.region.contains(self.field.grid.centres(strip)[valid])
        return valid

    def _root_attributes(self) -> dict[str, Any]:
        own, model = self.field.attributes, self.field.attributes.model
        return {
            "title": f"{self.target}, predicted from the vectors {', '.join(self.modalities)}",
            "source": f"unigeo field {own.region!r}, model {model.name} {model.sha256[:12]}",
            "license": self.field.licence,
            **georeference(self.grid),
        }

    def _attributes(self, layer: str) -> dict[str, Any]:
        return (
            self._own_attributes(layer) | {"grid_mapping": "spatial_ref"} | georeference(self.grid)
        )

    def _own_attributes(self, layer: str) -> dict[str, Any]:
        attributes: dict[str, Any] = {"long_name": f"{self.target} {layer}"}
        classes = getattr(self.model, "classes", None)
        if classes is not None and layer == "prediction":
            attributes["flag_values"] = list(range(len(classes)))
            attributes["flag_meanings"] = " ".join(str(c).replace(" ", "_") for c in classes)
        return attributes


class _Layer(BackendArray):
    """One layer of a map, as xarray reads arrays lazily."""

    def __init__(self, made: PredictionMap, compute: Any, layer: str) -> None:
        self.made, self.compute, self.layer = made, compute, layer
        self.shape = made.grid.shape
        self.dtype = np.dtype(np.float32)
        whole = tuple(made.model.layers)
        self.layers = ("prediction",) if layer == "prediction" else whole

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        basic = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, basic, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        """Integers drop their dimension, slices keep theirs."""
        ranges = [
            range(k, k + 1) if isinstance(k, int | np.integer) else range(*k.indices(size))
            for k, size in zip(key, self.shape, strict=True)
        ]
        drop = tuple(0 if isinstance(k, int | np.integer) else slice(None) for k in key)
        if not all(ranges):
            return np.asarray(np.empty([len(r) for r in ranges], self.dtype)[drop])
        rows, cols = (slice(min(r), max(r) + 1) for r in ranges)
        window = np.empty((rows.stop - rows.start, cols.stop - cols.start), self.dtype)
        corner = self.made.window.row + rows.start, self.made.window.col + cols.start
        for piece in self.made.pieces(rows, cols):
            inside = replace(piece, row=piece.row - corner[0], col=piece.col - corner[1])
            values = self.compute(piece, self.layers)
            window[inside.slices] = values[self.layers.index(self.layer)]
        own = np.ix_(*(np.asarray(r) - min(r) for r in ranges))
        return np.asarray(window[own][drop])


def read_region(region: Any) -> Region:
    """A region from a name, a box (west, south, east, north), a GeoJSON file, or itself.

    Raises:
        RegionError: if it is none of these.
    """
    if isinstance(region, Region):
        return region
    if isinstance(region, Path) or (isinstance(region, str) and region.lower().endswith("json")):
        return region_of_geojson(region)
    if isinstance(region, str):
        return region_of_name(region)
    try:
        west, south, east, north = (float(edge) for edge in region)
    except (TypeError, ValueError) as error:
        raise RegionError(
            f"cannot read a region from {region!r}: give a name, a box (west, south, east, north) "
            "in degrees, a GeoJSON file or a Region"
        ) from error
    return region_of_bbox((west, south, east, north))


def _window_of(region: Region, grid: Grid) -> Window:
    """The part of the grid round a region."""
    own = replace(region, crs=grid.crs).grid(grid.resolution_m, shard=1)
    top, left = max(own.row0 - grid.row0, 0), max(own.col0 - grid.col0, 0)
    bottom = min(own.row0 + own.shape[0] - grid.row0, grid.shape[0])
    right = min(own.col0 + own.shape[1] - grid.col0, grid.shape[1])
    if bottom <= top or right <= left:
        raise RegionError(f"the region {region.name!r} lies outside the field")
    return Window(top, left, bottom - top, right - left)


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
