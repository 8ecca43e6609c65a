"""What is wrong with a store: everything at once, one sentence each."""

from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.schemas.attributes import UnigeoAttributes, attribute_problems
from unigeo.schemas.layout import (
    READABLE_CODECS,
    Layout,
    axis_attributes,
    georeference,
    spatial_ref_attributes,
    status_name,
)
from unigeo.schemas.limits import check_chunk
from unigeo.schemas.quantization import FILL
from unigeo.schemas.stores import damage_errors

if TYPE_CHECKING:
    import zarr

    from unigeo.schemas.grid import Grid


def field_problems(group: "zarr.Group") -> list[str]:
    """Compare a store's metadata and coordinates with layout version 1.

    Reads the coordinate arrays and no vector. An empty list means that the store keeps the
    contract.
    """
    problems = attribute_problems(dict(group.attrs))
    if problems:
        return problems
    own = UnigeoAttributes.model_validate(group.attrs["unigeo"])
    grid, layout = own.grid.grid(), own.layout.layout()
    for modality in layout.modalities:
        problems += _vector_problems(group, modality, grid, layout)
        problems += _status_problems(group, modality, grid, layout)
    return problems + _coordinate_problems(group, grid, layout)


def _vector_problems(group: "zarr.Group", modality: str, grid: "Grid", layout: Layout) -> list[str]:
    expected = {
        "shape": (*grid.shape, layout.bands),
        "dtype": np.dtype(np.int8),
        "dimensions": ("y", "x", "band"),
        "fill value": FILL,
        "shards": (layout.shard, layout.shard, layout.bands),
        "chunks": (layout.chunk, layout.chunk, layout.bands),
    }
    return _array_problems(group, modality, expected, georeference(grid))


def _status_problems(group: "zarr.Group", modality: str, grid: "Grid", layout: Layout) -> list[str]:
    expected = {
        "shape": grid.shape,
        "dtype": np.dtype(np.uint8),
        "dimensions": ("y", "x"),
        "fill value": 0,
        "chunks": (layout.shard, layout.shard),
    }
    return _array_problems(group, status_name(modality), expected, georeference(grid))


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
        if actual[what] != value
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
    unreadable = _codecs(array.metadata.to_dict().get("codecs", ())) - READABLE_CODECS
    if unreadable:
        problems.append(
            f"array {name!r}: codecs {', '.join(sorted(unreadable))} are not read everywhere"
        )
    return problems


def _codecs(codecs: Any) -> set[str]:
    """Names of the codecs, inside shards too."""
    names = set()
    for codec in codecs:
        names.add(codec["name"])
        inner = codec.get("configuration", {})
        for key in ("codecs", "index_codecs"):
            names |= _codecs(inner.get(key, ()))
    return names


def _coordinate_problems(group: "zarr.Group", grid: "Grid", layout: Layout) -> list[str]:
    problems = []
    bands = np.arange(layout.bands, dtype=np.int16)
    for name, values in (("x", grid.x), ("y", grid.y), ("band", bands)):
        if name not in group:
            problems.append(f"coordinate {name!r} is missing")
            continue
        array = group[name]
        if getattr(array, "shape", None) != values.shape:  # which may claim any number of bytes
            problems.append(f"coordinate {name!r} does not have the grid's shape {values.shape}")
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
            wanted = axis_attributes(name)  # type: ignore[arg-type]
            problems += [
                f"coordinate {name!r}: attribute {key} is {array.attrs.get(key)!r}"
                for key, value in wanted.items()
                if array.attrs.get(key) != value
            ]
    if "spatial_ref" not in group:
        return [*problems, "coordinate 'spatial_ref' is missing"]
    attributes = dict(group["spatial_ref"].attrs)
    wanted = spatial_ref_attributes(grid)
    if not _is_crs(attributes.get("crs_wkt"), grid.crs):
        problems.append(f"spatial_ref: crs_wkt is not {grid.crs}")
    if attributes.get("GeoTransform") != wanted["GeoTransform"]:
        problems.append(
            f"spatial_ref: GeoTransform is {attributes.get('GeoTransform')!r}, the grid says "
            f"{wanted['GeoTransform']!r}"
        )
    return problems


def _is_crs(wkt: Any, crs: str) -> bool:
    """Whether a text from a store is WKT of that CRS."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return bool(CRS.from_wkt(str(wkt)) == CRS.from_user_input(crs))
    except CRSError:
        return False
