"""Residuals of a ridge spread by kriging: against plain numpy, and what must not leak."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from test_probing import conus, hills

from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.folds import blocked_folds, random_folds, spatial_blocks
from unigeo.client.probing.kriging import Covariance, KnownPoints, positions_of
from unigeo.client.probing.position_models import fit_position_models
from unigeo.client.probing.ridge import HeldOut, RidgeProbe
from unigeo.client.probing.spatial_option import check_spatial
from unigeo.client.probing.spatial_scoring import add_position
from unigeo.client.probing.targets import class_labels
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.geo.great_circle import great_circle_m


def weights(lonlat: np.ndarray, new: np.ndarray, covariance: Covariance, count: int) -> np.ndarray:
    """Kriging weights of every known point, 0 of those that are not near."""
    found = np.zeros((len(new), len(lonlat)))
    known = KnownPoints(positions_of(lonlat))
    for part, each in known.weights(positions_of(new), [covariance], count):
        np.put_along_axis(found[part], each.near, each.weights[:, 0], axis=1)
    return found


def test_weights_are_those_of_the_plain_kriging_equations() -> None:
    """Against a solution in float64 with distances along great circles."""
    lonlat, new = conus(40), conus(7, seed=1)
    covariance = Covariance(4e5, 0.2)
    between = great_circle_m(lonlat[:, None], lonlat[None])
    matrix = 0.8 * np.exp(-between / 4e5) + 0.2 * np.eye(40)
    target = 0.8 * np.exp(-great_circle_m(new[:, None], lonlat[None]) / 4e5)
    expected = np.linalg.solve(matrix, target.T).T
    np.testing.assert_allclose(weights(lonlat, new, covariance, 40), expected, atol=0.01)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9), st.floats(1e3, 1e7))
def test_values_are_shrunk_never_amplified(seed: int, nugget: float, range_m: float) -> None:
    """A kriged variance is at most the variance: w' C w <= 1, also where points coincide."""
    rng = np.random.default_rng(seed)
    lonlat = np.repeat(conus(15, seed=seed), 2, axis=0)
    new = np.concatenate([conus(5, seed=seed + 1), lonlat[:3], rng.uniform(-80, 80, (3, 2))])
    found = weights(lonlat, new, Covariance(range_m, nugget), 20)
    position = positions_of(lonlat)
    distance = np.linalg.norm(position[:, None] - position[None], axis=2)
    matrix = (1 - nugget) * np.exp(-distance / range_m) + nugget * np.eye(len(lonlat))
    variance = np.einsum("pi,ij,pj->p", found, matrix, found)
    assert (variance <= 1 + 1e-3).all()
    far = np.array([[100.0, -40.0]])  # the other side of the globe
    assert np.abs(weights(lonlat, far, Covariance(1e5, nugget), 20)).max() < 1e-6


@pytest.mark.parametrize("bands", [5, 90])  # fewer and more bands than rows
def test_training_points_are_predicted_as_if_each_were_left_out(bands: int) -> None:
    """Against a ridge that is fitted anew without each row, in the scale of all rows.

    Models without two folds take the leverages of those without one, which differ somewhat.
    """
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, bands))
    target = features[:, :3].sum(axis=1) + rng.standard_normal(60)
    folds = random_folds(60, 4)
    held = RidgeProbe().held_out(features, target[:, None], folds, leave_one_out=True)
    assert held.leave_one_out is not None
    for out, left, near in ((1, 1, 2e-3), (1, 3, 0.6)):
        train = np.flatnonzero((folds != out) & (folds != left))
        scaled = (features - features[train].mean(axis=0)) / features[train].std(axis=0)
        found = held.leave_one_out[out, left, :, 0]
        assert np.flatnonzero(np.isfinite(found)).tolist() == train.tolist()
        for row in train[::6]:
            others = train[train != row]
            ridge = Ridge(alpha=held.penalties[out, 0] * len(train))
            ridge.fit(scaled[others], target[others])
            assert found[row] == pytest.approx(ridge.predict(scaled[[row]])[0], abs=near)


def both(
    lonlat: np.ndarray, features: np.ndarray, target: np.ndarray, folds: np.ndarray
) -> HeldOut:
    held = RidgeProbe().held_out(features, target, folds, leave_one_out=True)
    (added,) = add_position([held], target, folds, lonlat)
    return added


