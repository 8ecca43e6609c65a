"""Write a finished task: first its failures, then the vectors, and the status last.

The presence of the status object is the commit: a shard without it is made again.
"""

from typing import Any

import zarr

from unigeo.producer.raster.leases import Leases
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.shard_task import EncodedTask
from unigeo.producer.storage.object_io import delete, exists, explaining, put
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.manifest import shard_key


class ShardCommitter:
    """Writes tasks into one store."""

    def __init__(self, group: zarr.Group, leases: Leases | None) -> None:
        """Take the store's root, and the leases that keep the list of failed tasks."""
        self.store: Any = group.store
        self._leases = leases

    def write(self, done: EncodedTask, *, replaces: bool = False) -> None:
        """Write the objects of a task; `replaces` those of an earlier one with failed cells.

        Raises:
            StoreError: naming the shard and what to do.
        """
        task = done.task
        with explaining(f"write shard ({task.shard_row}, {task.shard_col}) of {task.modality}"):
            # Noted before the status is written: a kill between the two leaves a failure too many,
            # which is redone, and never a shard with failures that nobody knows of.
            if self._leases is not None and done.failures:
                about = {"failures": dict(done.failures), "damaged": list(done.damaged)}
                self._leases.note_failed(task, about)
            key = shard_key(task.modality, task.shard_row, task.shard_col, 3)
            if done.vectors is not None:
                put(self.store, key, done.vectors)
            elif replaces:
                delete(self.store, key)
            put(self.store, status_key(task), done.status)
            if replaces and self._leases is not None and not done.failures:
                self._leases.clear_failure(task)

    def undo(self, task: Task) -> None:
        """Remove a task that must not count as done: the status first, then the vectors."""
        with explaining(f"remove shard ({task.shard_row}, {task.shard_col}) of {task.modality}"):
            delete(self.store, status_key(task))
            delete(self.store, shard_key(task.modality, task.shard_row, task.shard_col, 3))

    def is_written(self, task: Task) -> bool:
        """Return whether the store holds a task."""
        key = status_key(task)
        with explaining(f"look for {key}"):
            return exists(self.store, key)


def status_key(task: Task) -> str:
    """Key of the status object, whose presence says that a task is done."""
    return shard_key(status_name(task.modality), task.shard_row, task.shard_col, 2)
