"""Cholesky factors of symmetric matrices: by LAPACK through scipy, else by numpy alone.

scipy's own wrappers hold Python's global lock while LAPACK works, so that threads would wait for
each other. So the same routines are called through ctypes, which releases the lock, at the
addresses that scipy publishes for compiled code (`scipy.linalg.cython_lapack`).
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

Matrix = Float[np.ndarray, "size size"]
_Routine = Callable[..., None]


def cholesky(matrix: Matrix, shift: float, scratch: Matrix | None = None) -> Matrix:
    """Factorize a positive semidefinite matrix with `shift` added to its diagonal.

    By rounding, a matrix with a small shift can have negative eigenvalues and so no factor. They
    are then taken for zero.

    Args:
        matrix: symmetric, float64.
        shift: 0 or more.
        scratch: memory of the same size, in C order, which is overwritten and may hold the factor.
            Allocating memory for each of many large factors takes time.

    Returns:
        The lower triangle L of L L' = matrix + shift; the numbers above it are arbitrary.
    """
    shifted = np.empty(matrix.shape) if scratch is None else scratch
    np.copyto(shifted, matrix)
    shifted.reshape(-1)[:: len(matrix) + 1] += shift  # the diagonal
    factorize = _routine("lapack", "dpotrf")
    if factorize is None:
        try:
            return np.linalg.cholesky(shifted)
        except np.linalg.LinAlgError:
            return _by_eigenvectors(matrix, shift)
    size, failed = ctypes.c_int(len(matrix)), ctypes.c_int()
    # LAPACK takes the rows of numpy for columns, which are the same in a symmetric matrix. It
    # writes L in its own order, so that numpy sees L': transposed, the array is L again.
    factorize(b"L", size, _pointer(shifted), size, failed)
    return _by_eigenvectors(matrix, shift) if failed.value else shifted.T


def solve(
    factor: Matrix, right: Float[np.ndarray, "size column"]
) -> Float[np.ndarray, "size column"]:
    """Solve L L' x = right for x."""
    substitute = _routine("lapack", "dpotrs")
    if substitute is None:
        lower = np.tril(factor)
        return np.asarray(np.linalg.solve(lower.T, np.linalg.solve(lower, right)))
    columns = np.asfortranarray(factor, np.float64)  # no copy of a factor from `cholesky`
    # LAPACK solves in place, and reads each row of the transposed C array as a column.
    solution = np.array(right.T, np.float64, order="C")
    size, count, failed = ctypes.c_int(len(factor)), ctypes.c_int(len(solution)), ctypes.c_int()
    substitute(b"L", size, count, _pointer(columns), size, _pointer(solution), size, failed)
    assert not failed.value
    return solution.T


def whiten(factor: Matrix, rows: Float[np.ndarray, "row size"]) -> Float[np.ndarray, "row size"]:
    """Solve L x = row for each row, in the precision of `factor`, float32 or float64."""
    single = factor.dtype == np.float32
    solve_triangle = _routine("blas", "strsm" if single else "dtrsm")
    if solve_triangle is None:
        return np.asarray(np.linalg.solve(np.tril(factor), rows.T.astype(factor.dtype)).T)
    columns = np.asfortranarray(factor)
    white = np.array(rows, factor.dtype, order="C")  # solved in place; each row is one column
    one = ctypes.c_float(1) if single else ctypes.c_double(1)
    size, count = ctypes.c_int(len(factor)), ctypes.c_int(len(white))
    # Left side, lower triangle, not transposed, diagonal not of ones.
    solve_triangle(
        b"L", b"L", b"N", b"N", size, count, one, _pointer(columns), size, _pointer(white), size
    )
    return white


def _by_eigenvectors(matrix: Matrix, shift: float) -> Matrix:
    """Factorize the matrix without its negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    roots = np.sqrt(np.maximum(values, 0) + shift)
    # V diag(roots^2) V' = R' R, where Q R = diag(roots) V'; so L = R'.
    return np.linalg.qr(roots[:, None] * vectors.T, mode="r").T


@cache
def _routine(library: str, name: str) -> _Routine | None:
    """Look up a routine of scipy's BLAS or LAPACK; None without scipy.

    The arguments of the routine are all pointers, as in Fortran.
    """
    try:
        from importlib import import_module

        capsule = import_module(f"scipy.linalg.cython_{library}").__pyx_capi__[name]
    except (ImportError, AttributeError, KeyError):
        return None
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    signature = api.PyCapsule_GetName(capsule)
    if b"int *" not in signature:  # a build whose integers have 64 bits
        return None
    address = api.PyCapsule_GetPointer(capsule, signature)
    count = signature.count(b"*")
    routine: Any = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * count)(address)

    def call(*arguments: Any) -> None:
        routine(*(_address(argument) for argument in arguments))

    return call


def _address(argument: Any) -> Any:
    """Convert an argument to its address."""
    if isinstance(argument, bytes):
        return ctypes.cast(ctypes.c_char_p(argument), ctypes.c_void_p)
    return argument if isinstance(argument, ctypes.c_void_p) else ctypes.addressof(argument)


def _pointer(values: np.ndarray) -> ctypes.c_void_p:
    """Return the address of an array's numbers."""
    return ctypes.c_void_p(values.ctypes.data)
