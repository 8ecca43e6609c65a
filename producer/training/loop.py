"""The steps of a run: learn, log, keep checkpoints, and stop in good order."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.training.batches import BatchSource, on_device
from unigeo.producer.training.checkpoint import Checkpoints, State
from unigeo.producer.training.energy import EnergyMeter
from unigeo.producer.training.failures import LostRankError, check_finite, explain_step_errors
from unigeo.producer.training.flops import SampleFlops, peak_flops
from unigeo.producer.training.log import TrainingLog
from unigeo.producer.training.optimizer import set_rates
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.schedule import rate_share
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import TrainingBatch, gradients
from unigeo.schemas.errors import ModelError

LARGEST_NORM = 1.0
"""A gradient longer than this is shortened to it."""


@dataclass(frozen=True)
class RunRecords:
    """What the first process keeps of a run."""

    log: TrainingLog
    checkpoints: Checkpoints
    watch: Callable[[], dict[str, float]]
    """Gives the recall of each tower on the hold-out."""
    meter: "StepMeter"


@dataclass
class StepMeter:
    """Measures what each step takes."""

    device: torch.device
    settings: TrainingSettings
    processes: Processes
    flops: SampleFlops
    dimension: int

    def __post_init__(self) -> None:
        self._energy = EnergyMeter(self.device)
        self._peak = peak_flops(self.device, self.settings)
        self._last = time.perf_counter()

    def step(self, step: int) -> dict[str, float]:
        """Figures of the step that just ended."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        found = {
            "seconds": round(seconds, 6),
            "samples_per_second": round(self.settings.batch / seconds, 2),
        }
        needed, _ = self.flops.step(step, self.settings, self.dimension)
        if self._peak is not None:
            found["mfu"] = round(needed / seconds / (self._peak * self.processes.count), 4)
        joules = self._energy.joules()
        if joules is not None:
            found |= {"joules": round(joules, 3), "watts": round(joules / seconds, 1)}
        if self.device.type == "cuda":
            found["memory_gb"] = round(torch.cuda.max_memory_allocated(self.device) / 1e9, 3)
        return found


def run_steps(
    state: State,
    feed: BatchSource,
    settings: TrainingSettings,
    first: int,
    processes: Processes,
    device: torch.device,
    records: RunRecords | None,
    progress: bool,
) -> None:
    """Learn from step `first` to the last.

    Args:
        state: what is trained; changed in place.
        feed: the batches.
        settings: of the run.
        first: steps done.
        processes: the processes.
        device: of the model.
        records: of the first process; None in the others.
        progress: show a bar.

    Raises:
        ModelError: naming the step, what happened and what to do.
    """
    saved = time.monotonic()
    state.model.train()
    with (
        closing(feed.batches(first, settings.steps)) as batches,  # type: ignore[type-var]
        _stop_asked() as asked,
        tqdm(
            total=settings.steps, initial=first, desc="train", unit="step", disable=not progress
        ) as bar,
    ):
        ready = on_device(batches, device)
        for step in range(first, settings.steps):
            done = step + 1
            try:
                with explain_step_errors(step, settings, processes):
                    batch = next(ready)
                    gave, stop = learn(state, batch, settings, processes, device, asked.is_set())
            except LostRankError:
                if records is not None:  # the weights are those of the step before
                    _save(records, step, state)
                    records.checkpoints.wait()
                raise
            if records is not None:
                if settings.watch and done % settings.watch == 0:
                    gave["holdout"] = records.watch()
                    state.model.train()
                records.log.write(step, gave, records.meter.step(step))
                if stop or time.monotonic() - saved > settings.checkpoint_seconds:
                    _save(records, done, state)
                    saved = time.monotonic()
            bar.set_postfix_str(f"loss {gave['loss']:.3f}")
            bar.update()
            if stop and done < settings.steps:
                if records is not None:
                    records.checkpoints.wait()
                raise ModelError(
                    f"stopped as asked after {done} of {settings.steps} steps; the same command "
                    "goes on from there"
                )
    state.model.eval()


def learn(
    state: State,
    batch: TrainingBatch,
    settings: TrainingSettings,
    processes: Processes,
    device: torch.device,
    asked: bool,
) -> tuple[dict[str, Any], bool]:
    """Learn from a batch; returns what it gave, and whether any process was asked to stop."""
    model, optimizer = state.model, state.optimizer
    assert isinstance(model, UniGeoCLIP)
    optimizer.zero_grad(set_to_none=True)
    found = gradients(model, batch, settings, processes)
    stop = processes.sum_gradients(model.parameters(), device, asked)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
    temperature = (1 / model.scale().detach()).mean()
    # The only place that waits for the device.
    values = torch.stack([value.double() for value in (found.loss, norm, temperature)]).tolist()
    loss, length, temperature_now = values
    check_finite(batch.step, loss, length, found.vectors, found.present, settings)
    set_rates(optimizer, batch.step, settings)
    optimizer.step()
    state.mean.update(batch.step)
    gave = {
        "loss": loss,
        "rate": settings.rate * rate_share(batch.step, settings),
        "gradient_norm": length,
        "temperature": temperature_now,
    }
    return gave, stop


def _save(records: RunRecords, step: int, state: State) -> None:
    records.log.flush()
    records.checkpoints.save(step, state)


@contextmanager
def _stop_asked() -> Iterator[threading.Event]:
    """Notice SIGTERM, so that a run ends with a checkpoint; in the main thread only."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
