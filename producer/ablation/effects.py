"""Effects of the rows of an ablation: means and differences to the base, with intervals and tests.

Differences are paired by seed: runs of equal seed share training locations and hold-out, whose
influence cancels. If a row has fewer modalities than the base, only the ordered pairs of modalities
that both have are compared, since the omitted pairs may be the difficult ones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import stats

from unigeo.producer.ablation.ablation_table import AblationRow, AblationTable

LEVEL = 0.95
"""Confidence level of the intervals."""
LEAST_SEEDS = 3
"""Fewest paired seeds for a mark; recalls are counts, so two differences can agree by chance."""
TrialResult = Mapping[str, Any]
"""Content of a finished trial's `result.json`."""
_Value = Callable[[TrialResult, TrialResult], float]


@dataclass(frozen=True)
class Measure:
    """A number that summarizes a run."""

    name: str
    value: _Value
    """Function of two results: the number of the first, over the pairs of modalities that the
    second has too; NaN without any."""
    larger_is_better: bool = True
    """Whether larger is better; only then are differences marked."""
    percent: bool = False
    """Whether the number is a share, displayed in percent."""


def measures(results: Sequence[TrialResult]) -> tuple[Measure, ...]:
    """List the measures of the results: retrieval, further metrics, training time and size."""
    listed = [
        Measure("R@10", _recall("R@10", fmean), percent=True),
        Measure("R@10 worst pair", _recall("R@10", min), percent=True),
        Measure("R@1", _recall("R@1", fmean), percent=True),
        Measure("R@10 street->aerial", _pair("R@10", "street->aerial"), percent=True),
    ]
    names = dict.fromkeys(name for result in results for name in result["numbers"])
    listed += [Measure(name, _number(name)) for name in names]
    listed += [
        Measure("seconds", lambda result, _: float(result["seconds"]), larger_is_better=False),
        Measure(
            "parameters", lambda result, _: float(result["parameters"]), larger_is_better=False
        ),
    ]
    return tuple(listed)


def effects(table: AblationTable, results: Mapping[tuple[str, int], TrialResult]) -> pd.DataFrame:
    """Compare every row with the base.

    Args:
        table: the rows, in their order.
        results: results by row title and seed; failed trials are missing.

    Returns:
        One row per row of the table and measure: `question`, `row`, `measure`; `seeds`, `mean`,
        `half_width`; `paired` (number of seeds that the base has too), `difference`,
        `difference_half_width`; `p` of the paired t-test; `clear`, whether the difference is
        significant after Holm's correction for all rows of the table; `mark`.
        Half-widths are those of 95 % t-intervals, NaN for one seed.
    """
    runs: dict[str, dict[int, TrialResult]] = {row.title: {} for row in table.rows}
    for (title, seed), result in results.items():
        runs[title][seed] = result
    base = runs[table.rows[0].title]
    rows = []
    for measure in measures(list(results.values())):
        part = [_effect(row, measure, runs[row.title], base) for row in table.rows]
        tested = [k for k, effect in enumerate(part) if np.isfinite(effect["p"])]
        clear = holm(np.array([part[k]["p"] for k in tested]))
        for effect in part:
            effect["clear"] = False
        for k, rejected in zip(tested, clear, strict=True):
            part[k]["clear"] = bool(rejected)
        for effect in part:
            effect["mark"] = _mark(effect) if measure.larger_is_better else ""
        rows += part
    return pd.DataFrame(rows)


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % t-interval.

    Both are NaN without values; the half-width is NaN for one value.

    >>> t_interval([1.0, 2.0, 3.0])[0]
    2.0
    """
    count = len(values)
    if count == 0:
        return float("nan"), float("nan")
    if count == 1:
        return float(values[0]), float("nan")
    return fmean(values), _quantile(count - 1) * float(np.std(values, ddof=1)) / float(
        np.sqrt(count)
    )


@cache
def _quantile(freedom: int) -> float:
    """Return the quantile of Student's t for a two-sided interval."""
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def holm(p: Float[np.ndarray, " test"], level: float = 1 - LEVEL) -> Bool[np.ndarray, " test"]:
    """Return which hypotheses are rejected at the family-wise error rate `level`.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([ True, False, False])
    """
    order = np.argsort(p, kind="stable")
    passed = p[order] <= level / np.arange(len(p), 0, -1)
    rejected = np.zeros(len(p), bool)
    rejected[order] = np.logical_and.accumulate(passed)  # stop at the first that does not pass
    return rejected


def _effect(
    row: AblationRow,
    measure: Measure,
    results: Mapping[int, TrialResult],
    base: Mapping[int, TrialResult],
) -> dict[str, Any]:
    """Summarize one row by one measure; both mappings are by seed."""
    values = [measure.value(result, result) for result in results.values()]
    values = [value for value in values if np.isfinite(value)]
    mean, half = t_interval(values)
    differences = list(_differences(measure, results, base)) if row.question else []
    difference, difference_half = t_interval(differences)
    return {
        "question": row.question,
        "row": row.name,
        "measure": measure.name,
        "seeds": len(values),
        "mean": mean,
        "half_width": half,
        "paired": len(differences),
        "difference": difference,
        "difference_half_width": difference_half,
        "p": _p(differences),
    }


def _differences(
    measure: Measure, results: Mapping[int, TrialResult], base: Mapping[int, TrialResult]
) -> Iterator[float]:
    for seed in results.keys() & base.keys():
        value = measure.value(results[seed], base[seed]) - measure.value(base[seed], results[seed])
        if np.isfinite(value):
            yield value


def _p(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of the t-test for a mean difference of 0; NaN below two."""
    if len(differences) < 2:
        return float("nan")
    spread = float(np.std(differences, ddof=1))
    if spread == 0:
        return 1.0 if differences[0] == 0 else 0.0
    t = fmean(differences) / (spread / np.sqrt(len(differences)))
    return float(2 * stats.t.sf(abs(t), len(differences) - 1))


def _mark(effect: Mapping[str, Any]) -> str:
    """Return a word for the effect, or nothing if the interval contains 0 or seeds are few."""
    if effect["paired"] < LEAST_SEEDS or not effect["p"] < 1 - LEVEL:
        return ""
    word = "help" if effect["difference"] > 0 else "hurt"
    return f"{word}s" if effect["clear"] else f"may {word}"


def _recall(name: str, summary: Callable[[list[float]], float]) -> _Value:
    """Make the function that summarizes the recall of the shared pairs of modalities."""

    def value(result: TrialResult, other: TrialResult) -> float:
        recalls, others = (r["retrieval"].get(name, {}) for r in (result, other))
        shared = [recall for pair, recall in recalls.items() if pair in others]
        return summary(shared) if shared else float("nan")

    return value


def _pair(name: str, pair: str) -> _Value:
    return lambda result, _: result["retrieval"].get(name, {}).get(pair, float("nan"))


def _number(name: str) -> _Value:
    return lambda result, _: result["numbers"].get(name, float("nan"))
