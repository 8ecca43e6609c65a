"""The tasks of a job on dask.distributed: one `Client.submit` per task, a few in flight per worker.

A task needs only the store and what its worker opens once: model and observations. A worker
compares these and its code with the store's before its first task; one that would write other
vectors ends the run. Where a worker dies, its tasks run again elsewhere and write the same bytes;
what it had written is found in the store. A task that fails or kills its worker is tried a few
times and then written as failed. Where the scheduler goes away, a new one is awaited at the same
address, and the store says what is left.
"""

import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from tqdm import tqdm

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.raster.dask_cluster import connect_in_time
from unigeo.producer.raster.dask_worker import Outcome, close_job, perform, this_worker
from unigeo.producer.raster.leases import Leases
from unigeo.producer.raster.local_executor import RasterReport, progress_bar
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.run_log import RunLog
from unigeo.producer.raster.shard_commit import ShardCommitter
from unigeo.producer.raster.shard_extent import ShardExtent
from unigeo.producer.raster.shard_task import EncodedTask, OpenedJob
from unigeo.producer.raster.task_queue import POLL_S, TRIES, TaskQueue
from unigeo.producer.storage.code_identity import OtherIdentityError, warn_of_rounding
from unigeo.producer.storage.shard_codec import status_object
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.store.status import Status

AHEAD = 2
"""Tasks submitted per thread of a worker, so that none waits for the next."""
PATIENCE_S = 600.0
"""Seconds to wait for a scheduler that went away."""
_POLL_S = 0.02
"""Seconds between two looks at the tasks in flight."""


def do_task(payload: bytes) -> Outcome:
    """Do one task in a worker.

    The arguments come as bytes: a worker of another version reports that it cannot read them, where
    dask would end a worker that cannot read its message.

    Raises:
        OtherIdentityError: if this worker is of another version, or would write other vectors.
    """
    try:
        arguments = _pickle().loads(payload)
    except (ImportError, AttributeError, TypeError) as error:
        raise _other_version(this_worker(), error) from error
    return perform(*arguments)


def _pickle() -> Any:
    from distributed.protocol import pickle

    return pickle


def _other_version(who: str, error: BaseException) -> OtherIdentityError:
    return OtherIdentityError(
        f"{who} runs another version of unigeo than this process ({error}). Install the same on "
        "every machine, start the workers again, and run the same command again: what was written "
        "is kept."
    )


@dataclass(frozen=True, eq=False)
class _History:
    """What a run remembers from one scheduler to the next."""

    log: RunLog
    tries: int
    packages: dict[str, str]
    """Versions and device that the first result named; empty once a difference was reported."""
    report: RasterReport = field(default_factory=RasterReport)
    attempts: Counter[Task] = field(default_factory=Counter)
    """Failed attempts of each task."""


def rasterize_on(
    connect: Callable[[], Any],
    group: zarr.Group,
    opened: OpenedJob,
    leases: Leases | None,
    *,
    tries: int = TRIES,
    log: RunLog | None = None,
    progress: bool = True,
    patience_s: float = PATIENCE_S,
    arrays: tuple[str, ...] | None = None,
) -> RasterReport:
    """Do every task that the store lacks on the workers of a dask cluster.

    Args:
        connect: returns a `distributed.Client`; called again where the scheduler went away.
        group: the store's root, as this process opened it.
        opened: the job, which is sent to the workers, and the land in this process, which encodes
            nothing.
        leases: this process's view of the runs on the store.
        tries: times that a task is begun before it is written as failed.
        log: gets a line per task.
        progress: show a bar on stderr.
        patience_s: seconds to wait for a scheduler that went away.
        arrays: arrays of the layout whose tasks are done; all by default.

    Raises:
        StoreError: if the store cannot be written, no scheduler answers in time, or a worker would
            write other vectors.
        LayoutError: if a stored shard that others are made of is damaged.
        ReplacedError: if a file of the observations was replaced.
    """
    start = time.monotonic()
    job = opened.job
    history = _History(log or RunLog(), tries, dict(job.identity.packages))
    report = history.report
    while True:
        tasks = TaskQueue(group, job.grid, job.layout, leases, tries, arrays)
        todo = _todo(tasks, report)
        if not todo:
            break
        client = connect_in_time(connect, patience_s)
        try:
            with progress_bar(opened, tasks, progress) as bar:
                _Driver(client, opened, ShardCommitter(group, leases), history, bar).run(todo)
        finally:
            _close(client, job.key)
    report.seconds = time.monotonic() - start
    history.log("end", shards=report.shards, failed=len(report.failed), seconds=report.seconds)
    return report


def _todo(tasks: TaskQueue, report: RasterReport) -> deque[tuple[Task, bool]]:
    """Tasks, and whether each replaces what failed in an earlier run."""
    failed_now = set(report.failed)
    todo = deque((task, task in tasks.redo) for task in tasks.planned if task not in failed_now)
    todo += [(task, True) for task in sorted(tasks.redo - failed_now) if task not in tasks.planned]
    return todo


def _absolute(url: str) -> str:
    """Make a path independent of the working folder, which is another in a worker."""
    return url if "://" in url else str(Path(url).absolute())


def _close(client: Any, key: str) -> None:
    """Have the workers close the job, if they are still there, and close the client."""
    try:
        if client.status == "running":
            client.run(close_job, key)
    except Exception:  # whatever a dying cluster answers: everything is written
        pass
    finally:
        client.close(timeout=5)


