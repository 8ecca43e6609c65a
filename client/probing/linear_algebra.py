"""Cholesky factors of symmetric matrices: by LAPACK through scipy, else through numpy alone.

scipy's own wrappers keep Python's lock while LAPACK works, so that threads would wait for each
other. The same routines are therefore called where scipy publishes them for compiled code
(`scipy.linalg.cython_lapack`), through ctypes, which lets the lock go.
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

    Rounding can leave a small shift with a matrix that has no factor. Its negative eigenvalues are
    then taken for zero.

    Args:
        matrix: symmetric, float64.
        shift: 0 or more.
        scratch: of the same size, in C order; it is overwritten, and the factor may lie in it.
            Fresh memory for each of many large factors is not free.

    Returns:
        The lower triangle L of L L' = matrix + shift; above it stands 0 or what was there before.
    """
    shifted = np.empty(matrix.shape) if scratch is None else scratch
    np.copyto(shifted, matrix)
    shifted.reshape(-1)[:: len(matrix) + 1] += shift
    factorize = _routine("lapack", "dpotrf")
    if factorize is None:
        try:
            return np.linalg.cholesky(shifted)
        except np.linalg.LinAlgError:
            return _by_eigenvectors(matrix, shift)
    size, failed = ctypes.c_int(len(matrix)), ctypes.c_int()
    # LAPACK reads columns where numpy has rows: of a symmetric matrix they are the same.
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
    columns = np.asfortranarray(factor, np.float64)
    found = np.array(right.T, np.float64, order="C")  # by columns as LAPACK reads it
    size, count, failed = ctypes.c_int(len(factor)), ctypes.c_int(len(found)), ctypes.c_int()
    substitute(b"L", size, count, _pointer(columns), size, _pointer(found), size, failed)
    assert not failed.value
    return found.T


def whiten(factor: Matrix, rows: Float[np.ndarray, "row size"]) -> Float[np.ndarray, "row size"]:
    """Solve L x = row for each row, in the precision of `factor`, float32 or float64."""
    single = factor.dtype == np.float32
    solve_triangle = _routine("blas", "strsm" if single else "dtrsm")
    if solve_triangle is None:
        return np.asarray(np.linalg.solve(np.tril(factor), rows.T.astype(factor.dtype)).T)
    columns = np.asfortranarray(factor)
    found = np.array(rows, factor.dtype, order="C")
    one = ctypes.c_float(1) if single else ctypes.c_double(1)
    size, count = ctypes.c_int(len(factor)), ctypes.c_int(len(found))
    solve_triangle(
        b"L", b"L", b"N", b"N", size, count, one, _pointer(columns), size, _pointer(found), size
    )
    return found


def _by_eigenvectors(matrix: Matrix, shift: float) -> Matrix:
    """The factor of the matrix without its negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    roots = np.sqrt(np.maximum(values, 0) + shift)
    return np.linalg.qr(roots[:, None] * vectors.T, mode="r").T


@cache
def _routine(library: str, name: str) -> _Routine | None:
    """A routine of scipy's BLAS or LAPACK, whose arguments are all pointers; None without scipy."""
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
    if b"int *" not in signature:  # integers of another width
        return None
    address = api.PyCapsule_GetPointer(capsule, signature)
    count = signature.count(b"*")
    routine: Any = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * count)(address)

    def call(*arguments: Any) -> None:
        routine(*(_address(argument) for argument in arguments))

    return call


def _address(argument: Any) -> Any:
    """What C takes for a pointer to it."""
    if isinstance(argument, bytes):
        return ctypes.cast(ctypes.c_char_p(argument), ctypes.c_void_p)
    return argument if isinstance(argument, ctypes.c_void_p) else ctypes.addressof(argument)


def _pointer(values: np.ndarray) -> ctypes.c_void_p:
    """Where an array's numbers stand."""
    return ctypes.c_void_p(values.ctypes.data)
