"""What the result of a training depends on, and the comparison of two trainings."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unigeo.producer.encoders.model_settings import ModelSettings, to_json
from unigeo.producer.encoders.saved_models import read_settings
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.provenance import deciding, without_told
from unigeo.producer.sources.change_clauses import describe_settings, join_clauses
from unigeo.producer.training.settings import TrainingSettings
from unigeo.schemas.errors import ModelError

RunIdentity = Mapping[str, Any]
"""The provenance of the observations, the settings of the model and those of the training, as JSON
under `observations`, `model` and `training`."""
_CONSEQUENCES = tuple(f"observations.{key}" for key in ("counts", "index_sha256", "plan "))
"""What changes with other keys of a set, at the beginning of a clause."""


def run_identity(
    observations: Observations, model_settings: ModelSettings, settings: TrainingSettings
) -> RunIdentity:
    """Return, as JSON, everything that the result of a run depends on, and what is told of it."""
    identity = {
        "observations": observations.provenance(),
        "model": to_json(model_settings),
        "training": settings.identity(),
    }
    return dict(json.loads(json.dumps(identity, sort_keys=True)))


def fingerprint(identity: RunIdentity) -> str:
    """Hash an identity."""
    text = json.dumps(list(identity.values()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def identity_of_model(metrics: Mapping[str, Any], folder: Path) -> RunIdentity:
    """Return the identity of the run that made a finished model."""
    return {
        "observations": metrics["observations"],
        "model": json.loads(json.dumps(to_json(read_settings(folder)))),
        "training": metrics["training"],
    }


def trains_the_same(one: RunIdentity, other: RunIdentity) -> bool:
    """Return whether two runs differ at most in what is told of their observations."""
    keys = ("model", "training")
    return all(one[key] == other[key] for key in keys) and bool(
        deciding(one["observations"]) == deciding(other["observations"])
    )


def describe_other_run(before: RunIdentity, now: RunIdentity) -> str:
    """Name each key in which a run differs from an earlier one, with both values."""
    changes = describe_settings(without_told(before), without_told(now))
    causes = [change for change in changes if not change.startswith(_CONSEQUENCES)]
    return join_clauses(causes or changes)


def refuse_other_model(metrics: Mapping[str, Any], folder: Path, identity: RunIdentity) -> None:
    """Refuse a finished model of another run.

    Raises:
        ModelError: naming each key that differs.
    """
    before = identity_of_model(metrics, folder)
    if not trains_the_same(before, identity):
        raise ModelError(
            f"{folder} holds a model of other settings or observations "
            f"({describe_other_run(before, identity)}); name another folder with --model-out, or "
            "use it as it is with --model"
        )
