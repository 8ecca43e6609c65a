"""Which task comes next, where others may work on the same store and some tasks fail."""

import threading
from collections import deque
from collections.abc import Iterator

import zarr

from unigeo.producer.raster.leases import Leases, claim_name
from unigeo.producer.raster.planning import Task, plan
from unigeo.producer.raster.shard_commit import ShardCommitter
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.io.store_errors import describe_error, unreachable_errors
from unigeo.schemas.store.layout import Layout

TRIES = 2
"""Times that a task whose cells fail is done before it is written so."""
POLL_S = 0.5
"""Between two looks at what other runs have claimed."""


class TaskQueue:
    """Tasks to do, one after another; ends when the store lacks none.

    A task that another run has claimed is put off until the others are done: then it is there, or
    its owner is gone and it is taken over.
    """

    def __init__(
        self, group: zarr.Group, grid: Grid, layout: Layout, run: Leases | None, tries: int
    ) -> None:
        """Plan: what the store lacks, and what failed in an earlier run."""
        self.group = group
        self._grid, self._layout = grid, layout
        self._run, self._tries = run, tries if run is not None else 1
        self._finisher = ShardCommitter(group, run)
        try:
            self.tasks = plan(group, grid, layout)
            self.redo = frozenset(run.failed()) if run is not None else frozenset()
        except unreachable_errors() as error:
            raise StoreError(f"cannot list the store: {describe_error(error)}") from error
        self._attempts: dict[Task, int] = {}
        self._back: deque[Task] = deque()
        self._out = 0
        self._stopped = False
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[Task]:
        put_off = []
        for task in self._first():
            if self._take(task):
                yield task
            else:
                put_off.append(task)
        while not self._stopped:
            task_back = self._one_back(wait=not put_off)
            if task_back is not None:
                yield task_back
            elif put_off:
                missing = plan(self.group, self._grid, self._layout).missing
                names = self.tasks.modalities
                left = [
                    task
                    for task in put_off
                    if task in self.redo
                    or missing[names.index(task.modality), task.shard_row, task.shard_col]
                ]
                put_off = []
                for task in left:
                    if self._take(task):
                        yield task
                    elif not self._over(task):
                        put_off.append(task)
                if put_off:
                    with self._changed:
                        self._changed.wait(POLL_S)
            else:
                return

    def again(self, task: Task) -> bool:
        """Put a task with failures back, if it has tries left."""
        with self._changed:
            self._attempts[task] = self._attempts.get(task, 0) + 1
            if self._attempts[task] >= self._tries:
                return False
            self._back.append(task)
            self._out -= 1
            self._changed.notify()
            return True

    def done(self, task: Task) -> None:
        """Let a task go that is written."""
        if self._run is not None:
            self._run.release(claim_name(task))
        with self._changed:
            self._out -= 1
            self._changed.notify()

    def stop(self) -> None:
        """End before all is done: whoever waits for the next task waits no longer."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _first(self) -> Iterator[Task]:
        """The plan from its start; from elsewhere where another run is at work."""
        tasks = self.tasks
        first = 0
        if self._run is not None and len(tasks) and self._run.others():
            first = int(self._run.owner, 16) % len(tasks)
        yield from (tasks[number] for number in range(first, len(tasks)))
        yield from (tasks[number] for number in range(first))
        names = tasks.modalities
        for task in sorted(self.redo):
            if not tasks.missing[names.index(task.modality), task.shard_row, task.shard_col]:
                yield task

    def _take(self, task: Task) -> bool:
        if self._run is not None:
            if not self._run.claim(claim_name(task)):
                return False
            if self._over(task):  # while we planned, another run did it
                self._run.release(claim_name(task))
                return False
        with self._changed:
            self._out += 1
        return True

    def _over(self, task: Task) -> bool:
        if self._run is not None and task in self.redo:
            return not self._run.has_failed(task)
        return self._finisher.finished(task)

    def _one_back(self, wait: bool) -> Task | None:
        """A task that failed, once it is known whether there is one."""
        with self._changed:
            while wait and not self._back and self._out and not self._stopped:
                self._changed.wait(0.1)
            if not self._back:
                return None
            self._out += 1
            return self._back.popleft()
