"""Linear probes on the vectors of a model's encoders at the points of a table.

The vectors are computed at the points themselves, not read from a stored field, so there is no
quantization and no rounding to cells. Ridge regression, folds and baselines are those of
`unigeo probe`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.suite_probe import probe_suite
from unigeo.client.probing.suites import Suite
from unigeo.producer.evaluation.model_under_test import ModelUnderTest
from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.raster.encoding import encoder_of

if TYPE_CHECKING:
    import pandas as pd

BASELINES = ("mean", "lonlat ridge", "lonlat kNN", "lonlat IDW")
MIN_OBSERVED_SHARE = 0.95
"""Least share of a table's points at which a modality must be observed to be probed."""
WORLD_LOCATIONS = 1500
"""Number of points at which the embedded world is probed."""
_BATCH = 512

FeatureFunction = Callable[[Float[np.ndarray, "point 2"]], dict[str, Float[np.ndarray, "point _"]]]
"""Function from points, WGS 84 degrees, to features by name of the feature set."""


def model_vectors(model_under_test: ModelUnderTest, observations: Observations) -> FeatureFunction:
    """Make the function that encodes points as feature sets.

    The feature sets are each modality, `images joined` and `joined`. Features are NaN where a
    modality is not observed. A modality that many points lack, as street images may be, is omitted,
    and so are texts, which may state the target.
    """
    encode = encoder_of(model_under_test.model, observations, model_under_test.device)
    settings = model_under_test.model.settings
    modalities = [
        name
        for name in model_under_test.modalities(observations)
        if settings.encoder(name) != "text"
    ]

    def vectors(lonlat: Float[np.ndarray, "point 2"]) -> dict[str, Float[np.ndarray, "point _"]]:
        lonlat = lonlat.copy()  # a table's array may be read-only, of which torch warns
        encoded = {
            name: np.concatenate(
                [
                    encode(name, lonlat[start : start + _BATCH])[0]
                    for start in range(0, len(lonlat), _BATCH)
                ]
            )
            for name in modalities
        }
        features = {
            name: values
            for name, values in encoded.items()
            if np.isfinite(values[:, 0]).mean() >= MIN_OBSERVED_SHARE
        }
        names = list(features)
        images = [name for name in names if name != COORDINATE]
        if len(images) > 1:
            features["images joined"] = np.concatenate([features[n] for n in images], axis=1)
        if len(names) > 1:
            features["joined"] = np.concatenate([features[n] for n in names], axis=1)
        return features

    return vectors


def probe_model(
    model_under_test: ModelUnderTest,
    observations: Observations,
    suite: Suite | None,
    data: Path,
    seed: int = 0,
) -> "pd.DataFrame | None":
    """Probe a suite's tables, or the embedded world's own targets.

    Returns:
        The rows of `probe_table` with `table` and `family`; None without a suite where the
        observations are not of the embedded world.

    Raises:
        ProbeError: if a table cannot be read or probed.
    """
    vectors = model_vectors(model_under_test, observations)
    if suite is not None:
        return probe_suite(suite, data, vectors, seed=seed, baselines=BASELINES)
    return probe_world(vectors, observations, seed=seed, baselines=BASELINES)


def probe_world(
    vectors: FeatureFunction,
    observations: Observations,
    *,
    seed: int,
    baselines: bool | Sequence[str],
) -> "pd.DataFrame | None":
    """Probe the observations' own targets at points drawn from the seed; None without targets."""
    table = observations.target_table(WORLD_LOCATIONS, seed + 1)
    if table is None:
        return None
    lonlat = table[["lon", "lat"]].to_numpy()
    targets = {name: table[name].to_numpy() for name in table.columns[2:]}
    report = probe_table(vectors(lonlat), targets, lonlat, seed=seed, baselines=baselines)
    report.insert(0, "table", observations.name)
    report.insert(1, "family", "")
    return report
