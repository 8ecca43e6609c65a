"""Weights of cells, such as population, from a raster or from a covariate of the field.

A cell's weight is the raster's mean over the cell: exact where the raster's pixels are the field's
cells, else by GDAL's average. Where the raster has no data, or ends, the weight is 0.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.areas.geotiff_files import import_rasterio
from unigeo.client.reading.covariates import chosen_covariates, positions
from unigeo.schemas.errors import RegionError, StoreError
from unigeo.schemas.geo.crs import is_same_crs
from unigeo.schemas.geo.grid import SHARD, Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.layout import COVARIATES
from unigeo.schemas.tables.xarray_points import crs_of_xarray

if TYPE_CHECKING:
    import xarray as xr

    from unigeo.client.reading.stored_field import StoredField

_MOST_BLOCK_BYTES = 1 << 30
_NEAR = 1e-6
"""Difference of positions, in cells, that is rounding."""
_AXES = (("y", "x"), ("lat", "lon"), ("latitude", "longitude"))
"""Names of the dimensions of rows and columns, the last ones of a DataArray."""


@dataclass(frozen=True, eq=False)
class CellWeights:
    """Weights of a field's cells."""

    read: Callable[[Window], Float[np.ndarray, "row col"]]
    """Reads a window of the field's grid; NaN where there is no data."""
    source: str
    """Name of the weights in messages."""
    power: float = 1.0
    """Power to which a cell's number is raised."""

    def window(self, window: Window) -> Float[np.ndarray, "row col"]:
        """Return the weights of a window's cells, 0 where there is no data.

        Raises:
            RegionError: if a weight is negative or infinite.
            StoreError: if the weights cannot be read.
        """
        weights = self.read(window).astype(np.float64)
        bad = np.argwhere((weights < 0) | np.isinf(weights))
        if len(bad):
            row, col = bad[0] + (window.row, window.col)
            raise RegionError(
                f"a weight is a number from 0 up, and {self.source} has {weights[tuple(bad[0])]:g} "
                f"at the cell in row {row}, column {col} of the field; mark what is no weight as "
                "no data"
            )
        with np.errstate(over="ignore"):
            raised = np.nan_to_num(weights) ** self.power
        if np.isinf(raised).any():
            raise RegionError(f"{self.source} to the power of {self.power:g} is not finite")
        return np.asarray(raised)

    def at(
        self, row: Int[np.ndarray, " cell"], col: Int[np.ndarray, " cell"], grid: Grid
    ) -> Float[np.ndarray, " cell"]:
        """Return the weights of some cells of the grid, which are read by blocks."""
        weights = np.zeros(len(row))
        block = np.stack([row // SHARD, col // SHARD], axis=-1)
        blocks, member = np.unique(block, axis=0, return_inverse=True)
        for number, (top, left) in enumerate((blocks * SHARD).tolist()):
            within = Window(top, left, SHARD, SHARD).clipped(grid.full_window)
            mine = np.flatnonzero(member.reshape(-1) == number)
            weights[mine] = self.window(within)[row[mine] - top, col[mine] - left]
        return weights


@contextmanager
def open_weights(field: "StoredField", weights: Any) -> Iterator[CellWeights | None]:
    """Open weights in any form that `Field.zonal` takes.

    Args:
        field: the field whose cells are weighted.
        weights: the path of a GeoTIFF of one band, the name of one of the field's covariates,
            either with a power such as `^2` behind it, a DataArray of two dimensions, or None.

    Raises:
        RegionError: if they are of another form, have no CRS, or more than one band.
        LayoutError: if a covariate is the number of a class.
        StoreError: if a raster cannot be read.
        MissingExtraError: if a raster is given that is read by rasterio, and it is not installed.
    """
    if weights is None:
        yield None
    elif isinstance(weights, str | Path):
        name, power = split_power(str(weights))
        if name in field.layout.covariates:
            yield replace(_of_covariate(field, name), power=power)
        else:
            with _open_raster(name, field) as dataset:
                of_raster = _of_raster(dataset, field.grid, f"the raster {name!r}")
                yield replace(of_raster, power=power)
    else:
        import xarray as xr

        if not isinstance(weights, xr.DataArray):
            raise RegionError(
                f"cannot read weights from a {type(weights).__name__}: give the path of a GeoTIFF, "
                "an xarray DataArray over y and x, or the name of a covariate of the field. A "
                "column of the polygons' table is one number for each, and changes no mean"
            )
        rows = _as_rows(weights)
        aligned = _of_aligned(rows, field.grid)
        if aligned is not None:
            yield aligned
        else:
            with _as_dataset(rows) as dataset:
                yield _of_raster(dataset, field.grid, _name(rows))


def split_power(text: str) -> tuple[str, float]:
    """Split `name^2` into the name and the power, which is 1 without one.

    Raises:
        RegionError: if the power is not above 0.
    """
    name, caret, power = text.rpartition("^")
    if not caret or Path(text).exists():
        return text, 1.0
    try:
        number = float(power)
    except ValueError:
        return text, 1.0
    if not 0 < number < math.inf:
        raise RegionError(f"the power of weights is a number above 0, and {text!r} has {power}")
    return name, number


def _of_covariate(field: "StoredField", name: str) -> CellWeights:
    """Return a covariate as weights.

    Raises:
        LayoutError: if it is the number of a class.
    """
    (number,) = positions(field, chosen_covariates(field, name, numbers_only=True))

    def read(window: Window) -> np.ndarray:
        values: np.ndarray = field.read(COVARIATES, *window.slices)[..., number]
        return values

    return CellWeights(read, f"the covariate {name!r}")


def _name(array: "xr.DataArray") -> str:
    return "the array of weights" if array.name is None else f"the array {str(array.name)!r}"


def _as_rows(array: "xr.DataArray") -> "xr.DataArray":
    """Return a DataArray over y and x from north to south and west to east, without other dims.

    Raises:
        RegionError: if it has other dimensions, or its coordinates do not rise or fall evenly.
    """
    array = array.squeeze(drop=True)
    axes = next((names for names in _AXES if set(names) == set(array.dims)), None)
    if axes is None or not set(axes) <= set(array.coords):
        raise RegionError(
            f"{_name(array)} has the dimensions {', '.join(map(str, array.dims)) or 'none'}; "
            "weights run along y and x, or lat and lon, with coordinates of both"
        )
    array = array.transpose(*axes)
    for name, sign in zip(axes, (-1, 1), strict=True):
        steps = np.diff(array[name].values.astype(np.float64))
        if len(steps) and (steps * sign < 0).all():
            array = array.isel({name: slice(None, None, -1)})
            steps = -steps[::-1]
        if not len(steps) or not np.allclose(steps, steps.mean(), rtol=1e-3) or not steps.any():
            raise RegionError(
                f"the coordinate {name!r} of {_name(array)} is not evenly spaced, or has fewer "
                "than two values"
            )
    return array


def _crs_of(array: "xr.DataArray") -> Any:
    """Return the CRS of a DataArray; WGS 84 if its dimensions are latitude and longitude."""
    in_degrees = array.dims != _AXES[0]
    crs = crs_of_xarray(array, in_degrees)
    return crs or ("OGC:CRS84" if in_degrees else None)


def _of_aligned(array: "xr.DataArray", grid: Grid) -> CellWeights | None:
    """Return the weights of an array whose pixels are cells of the grid's lattice, else None."""
    crs = _crs_of(array)
    if crs is not None and not is_same_crs(crs, grid.crs):
        return None
    y, x = (array[name].values.astype(np.float64) for name in array.dims)
    own = grid.of_centres(x, y)
    tolerance = _NEAR * grid.resolution_m
    if not (np.allclose(own.x, x, 0, tolerance) and np.allclose(own.y, y, 0, tolerance)):
        return None
    top, left = grid.offset_of(own)

    def read(window: Window) -> np.ndarray:
        values = np.full((window.height, window.width), np.nan)
        part = window.shifted(-top, -left).clipped(own.full_window)
        if part.height > 0 and part.width > 0:
            into = part.shifted(top - window.row, left - window.col)
            values[into.slices] = array.isel(dict(zip(array.dims, part.slices, strict=True))).values
        return values

    return CellWeights(read, _name(array))


@contextmanager
def _open_raster(path: str | Path, field: "StoredField") -> Iterator[Any]:
    """Open a GeoTIFF, which alone is read: no other format, such as a VRT, that names other files.

    Raises:
        StoreError: if it cannot be opened.
        RegionError: if its blocks are too large to be read.
    """
    rasterio = import_rasterio("; or give weights as a DataArray on the field's cells")
    with ExitStack() as stack:
        # Files beside it are not looked for, and overviews would give other means than pixels.
        stack.enter_context(
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO")
        )
        try:
            with warnings.catch_warnings():  # `_of_raster` refuses one that lies nowhere
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                dataset = rasterio.open(path, driver="GTiff", OVERVIEW_LEVEL="NONE")
        except (OSError, rasterio.errors.RasterioError) as error:
            covariates = ", ".join(field.layout.covariates) or "none"
            raise StoreError(
                f"cannot read weights: {str(path)!r:.200} is no GeoTIFF that can be opened "
                f"({error!s:.200}), and no covariate of the field, which has {covariates}. Open a "
                "raster of another format with xarray and give its DataArray"
            ) from error
        stack.enter_context(dataset)
        for shape, kind in zip(dataset.block_shapes, dataset.dtypes, strict=True):
            if math.prod(shape) * np.dtype(kind).itemsize > _MOST_BLOCK_BYTES:
                raise RegionError(
                    f"the raster {str(path)!r} has blocks of {shape[0]} x {shape[1]} pixels, too "
                    "large to be read; tile it: gdal_translate -of COG"
                )
        yield dataset


@contextmanager
def _as_dataset(array: "xr.DataArray") -> Iterator[Any]:
    """Yield a DataArray as an open raster in memory.

    Raises:
        RegionError: if it carries no CRS.
    """
    crs = _crs_of(array)
    if crs is None:
        raise RegionError(
            f"{_name(array)} carries no CRS, and its x and y are not the field's; write one, for "
            "instance with array.rio.write_crs(...)"
        )
    rasterio = import_rasterio("; or give weights on the field's cells")
    y, x = (array[name].values.astype(np.float64) for name in array.dims)
    width, height = (x[-1] - x[0]) / (len(x) - 1), (y[0] - y[-1]) / (len(y) - 1)
    west, north = x[0] - width / 2, y[0] + height / 2
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": len(y),
        "width": len(x),
        "count": 1,
        "dtype": "float64",
        "nodata": np.nan,
        "crs": rasterio.CRS.from_user_input(str(crs)),
        "transform": rasterio.Affine(width, 0, west, 0, -height, north),
    }
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(array.values.astype(np.float64), 1)
        with memory.open() as dataset:
            yield dataset


def _of_raster(dataset: Any, grid: Grid, source: str) -> CellWeights:
    """Return the weights of an open raster of one band, averaged over the grid's cells.

    Raises:
        RegionError: if it has no CRS or several bands.
    """
    import rasterio
    from rasterio.vrt import WarpedVRT

    if dataset.count != 1:
        raise RegionError(f"weights are a raster of one band, and {source} has {dataset.count}")
    if dataset.crs is None or dataset.transform.is_identity:
        raise RegionError(
            f"{source} has no CRS or no georeference, so that its pixels lie nowhere on the Earth"
        )

    def warp(window: Window, transform: Any) -> np.ndarray:
        try:
            with WarpedVRT(
                dataset,
                src_transform=transform,
                crs=grid.crs,
                transform=rasterio.Affine(*grid.crop(window).affine),
                height=window.height,
                width=window.width,
                resampling=rasterio.enums.Resampling.average,
                dtype="float64",
                nodata=np.nan,
            ) as warped:
                values: np.ndarray = warped.read(1)
        except rasterio.errors.RasterioError as error:
            raise StoreError(f"cannot read weights from {source}: {error!s:.200}") from error
        return values

    transforms = _turns(dataset)

    def read(window: Window) -> np.ndarray:
        values = warp(window, transforms[0])
        for transform in transforms[1:]:
            values = np.where(np.isnan(values), warp(window, transform), values)
        return values

    return CellWeights(read, source)


def _turns(dataset: Any) -> list[Any]:
    """Return a raster's georeference, and that of its copy one turn away if it passes 180 degrees.

    GDAL looks for longitudes from -180 to 180 only, and many rasters run from 0 to 360.
    """
    transform = dataset.transform
    west, _, east, _ = dataset.bounds
    if not dataset.crs.is_geographic or (west >= -180 and east <= 180):
        return [transform]
    turn = -360.0 if east > 180 else 360.0
    return [transform, type(transform).translation(turn, 0) @ transform]
