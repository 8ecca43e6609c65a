import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unigeo.schemas.store.quantization import FILL, dequantize, quantize


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(1, 64)),
        elements=st.floats(-1e3, 1e3, allow_subnormal=False),
    )
)
def test_a_stored_vector_keeps_its_direction(vectors: np.ndarray) -> None:
    """Each number errs by half a step of max/127, so the direction by at most their sum."""
    vectors[np.abs(vectors).max(axis=1) < 1e-3] = 1.0
    back = dequantize(quantize(vectors))
    largest = np.abs(vectors).max(axis=1)
    bound = 0.5 * largest / 127 * np.sqrt(vectors.shape[1]) / np.linalg.norm(vectors, axis=1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    error = np.linalg.norm(back - unit, axis=1)
    assert (error <= 2 * bound + 1e-6).all()
    assert np.allclose(np.linalg.norm(back, axis=1), 1, atol=1e-6)


def test_vectors_without_outliers_are_stored_within_the_stated_error() -> None:
    """The error is 0.8 % in the median and at most 1.2 % on these vectors, whose length is 1; the
    cosine is 0.99996 in the median and at least 0.99993.
    """
    vectors = np.random.default_rng(0).normal(size=(2000, 768))
    back = dequantize(quantize(vectors))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    error, cosine = np.linalg.norm(back - unit, axis=1), cosines(back, unit)
    assert np.median(error) < 0.008 and error.max() < 0.012
    assert np.median(cosine) > 0.99996 and cosine.min() > 0.99993


def test_outliers_cost_precision_and_a_rotation_brings_it_back() -> None:
    rng = np.random.default_rng(0)
    heavy = rng.normal(size=(500, 256)) * np.where(np.arange(256) == 7, 40.0, 1.0)
    rotation = np.linalg.qr(rng.normal(size=(256, 256))).Q
    plain = 1 - cosines(dequantize(quantize(heavy)), heavy)
    rotated = 1 - cosines(dequantize(quantize(heavy @ rotation)), heavy @ rotation)
    assert np.median(rotated) < np.median(plain) / 2


def test_sparse_vectors_survive() -> None:
    vectors = np.zeros((3, 768))
    vectors[0, 5], vectors[1, 700], vectors[2, [1, 2]] = 1.0, -1e-6, (3.0, 4.0)
    assert np.allclose(cosines(dequantize(quantize(vectors)), vectors), 1, atol=1e-4)


def test_no_data_in_no_data_out() -> None:
    stored = quantize(np.array([[0.6, -0.8], [np.nan, 0.1]]))
    assert (stored[1] == FILL).all()
    assert FILL not in stored[0]
    assert np.isnan(dequantize(stored)[1]).all()


@pytest.mark.parametrize("vector", [[0.0, 0.0], [np.inf, 1.0]])
def test_what_has_no_direction_is_refused(vector: list[float]) -> None:
    with pytest.raises(ValueError, match="vector 1 "):
        quantize(np.array([[1.0, 0.0], vector]))


@given(st.integers(0, 2**32 - 1), st.integers(1, 1040))
def test_a_vector_reads_the_same_alone_and_among_others(seed: int, bands: int) -> None:
    rng = np.random.default_rng(seed)
    stored = rng.integers(-127, 128, (9, bands)).astype(np.int8)
    stored[:, 0] = 127
    together = dequantize(stored)
    alone = np.concatenate([dequantize(one[None]) for one in stored])
    assert np.array_equal(together, alone)
