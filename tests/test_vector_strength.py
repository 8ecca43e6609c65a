"""One scale for all bands of a vector: rotations of the bands, and the weights of sets."""

import numpy as np
import pytest

from unigeo.client.probing.feature_rows import JoinedRows
from unigeo.client.probing.ridge import RidgeProbe
from unigeo.client.probing.vector_strength import vector_strength


def spread_vectors(rng: np.random.Generator, rows: int = 600, bands: int = 40) -> np.ndarray:
    """Vectors whose bands vary less and less."""
    return rng.standard_normal((rows, bands)) * 0.8 ** np.arange(bands) + 3


def test_a_rotation_of_the_bands_hardly_changes_what_a_ridge_predicts() -> None:
    rng = np.random.default_rng(0)
    vectors = spread_vectors(rng)
    rotated = vectors @ np.linalg.qr(rng.standard_normal((40, 40))).Q
    targets = vectors[:, :5] @ rng.standard_normal((5, 1)) + rng.standard_normal((600, 1))
    folds = np.arange(600) % 5
    straight, turned = (
        RidgeProbe().held_out(x, targets, folds, strength=vector_strength(x)).predictions
        for x in (vectors, rotated)
    )
    alone = RidgeProbe().held_out(vectors, targets, folds).predictions
    change = np.std(straight - turned)
    assert change < 0.02 * np.std(straight)
    # Bands standardized each by itself let the least of them, which are noise here, speak more.
    assert np.mean((straight - targets) ** 2) < np.mean((alone - targets) ** 2)


def test_the_bands_of_each_set_share_its_strength() -> None:
    rng = np.random.default_rng(1)
    first, second = spread_vectors(rng), 100 * spread_vectors(rng, bands=8)
    strength = vector_strength(JoinedRows([first, second]))
    for part, values in ((strength[:40], first), (strength[40:], second)):
        assert np.mean(part**2) == pytest.approx(1)
        np.testing.assert_allclose(part / part[0], values.std(axis=0) / values[:, 0].std())


def test_constant_vectors_and_bands_have_a_strength() -> None:
    assert (vector_strength(np.ones((5, 3))) == 1).all()
    values = np.stack([np.arange(9.0), np.full(9, 2.0)], axis=1)
    assert (vector_strength(values) > 0).all()
