"""Running a trial: train the model, compute its metrics, and write the result or the error."""

import json
import time
import traceback
from collections.abc import Generator, Sequence
from pathlib import Path

from unigeo.producer.ablation.run_metrics import by_pair, metric
from unigeo.producer.ablation.trials import ERROR, RESULT, Trial, trial_folder
from unigeo.producer.encoders.saved_models import load_model
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.wrapping import only
from unigeo.producer.training.train import default_device, train
from unigeo.schemas.errors import ModelError, UnigeoError
from unigeo.schemas.io.atomic_files import write_text


def run_trial(
    trial: Trial, metrics: Sequence[str], observations: Observations, out: Path
) -> str | None:
    """Train a trial, or resume its training, and compute its metrics.

    The result or the error is written into the trial's folder.

    Returns:
        None if the trial is finished, else the last line of the error.

    Raises:
        ModelError: if the folder cannot be written.
    """
    folder = trial_folder(trial, out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot write {folder}: {error}. Name another --out.") from error
    try:
        _measure(trial, metrics, observations, folder)
    except Exception as error:  # a trial that fails must not stop the others
        # Our own errors are written for users; of any other, the traceback is needed.
        known = isinstance(error, UnigeoError)
        message = str(error) if known else "".join(traceback.format_exception(error))
        write_text(folder / ERROR, message.strip() + "\n")
        return message.strip().splitlines()[-1]
    (folder / ERROR).unlink(missing_ok=True)
    return None


def run_in_process(
    pending: Sequence[Trial], metrics: Sequence[str], observations: Observations, out: Path
) -> Generator[tuple[Trial, str | None], None, None]:
    """Run trials one after the other in this process; yield each with its error when it ends."""
    for trial in pending:
        yield trial, run_trial(trial, metrics, observations, out)


def _measure(
    trial: Trial, metrics: Sequence[str], observations: Observations, folder: Path
) -> None:
    functions = {name: metric(name) for name in metrics}  # unknown ones fail before training
    device = default_device()
    start = time.monotonic()
    observed = only(observations, trial.recipe.model.modalities)
    trained = train(
        observed,
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
        numbers |= function(model, tokenizer, observed, device)
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
    write_text(folder / RESULT, json.dumps(result, indent=2, sort_keys=True) + "\n")
