"""Writes a part of a field as a published field of its own.

The part lies on the field's lattice, so its cells are the field's cells, byte for byte. It is
widened to whole shards; these are smaller than the field's if the part is small. A part always has
layout 2, whichever the field has, so that readers of parts need to know one layout only.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from unigeo.client.areas.subset_manifest import write_manifest
from unigeo.client.areas.subset_nodes import SubsetNodes, bytes_codec
from unigeo.client.areas.windows import region_of_field
from unigeo.client.progress import with_progress
from unigeo.client.shapes.coverage import holds_centre
from unigeo.client.shapes.outlines import Outlines
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.io.addresses import check_destination
from unigeo.schemas.io.atomic_files import folder_beside
from unigeo.schemas.io.store_errors import unreachable_errors
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.attributes import grid_attributes, layout_attributes
from unigeo.schemas.store.concepts import DIMENSIONS as PHRASE_DIMENSIONS
from unigeo.schemas.store.concepts import GROUP as CONCEPTS
from unigeo.schemas.store.encoder import GROUP as ENCODER
from unigeo.schemas.store.encoder import weight_dimensions
from unigeo.schemas.store.layout import (
    LAYOUT_VERSION,
    NAME,
    Layout,
    array_attributes,
    georeferenced,
    spatial_ref_attributes,
    status_name,
)
from unigeo.schemas.store.overviews import GROUP as OVERVIEWS
from unigeo.schemas.store.preview import GROUP as PREVIEW
from unigeo.schemas.store.published_attributes import (
    DIGEST,
)
from unigeo.schemas.store.search_levels import GROUP as SEARCH
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    import zarr

    from unigeo.client.reading.stored_field import StoredField

_LEFT_OUT = (PREVIEW, OVERVIEWS, SEARCH)
"""Groups that are derived from the whole field, which a part does not have."""
_SHARDS_ALONG = 8
"""Least number of shards along the longer side, if the chunks allow it, so that widening the part
to whole shards adds little."""


def cut_field(
    field: "StoredField",
    path: Path | str,
    region: Any,
    modalities: "str | Iterable[str] | None" = None,
    *,
    crs: Any = None,
    mask: bool = False,
    progress: bool = False,
) -> Path:
    """Write the part of a field round a region as a published field.

    Args:
        field: the field to cut from.
        path: of the new store, a local folder that does not exist yet.
        region: as in `Field.region`.
        modalities: the modalities to keep; all by default.
        crs: as in `Field.region`.
        mask: give cells whose centre lies outside the polygons the status "outside region" and no
            vector.
        progress: show a bar on stderr.

    Raises:
        RegionError: if the region cannot be read, or lies off the field.
        StoreError: if the store cannot be read or written; nothing is left then.
    """
    path, chosen = Path(path), field.chosen(modalities)
    check_destination(path, str(path), makes_folders=True)
    if path.exists():
        raise StoreError(f"cannot write {path}: it is there already; remove it, or name another")
    outlines, window = region_of_field(field, region, crs)
    layout = replace(field.layout, modalities=chosen, version=LAYOUT_VERSION)
    grid, layout = _align(field.grid, layout, window)
    source = open_group(field.url, store=field.known_store("cut"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(path) as part:
            nodes = SubsetNodes(source, part)
            nodes.write_root(_attributes(field, source, grid, layout))
            _write_coordinates(nodes, grid, layout)
            _copy_group(nodes, ENCODER, lambda name, shape: weight_dimensions(shape))
            _copy_group(nodes, CONCEPTS, lambda name, shape: PHRASE_DIMENSIONS.get(name))
            _check_objects(field, source, grid, layout)
            _write_cells(field, nodes, grid, layout, outlines if mask else None, progress)
            write_manifest(nodes, grid, layout)
            nodes.consolidate()
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write {path}: {error}") from error
    return path


def _align(grid: Grid, layout: Layout, window: Window) -> tuple[Grid, Layout]:
    """Widen a window to whole shards, whose side divides that of the field's shards."""
    sides = range(layout.chunk, layout.shard + 1, layout.chunk)
    longer = max(window.height, window.width)
    fitting = [s for s in sides if layout.shard % s == 0 and s * _SHARDS_ALONG <= longer]
    shard = max(fitting, default=layout.chunk)
    return grid.crop(window).align(shard), replace(layout, shard=shard)


