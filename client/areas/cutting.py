"""A part of a field as a field of its own, which opens, samples and verifies like any other.

The lattice stays the same, so a cell of the part is the cell of the whole, byte for byte. The part
is widened to whole shards of its own; these are smaller than the field's where the part is small.
"""

import hashlib
import json
import shutil
from copy import deepcopy
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from unigeo.client.areas.covering import holds_centre
from unigeo.client.areas.outlines import Outlines
from unigeo.client.areas.windows import region_of_field
from unigeo.client.progress import watched
from unigeo.schemas.concepts import GROUP as CONCEPTS
from unigeo.schemas.encoder import GROUP as ENCODER
from unigeo.schemas.errors import StoreError
from unigeo.schemas.grid import Grid, Window
from unigeo.schemas.held_attributes import (
    ARRAY,
    DIGEST,
    attributes_digest,
    attributes_to_bytes,
    held_attributes,
)
from unigeo.schemas.layout import Layout, georeferenced, spatial_ref_attributes, status_name
from unigeo.schemas.manifest import GROUP as MANIFEST
from unigeo.schemas.manifest import OBJECTS, ArrayManifest, manifest_digest, shard_key
from unigeo.schemas.overviews import GROUP as OVERVIEWS
from unigeo.schemas.preview import GROUP as PREVIEW
from unigeo.schemas.quantization import FILL
from unigeo.schemas.status import Status
from unigeo.schemas.stores import open_group, refuse_inside_a_store, unreachable_errors
from unigeo.schemas.text_arrays import texts_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    import zarr

    from unigeo.client.stored_field import StoredField

