"""The order of tasks, where other runs may work on the same store and some tasks fail."""

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
"""Times that a task is done before its failed cells are written as failed."""
POLL_S = 0.5
"""Seconds between two looks at the claims of other runs."""
_RETRY_POLL_S = 0.1
"""Seconds between two looks for a task to retry."""


class TaskQueue:
    """Tasks to do, one after another; ends when the store lacks none.

    A task that another run has claimed is deferred until all others are done. By then the store
    holds it, or its owner is dead and the claim is taken over.
    """

    def __init__(
        self,
        group: zarr.Group,
        grid: Grid,
        layout: Layout,
        leases: Leases | None,
        tries: int,
        arrays: tuple[str, ...] | None = None,
    ) -> None:
        """List the tasks that the store lacks, and those that failed in an earlier run.

        With `arrays` only tasks of these.
        """
        self.group = group
        self._grid, self._layout = grid, layout
        self._arrays = layout.arrays if arrays is None else arrays
        self._leases, self._tries = leases, tries if leases is not None else 1
        self._committer = ShardCommitter(group, leases)
        try:
            self.planned = plan(group, grid, layout, self._arrays)
            failed = leases.failed() if leases is not None else {}
            self.redo = frozenset(task for task in failed if task.modality in self._arrays)
        except unreachable_errors() as error:
            raise StoreError(f"cannot list the store: {describe_error(error)}") from error
        self._attempts: dict[Task, int] = {}
        self._to_retry: deque[Task] = deque()
        self._active = 0
        """Number of tasks that were given out and neither retried nor released."""
        self._stopped = False
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[Task]:
        deferred = []
        for task in self._in_order():
            if self._claim(task):
                yield task
            else:
                deferred.append(task)
        while not self._stopped:
            retried = self._next_retry(wait=not deferred)
            if retried is not None:
                yield retried
            elif deferred:
                # One listing says which deferred tasks the other runs have finished meanwhile.
                missing = plan(self.group, self._grid, self._layout, self._arrays)
                left = [task for task in deferred if task in self.redo or task in missing]
                deferred = []
                for task in left:
                    if self._claim(task):
                        yield task
                    elif not self._is_done(task):
                        deferred.append(task)
                if deferred:
                    with self._changed:
                        self._changed.wait(POLL_S)
            else:
                return

    def retry(self, task: Task) -> bool:
        """Put a task with failures back; False if it has no tries left."""
        with self._changed:
            self._attempts[task] = self._attempts.get(task, 0) + 1
            if self._attempts[task] >= self._tries:
                return False
            self._to_retry.append(task)
            self._active -= 1
            self._changed.notify()
            return True

    def release(self, task: Task) -> None:
        """Give up the claim of a task that is written."""
        if self._leases is not None:
            self._leases.release(claim_name(task))
        with self._changed:
            self._active -= 1
            self._changed.notify()

    def stop(self) -> None:
        """End before all is done: whoever waits for the next task stops waiting."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _in_order(self) -> Iterator[Task]:
        """Every planned task, then those to redo.

        Beside another run the order starts at a task that the owner's name decides, so that two
        runs seldom ask for the same claim.
        """
        tasks = self.planned
        first = 0
        if self._leases is not None and len(tasks) and self._leases.others():
            first = int(self._leases.owner, 16) % len(tasks)
        yield from (tasks[number] for number in range(first, len(tasks)))
        yield from (tasks[number] for number in range(first))
        yield from (task for task in sorted(self.redo) if task not in tasks)

    def _claim(self, task: Task) -> bool:
        if self._leases is not None:
            if not self._leases.claim(claim_name(task)):
                return False
            if self._is_done(task):  # another run did it between the plan and this claim
                self._leases.release(claim_name(task))
                return False
        with self._changed:
            self._active += 1
        return True

    def _is_done(self, task: Task) -> bool:
        if self._leases is not None and task in self.redo:
            return not self._leases.has_failed(task)
        return self._committer.is_written(task)

    def _next_retry(self, wait: bool) -> Task | None:
        """A task to retry; with `wait`, None only once no active task can fail any more."""
        with self._changed:
            while wait and not self._to_retry and self._active and not self._stopped:
                self._changed.wait(_RETRY_POLL_S)
            if not self._to_retry:
                return None
            self._active += 1
            return self._to_retry.popleft()
