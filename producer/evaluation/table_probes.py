"""What a linear model reads from the model's own vectors at the points of a table.

The vectors are those of the encoders, not of a stored field: nothing is quantized, and no cell
stands for a place. The ridge, its folds and the baselines are those of `unigeo probe`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.suites import Suite, probe_suite
from unigeo.producer.evaluation.model_under_test import ModelUnderTest
from unigeo.producer.observations.protocol import IMAGE_MODALITIES, Observations
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.observations.wrapping import innermost
from unigeo.producer.raster.encoding import encoder_of

if TYPE_CHECKING:
    import pandas as pd

BASELINES = ("mean", "lonlat ridge", "lonlat kNN", "lonlat IDW")
PROBED = ("coordinate", *IMAGE_MODALITIES)
"""Modalities that are probed; words are left out, for they may tell what is to be predicted."""
OBSERVED = 0.95
"""Share of a table's places that must have a modality; a rarer one would drop too many."""
WORLD_PLACES = 1500
_BATCH = 512

Vectors = Callable[[Float[np.ndarray, "point 2"]], dict[str, Float[np.ndarray, "point _"]]]


def model_vectors(judge: ModelUnderTest, observations: Observations) -> Vectors:
    """From places to sets of features: each modality, the images together, and all together.

    A place without one of the modalities has NaN there. A modality that many places lack, such as
    street photographs, is left out.
    """
    encode = encoder_of(judge.model, observations, judge.device)
    known = [name for name in PROBED if name in judge.modalities(observations)]

    def vectors(lonlat: Float[np.ndarray, "point 2"]) -> dict[str, Float[np.ndarray, "point _"]]:
        lonlat = lonlat.copy()  # that of a table may be read-only, which torch warns of
        found = {
            name: np.concatenate(
                [
                    encode(name, lonlat[start : start + _BATCH])[0]
                    for start in range(0, len(lonlat), _BATCH)
                ]
            )
            for name in known
        }
        names = [name for name in known if np.isfinite(found[name][:, 0]).mean() >= OBSERVED]
        found = {name: found[name] for name in names}
        images = [name for name in names if name != "coordinate"]
        if len(images) > 1:
            found["images joined"] = np.concatenate([found[name] for name in images], axis=1)
        if len(names) > 1:
            found["joined"] = np.concatenate([found[name] for name in names], axis=1)
        return found

    return vectors


def probe_model(
    judge: ModelUnderTest,
    observations: Observations,
    suite: Suite | None,
    data: Path,
    seed: int = 0,
) -> "pd.DataFrame | None":
    """Probe a suite's tables, or the embedded world's own targets.

    Returns:
        The rows of `probe_table`, with `table` and `family`; None where there is nothing to probe.

    Raises:
        ProbeError: naming the table, if it cannot be read or probed.
    """
    vectors = model_vectors(judge, observations)
    if suite is not None:
        return probe_suite(suite, data, vectors, seed=seed, baselines=BASELINES)
    world = innermost(observations)
    if not isinstance(world, World):
        return None
    return probe_world(vectors, world, seed=seed, baselines=BASELINES)


def probe_world(
    vectors: Vectors, world: World, *, seed: int, baselines: bool | Sequence[str]
) -> "pd.DataFrame":
    """Probe the embedded world's own targets, at places drawn by the seed."""
    places = world.places(WORLD_PLACES, seed + 1)
    lonlat = places[["lon", "lat"]].to_numpy()
    targets = {name: places[name].to_numpy() for name in places.columns[2:]}
    report = probe_table(vectors(lonlat), targets, lonlat, seed=seed, baselines=baselines)
    report.insert(0, "table", world.name)
    report.insert(1, "family", "")
    return report