def test_a_fold_s_own_targets_do_not_touch_its_predictions() -> None:
    lonlat = conus(240)
    features = np.random.default_rng(0).standard_normal((240, 6))
    target = hills(lonlat)[:, None]
    folds = blocked_folds(spatial_blocks(lonlat, 300.0), 4)
    before = both(lonlat, features, target, folds)
    changed = target.copy()
    changed[folds == 2] = 1e4
    after = both(lonlat, features, changed, folds)
    mine = folds == 2
    np.testing.assert_allclose(after.predictions[mine], before.predictions[mine], rtol=1e-6)
    np.testing.assert_allclose(after.leave_two_out[2], before.leave_two_out[2], rtol=1e-6)


def test_vectors_and_position_that_say_different_things_are_worth_more_together() -> None:
    """The target is a map of hills, which position knows, and a number that vectors know."""
    lonlat = conus(700)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((700, 8))
    target = hills(lonlat, noise=0.2) + vectors[:, 0]
    report = probe_table(
        {"v": vectors}, {"y": target}, lonlat, block_km=150, spatial="residuals",
        baselines=["lonlat ridge", "lonlat kNN", "lonlat IDW"],
    )  # fmt: skip
    score = report[report["split"] == "blocked"].set_index("features")["r2"]
    others = score.drop("v + position")
    assert score["v + position"] > others.max() + 0.15
    coverage = report.set_index(["features", "split"])["coverage_90"]["v + position"]
    assert coverage.between(0.83, 0.97).all()


def test_shuffled_targets_are_not_predicted() -> None:
    """A leak of held-out rows into residuals, covariance or share would show here."""
    lonlat = conus(200)
    rng = np.random.default_rng(1)
    features = rng.standard_normal((200, 150))  # could fit most of the rows by heart
    report = probe_table(
        {"many": features}, {"y": rng.permutation(hills(lonlat))}, lonlat, baselines=False,
        spatial="residuals",
    )  # fmt: skip
    assert report["r2"].max() < 0.05


@pytest.mark.filterwarnings("ignore:the scores of 'gaps'")
def test_missing_targets_and_several_sets_change_nothing_of_the_others() -> None:
    lonlat = conus(300)
    rng = np.random.default_rng(2)
    features = {"a": rng.standard_normal((300, 4)), "b": rng.standard_normal((300, 7))}
    full, gaps = hills(lonlat), hills(lonlat, seed=1)
    gaps[::5] = np.nan
    options = {"baselines": False, "spatial": "residuals"}
    together = probe_table(features, {"full": full, "gaps": gaps}, lonlat, **options)
    alone = probe_table({"b": features["b"]}, {"gaps": gaps}, lonlat, **options)
    key = ["target", "features", "split"]
    expected = alone.set_index(key)["r2"]
    found = together.set_index(key)["r2"]
    np.testing.assert_allclose(found[expected.index], expected, rtol=1e-4)


def test_a_fitted_model_draws_to_the_known_values_and_to_the_ridge_far_away() -> None:
    lonlat = conus(300)
    vectors = np.random.default_rng(0).standard_normal((300, 3))
    target = hills(lonlat, noise=0.02)
    folds = random_folds(300, 5)
    model = fit_position_models(vectors, {"y": target}, folds, lonlat, 0.9)["y"]
    at_known = model.predict(vectors, lonlat)["prediction"]
    assert np.corrcoef(at_known, target)[0, 1] > 0.97
    far = np.tile([100.0, -40.0], (300, 1))
    mean, share = model.residuals.mean[0], model.residuals.share[0]
    ridge = mean + share * (model.ridge.predict(vectors)[:, 0] - mean)
    np.testing.assert_allclose(model.predict(vectors, far)["prediction"], ridge, atol=0.02)


def test_what_it_cannot_do_is_refused() -> None:
    lonlat = conus(60)
    features = np.random.default_rng(0).standard_normal((60, 3))
    with pytest.raises(ProbeError, match="spatial must be 'residuals' or None, not 'kriging'"):
        check_spatial("kriging", {}, [])
    crop = class_labels(np.array(["wheat", "rice"] * 30))
    with pytest.raises(ProbeError, match="target 'crop' is of classes: probe it without spatial"):
        probe_table({"a": features}, {"crop": crop}, lonlat, spatial="residuals")
    with pytest.raises(ProbeError, match="'a \\+ position' are named like a model with position"):
        probe_table({"a + position": features}, {"y": features[:, 0]}, lonlat, spatial="residuals")
