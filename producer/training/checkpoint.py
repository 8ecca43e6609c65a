"""The checkpoint of a run: one file with weights, optimizer state and step, replaced atomically.

The state is copied to the CPU, which takes a moment; a thread writes it while training goes on.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unigeo.producer.training.ema import MeanWeights
from unigeo.producer.training.run_identity import (
    RunIdentity,
    describe_other_run,
    fingerprint,
    trains_the_same,
)
from unigeo.schemas.errors import ModelError
from unigeo.schemas.io.atomic_files import file_beside
from unigeo.schemas.io.json_text import load_json

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class TrainingState:
    """Everything that changes while a model is trained."""

    model: nn.Module
    optimizer: torch.optim.AdamW
    mean: MeanWeights

    def tensors(self) -> dict[str, Tensor]:
        """Copy the state to the CPU, as tensors by name."""
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for weight, state in self.optimizer.state.items():
            for key, value in state.items():
                tensors[f"optimizer.{names[id(weight)]}.{key}"] = torch.as_tensor(value)
        tensors |= {f"mean.{name}": value for name, value in self.mean.means.items()}
        return {
            name: value.detach().to("cpu", copy=True).contiguous()
            for name, value in tensors.items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state from the result of `tensors`."""
        self.model.load_state_dict(_with_prefix(tensors, "model."))
        fused = self.optimizer.defaults["fused"]
        for name, weight in self.model.named_parameters():
            state = _with_prefix(tensors, f"optimizer.{name}.")
            if state:
                moments = {key: value.to(weight.device) for key, value in state.items()}
                if not fused:  # only the fused optimizer keeps its step count on the device
                    moments["step"] = state["step"]
                self.optimizer.state[weight] = moments
        for name, value in _with_prefix(tensors, "mean.").items():
            self.mean.means[name].copy_(value)


class CheckpointWriter:
    """Writer of checkpoints in a background thread, one at a time."""

    def __init__(self, folder: Path, run: RunIdentity) -> None:
        self.folder, self.run = folder, run
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._last: Future[None] | None = None

    def save(self, step: int, state: TrainingState) -> None:
        """Copy the state after `step` steps and start writing it, once the previous one is written.

        Raises:
            ModelError: if the previous checkpoint could not be written.
        """
        self.wait()
        tensors = state.tensors()
        self._last = self._writer.submit(write_checkpoint, self.folder, step, tensors, self.run)

    def wait(self) -> None:
        """Wait until the last checkpoint is written.

        Raises:
            ModelError: if it could not be written.
        """
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def close(self) -> None:
        """Finish writing and end the thread."""
        self._writer.shutdown(wait=True)


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], run: RunIdentity
) -> None:
    """Write a checkpoint; a crash while writing leaves the previous one.

    Raises:
        ModelError: if it cannot be written.
    """
    try:
        with file_beside(folder / CHECKPOINT) as part:
            about = {"step": str(step), "run": fingerprint(run), "identity": json.dumps(run)}
            save_file(dict(tensors), part, metadata=about)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot write the checkpoint of step {step} in {folder}: {error}. Make room or give "
            "the right to write, and start the same command again: it goes on from the last one"
        ) from error


def load_checkpoint(folder: Path, state: TrainingState, run: RunIdentity) -> int:
    """Restore a run's state from its checkpoint; return the steps done, 0 without a checkpoint.

    Raises:
        ModelError: if the checkpoint is damaged, or of another run.
    """
    steps = steps_done(folder, run)
    if steps:
        with _opened(folder) as stored:
            state.load({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
    return steps


def steps_done(folder: Path, run: RunIdentity) -> int:
    """Return the steps done before a run's checkpoint, 0 without a checkpoint.

    Args:
        folder: folder of the checkpoint.
        run: identity of the run, which may differ in what is told of its observations.

    Raises:
        ModelError: if the checkpoint is damaged, or of another run, naming what differs.
    """
    if not (folder / CHECKPOINT).exists():
        return 0
    with _opened(folder) as stored:
        about = stored.metadata() or {}
    if about.get("run") == fingerprint(run):
        return int(about["step"])
    before = load_json(about["identity"]) if "identity" in about else None
    if before is not None and trains_the_same(before, run):
        return int(about["step"])
    changes = "" if before is None else f" ({describe_other_run(before, run)})"
    raise ModelError(
        f"{folder} holds a checkpoint of a run with other settings or observations{changes}; name "
        "another folder with --model-out, or remove it"
    )


def work_folder(folder: Path) -> Path:
    """Return the folder of log and checkpoint of a training into a model folder."""
    return folder.with_name(folder.name + ".training")


@contextmanager
def _opened(folder: Path) -> Iterator[Any]:
    """Open the checkpoint in a folder.

    Raises:
        ModelError: if it is damaged.
    """
    path = folder / CHECKPOINT
    try:
        with safe_open(path, "pt") as stored:
            yield stored
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"the checkpoint {path} is damaged ({error}); remove it to train from the start"
        ) from error


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
