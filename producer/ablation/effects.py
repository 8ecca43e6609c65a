"""What a row's change does to a measure: its mean, and its difference to the base, with intervals.

Differences are paired by seed: row and base saw the same places and were judged on the same
hold-out, so what these have in common cancels. Where a row has fewer modalities, only the ordered
pairs of modalities that both have are compared, since those left out may be the hard ones.
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
"""Of the intervals."""
LEAST_SEEDS = 3
"""Fewer pairs are never marked: two can agree by chance, recalls being counts of places."""
Result = Mapping[str, Any]
"""What a finished trial's `result.json` holds."""


@dataclass(frozen=True)
class Measure:
    """One number of a run."""

    name: str
    of: Callable[[Result, Result], float]
    """Number of the first result, over the pairs that it shares with the second; NaN if none."""
    judged: bool = True
    """Larger is better, so its differences are marked."""
    percent: bool = False


def measures(results: Sequence[Result]) -> tuple[Measure, ...]:
    """Name everything that the results hold: retrieval, further metrics, and what they cost."""
    found = [
        Measure("R@10", _recall("R@10", fmean), percent=True),
        Measure("R@10 worst pair", _recall("R@10", min), percent=True),
        Measure("R@1", _recall("R@1", fmean), percent=True),
        Measure("R@10 street->aerial", _pair("R@10", "street->aerial"), percent=True),
    ]
    names = dict.fromkeys(name for result in results for name in result["numbers"])
    found += [Measure(name, _number(name)) for name in names]
    found += [
        Measure("seconds", lambda own, _: float(own["seconds"]), judged=False),
        Measure("parameters", lambda own, _: float(own["parameters"]), judged=False),
    ]
    return tuple(found)


def effects(table: AblationTable, results: Mapping[tuple[str, int], Result]) -> pd.DataFrame:
    """Compare every row with the base.

    Args:
        table: the rows and their order.
        results: by row title and seed; those that failed are missing.

    Returns:
        One row per row of the table and measure: `question`, `row`, `measure`; `seeds`, `mean`,
        `half_width`; `paired`: seeds that the base has too; `difference`,
        `difference_half_width`; `p` of no difference by the paired t-test; `clear`: whether that
        holds after Holm's correction for all rows of the table; `mark`.
        Half-widths are those of 95 % t-intervals, NaN for one seed.
    """
    runs: dict[str, dict[int, Result]] = {row.title: {} for row in table.rows}
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
            effect["mark"] = _mark(effect) if measure.judged else ""
        rows += part
    return pd.DataFrame(rows)


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % t-interval; NaN without values, and for one alone.

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
    """Of Student's t, for an interval with both sides."""
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def holm(p: Float[np.ndarray, " test"], level: float = 1 - LEVEL) -> Bool[np.ndarray, " test"]:
    """Which hypotheses are rejected, with at most `level` chance that any true one is.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([ True, False, False])
    """
    order = np.argsort(p, kind="stable")
    passed = p[order] <= level / np.arange(len(p), 0, -1)
    rejected = np.zeros(len(p), bool)
    rejected[order] = np.logical_and.accumulate(passed)
    return rejected


def _effect(
    row: AblationRow, measure: Measure, own: Mapping[int, Result], base: Mapping[int, Result]
) -> dict[str, Any]:
    values = [value for result in own.values() if np.isfinite(value := measure.of(result, result))]
    mean, half = t_interval(values)
    differences = list(_differences(measure, own, base)) if row.question else []
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
    measure: Measure, own: Mapping[int, Result], base: Mapping[int, Result]
) -> Iterator[float]:
    for seed in own.keys() & base.keys():
        value = measure.of(own[seed], base[seed]) - measure.of(base[seed], own[seed])
        if np.isfinite(value):
            yield value


def _p(differences: Sequence[float]) -> float:
    """Two-sided p of the t-test that the mean difference is 0; NaN for fewer than two."""
    if len(differences) < 2:
        return float("nan")
    spread = float(np.std(differences, ddof=1))
    if spread == 0:
        return 1.0 if differences[0] == 0 else 0.0
    t = fmean(differences) / (spread / np.sqrt(len(differences)))
    return float(2 * stats.t.sf(abs(t), len(differences) - 1))


def _mark(effect: Mapping[str, Any]) -> str:
    """Say in a word what the row does; nothing where the interval holds 0, or seeds are few."""
    if effect["paired"] < LEAST_SEEDS or not effect["p"] < 1 - LEVEL:
        return ""
    word = "help" if effect["difference"] > 0 else "hurt"
    return f"{word}s" if effect["clear"] else f"may {word}"


def _recall(measure: str, summary: Callable[[list[float]], float]) -> Any:
    def of(own: Result, other: Result) -> float:
        mine, theirs = (result["retrieval"].get(measure, {}) for result in (own, other))
        shared = [recall for pair, recall in mine.items() if pair in theirs]
        return summary(shared) if shared else float("nan")

    return of


def _pair(measure: str, pair: str) -> Any:
    return lambda own, _: own["retrieval"].get(measure, {}).get(pair, float("nan"))


def _number(name: str) -> Any:
    return lambda own, _: own["numbers"].get(name, float("nan"))
