"""Estimates of how long a probe takes on this machine: shown to people, never used to decide."""

import time
from functools import cache

import numpy as np

from unigeo.client.probing.folded_rows import ridge_operations
from unigeo.client.probing.linear_algebra import cholesky
from unigeo.client.probing.logistic import logistic_operations
from unigeo.client.probing.regression_kriging import CHOICE_POINTS
from unigeo.client.threads import available_cores, one_thread

_TRIAL_SIZE = 768
"""Rows of the matrix whose factorization is timed."""
_SECONDS_PER_ROW = {"lonlat neighbours": 2.5e-5, "lonlat trees": 4e-6}
"""Seconds of a baseline per row, target and split of five folds on one core, within a factor of
two."""
_SECONDS = {"lonlat trees": 0.4}
"""Seconds of a baseline per target and split that do not depend on the rows."""
_KRIGING_SECONDS = 1.5e-4
"""Seconds of the kriging weights of a point under all covariances on one core."""
_COLUMN_SECONDS = 5e-6
"""Seconds of a column's weighted sums at a point on one core."""

_SECONDS_PER_FIT, _SECONDS_PER_NUMBER = 0.25, 1.5e-6
"""Seconds of one fit of 120 rounds of trees that depend on nothing, and per row and feature."""


def ridge_seconds(rows: int, bands: int, folds: int, leave_one_out: bool = False) -> float:
    """Estimate the time of `RidgeProbe.held_out`."""
    operations = ridge_operations(rows, bands, folds, leave_one_out)
    return operations / (operations_per_second() * available_cores())


def kriging_seconds(rows: int, folds: int, columns: int) -> float:
    """Estimate the time of `regression_kriging.fit_kriging` for every fold."""
    return folds * min(rows, CHOICE_POINTS) * (_KRIGING_SECONDS + columns * _COLUMN_SECONDS)


def logistic_seconds(rows: int, bands: int, folds: int, classes: int) -> float:
    """Estimate the time of `LogisticProbe.held_out`."""
    return logistic_operations(rows, bands, folds, classes) / operations_per_second()


def baseline_seconds(name: str, rows: int, columns: int) -> float:
    """Estimate the time of a baseline; columns are targets or classes."""
    return columns * (_SECONDS.get(name, 0.0) + _SECONDS_PER_ROW.get(name, 0.0) * rows)


def trees_seconds(rows: int, features: int, folds: int, columns: int) -> float:
    """Estimate the time of gradient-boosted trees on features; columns are targets."""
    return columns * folds * (_SECONDS_PER_FIT + _SECONDS_PER_NUMBER * rows * features)


@cache
def operations_per_second() -> float:
    """Measure the floating-point rate of one core in a Cholesky factorization, best of three."""
    matrix = np.eye(_TRIAL_SIZE)  # a factorization takes the same time for any values
    times = []
    with one_thread():
        for _ in range(3):
            start = time.perf_counter()
            cholesky(matrix, 1.0)
            times.append(time.perf_counter() - start)
    return float(_TRIAL_SIZE**3 / 3 / min(times))
