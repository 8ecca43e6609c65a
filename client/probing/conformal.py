"""Split-conformal intervals, calibrated on the errors of held-out predictions.

The errors in folds that a model has not seen are each divided by the expected difficulty
(`leverage`). The quantile of these ratios at the stated level, times the difficulty of a new
prediction, is the half-width of its interval. Under a spatial split the folds are whole blocks, so
the coverage holds for regions as far from the training points as a block is. Rows of one block are
alike: their errors are pooled, and the coverage needs many blocks, not many rows.

Source: Vovk, Gammerman & Shafer (2005), "Algorithmic Learning in a Random World"; pooling over
groups: Dunn, Wasserman & Ramdas (2022), "Distribution-free prediction sets for two-layer
hierarchical models".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.ridge import HeldOut
from unigeo.client.probing.table_columns import short
from unigeo.client.probing.target_bounds import UNBOUNDED, Bounds
from unigeo.schemas.errors import ProbeError

_ROUNDING = 1e-12
"""Relative rounding of a sum of weights."""
INTERVAL_LAYERS = ("prediction", "lower", "upper", "uncertainty")
"""Names of the layers of a predicted number; `uncertainty` is half of `upper` - `lower`."""


@dataclass(frozen=True)
class IntervalCoverage:
    """Intervals of one target, measured at points that took no part in their calibration."""

    half_width: float
    """Mean half-width over the points, in the target's unit."""
    covered: float
    """Share of the points whose truth lies in its interval."""


def conformal_quantile(
    residuals: Float[np.ndarray, " point"],
    level: float,
    weights: Float[np.ndarray, " point"] | None = None,
) -> float:
    """Return the bound that a new absolute residual stays below with probability `level` or more.

    It is the ceil((n + 1) level)-th smallest of n absolute residuals; infinite if n is too small.
    With weights it is the smallest residual at or below which lies `level` of their sum, to which
    1 is added for the new one.

    >>> conformal_quantile(np.arange(1.0, 20.0), 0.9)
    18.0
    """
    if weights is not None:
        order = np.argsort(residuals)
        below, needed = np.cumsum(weights[order]), level * (weights.sum() + 1)
        number = int(np.searchsorted(below, needed * (1 - _ROUNDING)))
        return float(residuals[order[number]]) if number < len(order) else float("inf")
    rank = int(np.ceil((len(residuals) + 1) * level))
    if rank > len(residuals):
        return float("inf")
    return float(np.partition(residuals, rank - 1)[rank - 1])  # ranks count from 1


def interval_layers(
    prediction: Float[np.ndarray, " point"],
    half_width: Callable[[], Float[np.ndarray, " point"]],
    layers: tuple[str, ...],
    bounds: Bounds = UNBOUNDED,
) -> dict[str, Float[np.ndarray, " point"]]:
    """Return some or all of `INTERVAL_LAYERS`.

    Args:
        prediction: predicted numbers.
        half_width: computes the half-width of their intervals; called if a layer needs it.
        layers: names of the layers.
        bounds: bounds that predictions and the ends of intervals keep.
    """
    layer_values = {"prediction": bounds.clip(prediction)}
    if set(layers) - {"prediction"}:
        half = half_width()
        lower, upper = bounds.clip(prediction - half), bounds.clip(prediction + half)
        layer_values |= {"lower": lower, "upper": upper}
        layer_values["uncertainty"] = (upper - lower) / 2 if bounds.exist else half
    return {name: layer_values[name] for name in layers}


def check_level(level: Any) -> None:
    """Refuse a level that is no probability.

    Raises:
        ProbeError: if it is not a number between 0 and 1.
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
    weights: Float[np.ndarray, " point"] | None = None,
    bounds: Bounds = UNBOUNDED,
) -> IntervalCoverage:
    """Measure the coverage on each fold of intervals calibrated on the other folds.

    For fold f the residuals on each other fold k are those of a model that saw neither f nor k. So
    neither the half-width nor the prediction that it belongs to has seen f. Such a model has a fold
    less to learn from, which makes the half-width slightly too wide.

    Args:
        truth: values of one target; points where it is NaN take no part.
        held: held-out predictions at the same points; points without those of `leave_two_out`
            calibrate nothing.
        column: number of the target in `held`.
        folds: fold number of each point.
        level: share of the points that intervals should hold, such as 0.9.
        weights: weight of each point, by which the share is counted; 1 by default.
        bounds: bounds that the ends of the intervals keep; the calibration knows none.
    """
    known = np.isfinite(truth)
    half_width, covered = np.empty(len(truth)), np.empty(len(truth), bool)
    for fold in np.unique(folds[known]):
        inside = known & (folds == fold)
        others = known & np.isfinite(held.leave_two_out[fold, :, column])
        # Each of these rows lies in a fold k that its model has not seen, nor this fold.
        residuals = np.abs(truth[others] - held.leave_two_out[fold, others, column])
        residuals /= held.difficulty_without_two[fold, others, column]
        of_others = None if weights is None else weights[others]
        quantile = conformal_quantile(residuals, level, of_others)
        middle, half = held.predictions[inside, column], held.difficulty[inside, column] * quantile
        # A truth within the bounds that lies in an interval lies in what they leave of it.
        covered[inside] = np.abs(truth[inside] - middle) <= half
        half_width[inside] = half
        if bounds.exist:
            half_width[inside] = (bounds.clip(middle + half) - bounds.clip(middle - half)) / 2
    counted = None if weights is None else weights[known]
    mean, share = (np.average(one[known], weights=counted) for one in (half_width, covered))
    return IntervalCoverage(float(mean), float(share))
