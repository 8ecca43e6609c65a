"""Write the vectors of every cell in this process: shard by shard, each complete, each once.

A task reads only its own window and writes two objects: the vectors, then the status, whose
presence says that the shard is done. After a kill at any moment the same call continues with what
is left and ends with the same bytes. Three stages overlap, with a bounded number of batches and
shards between them:

    a thread observes ──▶ this thread encodes ──▶ threads write

At most `SHARDS` shards of vectors are in memory.
"""

import queue
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import zarr
from tqdm import tqdm

from unigeo.producer.raster.covariate_builder import builder_of
from unigeo.producer.raster.leases import Leases
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.run_log import RunLog
from unigeo.producer.raster.shard_commit import ShardCommitter
from unigeo.producer.raster.shard_extent import ShardExtent
from unigeo.producer.raster.shard_task import CellBatch, OpenedJob, ShardBuilder
from unigeo.producer.raster.task_queue import TRIES, TaskQueue
from unigeo.producer.storage.field_store import sweep
from unigeo.schemas.store.layout import COVARIATES
from unigeo.schemas.store.status import Status

SHARDS = 3
"""Number of shards in memory: one is filled while the others are written."""
READ_AHEAD = 2
"""Number of batches observed before they are encoded."""
_POLL_S = 0.1
"""Seconds after which a stage that waits for another looks whether the run has ended."""


@dataclass
class RasterReport:
    """What a run of rasterization did."""

    cells: Counter[Status] = field(default_factory=Counter)
    """Number of cells by status, over the shards of vectors written in this run."""
    failures: Counter[str] = field(default_factory=Counter)
    """Number of failed cells by message."""
    failed: list[Task] = field(default_factory=list)
    """Tasks with failed cells."""
    shards: int = 0
    """Number of shards written."""
    seconds: float = 0.0
    derived_seconds: float = 0.0
    """Part of the seconds in which vectors were made of stored ones."""
    device_seconds: float = 0.0
    """Seconds of encoding."""

    @property
    def valid_cells_per_second(self) -> float:
        """Speed of the run."""
        return self.cells[Status.VALID] / self.seconds if self.seconds else 0.0

    def extend(self, other: "RasterReport") -> None:
        """Count what another run did, after this one."""
        self.cells.update(other.cells)
        self.failures.update(other.failures)
        self.failed += other.failed
        self.shards += other.shards
        self.seconds += other.seconds
        self.device_seconds += other.device_seconds

    def add(self, task: Task, cells: Counter[Status], failures: Counter[str]) -> None:
        """Count a task that was written."""
        if task.modality != COVARIATES:
            self.cells.update(cells)
        self.failures.update(failures)
        self.shards += 1
        if failures:
            self.failed.append(task)


def rasterize(
    group: zarr.Group,
    opened: OpenedJob,
    *,
    progress: bool = True,
    leases: Leases | None = None,
    log: RunLog | None = None,
    tries: int = TRIES,
    arrays: tuple[str, ...] | None = None,
) -> RasterReport:
    """Do every task that the store lacks.

    Args:
        group: the store's root, from `create_field`.
        opened: the job and its equipment in this process.
        progress: show a bar on stderr.
        leases: coordination with other runs on the store, and its list of failed tasks; without
            them this run is alone, and failed cells stay failed.
        log: gets a line per task.
        tries: times that a task with failed cells is done before its failures are written; once
            where there are no `leases`.
        arrays: arrays of the layout whose tasks are done; all by default.

    Raises:
        StoreError: if a shard cannot be written; what was written is kept, and the same call
            continues from there.
    """
    tasks = TaskQueue(group, opened.job.grid, opened.job.layout, leases, tries, arrays)
    pipeline = _Pipeline(
        opened, tasks, ShardCommitter(group, leases), log or RunLog(), RasterReport()
    )
    with progress_bar(opened, tasks, progress) as bar:
        pipeline.run(bar)
    if leases is None:
        sweep(group)  # with leases, the run that publishes sweeps: until then others may write
    return pipeline.report


def progress_bar(opened: OpenedJob, tasks: TaskQueue, progress: bool) -> "tqdm[Any]":
    """Return a bar of the cells of all missing shards that the region touches."""
    touched = opened.extent != ShardExtent.OUTSIDE
    total = int((tasks.planned.missing & touched).sum()) * opened.job.layout.shard**2
    return tqdm(total=total, unit="cell", unit_scale=True, desc="rasterize", disable=not progress)


class _StoppedError(Exception):
    """Ends the reader: the run has ended without it."""


class _Mark(Enum):
    END_OF_TASK = 1
    END = 2


_Message = Task | CellBatch | _Mark | BaseException
"""What the reader sends: a task, its batches, `END_OF_TASK`; at last `END` or an error."""


