"""The training loop: steps, log, checkpoints, and an orderly stop."""

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
from unigeo.producer.training.checkpoint import CheckpointWriter, TrainingState
from unigeo.producer.training.energy import EnergyMeter
from unigeo.producer.training.failures import LostRankError, check_finite, explain_step_errors
from unigeo.producer.training.flops import SampleFlops, peak_flops
from unigeo.producer.training.log import TrainingLog
from unigeo.producer.training.optimizer import set_rates
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.schedule import rate_share
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import TrainingBatch, compute_gradients

_STOPPING = (signal.SIGTERM, signal.SIGINT)
LARGEST_NORM = 1.0
"""Norm to which longer gradients are clipped."""


@dataclass(frozen=True)
class RunRecords:
    """Records of a run, which the first process alone keeps."""

    log: TrainingLog
    checkpoints: CheckpointWriter
    evaluate_holdout: Callable[[], dict[str, float]]
    """Function that returns the recall of each tower on the hold-out."""
    meter: "StepMeter"


@dataclass
class StepMeter:
    """Meter of the time, energy and memory of each step."""

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
        """Return the measurements of the step that just ended."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        measured = {
            "seconds": round(seconds, 6),
            "samples_per_second": round(self.settings.batch / seconds, 2),
        }
        needed, _ = self.flops.step(step, self.settings, self.dimension)
        if self._peak is not None:
            measured["mfu"] = round(needed / seconds / (self._peak * self.processes.count), 4)
        joules = self._energy.joules()
        if joules is not None:
            measured |= {"joules": round(joules, 3), "watts": round(joules / seconds, 1)}
        if self.device.type == "cuda":
            measured["memory_gb"] = round(torch.cuda.max_memory_allocated(self.device) / 1e9, 3)
        return measured


def run_steps(
    state: TrainingState,
    batch_source: BatchSource,
    settings: TrainingSettings,
    first: int,
    processes: Processes,
    device: torch.device,
    records: RunRecords | None,
    progress: bool,
) -> None:
    """Train from step `first` to the last.

    Args:
        state: model, optimizer and mean weights; changed in place.
        batch_source: source of the batches.
        settings: of the run.
        first: number of steps done.
        processes: the processes of the run.
        device: of the model.
        records: log and checkpoints of the first process; None in the others.
        progress: show a progress bar.

    Raises:
        ModelError: naming the step, what happened and what to do.
        KeyboardInterrupt: after SIGTERM or SIGINT, once a checkpoint of the last step is written;
            with a message and, in the process that received it, the signal's number.
    """
    saved = time.monotonic()
    state.model.train()
    with (
        closing(batch_source.batches(first, settings.steps)) as batches,  # type: ignore[type-var]
        _stop_on_signal() as stop_requested,
        tqdm(
            total=settings.steps, initial=first, desc="train", unit="step", disable=not progress
        ) as bar,
    ):
        device_batches = on_device(batches, device)
        for step in range(first, settings.steps):
            done = step + 1
            try:
                with explain_step_errors(step, settings, processes):
                    batch = next(device_batches)
                    metrics, stop = train_step(
                        state, batch, settings, processes, device, stop_requested.is_set()
                    )
            except LostRankError:
                if records is not None:  # the weights are still those of the previous step
                    _save(records, step, state)
                    records.checkpoints.wait()
                raise
            if records is not None:
                if settings.watch and done % settings.watch == 0:
                    metrics["holdout"] = records.evaluate_holdout()
                    state.model.train()
                records.log.write(step, metrics, records.meter.step(step))
                if stop or time.monotonic() - saved > settings.checkpoint_seconds:
                    _save(records, done, state)
                    saved = time.monotonic()
            bar.set_postfix_str(f"loss {metrics['loss']:.3f}")
            bar.update()
            if stop and done < settings.steps:
                if records is not None:
                    records.checkpoints.wait()
                raise KeyboardInterrupt(
                    f"after {done} of {settings.steps} steps of training, of which a checkpoint is "
                    "kept; the same command goes on from there",
                    *stop_requested.numbers,
                )
    state.model.eval()


def train_step(
    state: TrainingState,
    batch: TrainingBatch,
    settings: TrainingSettings,
    processes: Processes,
    device: torch.device,
    stop_requested: bool,
) -> tuple[dict[str, Any], bool]:
    """Train on a batch; return its metrics, and whether any process was asked to stop."""
    model, optimizer = state.model, state.optimizer
    assert isinstance(model, UniGeoCLIP)
    optimizer.zero_grad(set_to_none=True)
    result = compute_gradients(model, batch, settings, processes)
    stop = processes.sum_gradients(model.parameters(), device, stop_requested)
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
    mean_temperature = (1 / model.scale().detach()).mean()
    # Stacked, so that the step waits for the device once.
    scalars = (result.loss, grad_norm, mean_temperature)
    loss, norm, temperature = torch.stack([value.double() for value in scalars]).tolist()
    check_finite(batch.step, loss, norm, result.vectors, result.present, settings)
    set_rates(optimizer, batch.step, settings)
    optimizer.step()
    state.mean.update(batch.step)
    metrics = {
        "loss": loss,
        "rate": settings.rate * rate_share(batch.step, settings),
        "gradient_norm": norm,
        "temperature": temperature,
    }
    return metrics, stop


def _save(records: RunRecords, step: int, state: TrainingState) -> None:
    records.log.flush()  # a resumed run needs the lines of every step before its checkpoint
    records.checkpoints.save(step, state)


class _StopRequest:
    """Whether this process was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def is_set(self) -> bool:
        return bool(self.numbers)


@contextmanager
def _stop_on_signal() -> Iterator[_StopRequest]:
    """Yield a request that SIGTERM or SIGINT makes, so that the run ends with a checkpoint.

    A second SIGINT ends it at once. Only the main thread can handle signals; in another one no
    request is ever made.
    """
    request = _StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and request.is_set():
            raise KeyboardInterrupt
        request.numbers = [number]

    before = {number: signal.signal(number, ask) for number in _STOPPING}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
