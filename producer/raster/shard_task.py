"""One task from its cells to the bytes of its objects, the same for every executor.

`OpenedJob.read` observes the cells of a task batch by batch, `ShardBuilder` encodes the batches
into the objects that `shard_commit` writes.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.raster.cell_status import status_before_encoding
from unigeo.producer.raster.centre_pixels import CentrePixels, centre_pixels
from unigeo.producer.raster.covariate_columns import ModalityColumns, names_of
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.raster_job import Equipment, RasterJob
from unigeo.producer.raster.shard_covariates import KeptNumbers, ModalityNumbers
from unigeo.producer.raster.shard_encoder import (
    FAILURES,
    Codes,
    Numbers,
    Observe,
    ObservedCells,
)
from unigeo.producer.raster.shard_extent import ShardExtent, shard_extent
from unigeo.producer.raster.stored_cells import fused_from, stored_vectors
from unigeo.producer.storage.retrying_store import retrying
from unigeo.producer.storage.shard_codec import Buffers, VectorObject, shard_order, status_object
from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.layout import COVARIATES
from unigeo.schemas.store.status import Status


@dataclass(frozen=True, eq=False)
class CellBatch:
    """Some cells of a task, observed or failed."""

    cells: Int[np.ndarray, " point"]
    """Cells of the shard, which are counted row by row."""
    observed: ObservedCells | None
    """None where observing failed."""
    error: str = ""
    """Message of that failure."""


@dataclass(frozen=True, eq=False)
class EncodedTask:
    """A task ready to be written."""

    task: Task
    vectors: memoryview | None
    """Object of the vectors; None where no cell has one."""
    status: memoryview
    """Object of the statuses."""
    cells: Counter[Status]
    """Number of cells by status."""
    failures: Counter[str]
    """Number of failed cells by message."""
    damaged: tuple[str, ...]
    """Names of the files that could not be read."""


@dataclass(frozen=True, eq=False)
class CentreCells:
    """Inputs of the covariates beside the patches: the pixel at the centre of each cell."""

    pixels: Mapping[str, CentrePixels]
    """Pixels by modality."""


@dataclass(eq=False)
class OpenedJob:
    """A job in one process: its equipment, and what the tasks of a shard share."""

    job: RasterJob
    equipment: Equipment
    buffers: Buffers = field(default_factory=Buffers, repr=False)
    """Memory of shards that were written, for the next ones."""
    kept: KeptNumbers = field(default_factory=KeptNumbers, repr=False)
    """Numbers of the patches that were encoded, for the covariates."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _last: list[Any] = field(default_factory=list, repr=False)
    """Row and column of the last shard, centres and statuses of its cells; empty at first."""

    @cached_property
    def extent(self) -> UInt8[np.ndarray, "shard_row shard_col"]:
        """The `ShardExtent` of every shard."""
        return shard_extent(self.job.region, self.job.grid, self.job.layout.shard)

    @cached_property
    def store(self) -> Any:
        """The store that is filled, to read what other tasks wrote."""
        return retrying(open_group(self.job.url, consolidated=False).store)

    @cached_property
    def columns(self) -> tuple[ModalityColumns, ...]:
        """The covariates of each modality; empty where none are stored, or the encoder has none.

        Raises:
            StoreError: if the observations give others than the store has.
        """
        layout = self.job.layout
        if not layout.covariates:
            return ()
        columns = self.equipment.encoder.covariates(layout.modalities)
        if columns and names_of(columns) != layout.covariates:
            raise StoreError(
                f"the observations give other covariates ({', '.join(names_of(columns))}) than the "
                f"store has ({', '.join(layout.covariates)})"
            )
        return columns

    def columns_of(self, modality: str) -> ModalityColumns | None:
        """Return the covariates of one modality; None where it has none."""
        return next((one for one in self.columns if one.modality == modality), None)

    def cells(
        self, task: Task
    ) -> tuple[Float[np.ndarray, "centre 2"], UInt8[np.ndarray, " window_cell"]]:
        """Centres of a shard's cells, and their status: `VALID` where one is to be encoded.

        A shard outside the region has no centres.
        """
        shard = (task.shard_row, task.shard_col)
        with self._lock:  # the tasks of a shard, one per modality, follow each other
            if not self._last or self._last[0] != shard:
                self._last.clear()  # before the next centres are allocated: they are 1 MiB and more
                self._last[:] = [shard, *self._find_cells(task)]
            return self._last[1], self._last[2]

    def _find_cells(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        shard = self.job.layout.shard
        extent = self.extent[task.shard_row, task.shard_col]
        if extent == ShardExtent.OUTSIDE:  # no cell is looked at
            return np.empty((0, 2)), np.full(shard**2, Status.OUTSIDE_REGION, np.uint8)
        lonlat = self.job.grid.centres(task.window(shard)).reshape(-1, 2)
        region = None if extent == ShardExtent.INSIDE else self.job.region
        return lonlat, status_before_encoding(lonlat, self.equipment.land, region)

    def cells_to_encode(
        self, task: Task
    ) -> tuple[Float[np.ndarray, "window_cell 2"], Int[np.ndarray, " cell"]]:
        """Centres of a shard's cells, and those to be encoded in the order of its object."""
        lonlat, status = self.cells(task)
        order = shard_order(self.job.layout.shard, self.job.layout.chunk).order
        return lonlat, order[status[order] == Status.VALID]

    def read(self, task: Task) -> Iterator[CellBatch]:
        """Observe a task's cells batch by batch, in the order of the shard's object.

        Raises:
            ReplacedError: if a file was replaced while it was read: vectors of the old and the new
                file must not meet in one store.
        """
        lonlat, cells = self.cells_to_encode(task)
        if task.modality == COVARIATES:
            if len(cells):
                yield self._read_centres(lonlat, cells)
            return
        size = min(self.job.batch, self.equipment.encoder.batch(task.modality))
        with self.open_shard(task, lonlat, cells) as observe:
            for first in range(0, len(cells), size):
                part = cells[first : first + size]
                try:
                    yield CellBatch(part, observe(part))
                except ReplacedError:
                    raise
                except FAILURES as error:
                    yield CellBatch(part, None, str(error))

    def _read_centres(
        self, lonlat: Float[np.ndarray, "window_cell 2"], cells: Int[np.ndarray, " cell"]
    ) -> CellBatch:
        """Read the pixels at the centres of all cells of a shard at once."""
        try:
            pixels = {
                one.modality: centre_pixels(one.rasters, lonlat[cells]) for one in self.columns
            }
        except ReplacedError:
            raise
        except FAILURES as error:
            return CellBatch(cells, None, str(error))
        return CellBatch(cells, ObservedCells(CentreCells(pixels), np.ones(len(cells), bool)))

    def open_shard(
        self,
        task: Task,
        lonlat: Float[np.ndarray, "window_cell 2"],
        cells: Int[np.ndarray, " cell"],
    ) -> AbstractContextManager[Observe]:
        """Open what the batches of a task share; `lonlat` are the centres of all its cells."""
        if task.modality in self.equipment.encoder.derived:
            layout = self.job.layout
            parts = self.equipment.encoder.fused_of(fused_from(layout))
            return stored_vectors(self.store, layout, task, parts)
        window = task.window(self.job.layout.shard)
        return self.equipment.encoder.open_shard(
            task.modality, self.job.grid, window, lonlat, cells
        )


class ShardBuilder:
    """Collects the encoded batches of one task into its objects."""

    def __init__(self, opened: OpenedJob, task: Task) -> None:
        """Start with the statuses of cells that are not encoded."""
        self._opened, self._task = opened, task
        self._status = opened.cells(task)[1].copy()
        self._vectors: VectorObject | None = None  # most shards of some regions need none
        self._failures: Counter[str] = Counter()
        self._damaged: set[str] = set()
        self._pending: tuple[CellBatch, Codes, Numbers | None] | None = None
        columns = opened.columns_of(task.modality)
        self._numbers: ModalityNumbers | None = None
        if columns is not None and (self._status == Status.VALID).any():
            width = len(columns.statistics)
            self._numbers = opened.kept.begin(task, len(self._status), width)

    def add(self, batch: CellBatch) -> None:
        """Encode a batch; while the device computes it, store the codes of the batch before."""
        codes: Codes | None = None
        numbers: Numbers | None = None
        if batch.observed is None:
            self._fail(batch, batch.error)
        else:
            try:
                codes = self._opened.equipment.encoder.codes(self._task.modality, batch.observed)
            except FAILURES as error:
                self._fail(batch, str(error))
            else:
                numbers = self._start_numbers(batch.observed)
        self._store_pending()
        self._pending = (batch, codes, numbers) if codes is not None else None

    def settle(self) -> None:
        """Wait for the last batch and store its codes."""
        self._store_pending()

    def finish(self) -> EncodedTask:
        """Complete the objects, valid until `release`; from any thread, once settled."""
        self._store_pending()
        counts = np.unique(self._status, return_counts=True)
        cells = Counter({Status(int(k)): int(n) for k, n in zip(*counts, strict=True)})
        side = self._opened.job.layout.shard
        return EncodedTask(
            self._task,
            None if self._vectors is None else self._vectors.finish(),
            status_object(self._status.reshape(side, side), self._opened.job.layout),
            cells,
            self._failures,
            tuple(sorted(self._damaged)),
        )

    def release(self) -> None:
        """Give the memory of the objects back."""
        if self._vectors is not None:
            self._vectors.release()
            self._vectors = None

    def _store_pending(self) -> None:
        if self._pending is None:
            return
        batch, wait, numbers = self._pending
        self._pending = None
        try:
            codes, valid = wait()
        except FAILURES as error:
            self._fail(batch, str(error))
            return
        if numbers is not None and self._numbers is not None and batch.observed is not None:
            with suppress(*FAILURES):  # the task of the covariates meets the same error
                self._numbers.put(batch.cells, batch.observed, *numbers())
        if self._vectors is None:
            layout = self._opened.job.layout
            width = layout.width(self._task.modality)
            self._vectors = VectorObject(layout, width, self._opened.buffers)
        self._vectors.put(batch.cells[valid], codes)
        empty = ~valid
        self._status[batch.cells[empty]] = Status.NO_OBSERVATION
        if batch.observed is not None and batch.observed.unreadable is not None:
            lost = empty & batch.observed.unreadable
            self._status[batch.cells[lost]] = Status.FAILED
            if lost.any():
                cause = batch.observed.cause or f"cannot read {', '.join(batch.observed.damaged)}"
                self._failures[f"{self._task.modality}: {cause}"] += int(lost.sum())
                self._damaged.update(batch.observed.damaged)

    def _start_numbers(self, observed: ObservedCells) -> Numbers | None:
        """Start the statistics of a batch's patches, if the store has covariates of them."""
        if self._numbers is None:
            return None
        try:
            return self._opened.equipment.encoder.numbers(self._task.modality, observed)
        except FAILURES:  # the task of the covariates meets the same error
            return None

    def _fail(self, batch: CellBatch, error: str) -> None:
        self._status[batch.cells] = Status.FAILED
        self._failures[f"{self._task.modality}: {error}"] += len(batch.cells)
