from collections.abc import Callable

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from unigeo import client
from unigeo.client.probing.folds import blocked_folds, random_folds
from unigeo.client.probing.ridge import RidgeProbe
from unigeo.schemas.errors import ProbeError


@parametrize_with_checks([client.ProbeRegressor(), client.ProbeClassifier()])
def test_scikit_learn_finds_nothing_amiss(
    estimator: BaseEstimator, check: Callable[[BaseEstimator], None]
) -> None:
    check(estimator)


def grouped_problem(rows: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, a target that is linear in them with noise, and groups of ten rows."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, 8))
    return features, features @ np.arange(8.0) + rng.standard_normal(rows), np.arange(rows) // 10


def test_the_estimator_is_the_probe() -> None:
    features, target, groups = grouped_problem()
    for folds, chosen in (
        (random_folds(200, 5), None),
        (blocked_folds(groups, 5), groups),
    ):
        plain = RidgeProbe().fit(features, target[:, None], folds)
        estimator = client.ProbeRegressor().fit(features, target, groups=chosen)
        assert estimator.penalties_[0] == plain.penalties[0]
        np.testing.assert_allclose(
            estimator.predict(features), plain.predict(features)[:, 0], rtol=1e-9
        )


def test_intervals_hold_the_stated_share_of_new_points() -> None:
    features, target, _ = grouped_problem(2000)
    estimator = client.ProbeRegressor().fit(features[:1000], target[:1000])
    lower, upper = estimator.predict_interval(features[1000:])
    inside = (lower <= target[1000:]) & (target[1000:] <= upper)
    assert inside.mean() == pytest.approx(0.9, abs=0.025)
    with pytest.raises(ProbeError, match="between 0 and 1"):
        estimator.predict_interval(features, level=2.0)


def test_it_stands_in_pipelines_and_cross_validations() -> None:
    features, target, groups = grouped_problem()
    pipeline = make_pipeline(StandardScaler(), client.ProbeClassifier())
    held = cross_val_predict(pipeline, features, target > 0, groups=groups, cv=GroupKFold(4))
    assert (held == (target > 0)).mean() > 0.9


def test_impossible_folds_and_penalties_are_refused() -> None:
    features, target, _ = grouped_problem(20)
    with pytest.raises(ProbeError, match="at least 2 folds"):
        client.ProbeRegressor(folds=1).fit(features, target)
    with pytest.raises(ProbeError, match="positive"):
        client.ProbeRegressor(penalties=(-1.0,)).fit(features, target)
    with pytest.raises(ProbeError, match="3 group labels"):
        client.ProbeRegressor().fit(features, target, groups=[1, 2, 3])
