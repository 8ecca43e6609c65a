"""Open a model and its observations as equipment, in this process or by paths in a worker."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unigeo.producer.raster.identity import identity_of
from unigeo.producer.raster.raster_job import Equipment
from unigeo.schemas.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from unigeo.producer.encoders.model import UniGeoCLIP


def equipment_opener(
    model: Path,
    description: str | None,
    data: str | None,
    interpolate: int = 1,
    workers_here: int | None = None,
) -> Callable[[], Equipment]:
    """Return what a worker calls to open a model and observations; small, to be sent.

    Args:
        model: folder of the model, at the same path on every machine.
        description: observations, as `open_named` takes them.
        data: folder of their files.
        interpolate: side of the squares of cells of which one coordinate is encoded.
        workers_here: number of workers that share the cores of this machine, if they do.
    """
    folder = str(model.absolute())
    return partial(_open_equipment, folder, description, data, interpolate, workers_here)


def _open_equipment(
    model: str,
    description: str | None,
    data: str | None,
    interpolate: int,
    workers_here: int | None,
) -> Equipment:
    import torch

    from unigeo.producer.observations.open_named import open_named
    from unigeo.producer.raster.encoding import encoder_of

    if workers_here is not None:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers_here))
    observations = open_named(description, data)
    opened, tokenizer, weights = open_model(Path(model))
    device = _worker_device()
    identity = identity_of(weights, opened.settings, observations, interpolate)
    encoder = encoder_of(opened, observations, device, interpolate, tokenizer=tokenizer)
    return Equipment(encoder, observations.land, identity.computed_on(device))


def open_model(folder: Path) -> tuple["UniGeoCLIP", "Tokenizer | None", str]:
    """Load a model: its encoders, its tokenizer, and the SHA-256 of its weights.

    Raises:
        ModelError: if the model is not complete, or was replaced while it was read.
    """
    from unigeo.producer.encoders.saved_models import load_model, model_hash

    weights = model_hash(folder)
    model, tokenizer = load_model(folder)
    if model_hash(folder) != weights:
        raise ModelError(f"{folder} was replaced while it was read; run the same command again")
    return model, tokenizer, weights


def _worker_device() -> Any:
    """Return the GPU of this worker: those of one machine are dealt out by the workers' names."""
    import torch
    from distributed import get_worker

    from unigeo.producer.training.processes import default_device

    device = default_device()
    if device.type != "cuda":
        return device
    name = str(get_worker().name)
    number = int(name) if name.isdigit() else 0
    return torch.device("cuda", number % torch.cuda.device_count())
