"""The trials of an ablation table: their identity, their results on disk, and their duration."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from unigeo.producer.ablation.ablation_table import AblationRow, AblationTable
from unigeo.producer.encoders.model_settings import to_json
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.pipeline.recipe import Recipe, recipe
from unigeo.schemas.errors import ModelError
from unigeo.schemas.io.json_text import load_json

RESULT, ERROR = "result.json", "error.txt"
_TINY_SAMPLES_PER_SECOND = 900.0
"""Samples that the preset `tiny` trains on in a second, on one core, on the embedded world."""
_LOCATIONS_OBSERVED_PER_SECOND = 600.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One row trained with one seed."""

    row: AblationRow
    seed: int
    recipe: Recipe
    key: str
    """Hash of everything the model depends on: trials of equal settings share one run."""

    @property
    def title(self) -> str:
        """Row and seed, for messages."""
        return f"{self.row.title}, seed {self.seed}"


def plan_trials(table: AblationTable, observations: Observations) -> list[Trial]:
    """Make a trial of every row and seed, the base first.

    The seeds of a row are consecutive, so that parallel processes observe different locations
    rather than the same ones twice, and rows are completed early.

    Raises:
        ModelError: if the settings of a row are invalid.
    """
    provenance = observations.provenance()
    trials = []
    for row in table.rows:
        for seed in range(table.seeds):
            changes = {**table.changes, **row.changes}
            try:
                chosen = recipe(table.preset, observations, seed, changes)
            except ModelError as error:
                raise ModelError(f"{table.path}, row {row.title!r}: {error}") from error
            identity = [provenance, to_json(chosen.model), chosen.training.identity()]
            content = json.dumps(identity, sort_keys=True).encode()
            key = hashlib.sha256(content).hexdigest()[:16]
            trials.append(Trial(row=row, seed=seed, recipe=chosen, key=key))
    return trials


def trial_folder(trial: Trial, out: Path) -> Path:
    """Return the folder of a trial's model and result."""
    return out / "runs" / trial.key


def read_result(trial: Trial, out: Path, metrics: Sequence[str]) -> dict[str, Any] | None:
    """Read the result of a trial; None if it is not finished, or lacks one of the metrics.

    Raises:
        ModelError: if the file is damaged.
    """
    path = trial_folder(trial, out) / RESULT
    if not path.exists():
        return None
    try:
        result: dict[str, Any] = load_json(path.read_text(encoding="utf-8"))
        measured = set(result["measured"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged ({error!r}); remove it to measure again") from error
    return result if set(metrics) <= measured else None


def read_error(trial: Trial, out: Path) -> str | None:
    """Read the error of a failed trial; None if there is none."""
    path = trial_folder(trial, out) / ERROR
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def estimated_seconds(
    table: AblationTable, trials: Sequence[Trial], out: Path, jobs: int
) -> float | None:
    """Estimate the time of the unfinished trials from the time per sample of the finished ones.

    Without finished trials the estimate is that of `tiny` on one core of a laptop, and None for
    other presets.
    """
    distinct = {trial.key: trial for trial in trials}.values()
    results = {trial.key: read_result(trial, out, table.metrics) for trial in distinct}
    rates = [
        result["seconds"] / _samples_seen(trial)
        for trial in distinct
        if (result := results[trial.key]) is not None
    ]
    open_trials = [trial for trial in distinct if results[trial.key] is None]
    if not rates and table.preset != "tiny":
        return None
    # Trials of one seed share their locations, which are observed once and then cached.
    observing = (
        0.0
        if rates
        else sum(
            trial.recipe.training.locations / _LOCATIONS_OBSERVED_PER_SECOND
            for trial in {trial.seed: trial for trial in open_trials}.values()
        )
    )
    rate = median(rates) if rates else 1 / _TINY_SAMPLES_PER_SECOND
    return (observing + sum(rate * _samples_seen(trial) for trial in open_trials)) / jobs


def _samples_seen(trial: Trial) -> int:
    return trial.recipe.training.steps * trial.recipe.training.batch
