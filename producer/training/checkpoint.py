"""One file that holds a run where it stands: weights, optimizer, step; replaced in one move.

The state is copied to ordinary memory, which takes a moment, and written by a thread while training
goes on.
"""

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unigeo.producer.training.ema import MeanWeights
from unigeo.schemas.errors import ModelError

NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class State:
    """All that changes while a model is trained."""

    model: nn.Module
    optimizer: torch.optim.AdamW
    mean: MeanWeights

    def tensors(self) -> dict[str, Tensor]:
        """Copy it to the CPU's memory, by name."""
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
        """Take over what `tensors` gave."""
        self.model.load_state_dict(_part(tensors, "model."))
        fused = self.optimizer.defaults["fused"]
        for name, weight in self.model.named_parameters():
            state = _part(tensors, f"optimizer.{name}.")
            if state:
                moments = {key: value.to(weight.device) for key, value in state.items()}
                if not fused:
                    moments["step"] = state["step"]
                self.optimizer.state[weight] = moments
        for name, value in _part(tensors, "mean.").items():
            self.mean.means[name].copy_(value)


class Checkpoints:
    """Writes checkpoints behind the training's back, one at a time."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run = folder, run
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._last: Future[None] | None = None

    def save(self, step: int, state: State) -> None:
        """Copy the state after `step` steps, and start to write it; waits for the one before.

        Raises:
            ModelError: if the one before could not be written.
        """
        self.wait()
        tensors = state.tensors()
        self._last = self._writer.submit(write_checkpoint, self.folder, step, tensors, self.run)

    def wait(self) -> None:
        """Wait until what was started is written.

        Raises:
            ModelError: if it could not be.
        """
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def close(self) -> None:
        """End the thread; what it writes is finished first."""
        self._writer.shutdown(wait=True)


def write_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], run: str) -> None:
    """Write a state; a crash while writing leaves the one before.

    Raises:
        ModelError: if it cannot be written.
    """
    part = folder / (NAME + ".partial")
    try:
        save_file(dict(tensors), part, metadata={"step": str(step), "run": run})
        _sync(part)
        part.replace(folder / NAME)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink()
        raise ModelError(
            f"cannot write the checkpoint of step {step} in {folder}: {error}. Make room or give "
            "the right to write, and start the same command again: it goes on from the last one"
        ) from error


def load_checkpoint(folder: Path, state: State, run: str) -> int:
    """Take up a run; returns the steps done, 0 where there is no checkpoint.

    Raises:
        ModelError: if the checkpoint is damaged, or of a run with other settings.
    """
    path = folder / NAME
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as stored:
            about = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"the checkpoint {path} is damaged ({error}); remove it to train from the start"
        ) from error
    if about.get("run") != run:
        raise ModelError(
            f"{folder} holds a checkpoint of a run with other settings or observations; name "
            "another folder, or remove it"
        )
    state.load(tensors)
    return int(about["step"])


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
