"""One file that holds a run where it stands: weights, optimizer, step; replaced in one move."""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unigeo.schemas.errors import ModelError

NAME = "checkpoint.safetensors"


def save_checkpoint(
    folder: Path, step: int, model: nn.Module, optimizer: torch.optim.AdamW, run: str
) -> None:
    """Write the state after `step` steps; a crash while writing leaves the one before."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for weight, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer.{names[id(weight)]}.{key}"] = torch.as_tensor(value)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    part = folder / (NAME + ".partial")
    try:
        save_file(tensors, part, metadata={"step": str(step), "run": run})
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.replace(folder / NAME)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise ModelError(
            f"cannot write the checkpoint of step {step} in {folder}: {error}"
        ) from error


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.AdamW, run: str) -> int:
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
    model.load_state_dict(_part(tensors, "model."))
    for name, weight in model.named_parameters():
        state = _part(tensors, f"optimizer.{name}.")
        if state:
            moments = {key: value.to(weight.device) for key, value in state.items()}
            moments["step"] = state["step"]
            optimizer.state[weight] = moments
    return int(about["step"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
