"""Split-conformal intervals: how far the truth lay from held-out predictions, as a promise.

Errors in folds that a model never saw, each divided by its expected difficulty (`leverage`), are
ranked; what the stated share of them stays below, times the difficulty of a new prediction, is the
half-width of its interval. Under a spatial split the folds are whole blocks, so the promise holds
for country as far from the training points as a block is. Rows of one block are alike: their errors
are pooled, and it takes many blocks, not many rows, to keep the promise.

Source: Vovk, Gammerman & Shafer (2005), "Algorithmic Learning in a Random World"; pooling over
groups: Dunn, Wasserman & Ramdas (2022), "Distribution-free prediction sets for two-layer
hierarchical models".
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.ridge import HeldOut
from unigeo.client.probing.table_columns import short
from unigeo.schemas.errors import ProbeError


@dataclass(frozen=True)
class Coverage:
    """What intervals of one target did on points that took no part in calibration."""

    half_width: float
    """Mean over the points, in the target's unit."""
    covered: float
    """Share of the points whose truth lies in its interval."""


def conformal_quantile(residuals: Float[np.ndarray, " point"], level: float) -> float:
    """What a new absolute residual stays below with at least the given probability.

    It is the ceil((n + 1) level)-th smallest of n absolute residuals; infinite where n is too
    small to say.

    >>> conformal_quantile(np.arange(1.0, 20.0), 0.9)
    18.0
    """
    rank = int(np.ceil((len(residuals) + 1) * level))
    if rank > len(residuals):
        return float("inf")
    return float(np.partition(residuals, rank - 1)[rank - 1])


def check_level(level: Any) -> None:
    """Refuse a level that is no probability.

    Raises:
        ProbeError: unless it is a number that lies between 0 and 1.
    """
    if not isinstance(level, int | float | np.number):
        raise ProbeError(
            f"the level of intervals must be a number between 0 and 1, not {short(level)}"
        )
    if not 0 < level < 1:
        raise ProbeError(f"the level of intervals must lie between 0 and 1, not {level}")


def measured_coverage(
    truth: Float[np.ndarray, " point"],
    held: HeldOut,
    column: int,
    folds: Int[np.ndarray, " point"],
    level: float,
) -> Coverage:
    """Calibrate on the other folds, then count on each fold; no fold judges itself.

    For fold f the residuals are those of fold k of models that saw neither f nor k: neither the
    half-width nor the prediction it is put round has seen f. Such a model has a fold less to learn
    from, so the half-width errs on the wide side.

    Args:
        truth: of one target; points where it is NaN take no part.
        held: predictions of the same points.
        column: of the target in them.
        folds: of the same points.
        level: stated, such as 0.9.
    """
    known = np.isfinite(truth)
    width, covered = np.empty(len(truth)), np.empty(len(truth), bool)
    for fold in np.unique(folds[known]):
        inside, others = known & (folds == fold), known & (folds != fold)
        residuals = np.abs(truth[others] - held.leave_two_out[fold, others, column])
        residuals /= held.difficulty_without_two[fold, others, column]
        width[inside] = conformal_quantile(residuals, level) * held.difficulty[inside, column]
        error = np.abs(truth[inside] - held.predictions[inside, column])
        covered[inside] = error <= width[inside]
    return Coverage(float(width[known].mean()), float(covered[known].mean()))
