import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unigeo.client.probing import linear_algebra
from unigeo.client.probing.linear_algebra import cholesky, solve, whiten


def matrix(size: int, rank: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((rank, size))
    return rows.T @ rows / rank


@pytest.fixture(params=["scipy's LAPACK", "numpy alone"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to factorize: a light installation has no scipy."""
    if request.param == "numpy alone":
        monkeypatch.setattr(linear_algebra, "_routine", lambda library, name: None)
    else:
        assert linear_algebra._routine("lapack", "dpotrf") is not None


@pytest.mark.parametrize(("size", "rank"), [(1, 3), (7, 20), (60, 300), (40, 10)])
def test_a_factor_solves_what_the_matrix_does(library: None, size: int, rank: int) -> None:
    own, shift = matrix(size, rank), 0.1
    factor = cholesky(own, shift)
    lower = np.tril(factor)
    np.testing.assert_allclose(lower @ lower.T, own + shift * np.eye(size), atol=1e-12)
    right = np.random.default_rng(1).standard_normal((size, 3))
    expected = np.linalg.solve(own + shift * np.eye(size), right)
    np.testing.assert_allclose(solve(factor, right), expected, rtol=1e-9, atol=1e-12)
    rows = np.random.default_rng(2).standard_normal((5, size))
    white = np.linalg.solve(lower, rows.T).T
    np.testing.assert_allclose(whiten(factor, rows), white, rtol=1e-9, atol=1e-12)
    low = factor.astype(np.float32)
    np.testing.assert_allclose(whiten(low, rows), white, rtol=2e-3, atol=2e-4)
    assert whiten(low, rows).dtype == np.float32


def test_a_shift_that_rounding_swallows_still_gives_a_factor(library: None) -> None:
    own = matrix(50, 4) * 1e6  # eigenvalues of rounding, some of them negative
    factor = np.tril(cholesky(own, 1e-14))
    assert np.isfinite(factor).all()
    np.testing.assert_allclose(factor @ factor.T, own, atol=1e-7)


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_what_is_given_is_not_changed(size: int, seed: int) -> None:
    own = matrix(size, 2 * size, seed)
    before = own.copy()
    factor = cholesky(own, 0.5)
    kept = factor.copy()
    rows = np.random.default_rng(seed).standard_normal((3, size))
    given_rows = rows.copy()
    solve(factor, rows.T)
    whiten(factor, rows)
    np.testing.assert_array_equal(own, before)
    np.testing.assert_array_equal(factor, kept)
    np.testing.assert_array_equal(rows, given_rows)
