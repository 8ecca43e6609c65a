"""Write one vector per cell: shard by shard, each whole, each once.

A task reads nothing but its own window and writes two objects: the vectors, then the status, whose
presence says that the shard is done. Killed anywhere, the same call goes on with what is left and
ends with the same bytes. Three stages overlap, with bounded room between them:

    a thread reads ──▶ this thread encodes ──▶ threads write

Of at most `SHARDS` shards the vectors are in memory at once.
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

from unigeo.producer.raster.leases import Leases
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.run_log import RunLog
from unigeo.producer.raster.shard_commit import ShardCommitter
from unigeo.producer.raster.shard_extent import ShardExtent
from unigeo.producer.raster.shard_task import CellBatch, Encode, Land, RasterJob, ShardBuilder
from unigeo.producer.raster.task_queue import TRIES, TaskQueue
from unigeo.producer.storage.field_store import sweep
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.status import Status

__all__ = ["Encode", "Land", "RasterReport", "rasterize"]

SHARDS = 3
"""Shards in memory: one is filled, the others are written."""
READ_AHEAD = 2
"""Batches read before they are encoded."""


@dataclass
class RasterReport:
    """What a run of rasterization did."""

    cells: Counter[Status] = field(default_factory=Counter)
    """Cells by status, over the shards written in this run."""
    failures: Counter[str] = field(default_factory=Counter)
    """Cells whose encoding failed, by message."""
    failed: list[Task] = field(default_factory=list)
    """Tasks that hold such cells."""
    shards: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0
    """Spent encoding."""

    @property
    def valid_cells_per_second(self) -> float:
        """Speed of the run."""
        return self.cells[Status.VALID] / self.seconds if self.seconds else 0.0

    def add(
        self, task: Task, cells: Counter[Status], failures: Counter[str], written: bool = True
    ) -> None:
        """Count a task that was written."""
        self.cells.update(cells)
        self.failures.update(failures)
        self.shards += written
        if failures:
            self.failed.append(task)


def rasterize(
    group: zarr.Group,
    grid: Grid,
    layout: Layout,
    region: Region,
    land: Land,
    encode: Any,
    *,
    batch: int = 2048,
    progress: bool = True,
    run: Leases | None = None,
    log: RunLog | None = None,
    tries: int = TRIES,
) -> RasterReport:
    """Do every task that the store lacks.

    Args:
        group: the store's root, from `create_field`.
        grid: its cells.
        layout: its arrays.
        region: cells whose centre lies outside are not encoded.
        land: cells whose centre is not on land are not encoded.
        encode: the model and its observations: an `Encode`, or one in two halves (`StagedEncoder`).
        batch: cells encoded at once, at most.
        progress: show a bar on stderr.
        run: where other runs on the same store are met, and failures kept; without it this run is
            alone, and what fails stays failed.
        log: gets a line per task.
        tries: times that a task with failed cells is done, before it is written so; once where
            there is no `run`.

    Raises:
        StoreError: if a shard cannot be written; what was written stays, and the same call goes on.
    """
    work = RasterJob(grid, layout, region, land, encode, batch)
    turns = TaskQueue(group, grid, layout, run, tries)
    pipeline = _Pipeline(work, turns, ShardCommitter(group, run), log or RunLog(), RasterReport())
    with _bar(work, turns, progress) as bar:
        pipeline.go(bar)
    if run is None:
        sweep(group)  # else by the one who publishes, when nobody writes any more
    return pipeline.report


def _bar(work: RasterJob, turns: TaskQueue, progress: bool) -> "tqdm[Any]":
    cells = work.layout.shard**2
    touched = work.extent != ShardExtent.OUTSIDE
    total = int((turns.tasks.missing & touched).sum()) * cells
    return tqdm(total=total, unit="cell", unit_scale=True, desc="rasterize", disable=not progress)


class _StopError(Exception):
    """The run ends early."""


class _Mark(Enum):
    END_OF_TASK = 1
    END = 2


class _Pipeline:
    """Reader, encoder and writers of one run."""

    def __init__(
        self,
        work: RasterJob,
        turns: TaskQueue,
        finisher: ShardCommitter,
        log: RunLog,
        report: RasterReport,
    ) -> None:
        self.report = report
        self._work, self._turns, self._finisher, self._log = work, turns, finisher, log
        self._read: queue.Queue[Any] = queue.Queue(READ_AHEAD)
        self._room = threading.Semaphore(SHARDS)
        self._stop = threading.Event()
        self._counting = threading.Lock()

    def go(self, bar: "tqdm[Any]") -> None:
        """Do all tasks."""
        start = time.monotonic()
        self._log("start", tasks=len(self._turns.tasks), grid=list(self._work.grid.shape))
        reader = threading.Thread(target=self._read_all, daemon=True)
        reader.start()
        try:
            with ThreadPoolExecutor(SHARDS - 1) as writers:  # they share the waiting
                try:
                    self._encode_all(writers, bar)
                except BaseException:
                    self._stop.set()
                    writers.shutdown(cancel_futures=True)
                    raise
        finally:
            self._stop.set()
            self._turns.stop()
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
        """Read what the tasks observe, in their turn."""
        try:
            for task in self._turns:
                if self._stop.is_set():
                    return
                self._hand_over(task)
                for batch in self._work.read(task):
                    self._hand_over(batch)
                self._hand_over(_Mark.END_OF_TASK)
            self._hand_over(_Mark.END)
        except _StopError:
            pass
        except BaseException as error:  # raised where the caller waits
            with suppress(_StopError):
                self._hand_over(error)

    def _hand_over(self, thing: Any) -> None:
        while not self._stop.is_set():
            try:
                return self._read.put(thing, timeout=0.1)
            except queue.Full:
                continue
        raise _StopError

    def _encode_all(self, writers: ThreadPoolExecutor, bar: "tqdm[Any]") -> None:
        writing: list[Future[None]] = []
        filling: ShardBuilder | None = None
        while True:
            thing = self._next(writing)
            begin = time.monotonic()
            if isinstance(thing, CellBatch):
                assert filling is not None
                filling.add(thing)
                bar.update(len(thing.cells))
            elif thing is _Mark.END_OF_TASK:
                assert filling is not None
                writing = [future for future in writing if not _checked(future)]
                filling.settle()
                writing.append(writers.submit(self._write, filling, bar))
                filling = None
            self.report.device_seconds += time.monotonic() - begin
            if isinstance(thing, Task):
                self._wait_for_room(writing)
                filling = ShardBuilder(self._work, thing)
                bar.set_postfix_str(thing.modality)
            elif isinstance(thing, BaseException):
                raise thing
            elif thing is _Mark.END:
                break
        for future in writing:
            future.result()

    def _next(self, writing: list["Future[None]"]) -> Any:
        """What the reader has; an error of a writer ends the wait for it."""
        while True:
            try:
                return self._read.get(timeout=0.1)
            except queue.Empty:
                for future in writing:
                    _checked(future)

    def _wait_for_room(self, writing: list["Future[None]"]) -> None:
        while not self._room.acquire(timeout=0.1):
            for future in writing:
                _checked(future)
        for future in writing:
            _checked(future)

    def _write(self, filling: ShardBuilder, bar: "tqdm[Any]") -> None:
        try:
            if self._stop.is_set():
                return
            begin = time.monotonic()
            done = filling.finish()
            again = bool(done.failures) and self._turns.again(done.task)
            if not again:
                self._finisher.finish(done, replaces=done.task in self._turns.redo)
                self._turns.done(done.task)
            with self._counting:
                if not again:
                    self.report.add(done.task, done.cells, done.failures)
                skipped = self._work.layout.shard**2 - sum(
                    done.cells[code]
                    for code in (Status.VALID, Status.NO_OBSERVATION, Status.FAILED)
                )
                if (
                    self._work.extent[done.task.shard_row, done.task.shard_col]
                    != ShardExtent.OUTSIDE
                ):
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
            self._stop.set()
            raise
        finally:
            filling.release()
            self._room.release()


def _checked(future: "Future[None]") -> bool:
    """Whether a write is over; raises what went wrong with it."""
    if future.done():
        future.result()
        return True
    return False
