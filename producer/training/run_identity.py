"""What the result of a training depends on, and what is only told of its observations."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unigeo.producer.encoders.model import read_settings
from unigeo.producer.encoders.model_settings import ModelSettings, to_json
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.sources.input_files import join_clauses
from unigeo.producer.sources.set_plan import describe_settings
from unigeo.producer.training.settings import TrainingSettings
from unigeo.schemas.errors import ModelError

_TOLD = {"licence", "citation", "credit", "note", "provider"}
"""Keys of observations that are told and change no vector."""


def run_identity(
    observations: Observations, model_settings: ModelSettings, settings: TrainingSettings
) -> dict[str, Any]:
    """Return, as JSON, everything that the result of a run depends on, and what is told of it."""
    identity = {
        "observations": observations.provenance(),
        "model": to_json(model_settings),
        "training": settings.identity(),
    }
    return dict(json.loads(json.dumps(identity, sort_keys=True)))


def fingerprint(
    observations: Observations, model_settings: ModelSettings, settings: TrainingSettings
) -> str:
    """Hash everything that the result of a run depends on."""
    identity = run_identity(observations, model_settings, settings)
    text = json.dumps(list(identity.values()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_told_only(metrics: Mapping[str, Any], folder: Path, identity: Mapping[str, Any]) -> bool:
    """Return whether a finished model differs from a run in licences and credits at most."""
    return bool(_without_told(_identity_of(metrics, folder)) == _without_told(identity))


def refuse_other_run(metrics: Mapping[str, Any], folder: Path, identity: Mapping[str, Any]) -> None:
    """Refuse a finished model of another run.

    Raises:
        ModelError: naming each key that differs.
    """
    changes = describe_settings(_identity_of(metrics, folder), identity)
    raise ModelError(
        f"{folder} holds a model of other settings or observations ({join_clauses(changes)}); name "
        "another folder with --model-out, or use it as it is with --model"
    )


def _identity_of(metrics: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the identity of the run that made a finished model."""
    return {
        "observations": metrics["observations"],
        "model": json.loads(json.dumps(to_json(read_settings(folder)))),
        "training": metrics["training"],
    }


def _without_told(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_told(part) for key, part in value.items() if key not in _TOLD}
    if isinstance(value, list):
        return [_without_told(part) for part in value]
    return value
