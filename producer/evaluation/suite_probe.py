"""How well a model's vectors predict a suite's targets, in a few numbers to compare models by."""

from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from unigeo.client.suites import Suite, probe_suite
from unigeo.client.suites import load_suite as open_suite
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.judging import Judge
from unigeo.producer.evaluation.probes import model_vectors
from unigeo.producer.observations.folder import FolderObservations
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.wrapping import Wrapped
from unigeo.schemas.errors import ObservationsError

__all__ = ["open_suite", "probe_by_suite"]

SETS = ("coordinate", "images joined", "joined")
SPLITS = ("blocked", "random")


def probe_by_suite(
    suite: Suite,
    model: UniGeoCLIP,
    tokenizer: Any,
    observations: Observations,
    device: torch.device,
) -> dict[str, float]:
    """Mean R2 over the targets of a suite, and over each family, by split and set of features.

    Args:
        suite: of targets; the tables are in the folder of the observations.
        model: its vectors are the features.
        tokenizer: of its text encoder, if it has one; words are not probed.
        observations: of a folder, perhaps wrapped.
        device: to encode on.

    Returns:
        `blocked joined`, `blocked joined, health`, `random coordinate`, ...

    Raises:
        ObservationsError: if the observations are not those of a folder.
        ProbeError: if a table cannot be read or probed.
    """
    vectors = model_vectors(Judge(model, tokenizer, device), observations)
    report = probe_suite(suite, _folder(observations), vectors, baselines=False)
    scores: dict[str, list[float]] = {}
    for row in report.to_dict("records"):
        if row["features"] in SETS and row["split"] in SPLITS:
            name = f"{row['split']} {row['features']}"
            for key in (name, f"{name}, {row['family']}"):
                scores.setdefault(key, []).append(float(row["r2"]))
    return {name: fmean(found) for name, found in scores.items()}


def _folder(observations: Observations) -> Path:
    """Where the tables are."""
    while isinstance(observations, Wrapped):
        observations = observations.inner
    if isinstance(observations, FolderObservations):
        return observations.root
    raise ObservationsError(
        f"a suite is read from the folder of the observations, and {observations.name} has none; "
        "give --observations and --data"
    )