_GROUP = {"zarr_format": 3, "node_type": "group"}
_OF_THE_MODEL = (ENCODER, CONCEPTS)
"""Groups that hold for every part of a field."""
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
    grid, layout = _part_of(field.grid, replace(field.layout, modalities=chosen), window)
    source = open_group(field.url, store=field.known_store("cut"))
    beside = path.with_name(path.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        nodes = _Nodes(source, beside)
        nodes.write_json("", {"attributes": _attributes(field, source, grid, layout), **_GROUP})
        _write_coordinates(nodes, grid)
        for name in _OF_THE_MODEL:
            _copy_group(nodes, name)
        _check_objects(field, source, grid, layout)
        _write_cells(field, nodes, grid, layout, outlines if mask else None, progress)
        _write_manifest(nodes, grid, layout)
        _write_objects(nodes)
        _hold_attributes(nodes)
        nodes.consolidate()
        beside.replace(path)
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write {path}: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path


def _part_of(grid: Grid, layout: Layout, window: Window) -> tuple[Grid, Layout]:
    """The window widened to whole shards, of a side that divides the field's."""
    sides = range(layout.chunk, layout.shard + 1, layout.chunk)
    longer = max(window.height, window.width)
    fitting = [s for s in sides if layout.shard % s == 0 and s * _SHARDS_ALONG <= longer]
    shard = max(fitting, default=layout.chunk)
    top, left = grid.row0 + window.row, grid.col0 + window.col
    low = top // shard * shard, left // shard * shard
    high = -(-(top + window.height) // shard) * shard, -(-(left + window.width) // shard) * shard
    shape = high[0] - low[0], high[1] - low[1]
    return Grid(grid.crs, grid.resolution_m, *low, shape), replace(layout, shard=shard)


def _attributes(
    field: "StoredField", source: "zarr.Group", grid: Grid, layout: Layout
) -> dict[str, Any]:
    """The root's, of the part; everything else that it says stays."""
    own = field.attributes.model_dump(mode="json")
    own["grid"] |= {"row0": grid.row0, "col0": grid.col0, "shape": list(grid.shape)}
    own["layout"] |= {"modalities": list(layout.modalities), "shard": layout.shard}
    for of_the_whole in ("manifest_sha256", DIGEST):
        own.pop(of_the_whole, None)
    own["part_of"] = {
        "region": own["region"],
        "grid": field.attributes.grid.model_dump(mode="json"),
        "left_out": [name for name in _OF_THE_WHOLE if name in source],
    }
    return georeferenced({**dict(source.attrs), "unigeo": own}, grid)


class _Nodes:
    """Groups and arrays of the new store, made after those of the old one."""

    def __init__(self, source: "zarr.Group", folder: Path) -> None:
        self.source, self.folder = source, folder
        self.written: dict[str, dict[str, Any]] = {}

    def read(self, name: str) -> np.ndarray:
        """A small array of the old store."""
        return np.asarray(cast(Any, self.source[name])[...])

    def write_json(self, name: str, document: dict[str, Any]) -> None:
        place = self.folder / name / "zarr.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(document, indent=2), encoding="utf-8")
        self.written[name] = document

    def write_group(self, name: str) -> None:
        self.write_json(name, {"attributes": dict(self.source[name].attrs), **_GROUP})

    def describe(self, name: str, shape: tuple[int, ...], chunk: tuple[int, ...]) -> dict[str, Any]:
        """Metadata of an array like the old one, of another shape."""
        document: dict[str, Any] = deepcopy(self.source[name].metadata.to_dict())
        document["shape"] = list(shape)
        document["chunk_grid"]["configuration"]["chunk_shape"] = list(chunk)
        return document

    def write_plain(self, name: str, values: np.ndarray, **attributes: Any) -> None:
        """An array of one chunk, without codecs; as publication writes all small ones."""
        document = self.describe(name, values.shape, tuple(max(1, side) for side in values.shape))
        document["codecs"] = [{"name": "bytes"}]
        if values.itemsize > 1:
            document["codecs"][0]["configuration"] = {"endian": "little"}
        document["attributes"] = dict(document["attributes"]) | attributes
        self._write_chunk(name, document, values)

    def write_new(self, name: str, values: np.ndarray, *dimensions: str) -> None:
        """The same, of an array that the old store may lack."""
        import zarr
        from zarr.storage import MemoryStore

        array = zarr.create_array(
            MemoryStore(),
            shape=values.shape,
            dtype=values.dtype,
            chunks=tuple(max(1, side) for side in values.shape),
            compressors=None,
            filters=None,
            fill_value=0,
            dimension_names=dimensions,
        )
        self._write_chunk(name, array.metadata.to_dict(), values)

    def _write_chunk(self, name: str, document: dict[str, Any], values: np.ndarray) -> None:
        self.write_json(name, document)
        if values.size:
            chunk = self.folder.joinpath(name, "c", *["0"] * values.ndim)
            chunk.parent.mkdir(parents=True, exist_ok=True)
            chunk.write_bytes(values.astype(values.dtype.newbyteorder("<")).tobytes())

    def consolidate(self) -> None:
        """Repeat everything in the root, last."""
        root = self.written.pop("")
        known = {"kind": "inline", "must_understand": False, "metadata": self.written}
        self.write_json("", root | {"consolidated_metadata": known})


def _write_coordinates(nodes: _Nodes, grid: Grid) -> None:
    nodes.write_plain("x", grid.x)
    nodes.write_plain("y", grid.y)
    nodes.write_plain("band", nodes.read("band"))
    nodes.write_plain("spatial_ref", nodes.read("spatial_ref"), **spatial_ref_attributes(grid))


def _copy_group(nodes: _Nodes, group: str) -> None:
    if group not in nodes.source:
        return
    nodes.write_group(group)
    for name in cast(Any, nodes.source[group]).array_keys():
        nodes.write_plain(f"{group}/{name}", nodes.read(f"{group}/{name}"))


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
    side = field.layout.shard
    top, left = grid.row0 - field.grid.row0, grid.col0 - field.grid.col0
    rows = range(max(top, 0) // side, -(-min(top + grid.shape[0], field.grid.shape[0]) // side))
    cols = range(max(left, 0) // side, -(-min(left + grid.shape[1], field.grid.shape[1]) // side))
    prefix = f"{source.path}/" if source.path else ""
    for name in layout.modalities:
        for array, last in ((name, "/0"), (status_name(name), "")):
            for row, col in product(rows, cols):
                key = f"{prefix}{array}/c/{row}/{col}{last}"
                if sync(store.listing.size(key)):
                    sync(store.prove(key))


def _write_cells(
    field: "StoredField",
    nodes: _Nodes,
    grid: Grid,
    layout: Layout,
    outlines: Outlines | None,
    progress: bool,
) -> None:
    """Copy shard after shard of each modality; those without any vector are left out."""
    for name in layout.modalities:
        for array, bands in ((name, (layout.bands,)), (status_name(name), ())):
            shard = (layout.shard, layout.shard, *bands)
            document = nodes.describe(array, (*grid.shape, *bands), shard)
            document["attributes"] = georeferenced(dict(document["attributes"]), grid)
            nodes.write_json(array, document)
    group: Any = open_group(str(nodes.folder), read_only=False, consolidated=False)
    down, right = grid.row0 - field.grid.row0, grid.col0 - field.grid.col0
    windows = list(grid.windows(layout.shard))
    for window in watched(windows, "region", "shards", progress):
        there = replace(window, row=window.row + down, col=window.col + right)
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


def _write_manifest(nodes: _Nodes, grid: Grid, layout: Layout) -> None:
    shards = layout.shards(grid)
    nodes.write_group(MANIFEST)
    group: Any = open_group(str(nodes.folder), consolidated=False)
    for name in layout.modalities:
        valid = np.zeros(shards, np.int64)
        for (row, col), window in zip(np.ndindex(*shards), grid.windows(layout.shard), strict=True):
            codes = group[status_name(name)][window.slices]
            valid[row, col] = np.count_nonzero(codes == Status.VALID)
        nodes.write_plain(f"{MANIFEST}/{name}_valid_cells", valid)
        for array, dimensions in ((name, 3), (status_name(name), 2)):
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


def _write_objects(nodes: _Nodes) -> None:
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
    nodes.write_new(f"{MANIFEST}/{OBJECTS}_keys", texts_to_bytes(keys), "byte")
    nodes.write_new(f"{MANIFEST}/{OBJECTS}_sha256", hashes, "object", "byte")
    nodes.write_new(f"{MANIFEST}/{OBJECTS}_bytes", sizes, "object")


def _hold_attributes(nodes: _Nodes) -> None:
    """Write the root's attributes into the manifest, and the hashes of both into the root."""
    attributes = nodes.written[""]["attributes"]
    held = held_attributes(attributes)
    nodes.write_new(f"{MANIFEST}/{ARRAY}", attributes_to_bytes(held), "byte")
    files = sorted(file for file in (nodes.folder / MANIFEST).rglob("*") if file.is_file())
    manifest = {file.relative_to(nodes.folder).as_posix(): file.read_bytes() for file in files}
    attributes["unigeo"] |= {
        DIGEST: attributes_digest(held),
        "manifest_sha256": manifest_digest(manifest),
    }
