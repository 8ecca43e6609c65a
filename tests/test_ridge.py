from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from unigeo.client.probing.folds import random_folds
from unigeo.client.probing.normal_equations import DualEquations, Moments, PrimalEquations
from unigeo.client.probing.ridge import PENALTIES, RidgeProbe
from unigeo.schemas.errors import ProbeError


def linear_problem(
    rows: int, bands: int, targets: int = 2, seed: int = 0, noise: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Features, and targets that are linear in them, with noise."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, bands)) * rng.uniform(0.1, 3, bands) + 1.0
    truth = features @ rng.standard_normal((bands, targets)) + 5.0
    return features, truth + noise * rng.standard_normal(truth.shape)


def sklearn_ridge(
    features: np.ndarray, targets: np.ndarray, penalty: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Predictor of scikit-learn's ridge on standardized features."""
    scaler = StandardScaler().fit(features)
    model = Ridge(penalty * len(features), solver="cholesky")
    model.fit(scaler.transform(features), targets)
    return lambda new: model.predict(scaler.transform(new))


@pytest.mark.parametrize(("rows", "bands"), [(200, 7), (60, 50)])
def test_every_penalty_gives_the_ridge_of_scikit_learn(rows: int, bands: int) -> None:
    features, targets = linear_problem(rows, bands)
    new, _ = linear_problem(20, bands, seed=1)
    equations = PrimalEquations(Moments.of(features, targets)), DualEquations(features, targets)
    for penalty in PENALTIES:
        expected = sklearn_ridge(features, targets, penalty)(new)
        for own in equations:
            got = own.solve(penalty).predict(new)
            np.testing.assert_allclose(got, expected, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("bands", [6, 90])  # fewer and more bands than rows
def test_held_out_predictions_equal_the_plain_nested_loops(bands: int) -> None:
    """Penalty by the squared error over inner folds, each predicted from the others."""
    features, targets = linear_problem(75, bands, noise=3.0)
    targets[::7, 1] = np.nan
    folds = random_folds(len(features), 5, seed=3)
    got = RidgeProbe().held_out(features, targets, folds)
    for column in range(2):
        known = np.isfinite(targets[:, column])
        x, y, f = features[known], targets[known, column], folds[known]
        expected = np.empty(len(y))
        for fold in range(5):
            errors = [
                sum(
                    ((sklearn_ridge(x[t], y[t], penalty)(x[f == inner]) - y[f == inner]) ** 2).sum()
                    for inner in set(range(5)) - {fold}
                    for t in [(f != fold) & (f != inner)]
                )
                for penalty in PENALTIES
            ]
            best = PENALTIES[int(np.argmin(errors))]
            assert got.penalties[fold, column] == best
            expected[f == fold] = sklearn_ridge(x[f != fold], y[f != fold], best)(x[f == fold])
        np.testing.assert_allclose(got.predictions[known, column], expected, atol=1e-7)
        assert np.isnan(got.predictions[~known, column]).all()


def test_a_fold_s_own_targets_do_not_touch_its_predictions() -> None:
    features, targets = linear_problem(80, 10, noise=5.0)
    folds = random_folds(80, 4)
    before = RidgeProbe().held_out(features, targets, folds)
    changed = targets.copy()
    changed[folds == 2] = 1e6
    after = RidgeProbe().held_out(features, changed, folds)
    mine = folds == 2
    np.testing.assert_allclose(after.predictions[mine], before.predictions[mine], rtol=1e-9)


def test_scale_and_origin_of_a_band_do_not_matter() -> None:
    features, targets = linear_problem(100, 5)
    folds = random_folds(100, 5)
    before = RidgeProbe().held_out(features, targets, folds).predictions
    moved = features * [1, 1e4, 1e-4, 1, 1] + [0, 0, 0, 1e5, -7]
    after = RidgeProbe().held_out(moved, targets, folds).predictions
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_constant_band_changes_nothing() -> None:
    features, targets = linear_problem(100, 5)
    folds = random_folds(100, 5)
    before = RidgeProbe().held_out(features, targets, folds).predictions
    wider = np.concatenate([features, np.full((100, 1), 0.1)], axis=1)
    after = RidgeProbe().held_out(wider, targets, folds).predictions
    np.testing.assert_allclose(after, before, atol=1e-9)


def test_float32_features_are_solved_in_float64() -> None:
    features, targets = linear_problem(300, 20, noise=0.0)
    features = features.astype(np.float32)
    folds = random_folds(300, 5)
    low = RidgeProbe().held_out(features, targets, folds).predictions
    high = RidgeProbe().held_out(features.astype(np.float64), targets, folds).predictions
    np.testing.assert_allclose(low, high, atol=1e-9)


def test_a_fit_predicts_as_scikit_learn_does_with_its_penalty() -> None:
    features, targets = linear_problem(150, 8)
    fitted = RidgeProbe().fit(features, targets, random_folds(150, 5))
    for column in range(2):
        expected = sklearn_ridge(features, targets[:, column], float(fitted.penalties[column]))
        np.testing.assert_allclose(
            fitted.predict(features)[:, column], expected(features), atol=1e-8
        )


def test_what_leaves_nothing_to_fit_is_refused() -> None:
    features, targets = linear_problem(40, 3)
    with pytest.raises(ProbeError, match="at least 3"):
        RidgeProbe().held_out(features, targets, random_folds(40, 2))
    folds = random_folds(40, 4)
    targets[folds == 1, 0] = np.nan
    with pytest.raises(ProbeError, match="rows in the folds"):
        RidgeProbe().held_out(features, targets, folds)
    with pytest.raises(ProbeError, match="positive"):
        RidgeProbe(penalties=(0.0, 1.0))
