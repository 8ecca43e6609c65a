"""A part of a field as a field of its own, which opens, samples and verifies like any other.

The lattice stays the same, so a cell of the part is the cell of the whole, byte for byte. The part
is widened to whole shards of its own; these are smaller than the field's where the part is small.
It is of layout 2, of whichever the field is: whoever reads parts needs to know one layout alone.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from unigeo.client.areas.coverage import holds_centre
from unigeo.client.areas.outlines import Outlines
from unigeo.client.areas.subset_nodes import SubsetNodes, bytes_alone
from unigeo.client.areas.windows import region_of_field
from unigeo.client.progress import with_progress
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.io.addresses import refuse_inside_a_store
from unigeo.schemas.io.atomic_files import folder_beside
from unigeo.schemas.io.store_errors import unreachable_errors
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.attributes import grid_attributes, layout_attributes
from unigeo.schemas.store.concepts import DIMENSIONS as PHRASE_DIMENSIONS
from unigeo.schemas.store.concepts import GROUP as CONCEPTS
from unigeo.schemas.store.encoder import GROUP as ENCODER
from unigeo.schemas.store.encoder import weight_dimensions
from unigeo.schemas.store.layout import (
    COVARIATES,
    LAYOUT_VERSION,
    Layout,
    array_attributes,
    georeferenced,
    spatial_ref_attributes,
    status_name,
)
from unigeo.schemas.store.manifest import (
    ATTRIBUTE_BYTE,
    BYTE,
    KEY_BYTE,
    OBJECTS,
    ArrayManifest,
    manifest_digest,
    shard_key,
)
from unigeo.schemas.store.manifest import GROUP as MANIFEST
from unigeo.schemas.store.overviews import GROUP as OVERVIEWS
from unigeo.schemas.store.preview import GROUP as PREVIEW
from unigeo.schemas.store.published_attributes import (
    ARRAY,
    DIGEST,
    attributes_digest,
    attributes_to_bytes,
    held_attributes,
)
from unigeo.schemas.store.quantization import FILL
from unigeo.schemas.store.status import Status
from unigeo.schemas.store.text_arrays import texts_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    import zarr

    from unigeo.client.reading.stored_field import StoredField

_OF_THE_WHOLE = (PREVIEW, OVERVIEWS)
"""Groups that a part does without: pictures and means of all its cells."""
_SHARDS_ALONG = 8
"""At least so many along the longer side, if the chunks allow it: little is added at the edges."""


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
        field: to cut from.
        path: of the new store, a local folder that is not there yet.
        region: as in `Field.region`.
        modalities: which; all by default.
        crs: as in `Field.region`.
        mask: let cells whose centre lies outside the polygons be "outside region", without vector.
        progress: show a bar on stderr.

    Raises:
        RegionError: if the region cannot be read, or lies off the field.
        StoreError: if the store cannot be read or written; nothing is left then.
    """
    path, chosen = Path(path), field.chosen(modalities)
    if path.exists():
        raise StoreError(f"cannot write {path}: it is there already; remove it, or name another")
    refuse_inside_a_store(path, str(path))
    outlines, window = region_of_field(field, region, crs)
    wanted = replace(field.layout, modalities=chosen, version=LAYOUT_VERSION)
    grid, layout = _part_of(field.grid, wanted, window)
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
            _write_manifest(nodes, grid, layout)
            _write_objects(nodes)
            _hold_attributes(nodes)
            nodes.consolidate()
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write {path}: {error}") from error
    return path


def _part_of(grid: Grid, layout: Layout, window: Window) -> tuple[Grid, Layout]:
    """The window widened to whole shards, of a side that divides the field's."""
    sides = range(layout.chunk, layout.shard + 1, layout.chunk)
    longer = max(window.height, window.width)
    fitting = [s for s in sides if layout.shard % s == 0 and s * _SHARDS_ALONG <= longer]
    shard = max(fitting, default=layout.chunk)
    return grid.crop(window).align(shard), replace(layout, shard=shard)


def _attributes(
    field: "StoredField", source: "zarr.Group", grid: Grid, layout: Layout
) -> dict[str, Any]:
    """The root's, of the part; everything else that it says stays."""
    own = field.attributes.model_dump(mode="json")
    own["grid"] |= grid_attributes(grid)
    own["layout_version"] = layout.version
    own["layout"] |= layout_attributes(layout)
    for of_the_whole in ("manifest_sha256", DIGEST):
        own.pop(of_the_whole, None)
    own["part_of"] = {
        "region": own["region"],
        "grid": field.attributes.grid.model_dump(mode="json"),
        "left_out": [name for name in _OF_THE_WHOLE if name in source],
    }
    return georeferenced({**dict(source.attrs), "unigeo": own}, grid)


def _write_coordinates(nodes: SubsetNodes, grid: Grid, layout: Layout) -> None:
    nodes.write_plain("x", grid.x)
    nodes.write_plain("y", grid.y)
    for name in layout.band_dimensions:
        nodes.write_plain(name, nodes.read(name))
    nodes.write_plain("spatial_ref", nodes.read("spatial_ref"), **spatial_ref_attributes(grid))


def _copy_group(
    nodes: SubsetNodes,
    group: str,
    dimensions: Callable[[str, tuple[int, ...]], tuple[str, ...] | None],
) -> None:
    """Copy a group that holds for every part of a field, its dimensions named as in layout 2."""
    if group not in nodes.source:
        return
    nodes.write_group(group)
    for name in cast(Any, nodes.source[group]).array_keys():
        values = nodes.read(f"{group}/{name}")
        nodes.write_plain(f"{group}/{name}", values, dimensions(name, values.shape))


