"""What is left to do: a pure function of the grid and of what the store holds."""

import re
from dataclasses import dataclass
from typing import Any

import zarr
from zarr.core.sync import sync

from unigeo.schemas.grid import Grid, Window
from unigeo.schemas.layout import Layout, status_name


@dataclass(frozen=True, order=True)
class Task:
    """One shard of one modality: written by one process, as one object."""

    modality: str
    shard_row: int
    shard_col: int

    def window(self, shard: int) -> Window:
        """The shard's cells."""
        return Window(self.shard_row * shard, self.shard_col * shard, shard, shard)


def plan(group: zarr.Group, grid: Grid, layout: Layout) -> list[Task]:
    """Tasks whose status shard the store lacks, modality by modality, north to south.

    A shard's status is written after its vectors, so its presence is the log.
    """
    rows, cols = layout.shards(grid)
    tasks = []
    for modality in layout.modalities:
        done = stored_shards(group.store, status_name(modality))
        tasks += [
            Task(modality, row, col)
            for row in range(rows)
            for col in range(cols)
            if (row, col) not in done
        ]
    return tasks


def stored_shards(store: Any, array: str) -> set[tuple[int, int]]:
    """Row and column of every shard of an array that the store holds; one listing."""
    pattern = re.compile(rf"{re.escape(array)}/c/(\d+)/(\d+)(/0)?")

    async def listed() -> set[tuple[int, int]]:
        found = set()
        async for key in store.list_prefix(f"{array}/c/"):
            match = pattern.fullmatch(key)
            if match:
                found.add((int(match[1]), int(match[2])))
        return found

    return sync(listed())
