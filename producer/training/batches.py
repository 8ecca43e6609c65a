"""The batches of a run, in an order that depends on the seed and the step alone.

Places that fit in memory are observed once. Where they do not, or where every pass has new ones,
threads observe the batches ahead of their step (rasters are read and worlds are drawn without the
interpreter's lock).
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.schedule import batch_rows, position
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import TrainingBatch

Observe = Callable[[Float[np.ndarray, "place 2"]], Samples]
"""Looks at places, given in degrees."""
AHEAD = 1
"""Batches that wait observed, beside those being observed."""


@runtime_checkable
class BatchSource(Protocol):
    """Where batches come from."""

    @property
    def count(self) -> int:
        """Places in one pass."""
        ...

    def batches(self, first: int, last: int) -> Iterator[TrainingBatch]:
        """Give the batches of the steps from `first` to before `last`."""
        ...


@dataclass(frozen=True)
class CachedBatches:
    """Places observed once, and held."""

    places: Samples
    settings: TrainingSettings
    processes: Processes

    @property
    def count(self) -> int:
        """Places in one pass."""
        return len(self.places)

    def batches(self, first: int, last: int) -> Iterator[TrainingBatch]:
        """Give the batches of the steps from `first` to before `last`."""
        for step in range(first, last):
            rows = batch_rows(self.count, step, self.settings)
            yield _batch(step, rows, self.processes, self.places.take)


@dataclass(frozen=True)
class StreamingBatches:
    """Places observed when their step is near."""

    count: int
    lonlat: Callable[[int], Float[np.ndarray, "place 2"]]
    """`count` places of a pass over the data."""
    observe: Observe
    settings: TrainingSettings
    processes: Processes
    pinned: bool = False
    """Into memory that a GPU reads by itself."""

    def batches(self, first: int, last: int) -> Iterator[TrainingBatch]:
        """Give the batches of the steps from `first` to before `last`."""
        places_of = lru_cache(maxsize=2)(self.lonlat)
        waiting: deque[Future[TrainingBatch]] = deque()
        with ThreadPoolExecutor(self.settings.workers, thread_name_prefix="observe") as pool:
            try:
                for step in range(first, last):
                    epoch = position(self.count, step, self.settings)[0]
                    waiting.append(pool.submit(self._look, step, places_of(epoch)))
                    if len(waiting) >= self.settings.workers + AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _look(self, step: int, lonlat: Float[np.ndarray, "place 2"]) -> TrainingBatch:
        rows = batch_rows(self.count, step, self.settings)

        def take(mine: np.ndarray) -> Samples:
            places = self.observe(lonlat[mine])
            return places.pinned() if self.pinned else places

        return _batch(step, rows, self.processes, take)


def _batch(
    step: int, rows: np.ndarray, processes: Processes, take: Callable[[np.ndarray], Samples]
) -> TrainingBatch:
    """Take this process's part of the rows; what only fills it up counts as not observed."""
    positions, own = processes.positions(len(rows))
    places = take(rows[positions])
    if not own.all():
        places = places.only(torch.from_numpy(own))
    return TrainingBatch(step, places, positions)


def observe_shared(
    observe: Observe, lonlat: Float[np.ndarray, "place 2"], processes: Processes
) -> Samples:
    """Observe places, each process its part, and give all of them to each."""
    parts = processes.collect(observe(lonlat[processes.rank :: processes.count]))
    if len(parts) == 1:
        whole: Samples = parts[0]
        return whole
    order = np.concatenate(
        [np.arange(rank, len(lonlat), processes.count) for rank in range(len(parts))]
    )
    return Samples.join(parts).take(np.argsort(order))


def on_device(batches: Iterator[TrainingBatch], device: torch.device) -> Iterator[TrainingBatch]:
    """Bring batches to the device; to a GPU one ahead, while it works on the one before."""
    if device.type != "cuda":
        for batch in batches:
            yield TrainingBatch(batch.step, batch.places.to(device), batch.positions)
        return
    stream = torch.cuda.Stream(device)
    ready: TrainingBatch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            coming = TrainingBatch(batch.step, batch.places.to(device), batch.positions)
        if ready is not None:
            yield ready
        torch.cuda.current_stream(device).wait_stream(stream)
        coming.places.record(torch.cuda.current_stream(device))
        ready = coming
    if ready is not None:
        yield ready