def _check_objects(field: "StoredField", source: "zarr.Group", grid: Grid, layout: Layout) -> None:
    """Refuse shards that are not the manifest's: the new manifest would vouch for them.

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
    arrays = [(name, "/0") for name in layout.modalities]
    arrays += [(status_name(name), "") for name in layout.modalities]
    arrays += [(COVARIATES, "/0")] if layout.covariates else []
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
    """Copy shard after shard of each modality; those without any vector are left out."""
    for name in layout.modalities:
        width = layout.width(name)
        _write_array(nodes, name, (*grid.shape, width), layout, array_attributes(name, grid))
        told = array_attributes(name, grid, status=True)
        coded = bytes_alone(np.dtype(np.uint8))
        _write_array(nodes, status_name(name), grid.shape, layout, told, codecs=coded)
    if layout.covariates:
        shape = (*grid.shape, len(layout.covariates))
        _write_array(nodes, COVARIATES, shape, layout, georeferenced({}, grid))
    group: Any = open_group(str(nodes.folder), read_only=False, consolidated=False)
    down, right = field.grid.offset_of(grid)
    windows = list(grid.windows(layout.shard))
    for window in with_progress(windows, "region", "shards", progress):
        there = window.shifted(down, right)
        outside = None if outlines is None else ~holds_centre(outlines, there)
        for name in layout.modalities:
            codes = field.read(status_name(name), *there.slices)
            if outside is not None:
                codes = np.where(outside, np.uint8(Status.OUTSIDE_REGION), codes)
            group[status_name(name)][window.slices] = codes
            if (codes == Status.VALID).any():
                vectors = field.read(name, *there.slices)
                vectors[codes != Status.VALID] = FILL
                group[name][window.slices] = vectors
        if layout.covariates:
            numbers = field.read(COVARIATES, *there.slices)
            if outside is not None:
                numbers = np.where(outside[..., None], np.float32(np.nan), numbers)
            if not np.isnan(numbers).all():
                group[COVARIATES][window.slices] = numbers


def _write_array(
    nodes: SubsetNodes,
    name: str,
    shape: tuple[int, ...],
    layout: Layout,
    attributes: dict[str, Any],
    **changed: Any,
) -> None:
    """Describe an array of cells like the old one, in shards of its own; its cells are none yet."""
    document = nodes.describe(name, shape, (layout.shard, layout.shard, *shape[2:]))
    document["attributes"] = dict(document["attributes"]) | attributes
    nodes.write_json(name, document | changed)


def _write_manifest(nodes: SubsetNodes, grid: Grid, layout: Layout) -> None:
    shards = layout.shards(grid)
    nodes.write_group(MANIFEST)
    group: Any = open_group(str(nodes.folder), consolidated=False)
    for name in layout.modalities:
        valid = np.zeros(shards, np.int64)
        for (row, col), window in zip(np.ndindex(*shards), grid.windows(layout.shard), strict=True):
            codes = group[status_name(name)][window.slices]
            valid[row, col] = np.count_nonzero(codes == Status.VALID)
        nodes.write_plain(f"{MANIFEST}/{name}_valid_cells", valid)
        _list_shards(nodes, name, 3, shards)
        _list_shards(nodes, status_name(name), 2, shards)
    if layout.covariates:
        _list_shards(nodes, COVARIATES, 3, shards)


def _list_shards(nodes: SubsetNodes, array: str, dimensions: int, shards: tuple[int, int]) -> None:
    """Note the bytes and hash of each object of an array."""
    listed = ArrayManifest.empty(shards)
    for row, col in np.ndindex(*shards):
        stored = nodes.folder / shard_key(array, row, col, dimensions)
        if stored.exists():
            content = stored.read_bytes()
            digest = hashlib.sha256(content).digest()
            listed.sha256[row, col] = np.frombuffer(digest, np.uint8)
            listed.size_bytes[row, col] = len(content)
    nodes.write_plain(f"{MANIFEST}/{array}_sha256", listed.sha256)
    nodes.write_plain(f"{MANIFEST}/{array}_bytes", listed.size_bytes)


def _write_objects(nodes: SubsetNodes) -> None:
    """List what is neither a shard of cells nor the manifest nor the root."""
    cells = {name for name in nodes.written if f"{MANIFEST}/{name}_bytes" in nodes.written}
    shards = tuple(f"{name}/c/" for name in cells)
    keys = sorted(
        key
        for file in nodes.folder.rglob("*")
        if file.is_file()
        and (key := file.relative_to(nodes.folder).as_posix()) != "zarr.json"
        and not key.startswith((f"{MANIFEST}/", *shards))
    )
    bodies = [(nodes.folder / key).read_bytes() for key in keys]
    hashes = np.array([list(hashlib.sha256(body).digest()) for body in bodies], np.uint8)
    sizes = np.array([len(body) for body in bodies], np.int64)
    nodes.write_new(f"{MANIFEST}/{OBJECTS}_keys", texts_to_bytes(keys), KEY_BYTE)
    nodes.write_new(f"{MANIFEST}/{OBJECTS}_sha256", hashes, "object", BYTE)
    nodes.write_new(f"{MANIFEST}/{OBJECTS}_bytes", sizes, "object")


def _hold_attributes(nodes: SubsetNodes) -> None:
    """Write the root's attributes into the manifest, and the hashes of both into the root."""
    attributes = nodes.written[""]["attributes"]
    held = held_attributes(attributes)
    nodes.write_new(f"{MANIFEST}/{ARRAY}", attributes_to_bytes(held), ATTRIBUTE_BYTE)
    files = sorted(file for file in (nodes.folder / MANIFEST).rglob("*") if file.is_file())
    manifest = {file.relative_to(nodes.folder).as_posix(): file.read_bytes() for file in files}
    attributes["unigeo"] |= {
        DIGEST: attributes_digest(held),
        "manifest_sha256": manifest_digest(manifest),
    }
