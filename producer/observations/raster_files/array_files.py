"""NetCDF files and Zarr stores as rasters: an array of two spatial dimensions, and any others.

The other dimensions, such as time, are the raster's bands, the last one fastest.
"""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from unigeo.producer.observations.file_contents import Stamp
from unigeo.producer.observations.raster_files.array_checks import check_arrays
from unigeo.producer.observations.raster_files.array_georeference import (
    affine_of,
    crs_of,
    spatial_dimensions,
)
from unigeo.producer.observations.raster_files.array_numbers import ArrayNumbers
from unigeo.producer.observations.raster_files.band_facts import BandFacts, Stated
from unigeo.producer.observations.raster_files.band_meaning import (
    band_meaning,
    check_bands,
    vertical_unit,
)
from unigeo.producer.observations.raster_files.file_checks import check_claim
from unigeo.producer.observations.raster_files.formats import ZARR
from unigeo.producer.observations.raster_files.height_values import HeightDescription
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.schemas.errors import MissingExtraError, ObservationsError, StoreError
from unigeo.schemas.io.limits import MOST_BANDS
from unigeo.schemas.io.stores import open_store

ARRAY_ERRORS = (OSError, ValueError, RuntimeError, LookupError, TypeError, StoreError)
"""What the libraries raise on a damaged file."""


@dataclass(frozen=True, eq=False)
class RasterArray:
    """An open variable: spatial dimensions last, nothing of it read."""

    file: xr.Dataset
    """The open file, which is closed."""
    dataset: xr.Dataset
    """The same, its northernmost row and its westernmost column first."""
    array: xr.DataArray
    spatial: tuple[str, str]
    """Dimensions of rows and columns."""

    @property
    def others(self) -> tuple[str, ...]:
        """The other dimensions, whose combinations are the bands."""
        return tuple(str(name) for name in self.array.dims if name not in self.spatial)

    def band_index(self, band: int) -> tuple[int, ...]:
        """Return the position of a band, counted from 1, along the other dimensions."""
        sizes = tuple(self.array.sizes[name] for name in self.others)
        return tuple(int(k) for k in np.unravel_index(band - 1, sizes)) if sizes else ()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def open_raster_array(path: Path | str, form: str, variable: str, label: str) -> RasterArray:
    """Open a variable of a NetCDF file or an array of a Zarr store.

    Args:
        path: the file or store, or the address of a store.
        form: its format, see `formats.format_of`.
        variable: name of the variable, after those of groups and `/`; empty for the only one.
        label: name of the file in error messages.

    Raises:
        ObservationsError: it cannot be opened, or has no such variable.
    """
    group, _, name = variable.strip("/").rpartition("/")
    with _naming(form, label):
        options = check_arrays(path, form, label)
        if group and form == ZARR:
            options["consolidated"] = False  # the root's metadata are not those of its groups
        opened: Any = open_store(str(path)) if form == ZARR else path
        dataset = xr.open_dataset(
            opened,
            group=group or None,
            mask_and_scale=False,
            decode_times=False,
            decode_coords=False,
            cache=False,
            chunks=None,
            **options,
        )
    found = {
        str(one): dims
        for one, array in dataset.variables.items()
        if array.dtype.kind in "iufc" and (dims := spatial_dimensions(dataset, str(one)))
    }
    listed = ", ".join(found) or "none"
    if not name and len(found) != 1:
        dataset.close()
        raise ObservationsError(
            f"{label} has the variables {listed} with rows and columns. Name one by the key "
            "`variable`."
        )
    name = name or next(iter(found))
    if name not in found:
        dataset.close()
        raise ObservationsError(
            f"{label} has no variable {name!r} with regular rows and columns; it has {listed}. "
            "Correct the key `variable`, or warp a curved grid with gdalwarp first."
        )
    ordered = _ordered(dataset, found[name], form, label)
    return RasterArray(dataset, ordered, ordered[name], found[name])


def _ordered(dataset: xr.Dataset, spatial: tuple[str, str], form: str, label: str) -> xr.Dataset:
    """Return a file with its northernmost row and its westernmost column first.

    So are other rasters, and equal pixels are averaged together. An array without coordinates, or
    with a single row or column, stays as it is: its transform holds in the order of the file.
    """
    if any(name not in dataset.variables or dataset.sizes[name] < 2 for name in spatial):
        return dataset
    with _naming(form, label):
        for dimension, is_reversed in zip(spatial, (np.less, np.greater), strict=True):
            first, last = dataset[dimension].values[[0, -1]]
            if is_reversed(first, last):
                dataset = dataset.isel({dimension: slice(None, None, -1)})
    return dataset


