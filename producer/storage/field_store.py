"""Create the field store, or take up one that an earlier run began.

While it is built the root's state is `building` and its metadata is not consolidated, so that no
reader takes half a product for a whole one. Nothing in a store depends on when it was written.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.storage import LocalStore, ObjectStore

from unigeo.producer.storage.code_identity import check_code
from unigeo.producer.storage.object_io import create, exists, put
from unigeo.producer.storage.retrying import retrying
from unigeo.producer.storage.staged_groups import draft, objects_of
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.io.store_errors import MALFORMED, unreachable_errors
from unigeo.schemas.io.stores import open_store
from unigeo.schemas.store.attributes import layout_attributes, read_attributes
from unigeo.schemas.store.layout import (
    LAYOUT_VERSION,
    Layout,
    array_attributes,
    axis_attributes,
    band_numbers,
    spatial_ref_attributes,
    status_name,
)
from unigeo.schemas.store.quantization import FILL

_PROBE = "unigeo-may-i-write"
_IDENTITY = ("region", "grid", "layout", "model", "observations", "seed")
"""Keys of the `unigeo` attribute that make two runs the same product."""
_BEGUN = ("code_version", "packages")
"""Keys that stay as the run wrote them that began the store."""


def check_writable(url: Any) -> None:
    """Refuse a place that cannot be written, before hours of training.

    Raises:
        StoreError: naming the folder or the object store's answer.
    """
    store = open_store(url, read_only=False)
    if isinstance(store, LocalStore):
        folder = store.root.absolute()
        while not folder.exists() and folder.parent != folder:
            folder = folder.parent
        try:
            with tempfile.TemporaryFile(dir=folder):  # asking for permission alone misleads root
                pass
        except OSError as error:
            raise StoreError(
                f"cannot write {url}: {folder} is not a folder you may write to ({error.strerror})"
            ) from error
    elif isinstance(store, ObjectStore):
        try:
            obstore.put(store.store, _PROBE, b"")
            obstore.delete(store.store, _PROBE)
        except unreachable_errors() as error:
            raise StoreError(f"cannot write {url}: {error}") from error


def create_field(
    url: Any,
    grid: Grid,
    layout: Layout,
    attributes: dict[str, Any],
    mended: frozenset[str] = frozenset(),
    note_again: Callable[[list[str]], None] = lambda files: None,
) -> zarr.Group:
    """Create an empty field, or open the one that is there if it is of the same product.

    Args:
        url: a path, an object store's URL, or a Zarr store.
        grid: the cells; aligned to the layout's shards.
        layout: which arrays, how they are cut.
        attributes: of the root, by `schemas.attributes.root_attributes`.
        mended: input files that could not be read before and may have changed since.
        note_again: is told those that have, before they are taken for the store's inputs.

    Returns:
        The root group, writable, metadata not consolidated.

    Raises:
        StoreError: if something else stands there, another product, or it cannot be written.
    """
    layout.shards(grid)
    store = retrying(open_store(url, read_only=False))
    try:
        group = _existing(store, url, attributes, mended, note_again)
        if group is None:
            create(store, "zarr.json", _root_document(attributes))
            group = _existing(
                store, url, attributes, mended, note_again
            )  # ours, or of one who was faster
        if group is None:
            raise StoreError(f"{url} was removed while it was begun; run the command again")
        if group.attrs["unigeo"]["state"] == "building":  # type: ignore[index,call-overload]
            create_arrays(store, group.path, grid, layout)
        return group
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write the store at {url}: {error}") from error


def _existing(
    store: Any,
    url: Any,
    attributes: dict[str, Any],
    mended: frozenset[str],
    note_again: Callable[[list[str]], None],
) -> zarr.Group | None:
    """The group that stands at the URL, if it is the same product; None if nothing does."""
    group = _root(store)
    if group is None and isinstance(store, LocalStore) and _holds_files(store.root):
        group = _root(store)  # another run may have begun it between the two looks
        if group is None:
            raise StoreError(
                f"{url} is a folder that holds other files and no store; name another --out"
            )
    if group is None:
        return None
    try:
        read = read_attributes(dict(group.attrs), str(url))
    except LayoutError as error:
        raise StoreError(f"{error}. Name another --out, or remove it first.") from error
    found = read.model_dump(mode="json")
    new = read_attributes(attributes, "the new field")
    wanted = new.model_dump(mode="json")
    if found["state"] == "building":
        check_layout(found, url)
    found["layout"] = layout_attributes(read.field_layout())  # layout 1 has no widths
    wanted["layout"] = layout_attributes(new.field_layout())
    differing = [key for key in _IDENTITY if found[key] != wanted[key]]
    if _interpolated(found) != _interpolated(wanted):
        differing.append("interpolation")
    if found["state"] == "building" and differing in ([], ["observations"]):
        check_code(found, wanted, url)
    if differing == ["observations"] and found["state"] == "building":
        seen = (_without(about["observations"], mended) for about in (found, wanted))
        if mended and len({json.dumps(one, sort_keys=True) for one in seen}) == 1:
            note_again(changed_files(found["observations"], wanted["observations"]))
            return _write_root(store, _begun_as(group.attrs, attributes))
    if not differing and found["state"] == "building" and _terms(group.attrs) != _terms(attributes):
        return _write_root(store, _begun_as(group.attrs, attributes))
    if differing:
        raise StoreError(
            f"{url} holds another product: its {', '.join(differing)} differ"
            f"{_detail(found, wanted)}. Name another --out, or remove the store first."
        )
    return group


def check_layout(own: Mapping[str, Any], url: Any) -> None:
    """Refuse to write shards into a store of an earlier layout.

    Args:
        own: the root's `unigeo` attribute.
        url: of the store.

    Raises:
        StoreError: naming both layouts and what to do.
    """
    if own["layout_version"] != LAYOUT_VERSION:
        raise StoreError(
            f"{url} lacks shards and was begun by an earlier unigeo in layout "
            f"{own['layout_version']}, which this one, of layout {LAYOUT_VERSION}, cannot finish; "
            f"finish it with the unigeo that began it ({own['code_version']}), name another --out, "
            "or remove it first"
        )


def _root(store: Any) -> zarr.Group | None:
    try:
        return zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
    except FileNotFoundError:
        return None
    except MALFORMED as error:
        raise StoreError(
            f"the zarr.json of {store} is cut off, or of something else ({error}); name another "
            "--out, or remove it first"
        ) from error


def _holds_files(folder: Path) -> bool:
    """Whether there is more than what zarr is about to rename."""
    return folder.is_dir() and any(file.suffix != ".partial" for file in folder.iterdir())


def _terms(attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a run may change until the store is published."""
    own = attributes["unigeo"]
    return attributes["license"], attributes["citation"], own.get("providers")


