"""Releases of a field: each a store of its own that never changes; a new one takes over what stays.

What a shard of a modality holds follows from the model, the layout, where on the lattice it lies,
which of its cells are in the region and on land, and the modality's inputs as the observations'
hashes name them. The digest of these stands in the manifest. A shard of a new release with the
digest of one of the release before is not encoded again: its objects are read, compared with their
SHA-256 and written into the new store: vectors as they are, and the status as the new store's
layout has it, which is another than that of a release of layout 1. The inputs count as one: if any
file of a modality changes, all its shards are made anew. A shard with failed cells is never taken
over.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from jaxtyping import Bool, Float, UInt8

from unigeo.producer.publishing.shard_facts import ShardFacts
from unigeo.producer.raster.planning import plan
from unigeo.producer.storage.objects import digest, need_object, read_object, write_object
from unigeo.producer.storage.shard_codec import status_object, status_of
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.geo.window import Window
from unigeo.schemas.io.addresses import folder_and_name
from unigeo.schemas.io.stores import open_group, read_document
from unigeo.schemas.store.attributes import UnigeoAttributes, read_attributes
from unigeo.schemas.store.catalogue import NAME, read_catalogue
from unigeo.schemas.store.layout import Layout, status_name
from unigeo.schemas.store.manifest import GROUP, shard_key, task_name
from unigeo.schemas.store.status import Status

Land = Callable[[Float[np.ndarray, "point 2"]], Bool[np.ndarray, " point"]]
_ENDING = ".zarr"


@dataclass(frozen=True)
class NextRelease:
    """Where a new release goes, and which it follows."""

    url: str
    release: str
    previous_url: str
    previous: str

    def mark(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """The root's attributes with the release in them."""
        own = attributes["unigeo"] | {"release": self.release, "previous": self.previous}
        return {**attributes, "unigeo": own}


def next_release(url: str, region: str) -> NextRelease:
    """Find the newest release of a field, and where the next goes: `conus-r2.zarr`, ...

    Args:
        url: of the first release's store.
        region: its name.

    Raises:
        StoreError: if nothing was published there.
    """
    folder, name = folder_and_name(url)
    content = read_document(f"{folder}/{NAME}")
    entries = () if content is None else read_catalogue(content, f"{folder}/{NAME}")
    stem = name.removesuffix(_ENDING)
    pattern = re.compile(rf"{re.escape(stem)}(-r\d+)?{re.escape(_ENDING)}")
    found = [one for one in entries if one.region == region and pattern.fullmatch(one.href)]
    if not found:
        raise StoreError(
            f"there is no published field of {region} at {url} to update; run the same command "
            "without --update first"
        )
    newest = max(found, key=lambda one: one.order)
    if not newest.release.isdecimal():
        raise StoreError(f"release {newest.release!r} of {url} has no number to count on from")
    number = str(int(newest.release) + 1)
    return NextRelease(
        f"{folder}/{stem}-r{number}{_ENDING}", number, f"{folder}/{newest.href}", newest.release
    )


def task_digest(own: UnigeoAttributes, modality: str, window: Window, mask: np.ndarray) -> bytes:
    """What decides a shard's content, as a SHA-256.

    Args:
        own: the field's attributes.
        modality: of the shard.
        window: its cells on the field's grid.
        mask: what each cell is before it is encoded; see `mask_of_status`.
    """
    grid, layout = own.grid, own.layout
    inputs: Any = None
    if modality == "coordinate":
        detail = own.coordinate_detail
        if detail is not None and detail.interpolated > 1:
            inputs = {"interpolated": detail.interpolated}
    else:
        sources = own.observations.get("modalities")
        inputs = sources.get(modality) if isinstance(sources, dict) else own.observations
    parts = {
        "model": own.model.sha256,
        "modality": modality,
        "layout": [own.field_layout().width(modality), layout.shard, layout.chunk, layout.codec],
        "lattice": [grid.crs, grid.resolution_m, grid.row0 + window.row, grid.col0 + window.col],
        "inputs": inputs,
    }
    text = json.dumps(parts, sort_keys=True).encode()
    return hashlib.sha256(text + b"\n" + mask.astype(np.uint8).tobytes()).digest()


def mask_of_status(status: UInt8[np.ndarray, "row col"]) -> UInt8[np.ndarray, "row col"]:
    """Outside the region, on water, or to be encoded, as a finished shard's status tells it."""
    left_out = (status == Status.OUTSIDE_REGION) | (status == Status.WATER)
    return np.asarray(np.where(left_out, status, np.uint8(Status.VALID)))


def mask_of_places(
    grid: Grid, window: Window, region: Region, land: Land
) -> UInt8[np.ndarray, "row col"]:
    """The same, before anything is encoded."""
    lonlat = grid.centres(window).reshape(-1, 2)
    mask = np.full(len(lonlat), Status.OUTSIDE_REGION, np.uint8)
    inside = np.flatnonzero(region.contains(lonlat))
    if len(inside):
        mask[inside] = np.where(land(lonlat[inside]), Status.VALID, Status.WATER)
    return mask.reshape(window.height, window.width)


def digest_of_shard(
    own: UnigeoAttributes, modality: str, window: Window, status: UInt8[np.ndarray, "row col"]
) -> bytes:
    """The task of a finished shard; zeros, like no other's, where cells of it failed."""
    if (status == Status.FAILED).any():
        return bytes(32)
    return task_digest(own, modality, window, mask_of_status(status))


