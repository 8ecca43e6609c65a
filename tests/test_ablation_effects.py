"""Intervals and marks of an ablation, on synthetic results."""

import doctest
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from unigeo.producer.ablation import effects as module
from unigeo.producer.ablation.ablation_table import AblationRow, AblationTable
from unigeo.producer.ablation.effects import effects, holm, t_interval

PAIRS = ("street->aerial", "aerial->street", "text->aerial", "aerial->text")


def result(recalls: Iterable[float], **numbers: float) -> dict[str, Any]:
    pairs = dict(zip(PAIRS, recalls, strict=False))
    return {
        "retrieval": {"R@1": {p: r / 5 for p, r in pairs.items()}, "R@10": pairs},
        "numbers": numbers,
        "seconds": 1.0,
        "parameters": 1000,
        "device": "cpu",
    }


def table_of(*names: str) -> AblationTable:
    rows = [AblationRow(question="", name="base", changes={})]
    rows += [AblationRow(question="Q", name=name, changes={"a": "1"}) for name in names]
    return AblationTable(
        name="made up",
        path=Path("t.toml"),
        preset="tiny",
        seeds=5,
        changes={},
        rows=tuple(rows),
        metrics=(),
        observations=None,
        data=None,
    )


def effect_of(table: pd.DataFrame, row: str, measure: str) -> Any:
    chosen = table[(table.row == row) & (table.measure == measure)]
    return chosen.iloc[0]


@settings(max_examples=40)
@given(
    hnp.arrays(np.float64, (2, 5), elements=st.integers(0, 1000).map(lambda n: n / 1000)).filter(
        lambda values: np.ptp(values[0] - values[1]) > 1e-3
    )
)
def test_means_and_paired_differences_are_those_of_scipy(values: np.ndarray) -> None:
    results = {
        (title, seed): result([], score=float(values[k, seed]))
        for k, title in enumerate(("base", "Q: x"))
        for seed in range(5)
    }
    found = effect_of(effects(table_of("x"), results), "x", "score")
    paired = stats.ttest_rel(values[1], values[0])
    low, high = paired.confidence_interval(0.95)
    assert found["mean"] == pytest.approx(values[1].mean())
    assert found.difference == pytest.approx((low + high) / 2, abs=1e-12)
    assert found.difference_half_width == pytest.approx((high - low) / 2)
    assert found.p == pytest.approx(paired.pvalue)
    assert found.clear == (paired.pvalue < 0.05), "one test alone needs no correction"
    marked = "helps" if found.difference > 0 else "hurts"
    assert found.mark == (marked if found.clear else "")


def test_pairing_finds_what_means_alone_do_not() -> None:
    """Seeds differ by ten times what the change does."""
    hard = np.array([0.1, 0.4, 0.2, 0.5, 0.3])
    gain = np.array([0.011, 0.009, 0.010, 0.012, 0.008])
    results = {("base", s): result([hard[s]] * 4) for s in range(5)}
    results |= {("Q: x", s): result([hard[s] + gain[s]] * 4) for s in range(5)}
    found = effect_of(effects(table_of("x"), results), "x", "R@10")
    assert found.mark == "helps" and found.difference < found.half_width / 10


def test_a_model_of_fewer_modalities_is_compared_on_the_pairs_it_has() -> None:
    """Text is hard to find here: leaving it out raises the mean, and improves nothing."""
    rng = np.random.default_rng(0)
    results = {}
    for seed in range(5):
        easy = 0.6 + rng.normal(0, 0.01, 2)
        results["base", seed] = result([*easy, 0.1, 0.1])
        results["Q: without text", seed] = result(easy - 0.05 + rng.normal(0, 0.001, 2))
    found = effects(table_of("without text"), results)
    row, base = effect_of(found, "without text", "R@10"), effect_of(found, "base", "R@10")
    assert row["mean"] > base["mean"] + 0.1
    assert row.difference == pytest.approx(-0.05, abs=0.002) and row.mark == "hurts"
    assert effect_of(found, "without text", "R@10 worst pair").difference < 0


def test_seeds_that_one_of_both_lacks_are_left_out() -> None:
    results = {("base", s): result([], score=float(s)) for s in (0, 1, 2, 3)}
    results |= {("Q: x", s): result([], score=s + 1.0 + 0.1 * (s % 2)) for s in (1, 2, 3, 4)}
    found = effect_of(effects(table_of("x", "failed"), results), "x", "score")
    assert (found.seeds, found.paired) == (4, 3) and found.difference == pytest.approx(3.2 / 3)
    lost = effect_of(effects(table_of("x", "failed"), results), "failed", "score")
    assert lost.seeds == 0 and np.isnan(lost["mean"]) and lost.mark == ""


def test_two_seeds_that_agree_prove_nothing() -> None:
    results = {("base", s): result([], score=0.1 * s) for s in range(2)}
    results |= {("Q: x", s): result([], score=0.1 * s + 0.25) for s in range(2)}
    found = effect_of(effects(table_of("x"), results), "x", "score")
    assert found.difference == pytest.approx(0.25) and found.mark == ""


def test_one_seed_has_a_mean_and_no_interval() -> None:
    assert t_interval([0.5])[0] == 0.5 and np.isnan(t_interval([0.5])[1])
    assert np.isnan(t_interval([])[0])


@given(
    hnp.arrays(np.float64, st.integers(1, 12), elements=st.integers(0, 100).map(lambda n: n / 500))
)
def test_holm_by_its_definition(p: np.ndarray) -> None:
    """Adjusted: the largest of (number of tests left) x p, among those at most as large."""
    count = len(p)
    ranks = np.argsort(np.argsort(p, kind="stable"), kind="stable")
    adjusted = [
        max((count - ranks[j]) * p[j] for j in range(count) if ranks[j] <= ranks[i])
        for i in range(count)
    ]
    borderline = np.isclose(adjusted, 0.05)
    assert ((holm(p) == (np.array(adjusted) <= 0.05)) | borderline).all()


def test_of_many_rows_that_do_nothing_few_are_marked_and_hardly_one_is_clear() -> None:
    rng = np.random.default_rng(1)
    names = [f"r{k}" for k in range(200)]
    titles = ["base", *(f"Q: {name}" for name in names)]
    noise = rng.normal(size=(len(titles), 5))
    noise[0] = 0  # a noisy base would be common to all differences
    results = {
        (title, seed): result([], score=float(noise[k, seed]))
        for k, title in enumerate(titles)
        for seed in range(5)
    }
    found = effects(table_of(*names), results)
    marks = found[found.measure == "score"].mark
    assert 0.01 < marks[marks != ""].size / 200 < 0.1
    assert marks.isin(["helps", "hurts"]).sum() <= 1


def test_the_examples_hold() -> None:
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0
