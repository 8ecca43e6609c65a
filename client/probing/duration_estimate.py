"""About how long a probe takes on this machine: for people who wait, never for a decision."""

import time
from functools import cache

import numpy as np

from unigeo.client.probing.folded_rows import ridge_operations
from unigeo.client.probing.linear_algebra import cholesky
from unigeo.client.probing.logistic import logistic_operations
from unigeo.client.threads import available_cores, one_thread

_TRIAL_SIZE = 768
_SECONDS_PER_ROW = {"lonlat neighbours": 2.5e-5, "lonlat trees": 4e-6}
"""Of one target and split of five folds, on one core, within a factor of two."""
_SECONDS = {"lonlat trees": 0.4}
"""Beside what grows with the rows."""


def ridge_seconds(rows: int, bands: int, folds: int) -> float:
    """Of `RidgeProbe.held_out`."""
    return ridge_operations(rows, bands, folds) / (operations_per_second() * available_cores())


def logistic_seconds(rows: int, bands: int, folds: int, classes: int) -> float:
    """Of `LogisticProbe.held_out`."""
    return logistic_operations(rows, bands, folds, classes) / operations_per_second()


def baseline_seconds(name: str, rows: int, targets: int) -> float:
    """Of a baseline on longitude and latitude."""
    return targets * (_SECONDS.get(name, 0.0) + _SECONDS_PER_ROW.get(name, 0.0) * rows)


@cache
def operations_per_second() -> float:
    """Floating-point operations of one core in a Cholesky factorization, the best of three."""
    matrix = np.eye(_TRIAL_SIZE)
    times = []
    with one_thread():
        for _ in range(3):
            start = time.perf_counter()
            cholesky(matrix, 1.0)
            times.append(time.perf_counter() - start)
    return float(_TRIAL_SIZE**3 / 3 / min(times))


def duration(seconds: float) -> str:
    """Say a time in round numbers.

    >>> duration(0.2), duration(42.0), duration(700.0), duration(9000.0)
    ('a second', '40 s', '12 minutes', '2.5 hours')
    """
    if seconds < 1.5:
        return "a second"
    if seconds < 95:
        return f"{seconds:.0f} s" if seconds < 10 else f"{round(seconds, -1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