def take_over(previous_url: Any, group: zarr.Group, region: Region, land: Land) -> int:
    """Copy from the release before every shard that stays the same; the same call goes on.

    Args:
        previous_url: of its store, or the store.
        group: the new release's root, not published yet.
        region: of the new release.
        land: of its observations.

    Returns:
        How many shards were copied.
    """
    previous = open_group(previous_url)
    old = read_attributes(dict(previous.attrs), str(previous_url))
    own = read_attributes(dict(group.attrs), str(group.store))
    grid, layout = own.grid.grid(), own.field_layout()
    down, right = _offset(old, own)
    layouts = old.field_layout(), layout
    listed: dict[str, Mapping[str, np.ndarray]] = {}
    masks: dict[tuple[int, int], np.ndarray] = {}
    copied = 0
    for task in plan(group, grid, layout):
        if task.modality not in listed:
            listed[task.modality] = _listed(previous, task.modality)
        facts = listed[task.modality]
        row, col = task.shard_row + down, task.shard_col + right
        if not facts or not (0 <= row < len(facts["task"]) and 0 <= col < facts["task"].shape[1]):
            continue
        place = (task.shard_row, task.shard_col)
        window = task.window(layout.shard)
        if place not in masks:
            masks[place] = mask_of_places(grid, window, region, land)
        wanted = task_digest(own, task.modality, window, masks[place])
        if facts["task"][row, col].tobytes() == wanted:
            copied += _copy(previous, group, task.modality, (row, col), place, facts, layouts)
    return copied


def runs_of(
    previous_url: Any, own: UnigeoAttributes, facts: Mapping[str, ShardFacts], store: Any
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Runs of the release before, and which of them made each shard that stays.

    A shard is of an earlier run if the same task gave the same vectors and the same status there.
    So a shard that was encoded anew is of the new run, even if it has the old status, and even if
    it holds no vector at all.

    Args:
        previous_url: of its store, or the store.
        own: of the new release.
        facts: what is stored of each modality in the new release.
        store: of the new release.

    Returns:
        Its runs; and for each modality the number of the run, or that after the last one.
    """
    previous = open_group(previous_url)
    old = read_attributes(dict(previous.attrs), str(previous_url))
    told: Any = previous[GROUP].attrs["runs"]
    runs = [dict(run) for run in told]
    down, right = _offset(old, own)
    before_layout, layout = old.field_layout(), own.field_layout()
    numbers = {}
    for modality, new in facts.items():
        number = np.full(new.tasks.shape[:2], len(runs), np.int32)
        before = _listed(previous, modality)
        for place in np.ndindex(*number.shape) if before else ():
            there = (place[0] + down, place[1] + right)
            sizes = before["run"].shape
            if not all(0 <= at < size for at, size in zip(there, sizes, strict=True)):
                continue
            pairs = ((before["task"], new.tasks), (before["vectors"], new.vectors.sha256))
            same = all(np.array_equal(a[there], b[place]) for a, b in pairs)
            if not (same and new.tasks[place].any()):  # a task with failed cells has no digest
                continue
            status = new.status.sha256[place].tobytes()
            if before_layout.checked_status != layout.checked_status:
                body = need_object(store, shard_key(status_name(modality), place[0], place[1], 2))
                status = digest(status_object(status_of(body, layout), before_layout))
            if before["status"][there].tobytes() == status:
                number[place] = before["run"][there]
        numbers[modality] = number
    return runs, numbers


def _offset(old: UnigeoAttributes, own: UnigeoAttributes) -> tuple[int, int]:
    """Shards from the old grid's corner to the new one's."""
    shard: int = own.layout.shard
    rows, cols = old.grid.grid().offset_of(own.grid.grid())
    return rows // shard, cols // shard


def _listed(previous: zarr.Group, modality: str) -> Mapping[str, np.ndarray]:
    """What the manifest says of a modality; nothing where it does not know its tasks."""
    names = {
        "task": task_name(modality),
        "run": f"{modality}_run",
        "vectors": f"{modality}_sha256",
        "status": f"{status_name(modality)}_sha256",
    }
    arrays = {key: previous.get(f"{GROUP}/{name}") for key, name in names.items()}
    if not all(isinstance(array, zarr.Array) for array in arrays.values()):
        return {}
    return {key: np.asarray(array[...]) for key, array in arrays.items()}  # type: ignore[index]


def _copy(
    previous: zarr.Group,
    group: zarr.Group,
    modality: str,
    there: tuple[int, int],
    here: tuple[int, int],
    facts: Mapping[str, np.ndarray],
    layouts: tuple[Layout, Layout],
) -> bool:
    """Copy a shard's vectors, then its status, if both are what the manifest says."""
    bodies = []
    for array, dimensions, kind in ((modality, 3, "vectors"), (status_name(modality), 2, "status")):
        body = read_object(previous.store, shard_key(array, *there, dimensions))
        if digest(body or b"") != facts[kind][there].tobytes() and (
            body is not None or facts[kind][there].any()
        ):
            return False  # damaged: it is encoded again
        if body is not None and kind == "status":
            body = bytes(status_object(status_of(body, layouts[0]), layouts[1]))
        bodies.append((shard_key(array, *here, dimensions), body))
    for key, body in bodies:
        if body is not None:
            write_object(group.store, key, body)
    return True
