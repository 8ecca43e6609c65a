"""One task from its cells to the bytes of its objects: what every way of running it shares."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, UInt8

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.shard_extent import ShardExtent, shard_extent
from unigeo.producer.storage.shard_codec import Buffers, VectorObject, shard_order, status_object
from unigeo.schemas.errors import UnigeoError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.quantization import quantize
from unigeo.schemas.store.status import Status

Encode = Callable[
    [str, Float[np.ndarray, "point 2"]],
    tuple[Float[np.ndarray, "point band"], Bool[np.ndarray, " point"]],
]
"""From modality and lonlat to unit vectors, and whether anything was observed there."""
Land = Callable[[Float[np.ndarray, "point 2"]], Bool[np.ndarray, " point"]]
Codes = Callable[[], tuple[Int8[np.ndarray, "observed band"], Bool[np.ndarray, " point"]]]
"""Waits for the quantized vectors of what was observed, and says where that was."""
FAILURES = (UnigeoError, ValueError, RuntimeError)
"""What encoding raises where it cannot encode some cells; others are mistakes of the program."""


@dataclass(frozen=True, eq=False)
class ObservedCells:
    """What is to be encoded of some cells."""

    inputs: Any
    """One row per cell."""
    valid: Bool[np.ndarray, " point"]
    """Whether anything was observed."""
    unreadable: Bool[np.ndarray, " point"] | None = None
    """Where nothing was observed because a file could not be read."""
    damaged: tuple[str, ...] = ()
    """Names of these files."""


@runtime_checkable
class StagedEncoder(Protocol):
    """An encoder in two halves, so that reading and encoding overlap."""

    def batch(self, modality: str) -> int:
        """Cells encoded at once, at most."""
        ...

    def observe(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> ObservedCells:
        """Read; on the CPU, from any thread."""
        ...

    def codes(self, modality: str, seen: ObservedCells) -> Codes:
        """Encode and quantize."""
        ...


Observe = Callable[[Int[np.ndarray, " cell"]], ObservedCells]
"""Reads cells of a shard, counted row by row."""


@runtime_checkable
class ShardStagedEncoder(Protocol):
    """A `StagedEncoder` encoder that shares what the batches of a shard have in common."""

    def of_shard(
        self,
        modality: str,
        grid: Grid,
        window: Window,
        lonlat: Float[np.ndarray, "place 2"],
        cells: Int[np.ndarray, " cell"],
    ) -> AbstractContextManager[Observe]:
        """Begin to read cells of a window, all of whose centres are given."""
        ...


@dataclass(frozen=True)
class _UnstagedEncoder:
    """An encoder that cannot be cut in two."""

    encode: Encode

    def batch(self, modality: str) -> int:
        return 1 << 30

    def observe(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> ObservedCells:
        return ObservedCells(lonlat, np.ones(len(lonlat), bool))

    def codes(self, modality: str, seen: ObservedCells) -> Codes:
        vectors, observed = self.encode(modality, seen.inputs)
        codes = quantize(vectors[observed])
        return lambda: (codes, observed)


@dataclass(frozen=True, eq=False)
class CellBatch:
    """Some cells of a task, read."""

    cells: Int[np.ndarray, " point"]
    """Counted row by row in the shard."""
    seen: ObservedCells | None
    error: str = ""
    """Why nothing could be read, if so."""


@dataclass(frozen=True, eq=False)
class EncodedTask:
    """A task ready to be written."""

    task: Task
    vectors: memoryview | None
    """None where no cell has a vector."""
    status: memoryview
    cells: Counter[Status]
    failures: Counter[str]
    damaged: tuple[str, ...]
    """Files that could not be read."""


@dataclass(eq=False)
class RasterJob:
    """Everything that the tasks of one store need."""

    grid: Grid
    layout: Layout
    region: Region
    land: Land
    encode: Any
    """`Encode` or `StagedEncoder`."""
    batch: int = 2048
    """Cells encoded at once, at most."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _last: list[Any] = field(default_factory=list, repr=False)
    buffers: Buffers = field(default_factory=Buffers, repr=False)

    @cached_property
    def staged(self) -> StagedEncoder:
        """The encoder in two halves."""
        return (
            self.encode if isinstance(self.encode, StagedEncoder) else _UnstagedEncoder(self.encode)
        )

    @cached_property
    def extent(self) -> UInt8[np.ndarray, "shard_row shard_col"]:
        """Which shards the region touches."""
        return shard_extent(self.region, self.grid, self.layout.shard)

    def cells(self, task: Task) -> tuple[Float[np.ndarray, "cell 2"], UInt8[np.ndarray, " cell"]]:
        """Centres of a shard's cells, and their status: `VALID` where one is to be encoded."""
        shard = (task.shard_row, task.shard_col)
        with self._lock:  # the modalities of a shard share it
            if not self._last or self._last[0] != shard:
                self._last.clear()  # before others take its memory's place
                self._last[:] = [shard, *self._find_cells(task)]
            return self._last[1], self._last[2]

    def _find_cells(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        status = np.full(self.layout.shard**2, Status.OUTSIDE_REGION, np.uint8)
        extent = self.extent[task.shard_row, task.shard_col]
        if extent == ShardExtent.OUTSIDE:
            return np.empty((0, 2)), status
        lonlat = self.grid.centres(task.window(self.layout.shard)).reshape(-1, 2)
        if extent == ShardExtent.INSIDE:
            inside = np.arange(len(lonlat))
        else:
            inside = np.flatnonzero(self.region.contains(lonlat))
        if len(inside):
            dry = self.land(lonlat[inside])
            status[inside] = np.where(dry, Status.VALID, Status.WATER)
        return lonlat, status

    def read(self, task: Task) -> Iterator[CellBatch]:
        """Observe a task's cells, batch by batch, neighbours together.

        Raises:
            ReplacedError: a file is another than it was: nothing more can be made of the old one.
        """
        lonlat, status = self.cells(task)
        order = shard_order(self.layout.shard, self.layout.chunk).order
        cells = order[status[order] == Status.VALID]
        size = min(self.batch, self.staged.batch(task.modality))
        with self.observing(task, lonlat, cells) as observe:
            for first in range(0, len(cells), size):
                part = cells[first : first + size]
                try:
                    yield CellBatch(part, observe(part))
                except ReplacedError:
                    raise
                except FAILURES as error:
                    yield CellBatch(part, None, str(error))

    def observing(
        self, task: Task, lonlat: Float[np.ndarray, "place 2"], cells: Int[np.ndarray, " cell"]
    ) -> AbstractContextManager[Observe]:
        """Begin to read cells of a task, all of whose centres are given."""
        if isinstance(self.staged, ShardStagedEncoder):
            window = task.window(self.layout.shard)
            return self.staged.of_shard(task.modality, self.grid, window, lonlat, cells)
        return nullcontext(lambda part: self.staged.observe(task.modality, lonlat[part]))


class ShardBuilder:
    """The objects of one task while its batches are encoded."""

    def __init__(self, work: RasterJob, task: Task) -> None:
        """Start with what is known of the cells without looking."""
        self._work, self._task = work, task
        self._status = work.cells(task)[1].copy()
        self._vectors: VectorObject | None = None  # most shards of some regions need none
        self._failures: Counter[str] = Counter()
        self._damaged: set[str] = set()
        self._pending: tuple[CellBatch, Codes] | None = None

    def add(self, batch: CellBatch) -> None:
        """Encode a batch; while the device is at it, place the one before."""
        codes: Codes | None = None
        if batch.seen is None:
            self._fail(batch, batch.error)
        else:
            try:
                codes = self._work.staged.codes(self._task.modality, batch.seen)
            except FAILURES as error:
                self._fail(batch, str(error))
        self._place()
        self._pending = (batch, codes) if codes is not None else None

    def settle(self) -> None:
        """Wait for the last batch and place it."""
        self._place()

    def finish(self) -> EncodedTask:
        """Complete the objects, which last until `release`; from any thread, once settled."""
        self._place()
        counts = np.unique(self._status, return_counts=True)
        cells = Counter({Status(int(k)): int(n) for k, n in zip(*counts, strict=True)})
        side = self._work.layout.shard
        return EncodedTask(
            self._task,
            None if self._vectors is None else self._vectors.finish(),
            status_object(self._status.reshape(side, side), self._work.layout),
            cells,
            self._failures,
            tuple(sorted(self._damaged)),
        )

    def release(self) -> None:
        """Let the memory of the objects be used again."""
        if self._vectors is not None:
            self._vectors.release()
            self._vectors = None

    def _place(self) -> None:
        if self._pending is None:
            return
        batch, wait = self._pending
        self._pending = None
        try:
            codes, observed = wait()
        except FAILURES as error:
            self._fail(batch, str(error))
            return
        if self._vectors is None:
            layout = self._work.layout
            width = layout.width(self._task.modality)
            self._vectors = VectorObject(layout, width, self._work.buffers)
        self._vectors.put(batch.cells[observed], codes)
        lost = ~observed
        self._status[batch.cells[lost]] = Status.NO_OBSERVATION
        if batch.seen is not None and batch.seen.unreadable is not None:
            lost = lost & batch.seen.unreadable
            self._status[batch.cells[lost]] = Status.FAILED
            if lost.any():
                names = ", ".join(batch.seen.damaged)
                self._failures[f"{self._task.modality}: cannot read {names}"] += int(lost.sum())
                self._damaged.update(batch.seen.damaged)

    def _fail(self, batch: CellBatch, error: str) -> None:
        self._status[batch.cells] = Status.FAILED
        self._failures[f"{self._task.modality}: {error}"] += len(batch.cells)
