"""The same tasks on dask.distributed: one `Client.submit` per task, a few in flight per worker.

A task needs nothing but the store and what its worker opens once: model and observations. A worker
compares these, and its code, with the store's before its first task; one that would write other
vectors ends the run. Where a worker dies its tasks run again elsewhere and write the same bytes;
what was written before is found there. A task that fails, or kills its worker, is tried so often
and then named. Where the scheduler goes away a new one is waited for at the same address, and the
store says what is left.
"""

import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import zarr
from tqdm import tqdm

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.raster.dask_worker import Job, Outcome, close_job, perform, this_worker
from unigeo.producer.raster.leases import Leases
from unigeo.producer.raster.local_executor import RasterReport
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.run_log import RunLog
from unigeo.producer.raster.shard_commit import ShardCommitter
from unigeo.producer.raster.shard_extent import ShardExtent
from unigeo.producer.raster.shard_task import EncodedTask, RasterJob
from unigeo.producer.raster.task_queue import POLL_S, TRIES, TaskQueue
from unigeo.producer.storage.code_identity import OtherIdentityError, warn_of_rounding
from unigeo.producer.storage.shard_codec import status_object
from unigeo.schemas.errors import MissingExtraError, StoreError
from unigeo.schemas.store.status import Status

THREADS = 2
"""Tasks at once in a worker: while one is encoded the other reads or writes."""
AHEAD = 2
"""Tasks submitted per task at once, so that no worker waits for the next."""
PATIENCE_S = 600.0
"""For a scheduler that went away."""
_LOOK_S = 0.02