def _begun_as(found: Mapping[str, Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes that say of code and packages what the store said when it was begun."""
    kept = {key: found["unigeo"][key] for key in _BEGUN if key in found["unigeo"]}
    return {**attributes, "unigeo": attributes["unigeo"] | kept}


def _interpolated(attributes: dict[str, Any]) -> int:
    """How coarsely the coordinate field was encoded, in cells."""
    detail = attributes["coordinate_detail"]
    return 1 if detail is None else int(detail["interpolated"])


def _without(observations: Any, files: frozenset[str]) -> Any:
    """Provenance without the sizes and hashes of some input files."""
    if isinstance(observations, list):
        return [_without(part, files) for part in observations]
    if not isinstance(observations, dict):
        return observations
    if observations.get("file") in files and "bytes" in observations:
        return {"file": observations["file"]}
    return {key: _without(value, files) for key, value in observations.items()}


def is_published(group: zarr.Group) -> bool:
    """Whether the store is published by now, whatever the group was when it was opened."""
    now = zarr.open_group(retrying(group.store), mode="r", zarr_format=3, use_consolidated=False)
    own: Any = now.attrs["unigeo"]
    return bool(own["state"] == "published")


def _root_document(attributes: dict[str, Any]) -> bytes:
    return objects_of(draft(attributes))["zarr.json"]


def _write_root(store: Any, attributes: dict[str, Any]) -> zarr.Group:
    put(store, "zarr.json", _root_document(attributes))
    return zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)


def _detail(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The model's hashes, the region or the input files, where those are what differs."""
    if found["model"]["sha256"] != wanted["model"]["sha256"]:
        return (
            f" (model {found['model']['sha256'][:12]} there, {wanted['model']['sha256'][:12]} here)"
        )
    if found["region"] != wanted["region"]:
        return f" ({found['region']} there, {wanted['region']} here)"
    files = changed_files(found["observations"], wanted["observations"])
    return f" (changed since: {', '.join(files)})" if files else ""


def changed_files(before: Any, after: Any) -> list[str]:
    """Names of the input files that two provenances tell differently, sorted."""
    told = [dict(_files_of(about)) for about in (before, after)]
    return sorted(name for name in told[0] | told[1] if told[0].get(name) != told[1].get(name))


def _files_of(about: Any) -> Iterator[tuple[str, str]]:
    """Every input file in a provenance, and what is said of it."""
    if isinstance(about, dict) and "file" in about and "bytes" in about:
        yield str(about["file"]), json.dumps(about, sort_keys=True)
    elif isinstance(about, dict | list):
        for part in about.values() if isinstance(about, dict) else about:
            yield from _files_of(part)


def create_arrays(store: Any, path: str, grid: Grid, layout: Layout) -> None:
    """Write what is not there yet of an empty field: a run may have been killed between two arrays.

    Nothing is ever removed, so that two runs that begin together end with the same objects.
    """
    empty = draft()
    for modality in layout.modalities:
        _create_vectors(empty, modality, grid, layout)
        _create_status(empty, modality, grid, layout)
    _create_coordinates(empty, grid, layout)
    prefix = f"{path}/" if path else ""
    for key, body in objects_of(empty).items():
        if key != "zarr.json" and not exists(store, prefix + key):
            put(store, prefix + key, body)


def _create_vectors(group: zarr.Group, modality: str, grid: Grid, layout: Layout) -> None:
    inner: list[Any] = [BytesCodec(), Crc32cCodec()]
    width = layout.width(modality)
    if layout.codec == "zstd":
        inner.insert(1, ZstdCodec(level=3))
    group.create_array(
        modality,
        shape=(*grid.shape, width),
        dtype="int8",
        chunks=(layout.shard, layout.shard, width),
        serializer=ShardingCodec(chunk_shape=(layout.chunk, layout.chunk, width), codecs=inner),
        compressors=None,
        filters=None,
        fill_value=FILL,
        dimension_names=("y", "x", layout.dimension(modality)),
        attributes=array_attributes(modality, grid),
    )


def _create_status(group: zarr.Group, modality: str, grid: Grid, layout: Layout) -> None:
    group.create_array(
        status_name(modality),
        shape=grid.shape,
        dtype="uint8",
        chunks=(layout.shard, layout.shard),
        compressors=None,  # nor a CRC, which GDAL 3.12 refuses: the manifest has their hashes
        filters=None,
        fill_value=0,
        dimension_names=("y", "x"),
        attributes=array_attributes(modality, grid, status=True),
    )


def _create_coordinates(group: zarr.Group, grid: Grid, layout: Layout) -> None:
    about = {"long_name": "number of the vector's dimension"}
    coordinates: list[tuple[str, np.ndarray, dict[str, Any]]] = [
        ("x", grid.x, axis_attributes("x")),
        ("y", grid.y, axis_attributes("y")),
        *((name, band_numbers(n), about) for name, n in layout.band_dimensions.items()),
        ("spatial_ref", np.array(0, np.int32), spatial_ref_attributes(grid)),
    ]
    for name, values, attributes in coordinates:
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape or "auto",
            compressors=None,
            filters=None,
            # No coordinate is ever NaN or -1, so no chunk is left out as if it were empty.
            fill_value=np.nan if values.dtype.kind == "f" else -1,
            dimension_names=(name,) if values.ndim else (),
            attributes=attributes,
        )
        array[...] = values


def sweep(group: zarr.Group) -> None:
    """Remove what a killed write left beside its object: `<key>.<hex>.partial`, on a local disk.

    Only where nobody else writes: their objects look the same until they are whole.
    """
    store = group.store
    if isinstance(store, LocalStore) and store.root.is_dir():
        for stray in store.root.rglob("*.partial"):
            stray.unlink(missing_ok=True)
