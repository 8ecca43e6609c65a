"""The builder of a shard's covariates, and the choice of a task's builder."""

import numpy as np

from unigeo.producer.raster.covariate_columns import ModalityColumns
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.shard_covariates import ModalityNumbers
from unigeo.producer.raster.shard_encoder import FAILURES
from unigeo.producer.raster.shard_task import CellBatch, CentreCells, OpenedJob, ShardBuilder
from unigeo.producer.storage.shard_codec import VectorObject
from unigeo.schemas.errors import StoreError
from unigeo.schemas.store.layout import COVARIATES
from unigeo.schemas.store.status import Status


def builder_of(opened: OpenedJob, task: Task) -> ShardBuilder:
    """Return the builder of a task's objects."""
    return (CovariateBuilder if task.modality == COVARIATES else ShardBuilder)(opened, task)


class CovariateBuilder(ShardBuilder):
    """Collects the numbers of a shard's patches and of the pixels at its cells' centres."""

    def __init__(self, opened: OpenedJob, task: Task) -> None:
        """Start with the statuses of cells that have no numbers.

        Raises:
            StoreError: if the encoder has no covariates, and the store has.
        """
        super().__init__(opened, task)
        if not opened.columns:
            raise StoreError("the store has covariates, and the observations give none")

    def add(self, batch: CellBatch) -> None:
        """Store the numbers of all cells; patches whose numbers are not kept are cut again."""
        if batch.observed is None:
            self._fail(batch, batch.error)
            return
        centres = batch.observed.inputs
        assert isinstance(centres, CentreCells)
        layout, cells = self._opened.job.layout, batch.cells
        numbers = np.full((len(cells), layout.width(COVARIATES)), np.nan, np.float32)
        lost = np.zeros(len(cells), bool)
        first = 0
        for one in self._opened.columns:
            patches, pixels = self._statistics(one, batch), centres.pixels[one.modality]
            middle, end = first + len(one.statistics), first + len(one.names)
            numbers[:, first:middle] = patches.values[cells]
            numbers[:, middle:end] = pixels.values
            first = end
            self._lose(one, patches.unreadable[cells] | pixels.unreadable, patches, pixels.damaged)
            lost |= patches.unreadable[cells] | pixels.unreadable | ~patches.done[cells]
        empty = np.isnan(numbers)
        numbers[empty] = np.nan  # one bit pattern, whichever computation gave it
        filled = ~empty.all(axis=1) & ~lost
        self._status[cells[~filled]] = Status.NO_OBSERVATION
        self._status[cells[lost]] = Status.FAILED
        if filled.any():
            width, dtype = layout.width(COVARIATES), layout.dtype(COVARIATES)
            self._vectors = VectorObject(layout, width, self._opened.buffers, dtype=dtype)
            self._vectors.put(cells[filled], numbers[filled])

    def release(self) -> None:
        """Give the memory of the objects back, and forget the shard's numbers."""
        super().release()
        self._opened.kept.drop(self._task)

    def _statistics(self, one: ModalityColumns, batch: CellBatch) -> ModalityNumbers:
        """Return the statistics of one modality, kept or computed anew in the same batches."""
        kept = self._opened.kept.take(self._task, one.modality)
        if kept is not None and kept.done[batch.cells].all():
            return kept
        task = Task(one.modality, self._task.shard_row, self._task.shard_col)
        numbers = ModalityNumbers.empty(len(self._status), len(one.statistics))
        encoder = self._opened.equipment.encoder
        for part in self._opened.read(task):
            error = part.error
            if part.observed is not None:
                try:
                    wait = encoder.numbers(one.modality, part.observed)
                    numbers.put(part.cells, part.observed, *wait())
                    continue
                except FAILURES as failure:
                    error = str(failure)
            self._failures[f"{COVARIATES}: {one.modality}: {error}"] += len(part.cells)
        return numbers

    def _lose(
        self,
        one: ModalityColumns,
        lost: np.ndarray,
        patches: ModalityNumbers,
        damaged: tuple[str, ...],
    ) -> None:
        """Record cells whose numbers lie where a file could not be read."""
        if lost.any():
            names = sorted({*patches.damaged, *damaged})
            self._failures[f"{COVARIATES}: {one.modality}: cannot read {', '.join(names)}"] += int(
                lost.sum()
            )
            self._damaged.update(names)