def _attributes(
    field: "StoredField", source: "zarr.Group", grid: Grid, layout: Layout
) -> dict[str, Any]:
    """Return the root's attributes with the part's grid and layout; all others stay."""
    unigeo = field.attributes.model_dump(mode="json")
    unigeo["grid"] |= grid_attributes(grid)
    unigeo["layout_version"] = layout.version
    unigeo["layout"] |= layout_attributes(layout)
    # `write_manifest` writes the digests of the part, whose outline is another.
    for key in ("manifest_sha256", DIGEST, "outline_sha256"):
        unigeo.pop(key, None)
    unigeo["part_of"] = {
        "region": unigeo["region"],
        "grid": field.attributes.grid.model_dump(mode="json"),
        "left_out": [name for name in _LEFT_OUT if name in source],
    }
    return georeferenced({**dict(source.attrs), "unigeo": unigeo}, grid)


def _write_coordinates(nodes: SubsetNodes, grid: Grid, layout: Layout) -> None:
    nodes.write_array("x", grid.x)
    nodes.write_array("y", grid.y)
    for name in layout.band_dimensions:
        nodes.write_array(name, nodes.read(name))
    if layout.covariates:
        nodes.copy_array(NAME)
    nodes.write_array("spatial_ref", nodes.read("spatial_ref"), **spatial_ref_attributes(grid))


def _copy_group(
    nodes: SubsetNodes,
    group: str,
    dimensions: Callable[[str, tuple[int, ...]], tuple[str, ...] | None],
) -> None:
    """Copy a group that every part of a field shares, with dimensions named as in layout 2."""
    if group not in nodes.source:
        return
    nodes.write_group(group)
    for name in cast(Any, nodes.source[group]).array_keys():
        values = nodes.read(f"{group}/{name}")
        nodes.write_array(f"{group}/{name}", values, dimensions(name, values.shape))


def _check_objects(field: "StoredField", source: "zarr.Group", grid: Grid, layout: Layout) -> None:
    """Check the shards of the part against the field's manifest before they are copied.

    The new manifest would otherwise list damaged bytes as good.

    Raises:
        DamagedError: naming the object.
    """
    from zarr.core.sync import sync

    from unigeo.client.reading.checked_store import CheckedStore

    store: Any = source.store
    if not isinstance(store, CheckedStore):
        return
    part = Window(*field.grid.offset_of(grid), *grid.shape)
    rows, cols = part.clipped(field.grid.full_window).blocks(field.layout.shard)
    prefix = f"{source.path}/" if source.path else ""
    arrays = [(name, "/0") for name in layout.arrays]
    arrays += [(status_name(name), "") for name in layout.arrays]
    for (array, last), row, col in product(arrays, rows, cols):
        key = f"{prefix}{array}/c/{row}/{col}{last}"
        if sync(store.listing.size(key)):
            sync(store.check_content(key))


def _write_cells(
    field: "StoredField",
    nodes: SubsetNodes,
    grid: Grid,
    layout: Layout,
    outlines: Outlines | None,
    progress: bool,
) -> None:
    """Copy the cells shard by shard; shards without any number are not stored."""
    for name in layout.arrays:
        width = layout.width(name)
        _write_array(nodes, name, (*grid.shape, width), layout, array_attributes(name, grid))
        attributes = array_attributes(name, grid, status=True)
        codecs = bytes_codec(np.dtype(np.uint8))
        _write_array(nodes, status_name(name), grid.shape, layout, attributes, codecs=codecs)
    group: Any = open_group(str(nodes.folder), read_only=False, consolidated=False)
    rows_down, cols_right = field.grid.offset_of(grid)
    windows = list(grid.windows(layout.shard))
    for window in with_progress(windows, "region", "shards", progress):
        in_field = window.shifted(rows_down, cols_right)
        outside = None if outlines is None else ~holds_centre(outlines, in_field)
        for name in layout.arrays:
            codes = field.read(status_name(name), *in_field.slices)
            if outside is not None:
                codes = np.where(outside, np.uint8(Status.OUTSIDE_REGION), codes)
            group[status_name(name)][window.slices] = codes
            if (codes == Status.VALID).any():
                numbers = field.read(name, *in_field.slices)
                numbers[codes != Status.VALID] = layout.fill(name)
                group[name][window.slices] = numbers


def _write_array(
    nodes: SubsetNodes,
    name: str,
    shape: tuple[int, ...],
    layout: Layout,
    attributes: dict[str, Any],
    **changes: Any,
) -> None:
    """Write the metadata of an array like the field's, with the part's shape and shards."""
    document = nodes.metadata_like(name, shape, (layout.shard, layout.shard, *shape[2:]))
    document["attributes"] = dict(document["attributes"]) | attributes
    nodes.write_json(name, document | changes)
