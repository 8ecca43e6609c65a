"""The covariates of a shard: kept while its modalities are encoded, or computed from new patches.

An executor does the modalities of a shard one after another, and their patches are on the device
then. Their numbers are computed there and kept until the task of the covariates, which is the
shard's last. Where another process did a modality, or this one was killed, its patches are cut
again in the same batches, so that the stored bytes are the same.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.shard_encoder import ObservedCells

KEPT_SHARDS = 4
"""Largest number of shards whose numbers are kept; one of 50 numbers takes 13 MB."""


@dataclass(eq=False)
class ModalityNumbers:
    """Statistics of one modality's patches at the cells of a shard."""

    values: Float[np.ndarray, "window_cell statistic"]
    """NaN where nothing was observed."""
    done: Bool[np.ndarray, " window_cell"]
    """Whether a cell's patch was cut."""
    unreadable: Bool[np.ndarray, " window_cell"]
    """Whether a cell lies where a file could not be read."""
    damaged: set[str] = field(default_factory=set)
    """Names of the files that could not be read."""

    @classmethod
    def empty(cls, cells: int, width: int) -> "ModalityNumbers":
        """Return the numbers of a shard of which no patch was cut."""
        values = np.full((cells, width), np.nan, np.float32)
        return cls(values, np.zeros(cells, bool), np.zeros(cells, bool))

    def put(
        self,
        cells: Int[np.ndarray, " cell"],
        seen: ObservedCells,
        numbers: Float[np.ndarray, "observed statistic"],
        valid: Bool[np.ndarray, " cell"],
    ) -> None:
        """Add the numbers of a batch; those of the observed cells, in their order."""
        self.values[cells[valid]] = numbers
        self.done[cells] = True
        if seen.unreadable is not None:
            self.unreadable[cells] = seen.unreadable & ~valid
            self.damaged.update(seen.damaged)


class KeptNumbers:
    """Numbers of the shards that this process encodes; its threads share them."""

    def __init__(self) -> None:
        """Start with none."""
        self._shards: OrderedDict[tuple[int, int], dict[str, ModalityNumbers]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, task: Task, cells: int, width: int) -> ModalityNumbers:
        """Return the empty numbers of a task, which replace those of an earlier attempt."""
        numbers = ModalityNumbers.empty(cells, width)
        shard = (task.shard_row, task.shard_col)
        with self._lock:
            self._shards.setdefault(shard, {})[task.modality] = numbers
            self._shards.move_to_end(shard)
            if len(self._shards) > KEPT_SHARDS:
                self._shards.popitem(last=False)
        return numbers

    def take(self, task: Task, modality: str) -> ModalityNumbers | None:
        """Return the numbers of a modality at the shard of a task; None where there are none."""
        with self._lock:
            return self._shards.get((task.shard_row, task.shard_col), {}).get(modality)

    def drop(self, task: Task) -> None:
        """Forget a shard whose covariates are made."""
        with self._lock:
            self._shards.pop((task.shard_row, task.shard_col), None)
