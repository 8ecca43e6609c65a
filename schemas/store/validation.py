"""Validation of a store's metadata and coordinates: all problems at once, one sentence each."""

from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.io.limits import check_chunk
from unigeo.schemas.io.store_errors import damage_errors
from unigeo.schemas.store.attributes import UnigeoAttributes, attribute_problems
from unigeo.schemas.store.covariates import read_covariates
from unigeo.schemas.store.layout import (
    COVARIATES,
    NAME,
    READABLE_CODECS,
    Layout,
    axis_attributes,
    band_numbers,
    georeference,
    spatial_ref_attributes,
    status_name,
)
from unigeo.schemas.store.problems import texts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import zarr

    from unigeo.schemas.geo.grid import Grid


def field_problems(group: "zarr.Group") -> list[str]:
    """Return every difference of a store's metadata and coordinates from its layout.

    Coordinate arrays are read, vectors are not. Attributes, arrays and groups that the layout does
    not mention are skipped.
    """
    problems = texts_of(attribute_problems(dict(group.attrs)))
    if problems:
        return problems
    unigeo = UnigeoAttributes.model_validate(group.attrs["unigeo"])
    grid, layout = unigeo.grid.grid(), unigeo.field_layout()
    for array in layout.arrays:
        problems += _number_problems(group, array, grid, layout)
        problems += _status_problems(group, array, grid, layout)
    if layout.covariates:
        problems += _covariate_problems(group, layout)
    return problems + _coordinate_problems(group, grid, layout)


def _number_problems(group: "zarr.Group", array: str, grid: "Grid", layout: Layout) -> list[str]:
    width = layout.width(array)
    expected = {
        "shape": (*grid.shape, width),
        "dtype": layout.dtype(array),
        "dimensions": ("y", "x", layout.dimension(array)),
        "fill value": layout.fill(array),
        "shards": (layout.shard, layout.shard, width),
        "chunks": (layout.chunk, layout.chunk, width),
    }
    return _array_problems(group, array, expected, georeference(grid))


def _status_problems(group: "zarr.Group", modality: str, grid: "Grid", layout: Layout) -> list[str]:
    expected = {
        "shape": grid.shape,
        "dtype": np.dtype(np.uint8),
        "dimensions": ("y", "x"),
        "fill value": 0,
        "chunks": (layout.shard, layout.shard),
    }
    name = status_name(modality)
    problems = _array_problems(group, name, expected, georeference(grid))
    codecs = [] if problems else _codec_names(group[name])
    if codecs and layout.version > 1 and codecs != ["bytes"]:
        problems.append(
            f"array {name!r}: its codecs are {', '.join(codecs)}, and bytes alone are read by GDAL"
        )
    return problems


def _covariate_problems(group: "zarr.Group", layout: Layout) -> list[str]:
    if COVARIATES not in group:
        return []  # reported as a missing array
    try:
        read_covariates(dict(group[COVARIATES].attrs), layout.covariates)
    except LayoutError as error:
        return [f"array {COVARIATES!r}: {error}"]
    return []


def _array_problems(
    group: "zarr.Group", name: str, expected: dict[str, Any], attributes: dict[str, Any]
) -> list[str]:
    import zarr

    if name not in group:
        return [f"array {name!r} is missing"]
    array = group[name]
    if not isinstance(array, zarr.Array):
        return [f"{name!r} is a group, not an array"]
    actual = {
        "shape": array.shape,
        "dtype": array.dtype,
        "dimensions": array.metadata.dimension_names,  # type: ignore[union-attr]
        "fill value": array.fill_value,
        "shards": array.shards,
        "chunks": array.chunks,
    }
    problems = [
        f"array {name!r}: {what} is {actual[what]}, the layout says {value}"
        for what, value in expected.items()
        if not _same(actual[what], value)
    ]
    attributes = attributes | {"grid_mapping": "spatial_ref", "coordinates": "spatial_ref"}
    problems += [
        f"array {name!r}: attribute {key} is {array.attrs.get(key)!r}, expected {value!r}"
        for key, value in attributes.items()
        if array.attrs.get(key) != value
    ]
    problems += [
        f"array {name!r}: attribute {key} would make readers decode the vectors to other numbers"
        for key in ("scale_factor", "add_offset", "_FillValue")
        if key in array.attrs
    ]
    unreadable = set(_codec_names(array)) - READABLE_CODECS
    if unreadable:
        problems.append(
            f"array {name!r}: codecs {', '.join(sorted(unreadable))} are not read everywhere"
        )
    return problems


def _same(actual: Any, expected: Any) -> bool:
    """Compare two facts of an array; NaN is the same as NaN."""
    both_nan = actual != actual and expected != expected
    return bool(both_nan or actual == expected)


def _codec_names(array: Any) -> list[str]:
    """Return the names of an array's codecs, including those inside shards."""
    return list(_codecs(array.metadata.to_dict().get("codecs", ())))


def _codecs(codecs: Any) -> "Iterator[str]":
    for codec in codecs:
        yield codec["name"]
        inner = codec.get("configuration", {})
        for key in ("codecs", "index_codecs"):
            yield from _codecs(inner.get(key, ()))


def _coordinate_problems(group: "zarr.Group", grid: "Grid", layout: Layout) -> list[str]:
    problems = []
    wanted = {"x": grid.x, "y": grid.y}
    wanted |= {name: band_numbers(width) for name, width in layout.band_dimensions.items()}
    if layout.covariates:
        wanted |= {NAME: np.array(layout.covariates, np.dtypes.StringDType())}
    for name, values in wanted.items():
        if name not in group:
            problems.append(f"coordinate {name!r} is missing")
            continue
        array = group[name]
        # Before reading: a wrong shape may claim any number of bytes.
        if getattr(array, "shape", None) != values.shape:
            problems.append(f"coordinate {name!r} does not have the shape {values.shape}")
            continue
        try:
            check_chunk(array, group.store)  # type: ignore[arg-type]
            stored = np.asarray(array[...])  # type: ignore[index]
        except damage_errors() as error:
            problems.append(f"coordinate {name!r} cannot be read: {error}")
            continue
        if stored.dtype != values.dtype or not np.array_equal(stored, values):
            problems.append(f"coordinate {name!r} does not hold what the grid says")
        if name in ("x", "y"):
            axis = axis_attributes(name)  # type: ignore[arg-type]
            problems += [
                f"coordinate {name!r}: attribute {key} is {array.attrs.get(key)!r}"
                for key, value in axis.items()
                if array.attrs.get(key) != value
            ]
    if "spatial_ref" not in group:
        return [*problems, "coordinate 'spatial_ref' is missing"]
    attributes = dict(group["spatial_ref"].attrs)
    of_grid = spatial_ref_attributes(grid)
    if not _is_crs(attributes.get("crs_wkt"), grid.crs):
        problems.append(f"spatial_ref: crs_wkt is not {grid.crs}")
    if attributes.get("GeoTransform") != of_grid["GeoTransform"]:
        problems.append(
            f"spatial_ref: GeoTransform is {attributes.get('GeoTransform')!r}, the grid says "
            f"{of_grid['GeoTransform']!r}"
        )
    return problems


def _is_crs(wkt: Any, crs: str) -> bool:
    """Tell whether a text from a store is WKT of a CRS."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return bool(CRS.from_wkt(str(wkt)) == CRS.from_user_input(crs))
    except CRSError:
        return False