def open_array(
    path: Path | str,
    form: str,
    bands: tuple[int, ...],
    nodata: float | None,
    label: str,
    described: HeightDescription | None,
    stated: Stated,
) -> RasterSource:
    """Check a NetCDF file or a Zarr store, as `open_source` does.

    Raises:
        ObservationsError: as `open_source`.
    """
    opened = open_raster_array(path, form, stated.variable, label)
    with closing(opened), _naming(form, label):
        crs = crs_of(opened.dataset, opened.array, opened.spatial, stated, label)
        affine = affine_of(opened.dataset, opened.array, opened.spatial, label)
        _check_count(opened, label)
        facts = array_facts(opened)
        check_bands(facts, bands, label)
        shape = tuple(opened.array.sizes[name] for name in opened.spatial)
        check_claim(path, shape, opened.array.dtype.itemsize * len(bands), label)
        meaning = band_meaning(facts, bands, nodata, vertical_unit(crs), described, stated, label)
        return RasterSource(
            path=path,
            bands=bands,
            nodata=nodata,
            shape=(shape[0], shape[1]),
            crs_wkt=crs.to_wkt(),
            affine=affine,
            stamp=None if isinstance(path, str) else Stamp.of(path),
            label=label,
            encoder=stated.encoder,
            form=form,
            variable=stated.variable or str(opened.array.name),
            dtype=meaning.dtype,
            heights=meaning.heights,
            scales=meaning.scales,
            band_names=stated.band_names or meaning.names,
            band_units=meaning.units,
        )


@contextmanager
def _naming(form: str, label: str) -> Iterator[None]:
    """Name the file, and what to do, where a library cannot read it."""
    try:
        yield
    except (MissingExtraError, ObservationsError):
        raise
    except ARRAY_ERRORS as error:
        # A KeyError shows its message in quotes.
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        reason = text.split("\n", 1)[0].rstrip(".")
        raise ObservationsError(
            f"{label} cannot be read as {form}: {reason}. It may be damaged or cut short; fetch it "
            "again."
        ) from error


def _check_count(opened: RasterArray, label: str) -> None:
    """Refuse more bands than can be named."""
    count = math.prod(opened.array.sizes[name] for name in opened.others)
    if count > MOST_BANDS:
        raise ObservationsError(
            f"{label} claims {count:,} bands along {', '.join(opened.others)}; at most "
            f"{MOST_BANDS:,} are read. Split it."
        )


def array_facts(opened: RasterArray) -> BandFacts:
    """Return what a variable declares about its bands."""
    attributes = opened.array.attrs
    labels = [_labels(opened, name) for name in opened.others]
    names = tuple(", ".join(combined) for combined in product(*labels))
    if not opened.others:
        names = (str(attributes.get("long_name", opened.array.name)),)
    count = len(names)
    numbers = ArrayNumbers.of(opened.array)
    return BandFacts(
        dtypes=(numbers.dtype.name,) * count,
        scales=(_number(attributes, "scale_factor", 1.0),) * count,
        offsets=(_number(attributes, "add_offset", 0.0),) * count,
        units=(str(attributes.get("units", "")),) * count,
        nodatavals=(numbers.no_data[0] if numbers.no_data else None,) * count,
        descriptions=names,
    )


def _number(attributes: dict[Any, Any], name: str, default: float) -> float:
    return float(np.asarray(attributes.get(name, default)).ravel()[0])


def _labels(opened: RasterArray, name: str) -> list[str]:
    """Return a name of each position along a dimension: `month=1`, or a date."""
    count = opened.array.sizes[name]
    if name not in opened.dataset.variables:
        return [f"{name}={k + 1}" for k in range(count)]
    coordinate = opened.dataset[[name]]
    try:
        values = xr.decode_cf(coordinate)[name].values
    except ARRAY_ERRORS:  # a calendar that is not read
        values = coordinate[name].values
    if values.dtype.kind == "M":
        return [f"{name}={day}" for day in np.datetime_as_string(values, unit="D")]
    return [f"{name}={value}" for value in values.tolist()]
