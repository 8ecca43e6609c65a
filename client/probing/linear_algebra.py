"""Cholesky factors of symmetric matrices: by LAPACK through scipy, else through numpy alone."""

from typing import Any

import numpy as np
from jaxtyping import Float

Matrix = Float[np.ndarray, "size size"]


def cholesky(matrix: Matrix, shift: float) -> Matrix:
    """Factorize a positive semidefinite matrix with `shift` added to its diagonal.

    Rounding can leave a small shift with a matrix that has no factor. Its negative eigenvalues are
    then taken for zero.

    Returns:
        The lower triangle L of L L' = matrix + shift; above it stands 0 or what was there before.
    """
    shifted = np.array(matrix)
    shifted.reshape(-1)[:: len(matrix) + 1] += shift
    lapack = _lapack()
    try:
        if lapack is None:
            return np.linalg.cholesky(shifted)
        # Of a symmetric matrix the transposed view is the same in the order that LAPACK reads.
        factor, failed = lapack.dpotrf(shifted.T, lower=1, overwrite_a=1, clean=0)
        if not failed:
            return np.asarray(factor)
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(matrix)
    roots = np.sqrt(np.maximum(values, 0) + shift)
    return np.linalg.qr(roots[:, None] * vectors.T, mode="r").T


def solve(factor: Matrix, right: Float[np.ndarray, "size column"]) -> np.ndarray:
    """Solve L L' x = right for x."""
    lapack = _lapack()
    if lapack is None:
        lower = np.tril(factor)
        return np.asarray(np.linalg.solve(lower.T, np.linalg.solve(lower, right)))
    solution, failed = lapack.dpotrs(factor, right, lower=1)
    assert not failed
    return np.asarray(solution)


def whiten(factor: Matrix, rows: Float[np.ndarray, "row size"]) -> Float[np.ndarray, "row size"]:
    """Solve L x = row for each row, in the precision of `factor`."""
    blas = _blas()
    if blas is None:
        return np.asarray(np.linalg.solve(np.tril(factor), rows.T).T)
    solve_triangle = blas.strsm if factor.dtype == np.float32 else blas.dtrsm
    # The transposed view of rows has the order that BLAS reads, and is overwritten.
    columns = np.array(rows, factor.dtype, order="C").T
    return np.asarray(solve_triangle(1.0, factor, columns, lower=1, overwrite_b=1).T)


def _lapack() -> Any:
    """Scipy's LAPACK, or None."""
    try:
        from scipy.linalg import lapack
    except ImportError:
        return None
    return lapack


def _blas() -> Any:
    """Scipy's BLAS, or None."""
    try:
        from scipy.linalg import blas
    except ImportError:
        return None
    return blas