def do_task(payload: bytes) -> Outcome:
    """Do one task in a worker.

    What to do comes as bytes: a worker of another version says that it cannot read them, where dask
    would end a worker that cannot read its message.

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


def rasterize_on(
    connect: Callable[[], Any],
    group: zarr.Group,
    job: Job,
    work: RasterJob,
    run: Leases | None,
    *,
    tries: int = TRIES,
    log: RunLog | None = None,
    progress: bool = True,
    patience_s: float = PATIENCE_S,
) -> RasterReport:
    """Do every task that the store lacks on the workers of a dask cluster.

    Args:
        connect: gives a `distributed.Client`; called again where the scheduler went away.
        group: the store's root, as this process opened it.
        job: what workers need.
        work: the same for this process, which encodes nothing.
        run: this process's view of the run folder.
        tries: times that a task is begun before it is named as failed.
        log: gets a line per task.
        progress: show a bar on stderr.
        patience_s: how long a scheduler may be away.

    Raises:
        StoreError: if the store cannot be written, there is no scheduler for so long, or a worker
            would write other vectors.
        ReplacedError: if a file of the observations was replaced.
    """
    log = log or RunLog()
    start = time.monotonic()
    report = RasterReport()
    attempts: Counter[Task] = Counter()
    packages = dict(job.identity.packages)
    while True:
        turns = TaskQueue(group, job.grid, job.layout, run, tries)
        todo = _todo(turns, report)
        if not todo:
            break
        client = _patiently_connect(connect, patience_s)
        try:
            with _bar(work, turns, progress) as bar:
                _Driver(
                    client, job, work, turns, run, tries, log, report, attempts, packages, bar
                ).go(todo)
        finally:
            _close(client, job.key)
    report.seconds = time.monotonic() - start
    log("end", shards=report.shards, failed=len(report.failed), seconds=report.seconds)
    return report


def _todo(turns: TaskQueue, report: RasterReport) -> deque[tuple[Task, bool]]:
    """Tasks, and whether they replace what failed in an earlier run."""
    named = set(report.failed)
    names = turns.tasks.modalities
    todo = deque((task, task in turns.redo) for task in turns.tasks if task not in named)
    for task in sorted(turns.redo - named):
        if not turns.tasks.missing[names.index(task.modality), task.shard_row, task.shard_col]:
            todo.append((task, True))
    return todo


class _Driver:
    """Submits tasks to one scheduler and takes what comes back."""

    def __init__(
        self,
        client: Any,
        job: Job,
        work: RasterJob,
        turns: TaskQueue,
        run: Leases | None,
        tries: int,
        log: RunLog,
        report: RasterReport,
        attempts: Counter[Task],
        packages: dict[str, str],
        bar: "tqdm[Any]",
    ) -> None:
        self._client, self._job, self._work, self._turns = client, job, work, turns
        self._finisher = ShardCommitter(turns.group, run)
        self._tries, self._log, self._report = tries, log, report
        self._attempts, self._packages, self._bar = attempts, packages, bar
        self._flying: dict[Any, tuple[Task, bool]] = {}
        self._later: list[tuple[float, Task, bool]] = []

    def go(self, todo: deque[tuple[Task, bool]]) -> None:
        """Do tasks until none is left, or the scheduler is gone."""
        self._log("start", tasks=len(todo), scheduler=self._client.scheduler.address)
        while todo or self._flying or self._later:
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                todo.append(self._later.pop(0)[1:])
            while todo and len(self._flying) < self._limit():
                self._submit(*todo.popleft())
            over = [future for future in self._flying if future.status != "pending"]
            for future in over:
                task, redo = self._flying.pop(future)
                self._take(future, task, redo, todo)
                future.release()
            if self._client.status not in ("running", "connecting"):
                return
            if not over:
                time.sleep(_LOOK_S)

    def _limit(self) -> int:
        """Tasks in flight, by the workers there are now: clusters grow and shrink."""
        workers = self._client._scheduler_identity.get("workers", {})
        self._bar.set_postfix_str("" if workers else "no worker yet", refresh=False)
        return int(AHEAD * max(1, sum(worker["nthreads"] for worker in workers.values())))

    def _submit(self, task: Task, redo: bool) -> None:
        last = self._attempts[task] + 1 >= self._tries
        name = f"{task.modality}-{task.shard_row}-{task.shard_col}-{uuid.uuid4().hex[:8]}"
        payload = _pickle().dumps((self._job, task, redo, last))
        future = self._client.submit(do_task, payload, key=name, pure=False, retries=0)
        self._flying[future] = (task, redo)

    def _take(self, future: Any, task: Task, redo: bool, todo: deque[tuple[Task, bool]]) -> None:
        if future.status == "finished":
            outcome: Outcome = future.result()
            self._compare(outcome)
            if outcome.state == "claimed":
                self._later.append((time.monotonic() + POLL_S, task, redo))
            elif outcome.state == "again":
                self._attempts[task] += 1
                self._note("again", task, failures=outcome.failures)
                todo.append((task, redo))
            else:
                self._count(outcome)
        elif future.status == "error":
            error = future.exception()
            if isinstance(error, StoreError | ReplacedError):
                raise error
            if "do_task()" in str(error):  # an older one takes other arguments
                raise _other_version("A dask worker", error) from error
            self._attempts[task] += 1
            self._note("error", task, error=f"{type(error).__name__}: {error}")
            if self._attempts[task] >= self._tries:
                self._name_failed(task, error, redo)
            else:
                todo.append((task, redo))
        else:  # cancelled or lost: the scheduler went away
            todo.append((task, redo))

    def _compare(self, outcome: Outcome) -> None:
        """Take nothing from a worker that is another by now; say once where packages differ."""
        try:
            self._job.identity.check(outcome.identity, "A dask worker")
        except OtherIdentityError:
            self._undo(outcome)
            for future in self._flying:
                with suppress(Exception):  # what never ended has written nothing
                    self._undo(future.result(timeout=PATIENCE_S))
            raise
        for name, there in outcome.identity.packages.items():
            here = self._packages.setdefault(name, there)
            if here != there:
                self._packages[name] = ""  # told
                if here:
                    self._log("packages differ", package=name, versions=[here, there])
                    warn_of_rounding(name, here, there)

    def _undo(self, outcome: Outcome) -> None:
        own = self._job.identity
        if outcome.state == "written" and not own.makes_the_same(outcome.identity):
            self._finisher.undo(outcome.task)

    def _count(self, outcome: Outcome) -> None:
        if outcome.state == "written":
            cells = Counter({Status(code): count for code, count in outcome.cells.items()})
            self._report.add(outcome.task, cells, Counter(outcome.failures))
            self._report.device_seconds += outcome.encode_seconds
        if self._work.extent[outcome.task.shard_row, outcome.task.shard_col] != ShardExtent.OUTSIDE:
            self._bar.update(self._work.layout.shard**2)
        self._note(
            "shard",
            outcome.task,
            state=outcome.state,
            cells={Status(k).name.lower(): n for k, n in sorted(outcome.cells.items())},
            failures=outcome.failures,
        )

    def _name_failed(self, task: Task, error: BaseException, redo: bool) -> None:
        """Write a shard whose cells all failed, so that the night goes on without it."""
        status = self._work.cells(task)[1].copy()
        status[status == Status.VALID] = Status.FAILED
        counts = zip(*np_unique(status), strict=True)
        cells = Counter({Status(code): count for code, count in counts})
        words = f"{task.modality}: {type(error).__name__}: {error}"
        failures = Counter({words: max(1, cells[Status.FAILED])})
        side = self._work.layout.shard
        body = status_object(status.reshape(side, side), self._work.layout)
        self._finisher.finish(EncodedTask(task, None, body, cells, failures, ()), replaces=redo)
        self._report.add(task, cells, failures)

    def _note(self, event: str, task: Task, **about: Any) -> None:
        place = {"modality": task.modality, "row": task.shard_row, "col": task.shard_col}
        self._log(event, **place, **about)


def np_unique(status: Any) -> tuple[list[int], list[int]]:
    """Codes and how often each occurs."""
    import numpy as np

    codes, counts = np.unique(status, return_counts=True)
    return codes.tolist(), counts.tolist()


def _bar(work: RasterJob, turns: TaskQueue, progress: bool) -> "tqdm[Any]":
    touched = work.extent != ShardExtent.OUTSIDE
    total = int((turns.tasks.missing & touched).sum()) * work.layout.shard**2
    return tqdm(total=total, unit="cell", unit_scale=True, desc="rasterize", disable=not progress)


def _patiently_connect(connect: Callable[[], Any], patience_s: float) -> Any:
    end = time.monotonic() + patience_s
    while True:
        try:
            return connect()
        except (OSError, TimeoutError) as error:
            if time.monotonic() > end:
                raise StoreError(
                    f"there is no dask scheduler: {error}. What was written is kept; start one and "
                    "run the same command again."
                ) from error
            time.sleep(1.0)


def _close(client: Any, key: str) -> None:
    """Let the workers go of the job, if they are still there, and close the client."""
    try:
        if client.status == "running":
            client.run(close_job, key)
    except Exception:  # whatever a dying cluster says: all is written
        pass
    finally:
        client.close(timeout=5)


@contextmanager
def local_workers(count: int, threads: int = THREADS) -> Iterator[Callable[[], Any]]:
    """Start so many workers on this machine, each with its GPU where there are some."""
    dask, distributed = _imported()
    settings = {
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.scheduler.allowed-failures": 2,
        "distributed.comm.timeouts.connect": "60s",
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=threads,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=None,
            silence_logs=50,
        ) as cluster,
    ):
        yield lambda: distributed.Client(cluster)


def scheduler_at(address: str) -> Callable[[], Any]:
    """Connect to a scheduler by its address, such as tcp://HOST:8786."""
    _, distributed = _imported()
    return lambda: distributed.Client(address, timeout=10)


def _imported() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise MissingExtraError(
            'many workers need dask.distributed: pip install "unigeo[cluster]"'
        ) from error
    return dask, distributed
