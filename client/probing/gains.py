"""Gains: the difference of two scores of the same points, with a bootstrap interval."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.controls import CONTROLS, with_controls
from unigeo.client.probing.metrics import Weights
from unigeo.client.probing.probe_data import ProbeData

if TYPE_CHECKING:
    import pandas as pd

_RESAMPLES = 2000
_MAX_WEIGHTS = 2**22
"""Weights of units (resamples x units) that are held at once."""


@dataclass(frozen=True)
class Gain:
    """Difference of two scores of the same held-out points, with its interval."""

    difference: float
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


def r2_gain(
    truth: Float[np.ndarray, " point"],
    first: Float[np.ndarray, " point"],
    second: Float[np.ndarray, " point"],
    units: Int[np.ndarray, " point"],
    level: float,
    seed: int = 0,
    weights: Weights = None,
) -> Gain:
    """Subtract the R2 of the first predictions from that of the second.

    The interval is that of resampled whole units (blocks or groups), drawn with replacement: of the
    gain in other regions of the same kind, while the models stay as they are.

    Args:
        truth: values of the target.
        first: held-out predictions.
        second: other predictions of the same points.
        units: number of each point's block or group.
        level: share of the resamples that the interval holds.
        seed: seed of the resamples.
        weights: weight of each point; 1 by default.

    Source: Efron & Tibshirani (1993), "An Introduction to the Bootstrap", percentile intervals;
    of whole clusters: Davison & Hinkley (1997), section 3.8.
    """
    # R2 is a function of five sums over points, so a resample needs the sums of its units alone.
    # Its total sum of squares is about its own mean; deviations from the overall mean keep the
    # difference `square - total**2 / count` exact.
    centred = truth - np.average(truth, weights=weights)
    summands = np.stack(
        [(truth - first) ** 2, (truth - second) ** 2, centred, centred**2, np.ones(len(truth))],
        axis=1,
    )
    if weights is not None:
        summands *= weights[:, None]

    def score(sums: Float[np.ndarray, "resample 5"]) -> Float[np.ndarray, " resample"]:
        first_errors, second_errors, total, square, count = sums.T
        about_mean = square - total**2 / count
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample of equal values
            return np.asarray((first_errors - second_errors) / about_mean)

    return _bootstrap_gain(summands, units, score, level, seed)


def accuracy_gain(
    first: Float[np.ndarray, " point"],
    second: Float[np.ndarray, " point"],
    units: Int[np.ndarray, " point"],
    level: float,
    seed: int = 0,
    weights: Weights = None,
) -> Gain:
    """Subtract the accuracy of the first predictions from that of the second; as `r2_gain`.

    Args:
        first: 1 where the class is predicted rightly, else 0.
        second: the same for the other predictions.
        units: as in `r2_gain`.
        level: as in `r2_gain`.
        seed: as in `r2_gain`.
        weights: as in `r2_gain`.
    """
    summands = np.stack([second - first, np.ones(len(first))], axis=1)
    if weights is not None:
        summands *= weights[:, None]

    def score(sums: Float[np.ndarray, "resample 2"]) -> Float[np.ndarray, " resample"]:
        return np.asarray(sums[:, 0] / sums[:, 1])

    return _bootstrap_gain(summands, units, score, level, seed)


def gains_table(
    data: ProbeData,
    scores: "pd.DataFrame",
    predicted: Mapping[tuple[str, str, str], np.ndarray],
    level: float,
    seed: int,
) -> "pd.DataFrame":
    """Compare each set of vectors with the controls: see `cross_validation.evaluate`.

    Args:
        data: points that were scored; without controls there are no rows.
        scores: a row per split, target and features.
        predicted: predictions of numbers, or 1 where the class is predicted rightly, by split,
            target and features.
        level: share of the resamples that the intervals hold.
        seed: seed of the resamples.
    """
    import pandas as pd

    rows = []
    by_names = scores.set_index(["split", "target", "features"])[["metric", "score"]]
    score_of = by_names.to_dict("index")
    label = CONTROLS if data.controls is None else data.controls.label
    for split in data.splits if data.controls is not None else ():
        units = data.blocks if split.name == "random" else split.units
        for target in data.known:
            has = data.has(target)
            first = predicted[split.name, target, label]
            for features in data.vectors:
                names = label, features, with_controls(features, label)
                if (split.name, target, names[2]) not in score_of:
                    continue  # scored without controls alone
                compared = [score_of[split.name, target, name] for name in names]
                second = predicted[split.name, target, names[2]]
                weights = None if data.weights is None else data.weights[has]
                compared_by = (first, second, units[has], level, seed, weights)
                if data.labels(target) is None:
                    gain = r2_gain(data.known[target][has], *compared_by)
                else:
                    gain = accuracy_gain(*compared_by)
                controls, vectors, both = (one["score"] for one in compared)
                rows.append(
                    {
                        "target": target, "features": features, "split": split.name,
                        "metric": compared[0]["metric"], "controls": controls, "vectors": vectors,
                        "both": both, "gain": gain.difference, "low": gain.low, "high": gain.high,
                    }
                )  # fmt: skip
    columns = ["target", "features", "split", "metric", "controls", "vectors", "both"]
    return pd.DataFrame(rows, columns=[*columns, "gain", "low", "high"])


def _bootstrap_gain(
    summands: Float[np.ndarray, "point sum"],
    units: Int[np.ndarray, " point"],
    score: Callable[[Float[np.ndarray, "resample sum"]], Float[np.ndarray, " resample"]],
    level: float,
    seed: int,
) -> Gain:
    """Compute a score of all points, and its interval over resampled units.

    Args:
        summands: numbers of each point, whose sums the score is a function of.
        units: number of each point's unit.
        score: computes the score from the sums.
        level: share of the resamples that the interval holds.
        seed: seed of the resamples.
    """
    _, numbers = np.unique(units, return_inverse=True)
    sums = np.zeros((int(numbers.max()) + 1, summands.shape[1]))
    np.add.at(sums, numbers, summands)
    rng, count = np.random.default_rng(seed), len(sums)
    scores = []
    step = max(1, _MAX_WEIGHTS // count)
    for start in range(0, _RESAMPLES, step):
        size = min(step, _RESAMPLES - start)
        # How often each unit is drawn, when as many are drawn as there are.
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=size)
        scores.append(score(drawn @ sums))
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(np.concatenate(scores), [tail, 100 - tail])
    return Gain(float(score(sums.sum(axis=0, keepdims=True))[0]), float(low), float(high))
