"""The batches of a run, in an order that depends on the seed and the step alone.

Samples that fit in memory are observed once. Otherwise, or where every epoch has new ones, threads
observe the batches ahead of their step; reading rasters and drawing synthetic worlds release the
interpreter's lock.
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
from unigeo.producer.training.schedule import batch_rows, epoch_and_batch
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import TrainingBatch

Observe = Callable[[Float[np.ndarray, "sample 2"]], Samples]
"""Function that observes locations, given in degrees."""
AHEAD = 1
"""Number of observed batches that may wait, beside those being observed."""


@runtime_checkable
class BatchSource(Protocol):
    """Source of training batches."""

    @property
    def count(self) -> int:
        """Number of samples in one epoch."""
        ...

    def batches(self, first: int, last: int) -> Iterator[TrainingBatch]:
        """Yield the batches of the steps from `first` to before `last`."""
        ...


@dataclass(frozen=True)
class CachedBatches:
    """Batches of samples that are all held in memory."""

    samples: Samples
    settings: TrainingSettings
    processes: Processes

    @property
    def count(self) -> int:
        """Number of samples in one epoch."""
        return len(self.samples)

    def batches(self, first: int, last: int) -> Iterator[TrainingBatch]:
        """Yield the batches of the steps from `first` to before `last`."""
        for step in range(first, last):
            rows = batch_rows(self.count, step, self.settings)
            yield _local_batch(step, rows, self.processes, self.samples.take)


@dataclass(frozen=True)
class StreamingBatches:
    """Batches of samples that threads observe shortly before their step."""

    count: int
    lonlat: Callable[[int], Float[np.ndarray, "sample 2"]]
    """Function that returns the `count` locations of an epoch."""
    observe: Observe
    settings: TrainingSettings
    processes: Processes
    pinned: bool = False
    """Whether to copy batches to page-locked memory."""

    def batches(self, first: int, last: int) -> Iterator[TrainingBatch]:
        """Yield the batches of the steps from `first` to before `last`."""
        # Near the end of an epoch, batches of two epochs are in flight.
        epoch_lonlat = lru_cache(maxsize=2)(self.lonlat)
        pending: deque[Future[TrainingBatch]] = deque()
        with ThreadPoolExecutor(self.settings.workers, thread_name_prefix="observe") as pool:
            try:
                for step in range(first, last):
                    epoch = epoch_and_batch(self.count, step, self.settings)[0]
                    pending.append(pool.submit(self._observe, step, epoch_lonlat(epoch)))
                    if len(pending) >= self.settings.workers + AHEAD:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _observe(self, step: int, lonlat: Float[np.ndarray, "sample 2"]) -> TrainingBatch:
        rows = batch_rows(self.count, step, self.settings)

        def take(local_rows: np.ndarray) -> Samples:
            samples = self.observe(lonlat[local_rows])
            return samples.pin_memory() if self.pinned else samples

        return _local_batch(step, rows, self.processes, take)


def _local_batch(
    step: int, rows: np.ndarray, processes: Processes, take: Callable[[np.ndarray], Samples]
) -> TrainingBatch:
    """Take this process's share of a batch; samples that only pad it are marked not observed."""
    indices, counted = processes.indices(len(rows))
    samples = take(rows[indices])
    if not counted.all():
        samples = samples.mask(torch.from_numpy(counted))
    return TrainingBatch(step, samples, indices)


def observe_shared(
    observe: Observe, lonlat: Float[np.ndarray, "sample 2"], processes: Processes
) -> Samples:
    """Observe locations, a part in each process, and return all of them in every process."""
    parts = processes.gather(observe(lonlat[processes.rank :: processes.count]))
    if len(parts) == 1:
        samples: Samples = parts[0]
        return samples
    # Parts are interleaved: `order` has the original index of each row after concatenation.
    order = np.concatenate(
        [np.arange(rank, len(lonlat), processes.count) for rank in range(len(parts))]
    )
    return Samples.concatenate(parts).take(np.argsort(order))


def on_device(batches: Iterator[TrainingBatch], device: torch.device) -> Iterator[TrainingBatch]:
    """Copy batches to the device; on a GPU one ahead, while it works on the one before."""
    if device.type != "cuda":
        for batch in batches:
            yield TrainingBatch(batch.step, batch.samples.to(device), batch.indices)
        return
    stream = torch.cuda.Stream(device)
    ready: TrainingBatch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = TrainingBatch(batch.step, batch.samples.to(device), batch.indices)
        # The step of `ready` is queued while the copy runs; only then is the copy waited for.
        if ready is not None:
            yield ready
        torch.cuda.current_stream(device).wait_stream(stream)
        # The memory belongs to the copying stream, whose allocator could reuse it too early.
        copied.samples.record_stream(torch.cuda.current_stream(device))
        ready = copied
    if ready is not None:
        yield ready
