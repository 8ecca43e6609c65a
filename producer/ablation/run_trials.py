"""Carry trials out: train, measure, and write down what came of it."""

import json
import time
import traceback
from collections.abc import Generator, Sequence
from pathlib import Path

from unigeo.producer.ablation.run_metrics import by_pair, metric
from unigeo.producer.ablation.trials import ERROR, RESULT, Trial, folder_of, write_whole
from unigeo.producer.encoders.model import load_model
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.wrapping import only
from unigeo.producer.training.train import default_device, train
from unigeo.schemas.errors import ModelError, UnigeoError


def run_trial(
    trial: Trial, metrics: Sequence[str], observations: Observations, out: Path
) -> str | None:
    """Train a trial, or go on with it, and measure it.

    Returns:
        None when it is finished, else what failed; both are written into the trial's folder.
    """
    folder = folder_of(trial, out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot write {folder}: {error}. Name another --out.") from error
    try:
        _measure(trial, metrics, observations, folder)
    except Exception as error:  # a row that fails must not stop the others
        known = isinstance(error, UnigeoError)
        said = str(error) if known else "".join(traceback.format_exception(error))
        write_whole(folder / ERROR, said.strip() + "\n")
        return said.strip().splitlines()[-1]
    (folder / ERROR).unlink(missing_ok=True)
    return None


def run_here(
    todo: Sequence[Trial], metrics: Sequence[str], observations: Observations, out: Path
) -> Generator[tuple[Trial, str | None], None, None]:
    """Carry trials out one after the other in this process; yields each when it ends."""
    for trial in todo:
        yield trial, run_trial(trial, metrics, observations, out)


def _measure(
    trial: Trial, metrics: Sequence[str], observations: Observations, folder: Path
) -> None:
    functions = {name: metric(name) for name in metrics}
    device = default_device()
    start = time.monotonic()
    seen = only(observations, trial.recipe.model.modalities)
    trained = train(
        seen,
        trial.recipe.model,
        trial.recipe.training,
        folder / "model",
        device=device,
        progress=False,
    )
    seconds = time.monotonic() - start
    model, tokenizer = load_model(folder / "model")
    model.to(device)
    numbers: dict[str, float] = {}
    for function in functions.values():
        numbers |= function(model, tokenizer, seen, device)
    result = {
        "row": trial.row.title,
        "seed": trial.seed,
        "retrieval": by_pair(trained["retrieval"]),
        "numbers": numbers,
        "measured": list(functions),
        "seconds": trained.get("seconds", {}).get("train", round(seconds, 1)),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "device": str(device),
    }
    write_whole(folder / RESULT, json.dumps(result, indent=2, sort_keys=True) + "\n")
