"""How well a model's vectors predict targets, in a few numbers to compare models by."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from unigeo.client.probing.suites import Suite, load_suite, probe_suite
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.model_under_test import ModelUnderTest
from unigeo.producer.evaluation.table_probes import Vectors, model_vectors, probe_world
from unigeo.producer.observations.folder.folder_observations import FolderObservations
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.observations.wrapping import innermost
from unigeo.schemas.errors import ObservationsError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_suite", "suite_probe", "world_probe"]

SETS = ("coordinate", "images joined", "joined")
SPLITS = ("blocked", "random")
SEED = 1
"""Of the embedded world's places and folds: the same for every model."""


def suite_probe(
    suite: Suite,
    model: UniGeoCLIP,
    tokenizer: Any,
    observations: Observations,
    device: torch.device,
    *,
    sets: Sequence[str] = SETS,
) -> dict[str, float]:
    """Mean R2 over the targets of a suite, and over each family, by split and set of features.

    Args:
        suite: of targets; the tables are in the folder of the observations.
        model: its vectors are the features.
        tokenizer: of its text encoder, if it has one; words are not probed.
        observations: of a folder, perhaps wrapped.
        device: to encode on.
        sets: of features to probe, some of `SETS`.

    Returns:
        `blocked joined`, `blocked joined, health`, `random coordinate`, ...

    Raises:
        ObservationsError: if the observations are not those of a folder.
        ProbeError: if a table cannot be read or probed.
    """
    vectors = _only(sets, model_vectors(ModelUnderTest(model, tokenizer, device), observations))
    return _means(probe_suite(suite, _folder(observations), vectors, baselines=False))


def world_probe(
    model: UniGeoCLIP, tokenizer: Any, observations: Observations, device: torch.device
) -> dict[str, float]:
    """Mean R2 over the embedded world's own targets, by split and set of features.

    Args:
        model: its vectors are the features.
        tokenizer: of its text encoder, if it has one; words are not probed.
        observations: of the embedded world, perhaps wrapped.
        device: to encode on.

    Returns:
        `blocked joined`, `blocked coordinate`, `random joined`, ...

    Raises:
        ObservationsError: if the observations are another's.
    """
    world = innermost(observations)
    if not isinstance(world, World):
        raise ObservationsError(
            f"world_probe asks for targets that {observations.name} does not have; name a suite: "
            "metrics = ['suite:FILE.toml']"
        )
    vectors = _only(SETS, model_vectors(ModelUnderTest(model, tokenizer, device), observations))
    return _means(probe_world(vectors, world, seed=SEED, baselines=False))


def _only(sets: Sequence[str], vectors: Vectors) -> Vectors:
    def some(lonlat: Float[np.ndarray, "point 2"]) -> dict[str, Float[np.ndarray, "point _"]]:
        return {name: found for name, found in vectors(lonlat).items() if name in sets}

    return some


def _means(report: "pd.DataFrame") -> dict[str, float]:
    """Means over all targets, and over those of each family that has a name."""
    scores: dict[str, list[float]] = {}
    for row in report.to_dict("records"):
        if row["features"] in SETS and row["split"] in SPLITS:
            name = f"{row['split']} {row['features']}"
            for key in (name, f"{name}, {row['family']}") if row["family"] else (name,):
                scores.setdefault(key, []).append(float(row["r2"]))
    return {name: fmean(found) for name, found in scores.items()}


def _folder(observations: Observations) -> Path:
    """Where the tables are."""
    inner = innermost(observations)
    if isinstance(inner, FolderObservations):
        return inner.root
    raise ObservationsError(
        f"a suite is read from the folder of the observations, and {observations.name} has none; "
        "give --observations and --data"
    )
