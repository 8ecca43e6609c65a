"""Releases of a field: each is a store that never changes; a new one copies unchanged shards.

A shard of a new release whose task is the same as in the previous release (`task_digests`) is not
encoded again: its objects are read, compared with their SHA-256 and written into the new store,
vectors unchanged and the status in the new store's layout, which differs from that of layout 1. A
shard with failed cells is never copied.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from unigeo.producer.publishing.shard_facts import ShardFacts
from unigeo.producer.publishing.task_digests import is_same_task, mask_before_encoding
from unigeo.producer.raster.cell_status import Land, reset_status
from unigeo.producer.raster.planning import Task, Tasks, plan
from unigeo.producer.storage.objects import digest, need_object, read_object, write_object
from unigeo.producer.storage.shard_codec import status_object, status_of
from unigeo.schemas.errors import StoreError, UnigeoError
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.geo.window import Window
from unigeo.schemas.io.addresses import folder_and_name
from unigeo.schemas.io.stores import open_group, read_document
from unigeo.schemas.store.attributes import UnigeoAttributes, read_attributes
from unigeo.schemas.store.catalogue import NAME, read_catalogue
from unigeo.schemas.store.layout import Layout, status_name
from unigeo.schemas.store.manifest import GROUP, run_name, shard_key, task_name

_ENDING = ".zarr"


@dataclass(frozen=True)
class NextRelease:
    """URL and number of a new release, and of the release that it follows."""

    url: str
    release: str
    previous_url: str
    previous: str
    allow_loss: bool = False
    """Whether the release may hold less than the one before."""

    @property
    def previous_model(self) -> str:
        """SHA-256 of the weights that made the previous release."""
        attributes = dict(open_group(self.previous_url).attrs)
        return str(read_attributes(attributes, self.previous_url).model.sha256)

    @property
    def is_begun(self) -> bool:
        """Whether an earlier run has begun its store."""
        try:
            open_group(self.url, consolidated=False)
        except StoreError:
            return False
        return True

    def mark(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return the root's attributes with the release in them."""
        numbers = {"release": self.release, "previous": self.previous}
        return {**attributes, "unigeo": attributes["unigeo"] | numbers}


def next_release(url: str, region: str, *, allow_loss: bool = False) -> NextRelease:
    """Find the newest release of a field, and name the next: `conus-r2.zarr`, `conus-r3.zarr`.

    Args:
        url: URL of the first release's store.
        region: name of the field's region.
        allow_loss: whether the next may hold less than the newest.

    Raises:
        StoreError: if no release was published at `url`.
    """
    folder, name = folder_and_name(url)
    content = read_document(f"{folder}/{NAME}")
    entries = () if content is None else read_catalogue(content, f"{folder}/{NAME}")
    stem = name.removesuffix(_ENDING)
    pattern = re.compile(rf"{re.escape(stem)}(-r\d+)?{re.escape(_ENDING)}")
    releases = [one for one in entries if one.region == region and pattern.fullmatch(one.href)]
    if not releases:
        if _is_published_field(url):
            raise StoreError(
                f"{folder}/{NAME} does not list {url}; list it, and each later release beside it, "
                f"by: unigeo-produce catalog {folder}/{NAME} {url}"
            )
        raise StoreError(
            f"there is no published field of {region} at {url} to update; run the same command "
            "without --update first"
        )
    newest = max(releases, key=lambda one: one.order)
    if not newest.release.isdecimal():
        raise StoreError(f"release {newest.release!r} of {url} has no number to count on from")
    number = str(int(newest.release) + 1)
    return NextRelease(
        f"{folder}/{stem}-r{number}{_ENDING}",
        number,
        f"{folder}/{newest.href}",
        newest.release,
        allow_loss,
    )


def _is_published_field(url: str) -> bool:
    try:
        return read_attributes(dict(open_group(url).attrs), url).state == "published"
    except UnigeoError:  # no store, or another one
        return False


def take_over(previous_url: Any, group: zarr.Group, region: Region, land: Land) -> int:
    """Copy every unchanged shard from the previous release; a repeated call continues.

    Args:
        previous_url: URL of the previous release's store, or the store.
        group: the new release's root, not published yet.
        region: region of the new release.
        land: land mask of its observations.

    Returns:
        Number of copied shards.
    """
    previous = open_group(previous_url)
    old = read_attributes(dict(previous.attrs), str(previous_url))
    attributes = read_attributes(dict(group.attrs), str(group.store))
    layouts = old.field_layout(), attributes.field_layout()
    tasks = plan(group, attributes.grid.grid(), layouts[1])
    return sum(
        _copy(previous, group, task, old_shard, facts, layouts)
        for task, old_shard, facts in unchanged_tasks(previous, attributes, tasks, region, land)
    )


