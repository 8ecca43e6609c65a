"""What is left to do: a pure function of the grid and of what the store holds.

A plan has one byte per shard and modality and makes a task only when it is asked for one, so that
the globe at 100 m is planned in seconds.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import zarr
from jaxtyping import Bool
from zarr.core.sync import sync

from unigeo.producer.storage.retrying_store import needs_retry
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.io.retrying import with_retries
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.layout import Layout, status_name
from unigeo.schemas.store.manifest import GROUP as MANIFEST


@dataclass(frozen=True, order=True)
class Task:
    """One shard of one modality, or of the covariates: written by one process, as one object."""

    modality: str
    """Name of the array."""
    shard_row: int
    shard_col: int

    def window(self, shard: int) -> Window:
        """Cells of the shard on the field's grid."""
        return Window(self.shard_row * shard, self.shard_col * shard, shard, shard)


class Tasks(Sequence[Task]):
    """Tasks from north to south, the arrays of a shard one after another, covariates last."""

    def __init__(
        self,
        modalities: tuple[str, ...],
        missing: Bool[np.ndarray, "modality shard_row shard_col"],
    ) -> None:
        """Take the shards that are missing of each modality."""
        self.modalities = modalities
        self.missing = missing
        self._numbers = np.flatnonzero(np.moveaxis(missing, 0, -1))

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...

    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self._task(number) for number in self._numbers[index]]
        return self._task(self._numbers[index])

    def __iter__(self) -> Iterator[Task]:
        return map(self._task, self._numbers)

    def __contains__(self, task: object) -> bool:
        """Whether a task of these modalities is missing; without a search."""
        assert isinstance(task, Task)
        modality = self.modalities.index(task.modality)
        return bool(self.missing[modality, task.shard_row, task.shard_col])

    def __repr__(self) -> str:
        return f"<{len(self)} tasks of {', '.join(self.modalities)}>"

    def _task(self, number: np.int64) -> Task:
        shard, modality = divmod(int(number), len(self.modalities))
        return Task(self.modalities[modality], *divmod(shard, self.missing.shape[2]))


def plan(
    group: zarr.Group, grid: Grid, layout: Layout, arrays: tuple[str, ...] | None = None
) -> Tasks:
    """List the tasks that are not done, of a published store those whose objects were lost.

    A shard's status is written after its vectors, so its presence says that the task is done.

    Args:
        group: root of the store.
        grid: grid of the field.
        layout: layout of the field.
        arrays: some of the layout's arrays; all by default.
    """
    shape, arrays = layout.shards(grid), layout.arrays if arrays is None else arrays
    missing = [~_done(group, array, shape) for array in arrays]
    return Tasks(arrays, np.stack(missing))


def _done(
    group: zarr.Group, array: str, shape: tuple[int, int]
) -> Bool[np.ndarray, "shard_row shard_col"]:
    """Return which shards of an array are done, and were not lost after publication."""
    done = stored_mask(group.store, status_name(array), shape)
    listed = group.get(f"{MANIFEST}/{array}_bytes")
    if isinstance(listed, zarr.Array) and listed.shape == shape:
        done &= (np.asarray(listed[...]) == 0) | stored_mask(group.store, array, shape)
    return done


def planned(url: Any, grid: Grid, layout: Layout) -> Tasks:
    """List the tasks of a store that need not exist yet."""
    try:
        group = open_group(url, consolidated=False)
    except StoreError:
        return Tasks(layout.arrays, np.ones((len(layout.arrays), *layout.shards(grid)), bool))
    return plan(group, grid, layout)


def stored_shards(store: Any, array: str) -> set[tuple[int, int]]:
    """List row and column of every shard of an array that the store holds, by one request."""
    stored: set[tuple[int, int]] = set()
    _list_shards(store, array, lambda row, col: stored.add((row, col)))
    return stored


def stored_mask(
    store: Any, array: str, shape: tuple[int, int]
) -> Bool[np.ndarray, "shard_row shard_col"]:
    """Return which shards of an array the store holds, by one listing."""
    mask = np.zeros(shape, bool)

    def mark(row: int, col: int) -> None:
        if row < shape[0] and col < shape[1]:
            mask[row, col] = True

    _list_shards(store, array, mark)
    return mask


def _list_shards(store: Any, array: str, add: Callable[[int, int], object]) -> None:
    pattern = re.compile(rf"{re.escape(array)}/c/(\d+)/(\d+)(/0)?")

    async def listed() -> None:
        async for key in store.list_prefix(f"{array}/c/"):
            match = pattern.fullmatch(key)
            if match:
                add(int(match[1]), int(match[2]))

    with_retries(lambda: sync(listed()), needs_retry(store))
