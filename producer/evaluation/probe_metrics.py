"""Summary scores of linear probes, by which ablations compare models."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from unigeo.client.probing.suite_probe import probe_suite
from unigeo.client.probing.suites import Suite, load_suite
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.model_under_test import ModelUnderTest
from unigeo.producer.evaluation.table_probes import FeatureFunction, model_vectors, probe_world
from unigeo.producer.observations.protocol import Observations
from unigeo.schemas.errors import ObservationsError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_suite", "suite_probe", "world_probe"]

FEATURE_SETS = ("coordinate", "images joined", "joined")
SPLITS = ("blocked", "random")
SEED = 1
"""Seed of the embedded world's points and folds, the same for every model."""


def suite_probe(
    suite: Suite,
    model: UniGeoCLIP,
    tokenizer: Any,
    observations: Observations,
    device: torch.device,
    *,
    sets: Sequence[str] = FEATURE_SETS,
) -> dict[str, float]:
    """Average R2 over a suite's targets and over each family, by split and feature set.

    Args:
        suite: targets, whose tables are in the folder of the observations.
        model: model whose vectors are the features.
        tokenizer: tokenizer of its text encoder, if it has one; text is not probed.
        observations: observations of a folder, wrapped or not.
        device: device of the encoders.
        sets: names of `FEATURE_SETS` to probe.

    Returns:
        Mean R2 by names such as `blocked joined`, `blocked joined, health`, `random coordinate`.

    Raises:
        ObservationsError: if the observations are not those of a folder.
        ProbeError: if a table cannot be read or probed.
    """
    model_under_test = ModelUnderTest(model, tokenizer, device)
    vectors = _select(sets, model_vectors(model_under_test, observations))
    return _mean_scores(probe_suite(suite, _folder(observations), vectors, baselines=False))


def world_probe(
    model: UniGeoCLIP, tokenizer: Any, observations: Observations, device: torch.device
) -> dict[str, float]:
    """Average R2 over the embedded world's own targets, by split and feature set.

    Args:
        model: model whose vectors are the features.
        tokenizer: tokenizer of its text encoder, if it has one; text is not probed.
        observations: observations of the embedded world, wrapped or not.
        device: device of the encoders.

    Returns:
        Mean R2 by names such as `blocked joined`, `blocked coordinate`, `random joined`.

    Raises:
        ObservationsError: if the observations are not those of the embedded world.
    """
    model_under_test = ModelUnderTest(model, tokenizer, device)
    vectors = _select(FEATURE_SETS, model_vectors(model_under_test, observations))
    report = probe_world(vectors, observations, seed=SEED, baselines=False)
    if report is None:
        raise ObservationsError(
            f"world_probe asks for targets that {observations.name} does not have; name a suite: "
            "metrics = ['suite:FILE.toml']"
        )
    return _mean_scores(report)


def _select(sets: Sequence[str], vectors: FeatureFunction) -> FeatureFunction:
    def selected(lonlat: Float[np.ndarray, "point 2"]) -> dict[str, Float[np.ndarray, "point _"]]:
        return {name: values for name, values in vectors(lonlat).items() if name in sets}

    return selected


def _mean_scores(report: "pd.DataFrame") -> dict[str, float]:
    """Average R2 over all targets, and over those of each family that has a name."""
    scores: dict[str, list[float]] = {}
    for row in report.to_dict("records"):
        if row["features"] in FEATURE_SETS and row["split"] in SPLITS:
            name = f"{row['split']} {row['features']}"
            for key in (name, f"{name}, {row['family']}") if row["family"] else (name,):
                scores.setdefault(key, []).append(float(row["r2"]))
    return {name: fmean(values) for name, values in scores.items()}


def _folder(observations: Observations) -> Path:
    """Return the folder of the observations, which also contains the suite's tables."""
    if observations.data_folder is not None:
        return observations.data_folder
    raise ObservationsError(
        f"a suite is read from the folder of the observations, and {observations.name} has none; "
        "give --observations and --data"
    )