def unchanged_tasks(
    previous: zarr.Group, attributes: UnigeoAttributes, tasks: Tasks, region: Region, land: Land
) -> Iterator[tuple[Task, tuple[int, int], Mapping[str, np.ndarray]]]:
    """Find the tasks whose shards the previous release holds already.

    Args:
        previous: root of the previous release.
        attributes: attributes of the new release.
        tasks: tasks of the new release.
        region: region of the new release.
        land: land mask of its observations.

    Yields:
        The task, row and column of the shard in the previous release, and the modality's arrays of
        its manifest.
    """
    old = read_attributes(dict(previous.attrs), str(previous.store))
    grid, shard = attributes.grid.grid(), attributes.layout.shard
    down, right = _offset(old, attributes)
    listed: dict[str, Mapping[str, np.ndarray]] = {}
    masks: dict[Window, np.ndarray] = {}
    for task in tasks:
        if task.modality not in listed:
            listed[task.modality] = listed_shards(previous, task.modality)
        facts = listed[task.modality]
        row, col = task.shard_row + down, task.shard_col + right
        if not facts or not (0 <= row < len(facts["task"]) and 0 <= col < facts["task"].shape[1]):
            continue
        window = task.window(shard)
        if window not in masks:  # the tasks of a shard, one per modality, follow each other
            masks = {window: mask_before_encoding(grid, window, region, land)}
        stored = facts["task"][row, col].tobytes()
        if is_same_task(stored, old, attributes, task.modality, window, masks[window]):
            yield task, (row, col), facts


def runs_of(
    previous_url: Any, attributes: UnigeoAttributes, facts: Mapping[str, ShardFacts], store: Any
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return the runs of the previous release, and which of them made each unchanged shard.

    A shard belongs to an earlier run if its task, its vectors and its status are those of the
    previous release. So a shard that was encoded again belongs to the new run, even if it has the
    old status, and even if it holds no vector at all.

    Args:
        previous_url: URL of the previous release's store, or the store.
        attributes: attributes of the new release.
        facts: facts of the new release's shards by modality.
        store: store of the new release.

    Returns:
        The previous runs; and for each modality the number of the run that made each shard, which
        is the number of previous runs for shards of the new run.
    """
    previous = open_group(previous_url)
    old = read_attributes(dict(previous.attrs), str(previous_url))
    earlier: Any = previous[GROUP].attrs["runs"]
    runs = [dict(run) for run in earlier]
    down, right = _offset(old, attributes)
    numbers = {}
    for modality, new in facts.items():
        number = np.full(new.tasks.shape[:2], len(runs), np.int32)
        before = listed_shards(previous, modality)
        for shard in np.ndindex(*number.shape) if before else ():
            old_shard = (shard[0] + down, shard[1] + right)
            sizes = before["run"].shape
            if not all(0 <= at < size for at, size in zip(old_shard, sizes, strict=True)):
                continue
            listed = {key: array[old_shard].tobytes() for key, array in before.items()}
            if _is_unchanged(modality, shard, listed, new, old, attributes, store):
                number[shard] = before["run"][old_shard]
        numbers[modality] = number
    return runs, numbers


def _is_unchanged(
    modality: str,
    shard: tuple[int, ...],
    before: Mapping[str, bytes],
    new: ShardFacts,
    old: UnigeoAttributes,
    attributes: UnigeoAttributes,
    store: Any,
) -> bool:
    """Return whether task, vectors and status of a shard are those of the previous release.

    Args:
        modality: modality of the shard.
        shard: its row and column.
        before: its entries in the manifest of the previous release.
        new: facts of the new release's shards.
        old: attributes of the previous release.
        attributes: attributes of the new release.
        store: store of the new release.
    """
    task, status_digest = new.tasks[shard].tobytes(), new.status.sha256[shard].tobytes()
    # A task with failed cells has no digest.
    if not any(task) or before["vectors"] != new.vectors.sha256[shard].tobytes():
        return False
    layouts = old.field_layout(), attributes.field_layout()
    converted = layouts[0].checked_status != layouts[1].checked_status
    if before["task"] == task and not converted:
        return bool(before["status"] == status_digest)
    row, col = shard
    body = need_object(store, shard_key(status_name(modality), row, col, 2))
    status = status_of(body, layouts[1])
    if converted:  # equal codes are stored with a CRC in one release and without in the other
        status_digest = digest(status_object(status, layouts[0]))
    side = layouts[1].shard
    window = Window(row * side, col * side, side, side)
    return before["status"] == status_digest and is_same_task(
        before["task"], old, attributes, modality, window, reset_status(status)
    )


def _offset(old: UnigeoAttributes, new: UnigeoAttributes) -> tuple[int, int]:
    """Return the number of shards, down and right, from the old grid's corner to the new one's."""
    shard: int = new.layout.shard
    rows, cols = old.grid.grid().offset_of(new.grid.grid())
    return rows // shard, cols // shard


def listed_shards(previous: zarr.Group, modality: str) -> Mapping[str, np.ndarray]:
    """Read a modality's arrays of the manifest; empty if it lists no task digests."""
    names = {
        "task": task_name(modality),
        "run": run_name(modality),
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
    task: Task,
    old_shard: tuple[int, int],
    facts: Mapping[str, np.ndarray],
    layouts: tuple[Layout, Layout],
) -> bool:
    """Copy a shard's vectors, then its status, if both match their hashes in the manifest."""
    modality, shard = task.modality, (task.shard_row, task.shard_col)
    bodies = []
    for array, dimensions, kind in ((modality, 3, "vectors"), (status_name(modality), 2, "status")):
        body = read_object(previous.store, shard_key(array, *old_shard, dimensions))
        # A shard without vectors has no object, and its hash in the manifest is zeros.
        if digest(body or b"") != facts[kind][old_shard].tobytes() and (
            body is not None or facts[kind][old_shard].any()
        ):
            return False  # damaged: it is encoded again
        if body is not None and kind == "status":
            body = bytes(status_object(status_of(body, layouts[0]), layouts[1]))
        bodies.append((shard_key(array, *shard, dimensions), body))
    # The status is written last: it marks the shard as finished.
    for key, body in bodies:
        if body is not None:
            write_object(group.store, key, body)
    return True