class _Pipeline:
    """Reader, encoder and writers of one run.

    Errors meet in the encoding thread, which is the caller's: the reader sends its own as a
    message, those of writers are in their futures. Every wait is polled, so that none of the three
    waits for a stage that has died.
    """

    def __init__(
        self,
        opened: OpenedJob,
        tasks: TaskQueue,
        committer: ShardCommitter,
        log: RunLog,
        report: RasterReport,
    ) -> None:
        self.report = report
        self._opened, self._tasks, self._committer, self._log = opened, tasks, committer, log
        self._messages: queue.Queue[_Message] = queue.Queue(READ_AHEAD)
        self._free_shards = threading.Semaphore(SHARDS)
        self._stopped = threading.Event()
        self._report_lock = threading.Lock()

    def run(self, bar: "tqdm[Any]") -> None:
        """Do all tasks."""
        start = time.monotonic()
        grid = self._opened.job.grid
        self._log("start", tasks=len(self._tasks.planned), grid=list(grid.shape))
        reader = threading.Thread(target=self._read_all, daemon=True)
        reader.start()
        try:
            with ThreadPoolExecutor(SHARDS - 1) as writers:  # a write mostly waits for the disk
                try:
                    self._encode_all(writers, bar)
                except BaseException:
                    self._stopped.set()
                    writers.shutdown(cancel_futures=True)
                    raise
        finally:
            self._stopped.set()
            self._tasks.stop()
            reader.join()
            self.report.seconds = time.monotonic() - start
        self._log(
            "end",
            shards=self.report.shards,
            failed=len(self.report.failed),
            valid_cells=self.report.cells[Status.VALID],
            cells_per_second=round(self.report.valid_cells_per_second, 1),
            device_share=round(self.report.device_seconds / max(self.report.seconds, 1e-9), 3),
        )

    def _read_all(self) -> None:
        """Send every task and what it observes, in the order of the queue."""
        try:
            for task in self._tasks:
                if self._stopped.is_set():
                    return
                self._send(task)
                for batch in self._opened.read(task):
                    self._send(batch)
                self._send(_Mark.END_OF_TASK)
            self._send(_Mark.END)
        except _StoppedError:
            pass
        except BaseException as error:  # raised again in the encoding thread
            with suppress(_StoppedError):
                self._send(error)

    def _send(self, message: _Message) -> None:
        while not self._stopped.is_set():
            try:
                self._messages.put(message, timeout=_POLL_S)
            except queue.Full:
                continue
            return
        raise _StoppedError

    def _encode_all(self, writers: ThreadPoolExecutor, bar: "tqdm[Any]") -> None:
        writing: list[Future[None]] = []
        builder: ShardBuilder | None = None
        while True:
            message = self._receive(writing)
            begin = time.monotonic()
            if isinstance(message, CellBatch):
                assert builder is not None
                builder.add(message)
                bar.update(len(message.cells))
            elif message is _Mark.END_OF_TASK:
                assert builder is not None
                writing = [future for future in writing if not _is_done(future)]
                builder.settle()
                writing.append(writers.submit(self._write, builder, bar))
                builder = None
            self.report.device_seconds += time.monotonic() - begin
            if isinstance(message, Task):
                self._wait_for_free_shard(writing)
                builder = builder_of(self._opened, message)
                bar.set_postfix_str(message.modality)
            elif isinstance(message, BaseException):
                raise message
            elif message is _Mark.END:
                break
        for future in writing:
            future.result()

    def _receive(self, writing: list["Future[None]"]) -> _Message:
        """Wait for the reader's next message; an error of a writer ends the wait."""
        while True:
            try:
                return self._messages.get(timeout=_POLL_S)
            except queue.Empty:
                for future in writing:
                    _is_done(future)

    def _wait_for_free_shard(self, writing: list["Future[None]"]) -> None:
        while not self._free_shards.acquire(timeout=_POLL_S):
            for future in writing:
                _is_done(future)
        for future in writing:
            _is_done(future)

    def _write(self, builder: ShardBuilder, bar: "tqdm[Any]") -> None:
        try:
            if self._stopped.is_set():
                return
            begin = time.monotonic()
            done = builder.finish()
            again = bool(done.failures) and self._tasks.retry(done.task)
            if not again:
                self._committer.write(done, replaces=done.task in self._tasks.redo)
                self._tasks.release(done.task)
            with self._report_lock:
                if not again:
                    self.report.add(done.task, done.cells, done.failures)
                # The bar counted the cells that were encoded, batch by batch; here come the others.
                skipped = self._opened.job.layout.shard**2 - sum(
                    done.cells[code]
                    for code in (Status.VALID, Status.NO_OBSERVATION, Status.FAILED)
                )
                extent = self._opened.extent[done.task.shard_row, done.task.shard_col]
                if extent != ShardExtent.OUTSIDE:
                    bar.update(skipped)
            self._log(
                "again" if again else "shard",
                modality=done.task.modality,
                row=done.task.shard_row,
                col=done.task.shard_col,
                bytes=0 if done.vectors is None else len(done.vectors),
                write_seconds=round(time.monotonic() - begin, 4),
                cells={code.name.lower(): count for code, count in sorted(done.cells.items())},
                failures=dict(done.failures),
            )
        except BaseException:
            self._stopped.set()
            raise
        finally:
            builder.release()
            self._free_shards.release()


def _is_done(future: "Future[None]") -> bool:
    """Return whether a write has ended; raises its error."""
    if future.done():
        future.result()
        return True
    return False
