"""A row of weight w counts as w equal rows would, and only the ratios of weights matter."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from unigeo.client.probing import metrics
from unigeo.client.probing.conformal import conformal_quantile, measured_coverage
from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.folds import random_folds
from unigeo.client.probing.gains import r2_gain
from unigeo.client.probing.logistic import LogisticProbe
from unigeo.client.probing.ridge import RidgeProbe
from unigeo.client.probing.targets import class_labels
from unigeo.schemas.errors import ProbeError, ProbeWarning

RNG = np.random.default_rng(0)
ROWS = 60
TIMES = RNG.integers(1, 4, ROWS)
REPEATED = np.repeat(np.arange(ROWS), TIMES)
FIRST = np.unique(REPEATED, return_index=True)[1]  # of the copies of each row
WEIGHTS = TIMES.astype(np.float64)


def features_and_target(bands: int) -> tuple[np.ndarray, np.ndarray]:
    features = np.random.default_rng(bands).standard_normal((ROWS, bands)) + 0.5
    return features, features[:, :3].sum(axis=1) + RNG.standard_normal(ROWS)


@pytest.mark.parametrize("bands", [4, 150])  # fewer and more bands than rows
def test_ridge_takes_a_weight_for_a_number_of_rows(bands: int) -> None:
    features, target = features_and_target(bands)
    folds, probe = random_folds(ROWS, 4), RidgeProbe(penalties=(1e-3, 0.1, 10.0))
    again = features[REPEATED], target[REPEATED, None], folds[REPEATED]
    held = probe.held_out(features, target[:, None], folds, weights=WEIGHTS)
    copies = probe.held_out(*again)
    for name in ("predictions", "difficulty"):
        expected = getattr(copies, name)[FIRST]
        np.testing.assert_allclose(getattr(held, name), expected, rtol=2e-3, atol=1e-9)
    np.testing.assert_array_equal(held.penalties, copies.penalties)
    ours, theirs = (
        measured_coverage(*given, level=0.8, weights=weights)
        for given, weights in (
            ((target, held, 0, folds), WEIGHTS),
            ((target[REPEATED], copies, 0, folds[REPEATED]), None),
        )
    )
    assert ours.covered == pytest.approx(theirs.covered, abs=0.02)
    assert ours.half_width == pytest.approx(theirs.half_width, rel=0.01)
    fitted, copied = probe.fit(features, target[:, None], folds, weights=WEIGHTS), probe.fit(*again)
    np.testing.assert_allclose(fitted.predict(features), copied.predict(features), atol=1e-8)


@pytest.mark.parametrize("bands", [4, 150])
def test_logistic_ridge_takes_a_weight_for_a_number_of_rows(bands: int) -> None:
    features, target = features_and_target(bands)
    codes = np.digitize(target, [0.8, 2.0])
    folds, probe = random_folds(ROWS, 4), LogisticProbe(penalties=(1.0, 0.1))
    weighted = probe.held_out(features, codes, folds, weights=WEIGHTS)
    copies = probe.held_out(features[REPEATED], codes[REPEATED], folds[REPEATED])
    np.testing.assert_allclose(weighted, copies[FIRST], atol=1e-3)  # both end at a tolerance


def test_weighted_scores_are_those_of_scikit_learn() -> None:
    codes = RNG.integers(0, 3, ROWS)
    guess = RNG.dirichlet(np.ones(3), ROWS)
    chosen = guess.argmax(axis=1)
    for ours, theirs, given in (
        (metrics.accuracy, sklearn_metrics.accuracy_score, chosen),
        (metrics.balanced_accuracy, sklearn_metrics.balanced_accuracy_score, chosen),
        (metrics.log_loss, sklearn_metrics.log_loss, guess),
    ):
        expected = theirs(codes, given, sample_weight=WEIGHTS)
        assert ours(codes, guess, WEIGHTS) == pytest.approx(expected, abs=1e-12)
    two, sure = codes == 0, guess[:, 0].round(1)  # with ties
    expected = sklearn_metrics.average_precision_score(two, sure, sample_weight=WEIGHTS)
    rarer = metrics.average_precision(two.astype(int), np.stack([1 - sure, sure], axis=1), WEIGHTS)
    assert rarer == pytest.approx(expected, abs=1e-12)
    truth, other = RNG.standard_normal((2, ROWS))
    expected = sklearn_metrics.r2_score(truth, other, sample_weight=WEIGHTS)
    assert metrics.r2_score(truth, other, WEIGHTS) == pytest.approx(expected, abs=1e-12)
    third, units = RNG.standard_normal(ROWS), np.arange(ROWS) // 10
    gain = r2_gain(truth, other, third, units, 0.9, weights=WEIGHTS)
    copies = r2_gain(*(one[REPEATED] for one in (truth, other, third, units)), 0.9)
    assert (gain.difference, gain.low) == pytest.approx((copies.difference, copies.low))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_a_weighted_quantile_is_that_of_repeated_residuals(level: float) -> None:
    residuals = RNG.exponential(size=ROWS)
    expected = conformal_quantile(residuals[REPEATED], level)
    assert conformal_quantile(residuals, level, WEIGHTS) == expected


def survey() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    lonlat = rng.uniform([-100, 32], [-84, 44], (160, 2))
    features = rng.standard_normal((160, 5))
    return features, features[:, 0] + 0.5 * rng.standard_normal(160) + lonlat[:, 1] / 10, lonlat


@pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.ProbeWarning")
def test_only_the_ratios_of_weights_matter_and_rows_without_one_take_no_part() -> None:
    features, target, lonlat = survey()
    high = np.where(target > np.median(target), "high", "low")

    def scores(rows: slice = slice(None), weights: object = None) -> pd.DataFrame:
        return probe_table(
            {"a": features[rows]},
            {"y": target[rows], "high": class_labels(high[rows])},
            lonlat[rows],
            weights=weights,
            folds=3,
            baselines=["mean", "lonlat IDW"],
        ).set_index(["target", "features", "split"])

    plain = scores()
    pd.testing.assert_frame_equal(scores(weights=np.full(160, 7)), plain, rtol=1e-6, atol=1e-9)
    weights = np.random.default_rng(4).uniform(0.2, 3, 160)
    weights[:20] = [0, np.nan] * 10
    weighted = scores(weights=pd.Series(weights))
    alone = scores(slice(20, None), weights[20:] * 1000)
    pd.testing.assert_frame_equal(weighted, alone, rtol=1e-6, atol=1e-9)
    assert abs(weighted["score"] - plain["score"]).max() > 1e-2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 159, "159 weights for 160 rows"),
        ([1.0] * 3 + [-2.0] + [1.0] * 156, "that of row 3 is -2"),
        ([0.0] * 160, "none of the 160 weights is above 0"),
        (["many"] * 160, "weights must hold numbers, but row 0 holds 'many'"),
        ([np.inf] + [1.0] * 159, "weights is infinite in row 0"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights: list[object], message: str) -> None:
    features, target, lonlat = survey()
    with pytest.raises(ProbeError, match=message):
        probe_table({"a": features}, {"y": target}, lonlat, weights=weights)


def test_weights_of_which_a_few_decide_are_warned_of() -> None:
    features, target, lonlat = survey()
    weights = np.r_[np.full(10, 1e4), np.ones(150)]
    with pytest.warns(ProbeWarning, match="as sure as those of 10: the few that weigh most"):
        probe_table(
            {"a": features}, {"y": target}, lonlat, weights=weights, baselines=False, folds=3
        )


def test_position_is_not_added_to_weighted_rows() -> None:
    features, target, lonlat = survey()
    with pytest.raises(ProbeError, match="without spatial or without weights"):
        probe_table(
            {"a": features}, {"y": target}, lonlat, weights=np.ones(160), spatial="residuals"
        )
