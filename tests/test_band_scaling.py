"""The scale of bands: rotations of a vector, sets side by side, bands that vary in few rows."""

import numpy as np
import pytest

from unigeo.client.probing.band_scaling import beside_vectors, vector_scaling
from unigeo.client.probing.feature_rows import JoinedRows
from unigeo.client.probing.ridge import RidgeProbe


def spread_vectors(rng: np.random.Generator, rows: int = 600, bands: int = 40) -> np.ndarray:
    """Vectors whose bands vary less and less."""
    return rng.standard_normal((rows, bands)) * 0.8 ** np.arange(bands) + 3


def test_a_rotation_of_the_bands_changes_no_prediction_of_a_ridge() -> None:
    rng = np.random.default_rng(0)
    vectors = spread_vectors(rng)
    rotated = vectors @ np.linalg.qr(rng.standard_normal((40, 40))).Q
    targets = vectors[:, :5] @ rng.standard_normal((5, 1)) + rng.standard_normal((600, 1))
    folds = np.arange(600) % 5
    straight, turned = (
        RidgeProbe().held_out(x, targets, folds, scaling=vector_scaling(x)).predictions
        for x in (vectors, rotated)
    )
    alone = RidgeProbe().held_out(vectors, targets, folds).predictions
    np.testing.assert_allclose(turned, straight, rtol=1e-6)
    # Bands standardized each by itself let the least of them, which are noise here, speak more.
    assert np.mean((straight - targets) ** 2) < np.mean((alone - targets) ** 2)


def test_sets_side_by_side_weigh_by_their_bands_and_columns_as_much_as_all() -> None:
    rng = np.random.default_rng(1)
    first, second = spread_vectors(rng), 100 * spread_vectors(rng, bands=8)
    columns = rng.standard_normal((600, 2)) * [1, 1e5]
    sets = JoinedRows([first, second])
    every = np.concatenate([first, second, columns], axis=1)
    factors = beside_vectors(sets, 2).factors(every.var(axis=0), (every**2).mean(axis=0))
    scaled = (every * factors).var(axis=0)
    assert scaled[:40].sum() == pytest.approx(40) and scaled[40:48].sum() == pytest.approx(8)
    np.testing.assert_allclose(scaled[48:], 48 / 2)
    for own in (factors[:40], factors[40:48]):
        np.testing.assert_allclose(own, own[0])


def test_constant_bands_have_no_weight_and_vectors_all_alike_predict_the_mean() -> None:
    values = np.stack([np.arange(9.0), np.full(9, 2.0)], axis=1)
    factors = vector_scaling(values).factors(values.var(axis=0), (values**2).mean(axis=0))
    assert factors[0] > 0 and factors[1] == 0
    target = np.arange(9.0)[:, None]
    held = RidgeProbe().held_out(
        np.ones((9, 3)), target, np.arange(9) % 3, scaling=vector_scaling(np.ones((9, 3)))
    )
    for fold in range(3):
        others = target[np.arange(9) % 3 != fold]
        np.testing.assert_allclose(held.predictions[fold::3], others.mean())


def test_a_band_that_varies_in_one_fold_is_not_blown_up_there() -> None:
    """Standardized by the other folds, where it hardly varies, it would decide on its own fold."""
    rng = np.random.default_rng(2)
    folds = np.arange(300) % 5
    vectors = rng.standard_normal((300, 6))
    target = vectors[:, :1] + 0.1 * rng.standard_normal((300, 1))
    alone = np.where(folds == 0, 1, 1e-4)[:, None] * rng.standard_normal((300, 5))
    both = np.concatenate([vectors, alone], axis=1)
    held = RidgeProbe().held_out(both, target, folds, scaling=vector_scaling(both))
    assert np.mean((held.predictions - target)[folds == 0] ** 2) < 0.05
    plain = RidgeProbe().held_out(both, target, folds)
    assert np.mean((plain.predictions - target)[folds == 0] ** 2) > 1
