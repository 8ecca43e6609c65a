import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from unigeo.client.probing.conformal import conformal_quantile, measured_coverage
from unigeo.client.probing.folds import blocked_folds, random_folds
from unigeo.client.probing.leverage import difficulty
from unigeo.client.probing.normal_equations import DualEquations, Moments, PrimalEquations
from unigeo.client.probing.ridge import RidgeProbe


def linear_problem(rows: int, bands: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and one target that is linear in them, with noise."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, bands)) * rng.uniform(0.1, 3, bands) + 1.0
    target = features @ rng.standard_normal(bands) + rng.standard_normal(rows)
    return features, target[:, None]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_a_new_residual_stays_below_the_quantile_with_the_stated_chance(
    residuals: list[float], level: float
) -> None:
    """Of n + 1 exchangeable residuals the last is as likely to have any rank as any other."""
    bound = conformal_quantile(np.array(residuals), level)
    held = sum(residual <= bound for residual in residuals)
    assert held + 1 >= level * (len(residuals) + 1) or np.isinf(bound)
    assert np.isinf(bound) == (np.ceil((len(residuals) + 1) * level) > len(residuals))


def test_too_few_residuals_promise_nothing() -> None:
    assert conformal_quantile(np.ones(8), 0.9) == float("inf")
    assert conformal_quantile(np.ones(9), 0.9) == 1.0


@pytest.mark.parametrize(("rows", "bands"), [(80, 6), (40, 70)])
def test_the_leverage_is_that_of_the_plain_formula(rows: int, bands: int) -> None:
    features, targets = linear_problem(rows, bands)
    new, _ = linear_problem(20, bands, seed=1)
    penalties = (1e-3, 0.1, 10.0)
    scaler = StandardScaler().fit(features)
    z, z_new = scaler.transform(features), scaler.transform(new)
    equations = PrimalEquations(Moments.of(features, targets)), DualEquations(features, targets)
    for penalty in penalties:
        inverse = np.linalg.inv(z.T @ z / rows + penalty * np.eye(bands)) / rows
        expected = np.einsum("nb,bc,nc->n", z_new, inverse, z_new)
        for own in equations:
            got = own.solve_with_spread(penalty)[1].leverage(new)
            np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_a_fit_s_difficulty_grows_away_from_its_rows() -> None:
    features, targets = linear_problem(200, 5)
    fitted = RidgeProbe().fit(features, targets, random_folds(200, 5))
    near, far = fitted.difficulty(features).mean(), fitted.difficulty(features * 100).mean()
    assert 1 < near < 1.1
    assert far > 5
    z = StandardScaler().fit(features).transform(features)
    penalty = fitted.penalties[0]
    inverse = np.linalg.inv(z.T @ z / 200 + penalty * np.eye(5)) / 200
    expected = difficulty(np.einsum("nb,bc,nc->n", z, inverse, z))
    np.testing.assert_allclose(fitted.difficulty(features)[:, 0], expected, rtol=1e-5)


def test_calibration_uses_models_that_saw_neither_fold() -> None:
    features, targets = linear_problem(90, 4)
    folds = random_folds(90, 5, seed=2)
    held = RidgeProbe().held_out(features, targets, folds)
    for fold in range(5):
        penalty = held.penalties[fold, 0]
        assert np.isnan(held.leave_two_out[fold, folds == fold]).all()
        for other in set(range(5)) - {fold}:
            train = (folds != fold) & (folds != other)
            scaler = StandardScaler().fit(features[train])
            model = Ridge(penalty * train.sum(), solver="cholesky")
            model.fit(scaler.transform(features[train]), targets[train, 0])
            rows = folds == other
            expected = model.predict(scaler.transform(features[rows]))
            np.testing.assert_allclose(held.leave_two_out[fold, rows, 0], expected, atol=1e-8)


def test_a_fold_s_own_targets_do_not_touch_its_intervals() -> None:
    features, targets = linear_problem(100, 4)
    folds = random_folds(100, 5)
    changed = targets.copy()
    changed[folds == 2] += 1000.0
    held, other = (RidgeProbe().held_out(features, y, folds) for y in (targets, changed))
    np.testing.assert_allclose(other.leave_two_out[2], held.leave_two_out[2], rtol=1e-9)
    np.testing.assert_allclose(other.difficulty[folds == 2], held.difficulty[folds == 2], rtol=1e-9)
    narrow, wide = (
        measured_coverage(y[:, 0], h, 0, folds, 0.9) for y, h in ((targets, held), (changed, other))
    )
    assert narrow.covered > 0.8
    assert wide.half_width > narrow.half_width  # those of the other folds saw the change


def test_blocks_that_differ_are_covered_all_the_same() -> None:
    """Each block has an error of its own that no vector tells: residuals are alike within it."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(8):
        features = rng.standard_normal((1200, 5))
        block = np.arange(1200) // 10
        own = rng.standard_normal(120)[block]
        target = features.sum(axis=1) + own + 0.5 * rng.standard_normal(1200)
        folds = blocked_folds(block, 5)
        held = RidgeProbe().held_out(features, target[:, None], folds)
        found.append(measured_coverage(target, held, 0, folds, 0.9).covered)
    assert 0.88 < np.mean(found) < 0.92


def test_a_missing_target_is_counted_nowhere() -> None:
    features, targets = linear_problem(150, 4)
    gaps = targets.copy()
    gaps[::3] = np.nan
    folds = random_folds(150, 5)
    held = RidgeProbe().held_out(features, gaps, folds)
    known = np.isfinite(gaps[:, 0])
    alone = RidgeProbe().held_out(features[known], gaps[known], folds[known])
    with_gaps = measured_coverage(gaps[:, 0], held, 0, folds, 0.9)
    without = measured_coverage(gaps[known, 0], alone, 0, folds[known], 0.9)
    assert with_gaps.covered == pytest.approx(without.covered, abs=1.5 / known.sum())
    assert with_gaps.half_width == pytest.approx(without.half_width, rel=1e-6)