class _Driver:
    """Submits tasks to one scheduler and takes their results."""

    def __init__(
        self,
        client: Any,
        opened: OpenedJob,
        committer: ShardCommitter,
        history: _History,
        bar: "tqdm[Any]",
    ) -> None:
        self._client, self._opened, self._committer = client, opened, committer
        self._job = replace(opened.job, url=_absolute(opened.job.url))
        self._history, self._report, self._bar = history, history.report, bar
        self._in_flight: dict[Any, tuple[Task, bool]] = {}
        """By future: a task, and whether it replaces what failed."""
        self._postponed: list[tuple[float, Task, bool]] = []
        """Tasks that another run has claimed, and when to ask again, in this order."""

    def run(self, todo: deque[tuple[Task, bool]]) -> None:
        """Do tasks until none is left, or the scheduler is gone."""
        self._history.log("start", tasks=len(todo), scheduler=self._client.scheduler.address)
        while todo or self._in_flight or self._postponed:
            now = time.monotonic()
            while self._postponed and self._postponed[0][0] <= now:
                todo.append(self._postponed.pop(0)[1:])
            while todo and len(self._in_flight) < self._limit():
                self._submit(*todo.popleft())
            ended = [future for future in self._in_flight if future.status != "pending"]
            for future in ended:
                task, redo = self._in_flight.pop(future)
                self._take(future, task, redo, todo)
                future.release()
            if self._client.status not in ("running", "connecting"):
                return
            if not ended:
                time.sleep(_POLL_S)

    def _limit(self) -> int:
        """Largest number of tasks in flight for the workers of this moment: clusters adapt."""
        workers = self._client._scheduler_identity.get("workers", {})
        self._bar.set_postfix_str("" if workers else "no worker yet", refresh=False)
        return int(AHEAD * max(1, sum(worker["nthreads"] for worker in workers.values())))

    def _submit(self, task: Task, redo: bool) -> None:
        last = self._history.attempts[task] + 1 >= self._history.tries
        # A key of its own for each attempt: dask would answer a known one from its memory.
        name = f"{task.modality}-{task.shard_row}-{task.shard_col}-{uuid.uuid4().hex[:8]}"
        payload = _pickle().dumps((self._job, task, redo, last))
        future = self._client.submit(do_task, payload, key=name, pure=False, retries=0)
        self._in_flight[future] = (task, redo)

    def _take(self, future: Any, task: Task, redo: bool, todo: deque[tuple[Task, bool]]) -> None:
        attempts = self._history.attempts
        if future.status == "finished":
            outcome: Outcome = future.result()
            self._compare(outcome)
            if outcome.state == "claimed":
                self._postponed.append((time.monotonic() + POLL_S, task, redo))
            elif outcome.state == "again":
                attempts[task] += 1
                self._note("again", task, failures=outcome.failures)
                todo.append((task, redo))
            else:
                self._count(outcome)
        elif future.status == "error":
            error = future.exception()
            if isinstance(error, StoreError | LayoutError | ReplacedError):
                raise error
            if "do_task()" in str(error):  # a worker whose `do_task` takes other arguments
                raise _other_version("A dask worker", error) from error
            attempts[task] += 1
            self._note("error", task, error=f"{type(error).__name__}: {error}")
            if attempts[task] >= self._history.tries:
                self._write_failed(task, error, redo)
            else:
                todo.append((task, redo))
        else:  # cancelled or lost: the scheduler went away
            todo.append((task, redo))

    def _compare(self, outcome: Outcome) -> None:
        """Refuse the result of a worker that has become another; warn once per other package."""
        try:
            self._opened.job.identity.check(outcome.identity, "A dask worker")
        except OtherIdentityError:
            self._undo(outcome)
            for future in self._in_flight:
                with suppress(Exception):  # a task that never ends has written no status
                    self._undo(future.result(timeout=PATIENCE_S))
            raise
        known = self._history.packages
        for name, theirs in outcome.identity.packages.items():
            ours = known.setdefault(name, theirs)
            if ours != theirs:
                known[name] = ""
                if ours:
                    self._history.log("packages differ", package=name, versions=[ours, theirs])
                    warn_of_rounding(name, ours, theirs)

    def _undo(self, outcome: Outcome) -> None:
        identity = self._opened.job.identity
        if outcome.state == "written" and not identity.makes_the_same(outcome.identity):
            self._committer.undo(outcome.task)

    def _count(self, outcome: Outcome) -> None:
        task = outcome.task
        if outcome.state == "written":
            cells = Counter({Status(code): count for code, count in outcome.cells.items()})
            self._report.add(task, cells, Counter(outcome.failures))
            self._report.device_seconds += outcome.encode_seconds
        if self._opened.extent[task.shard_row, task.shard_col] != ShardExtent.OUTSIDE:
            self._bar.update(self._opened.job.layout.shard**2)
        self._note(
            "shard",
            task,
            state=outcome.state,
            cells={Status(k).name.lower(): n for k, n in sorted(outcome.cells.items())},
            failures=outcome.failures,
        )

    def _write_failed(self, task: Task, error: BaseException, redo: bool) -> None:
        """Write a shard all of whose cells failed, so that the run goes on without it."""
        layout = self._opened.job.layout
        status = self._opened.cells(task)[1].copy()
        status[status == Status.VALID] = Status.FAILED
        codes, counts = np.unique(status, return_counts=True)
        cells = Counter(dict(zip(map(Status, codes.tolist()), counts.tolist(), strict=True)))
        message = f"{task.modality}: {type(error).__name__}: {error}"
        failures = Counter({message: max(1, cells[Status.FAILED])})
        body = status_object(status.reshape(layout.shard, layout.shard), layout)
        self._committer.write(EncodedTask(task, None, body, cells, failures, ()), replaces=redo)
        self._report.add(task, cells, failures)

    def _note(self, event: str, task: Task, **about: Any) -> None:
        shard = {"modality": task.modality, "row": task.shard_row, "col": task.shard_col}
        self._history.log(event, **shard, **about)
