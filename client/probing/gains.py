"""What one set of features adds to another, with an interval."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.controls import CONTROLS, with_controls
from unigeo.client.probing.probe_data import ProbeData

if TYPE_CHECKING:
    import pandas as pd

_RESAMPLES = 2000
_AT_ONCE = 2**22  # numbers of resampled weights in memory


@dataclass(frozen=True)
class Gain:
    """Difference of two scores of the same held-out points."""

    difference: float
    low: float
    """Lower end of the interval of the difference."""
    high: float


def r2_gain(
    truth: Float[np.ndarray, " point"],
    first: Float[np.ndarray, " point"],
    second: Float[np.ndarray, " point"],
    units: Int[np.ndarray, " point"],
    level: float,
    seed: int = 0,
) -> Gain:
    """R2 of the second predictions less that of the first.

    The interval is that of whole units (blocks or groups) drawn again with replacement: of how the
    scores would differ in other country of the kind, the models staying as they are.

    Args:
        truth: of the points.
        first: held-out predictions.
        second: others, of the same points.
        units: number of each point's block or group.
        level: share of resamples that the interval holds.
        seed: of the resamples.

    Source: Efron & Tibshirani (1993), "An Introduction to the Bootstrap", percentile intervals;
    of whole clusters: Davison & Hinkley (1997), section 3.8.
    """
    centred = truth - truth.mean()  # for the sums below; R2 does not change
    each = np.stack(
        [(truth - first) ** 2, (truth - second) ** 2, centred, centred**2, np.ones(len(truth))],
        axis=1,
    )

    def score(sums: Float[np.ndarray, "resample 5"]) -> Float[np.ndarray, " resample"]:
        of_first, of_second, total, square, count = sums.T
        about_mean = square - total**2 / count
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample of equal values
            return np.asarray((of_first - of_second) / about_mean)

    return _gain(each, units, score, level, seed)


def accuracy_gain(
    first: Float[np.ndarray, " point"],
    second: Float[np.ndarray, " point"],
    units: Int[np.ndarray, " point"],
    level: float,
    seed: int = 0,
) -> Gain:
    """Accuracy of the second predictions less that of the first; as `r2_gain`.

    Args:
        first: 1 where the class is found, else 0.
        second: of the other predictions.
        units: as in `r2_gain`.
        level: as in `r2_gain`.
        seed: as in `r2_gain`.
    """
    each = np.stack([second - first, np.ones(len(first))], axis=1)
    return _gain(each, units, lambda sums: np.asarray(sums[:, 0] / sums[:, 1]), level, seed)


def gains_table(
    data: ProbeData,
    scores: "pd.DataFrame",
    kept: Mapping[tuple[str, str, str], np.ndarray],
    level: float,
    seed: int,
) -> "pd.DataFrame":
    """What each set of vectors adds to the controls: see `evaluating.evaluate`.

    Args:
        data: what was scored; without controls there are no rows.
        scores: a row per split, target and features.
        kept: predictions of numbers, or whether the class was found, by split, target and features.
        level: of the intervals.
        seed: of the resamples.
    """
    import pandas as pd

    rows = []
    at = scores.set_index(["split", "target", "features"])[["metric", "score"]].to_dict("index")
    for split in data.splits if data.controls is not None else ():
        units = data.blocks if split.name == "random" else split.units
        for target in data.known:
            has = data.has(target)
            first = kept[split.name, target, CONTROLS]
            for features in data.vectors:
                names = CONTROLS, features, with_controls(features)
                found = [at[split.name, target, name] for name in names]
                second = kept[split.name, target, names[2]]
                if data.labels(target) is None:
                    gain = r2_gain(data.known[target][has], first, second, units[has], level, seed)
                else:
                    gain = accuracy_gain(first, second, units[has], level, seed)
                own, alone, both = (one["score"] for one in found)
                rows.append(
                    {
                        "target": target, "features": features, "split": split.name,
                        "metric": found[0]["metric"], "controls": own, "vectors": alone,
                        "both": both, "gain": gain.difference, "low": gain.low, "high": gain.high,
                    }
                )  # fmt: skip
    columns = ["target", "features", "split", "metric", "controls", "vectors", "both"]
    return pd.DataFrame(rows, columns=[*columns, "gain", "low", "high"])


def _gain(
    each: Float[np.ndarray, "point sum"],
    units: Int[np.ndarray, " point"],
    score: Callable[[Float[np.ndarray, "resample sum"]], Float[np.ndarray, " resample"]],
    level: float,
    seed: int,
) -> Gain:
    """The difference, and its interval over resampled units."""
    _, numbers = np.unique(units, return_inverse=True)
    sums = np.zeros((int(numbers.max()) + 1, each.shape[1]))
    np.add.at(sums, numbers, each)
    rng, count = np.random.default_rng(seed), len(sums)
    found = []
    step = max(1, _AT_ONCE // count)
    for start in range(0, _RESAMPLES, step):
        size = min(step, _RESAMPLES - start)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=size)
        found.append(score(drawn @ sums))
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(np.concatenate(found), [tail, 100 - tail])
    return Gain(float(score(sums.sum(axis=0, keepdims=True))[0]), float(low), float(high))
