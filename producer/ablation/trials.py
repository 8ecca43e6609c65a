"""The trainings that a table asks for, and what is known of each."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from unigeo.producer.ablation.ablation_table import AblationRow, AblationTable
from unigeo.producer.encoders.settings import to_json
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.pipeline.recipe import Recipe, recipe
from unigeo.schemas.errors import ModelError

RESULT, ERROR = "result.json", "error.txt"
_TINY_PLACES_PER_SECOND = 900.0
"""Places seen in training, one core, of the preset `tiny` on the embedded world."""
_OBSERVED_PER_SECOND = 600.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One row trained with one seed."""

    row: AblationRow
    seed: int
    recipe: Recipe
    key: str
    """Hash of all that the model depends on: rows that come to the same share one training."""

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.row.title}, seed {self.seed}"


def trials(table: AblationTable, observations: Observations) -> list[Trial]:
    """Every row with every seed, the base first.

    All seeds of a row come together: processes that start side by side then look at different
    places, and a row is whole as early as can be.

    Raises:
        ModelError: naming the row whose settings make no sense.
    """
    provenance = observations.provenance()
    made = []
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
            made.append(Trial(row=row, seed=seed, recipe=chosen, key=key))
    return made


def folder_of(trial: Trial, out: Path) -> Path:
    """Where a trial's model and result are."""
    return out / "runs" / trial.key


def result_of(trial: Trial, out: Path, metrics: Sequence[str]) -> dict[str, Any] | None:
    """What a finished trial gave; None if it is not finished, or a metric was not measured."""
    path = folder_of(trial, out) / RESULT
    if not path.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        measured = set(result["measured"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged ({error!r}); remove it to measure again") from error
    return result if set(metrics) <= measured else None


def error_of(trial: Trial, out: Path) -> str | None:
    """What ended a trial that failed."""
    path = folder_of(trial, out) / ERROR
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def write_whole(path: Path, text: str) -> None:
    """Write a file in one move, so that nobody reads half of it."""
    part = path.with_name(path.name + ".partial")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def estimated_seconds(
    table: AblationTable, planned: Sequence[Trial], out: Path, jobs: int
) -> float | None:
    """Time that the unfinished trials will take: as the finished ones took, by places seen.

    Before any has finished: what `tiny` took on one core of a laptop; None for other presets.
    """
    different = {trial.key: trial for trial in planned}.values()
    results = {trial.key: result_of(trial, out, table.metrics) for trial in different}
    rates = [
        result["seconds"] / _places_seen(trial)
        for trial in different
        if (result := results[trial.key]) is not None
    ]
    open_trials = [trial for trial in different if results[trial.key] is None]
    if not rates and table.preset != "tiny":
        return None
    looking = (
        0.0
        if rates
        else sum(
            trial.recipe.training.locations / _OBSERVED_PER_SECOND
            for trial in {trial.seed: trial for trial in open_trials}.values()
        )
    )
    rate = median(rates) if rates else 1 / _TINY_PLACES_PER_SECOND
    return (looking + sum(rate * _places_seen(trial) for trial in open_trials)) / jobs


def _places_seen(trial: Trial) -> int:
    return trial.recipe.training.steps * trial.recipe.training.batch
