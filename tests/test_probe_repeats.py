"""Rows that repeat a position stay in one fold: a table is not better known for being longer."""

from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unigeo import client
from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.folds import (
    all_splits,
    position_folds,
    position_numbers,
    project,
    random_folds,
)
from unigeo.client.probing.logistic import LogisticProbe
from unigeo.client.probing.ridge import RidgeProbe
from unigeo.client.probing.targets import class_labels
from unigeo.schemas.errors import ProbeWarning

SEED = st.integers(0, 2**31)
COPIES = 3


def conus(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((-120, 30), (-75, 48), (count, 2))


def noisy_hills(count: int = 300, bands: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, vectors of hills over the map, and a target that is mostly noise."""
    lonlat, rng = conus(count), np.random.default_rng(1)
    waves = project(lonlat, "EPSG:5070") / 3e5 @ rng.normal(0, 1, (2, bands))
    target = np.sin(waves[:, 0]) + 2 * rng.standard_normal(count)
    return lonlat, np.sin(waves + rng.uniform(0, 6, bands)), target


@given(count=st.integers(5, 300), seed=SEED)
def test_without_repeats_the_folds_are_those_of_shuffled_rows(count: int, seed: int) -> None:
    np.testing.assert_array_equal(
        position_folds(np.arange(count), 5, seed), random_folds(count, 5, seed)
    )
    numbers = position_numbers(conus(count, seed))
    np.testing.assert_array_equal(numbers, np.arange(count))
    (random, _) = all_splits(np.arange(count), None, 5, seed, numbers)
    np.testing.assert_array_equal(random.folds, random_folds(count, 5, seed))


@given(sizes=st.lists(st.integers(1, 9), min_size=5, max_size=60), seed=SEED, order=st.randoms())
def test_no_position_is_in_two_folds_and_folds_are_balanced(
    sizes: list[int], seed: int, order: Random
) -> None:
    positions = np.repeat(np.arange(len(sizes)), sizes)
    order.shuffle(positions)
    folds = position_folds(positions, 5, seed)
    for position in np.unique(positions):
        assert len(np.unique(folds[positions == position])) == 1
    assert set(folds) == set(range(5))
    assert np.ptp(np.bincount(folds)) <= max(sizes)


def test_a_position_is_one_to_about_a_metre_and_round_the_globe() -> None:
    lonlat = np.array([[-105.0, 40.0], [-105.0 + 1e-7, 40.0], [255.0, 40.0], [-105.001, 40.0]])
    assert position_numbers(lonlat).tolist() == [0, 0, 0, 1]
    assert position_numbers(np.array([[-180.0, 0.0], [180.0, 0.0]])).tolist() == [0, 0]


def test_three_copies_of_every_row_have_the_scores_of_one() -> None:
    lonlat, vectors, target = noisy_hills()
    classes = class_labels(np.where(target > 1, "high", "low"))
    tripled = np.tile(np.arange(len(lonlat)), COPIES)
    once = probe_table(
        {"x": vectors}, {"y": target, "high": classes}, lonlat, baselines=["mean", "lonlat ridge"]
    )
    with pytest.warns(ProbeWarning, match=r"900 of 900 points of 'y', 'high' \(100%\) have the"):
        thrice = probe_table(
            {"x": vectors[tripled]},
            {
                "y": target[tripled],
                "high": class_labels(np.where(target > 1, "high", "low")[tripled]),
            },
            lonlat[tripled],
            baselines=["mean", "lonlat ridge"],
        )
    for name in ("score", "log_loss", "balanced_accuracy", "average_precision"):
        np.testing.assert_allclose(thrice[name], once[name], atol=0.02, err_msg=name)
    for name in ("interval_90", "coverage_90"):
        np.testing.assert_allclose(thrice[name], once[name], rtol=0.05, err_msg=name)
    # For comparison, folds of single rows: the copies give most of the answers away.
    folds = random_folds(len(tripled))
    leaking = RidgeProbe().held_out(vectors[tripled], target[tripled][:, None], folds)
    known = 1 - np.var(target[tripled] - leaking.predictions[:, 0]) / np.var(target)
    random = once.set_index(["target", "features", "split"])["score"]["y", "x", "random"]
    assert known > random + 0.1


def test_copies_choose_no_weaker_penalty_in_a_fit() -> None:
    lonlat, vectors, target = noisy_hills()
    codes = (target > 0).astype(np.int64)
    tripled = np.tile(np.arange(len(lonlat)), COPIES)
    folds, again = random_folds(300), position_folds(position_numbers(lonlat[tripled]))
    np.testing.assert_array_equal(again, folds[tripled])
    one = RidgeProbe().fit(vectors, target[:, None], folds)
    three = RidgeProbe().fit(vectors[tripled], target[tripled][:, None], again)
    assert one.penalties == three.penalties
    np.testing.assert_allclose(three.nonconformity, one.nonconformity[tripled], rtol=0.05)
    one = LogisticProbe().fit(vectors, codes, folds)
    three = LogisticProbe().fit(vectors[tripled], codes[tripled], again)
    assert one.penalty == three.penalty


def test_the_estimators_keep_copies_of_a_row_together() -> None:
    _, vectors, target = noisy_hills()
    tripled = np.tile(np.arange(len(target)), COPIES)
    one = client.ProbeRegressor().fit(vectors, target)
    three = client.ProbeRegressor().fit(vectors[tripled], target[tripled])
    low, high = three.predict_interval(vectors)
    usual_low, usual_high = one.predict_interval(vectors)
    assert (high - low).mean() > 0.9 * (usual_high - usual_low).mean()
    codes = target > 0
    one = client.ProbeClassifier().fit(vectors, codes)
    three = client.ProbeClassifier().fit(vectors[tripled], codes[tripled])
    assert three.penalty_ >= one.penalty_ / 10


def test_few_repeats_are_silent_and_many_are_reported_with_their_number() -> None:
    lonlat, vectors, target = noisy_hills()
    some = np.concatenate([np.arange(300), np.arange(5)])
    probe_table({"x": vectors[some]}, {"y": target[some]}, lonlat[some], baselines=False)
    more = np.concatenate([np.arange(300), np.arange(100)])
    said = r"200 of 400 points of 'y' \(50%\) have the position of another row \(300 positions in"
    with pytest.warns(ProbeWarning, match=said):
        probe_table({"x": vectors[more]}, {"y": target[more]}, lonlat[more], baselines=False)


def test_few_positions_are_thin_however_many_rows_they_have() -> None:
    lonlat, vectors, target = noisy_hills(30, bands=5)
    many = np.tile(np.arange(30), 10)
    with pytest.warns(ProbeWarning) as caught:
        probe_table({"x": vectors[many]}, {"y": target[many]}, lonlat[many], baselines=False)
    messages = [str(one.message) for one in caught]
    assert any("lie in 30 positions, about 6 in each of 5 folds" in text for text in messages)


def test_positions_that_several_groups_share_are_reported() -> None:
    lonlat, vectors, target = noisy_hills()
    years = np.tile(np.arange(300), 2)
    groups = np.arange(600) // 12
    with pytest.warns(ProbeWarning) as caught:
        probe_table(
            {"x": vectors[years]}, {"y": target[years]}, lonlat[years], groups=groups,
            baselines=False,
        )  # fmt: skip
    messages = [str(one.message) for one in caught]
    assert any("(100%) have the position of a row of another group" in text for text in messages)


def test_positions_of_a_real_table_that_repeat_are_held_together(shared_data: Path) -> None:
    table = pd.read_parquet(shared_data / "tables" / "zcta_poverty.parquet")
    lonlat = table[["lon", "lat"]].to_numpy(np.float64)
    positions = position_numbers(lonlat)
    assert 0.05 < (np.bincount(positions)[positions] > 1).mean() < 0.15
    folds = position_folds(positions)
    pairs = np.unique(np.stack([positions, folds], axis=1), axis=0)
    assert len(pairs) == positions.max() + 1
    assert np.ptp(np.bincount(folds)) <= np.bincount(positions).max()
