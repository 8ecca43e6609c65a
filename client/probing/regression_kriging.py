"""Regression kriging: a ridge's prediction, and its residuals at known points spread by kriging.

The prediction is m + s (ridge - m) + the weighted sum of residuals of the nearest training points,
where m is the mean of the training targets, s between 0 and 1 the share of the ridge that is kept,
and a residual is y - m - s (l - m). Here l is the ridge's prediction of a training point by a fit
that leaves the point out: the residuals of the fit itself are too small where bands are many. The
ridge is fitted as if neighbours were independent, so with s = 1 it would also say what neighbours
say better; where vectors tell nothing beyond that, s is 0.

Covariance and share are chosen by the errors on every training fold of models without it. Residuals
by models without the whole fold of a point do not serve, for those models are farther from their
data than the one that predicts: on the standard fourteen targets they gained less than half.

Source: Hengl, Heuvelink & Rossiter (2007), "About regression-kriging", Computers & Geosciences 33.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.kriging import (
    Covariance,
    KnownPoints,
    Positions,
    candidate_covariances,
    positions_of,
)
from unigeo.client.probing.training_predictions import TrainingPredictions
from unigeo.client.threads import workers

CHOICE_POINTS = 4000
"""Points, about, whose errors decide on covariance and share, and calibrate the intervals."""
CHOICE_NEIGHBOURS = 20
"""Neighbours while covariance and share are chosen: fewer than predictions have, to save time. The
errors with them calibrate the intervals, which are slightly too wide thereby."""
_OPERATIONS = 30_000.0
"""Floating-point operations, about, for the weights of one point under one covariance."""
_WORKER_BYTES = 2**26
"""Memory, about, of the weights of one fold's points."""


@dataclass(frozen=True, eq=False, repr=False)
class KrigedResiduals:
    """Residuals of columns (a target each, by a ridge of its own) at known points."""

    lonlat: Float[np.ndarray, "point 2"]
    residuals: Float[np.ndarray, "point column"]
    mean: Float[np.ndarray, " column"]
    """Mean of the targets at the known points."""
    share: Float[np.ndarray, " column"]
    """Share of the ridge that is kept, 0 to 1."""
    covariances: tuple[Covariance, ...]
    """Covariance of each column's residuals."""

    def __repr__(self) -> str:
        points, columns = self.residuals.shape
        return f"KrigedResiduals({columns} columns at {points:,} points)"

    @cached_property
    def _known(self) -> KnownPoints:
        return KnownPoints(positions_of(self.lonlat))

    def only(self, column: int) -> "KrigedResiduals":
        """Return the residuals of one column, by its number."""
        return KrigedResiduals(
            self.lonlat,
            self.residuals[:, [column]],
            self.mean[[column]],
            self.share[[column]],
            (self.covariances[column],),
        )

    def predict(
        self, ridge: Float[np.ndarray, "new column"], lonlat: Float[np.ndarray, "new 2"]
    ) -> Float[np.ndarray, "new column"]:
        """Predict new points from the ridge's predictions and their positions."""
        trend = self.mean + self.share * (ridge - self.mean)
        distinct = tuple(dict.fromkeys(self.covariances))
        of_column = np.array([distinct.index(each) for each in self.covariances])
        spread = np.empty(trend.shape)
        for part, weights in self._known.weights(positions_of(lonlat), distinct):
            sums = weights.sums(self.residuals)
            spread[part] = sums[:, of_column, np.arange(len(of_column))]
        return np.asarray(trend + spread)


@dataclass(frozen=True, eq=False, repr=False)
class RegressionKriging:
    """Kriged residuals of one training set, and what their choice has predicted."""

    residuals: KrigedResiduals
    unseen: Float[np.ndarray, "point column"]
    """Predictions of training points by models without their fold; NaN at points that took no part
    in the choice, and outside the training set."""

    def __repr__(self) -> str:
        return f"RegressionKriging({self.residuals!r})"


def fit_kriging(
    lonlat: Float[np.ndarray, "point 2"],
    truth: Float[np.ndarray, "point column"],
    folds: Int[np.ndarray, " point"],
    trained: TrainingPredictions,
) -> RegressionKriging:
    """Choose covariance and share of every column, and take the residuals at the training points.

    Args:
        lonlat: position of every point.
        truth: targets of all points; each column is known at every training point.
        folds: fold of each point.
        trained: predictions of the training points by the ridge.

    Raises:
        MissingExtraError: without scikit-learn.
    """
    positions = positions_of(lonlat)
    inside = np.flatnonzero(np.isfinite(trained.left_out).all(axis=1))
    covariances = candidate_covariances(positions[inside])
    every = max(1, len(inside) // CHOICE_POINTS)
    labels = np.unique(folds[inside])
    tasks = []
    for label in labels:
        held = inside[folds[inside] == label]
        # Every so many points in an order without meaning: rows are often sorted by position.
        some = np.random.default_rng(0).permutation(held)[: -(-len(held) // every)]
        tasks.append((int(label), np.sort(some), inside[folds[inside] != label]))

    def errors(task: tuple[int, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        label, held, train = task
        return _errors(positions, truth, trained, label, held, train, covariances)

    operations = _OPERATIONS * len(covariances) * sum(len(held) for _, held, _ in tasks)
    with workers(operations, _WORKER_BYTES) as run:
        parts = list(run(errors, tasks))
    columns = np.arange(truth.shape[1])
    best, share = _choose(parts)
    unseen = np.full(truth.shape, np.nan)
    for (_, held, _), (alone, gained) in zip(tasks, parts, strict=True):
        error = alone[:, best, columns] - share * gained[:, best, columns]
        unseen[held] = truth[held] - error
    mean = truth[inside].mean(axis=0)
    trend = share * (trained.left_out[inside] - mean)
    residuals = KrigedResiduals(
        lonlat[inside],
        truth[inside] - mean - trend,
        mean,
        share,
        tuple(covariances[number] for number in best),
    )
    return RegressionKriging(residuals, unseen)


def _errors(
    positions: Positions,
    truth: Float[np.ndarray, "point column"],
    trained: TrainingPredictions,
    label: int,
    held: Int[np.ndarray, " held"],
    train: Int[np.ndarray, " train"],
    covariances: Sequence[Covariance],
) -> tuple[
    Float[np.ndarray, "held covariance column"], Float[np.ndarray, "held covariance column"]
]:
    """Compute the errors on a fold of models without it.

    Returns:
        The errors by position alone, and what all of the ridge takes off them: with the share s
        of the ridge the errors are the first - s x the second.
    """
    mean = truth[train].mean(axis=0)
    targets = truth[train] - mean
    trends = trained.left_out_without[label, train] - mean
    both = np.concatenate([targets, trends], axis=1).astype(np.float32)
    alone, gained = np.empty((2, len(held), len(covariances), truth.shape[1]), np.float32)
    known = KnownPoints(positions[train])
    for part, weights in known.weights(positions[held], covariances, CHOICE_NEIGHBOURS):
        by_targets, by_trends = np.split(weights.sums(both), 2, axis=2)
        alone[part] = (truth[held[part]] - mean)[:, None] - by_targets
        gained[part] = (trained.unseen[held[part]] - mean)[:, None] - by_trends
    return alone, gained


def _choose(
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[Int[np.ndarray, " column"], Float[np.ndarray, " column"]]:
    """Choose each column's covariance and share, of the least sum of squared errors.

    The sum over (a - s b)^2 is least at s = sum of a b / sum of b^2.
    """
    aa, ab, bb = (
        sum(np.einsum("poc,poc->oc", *pair, dtype=np.float64) for pair in pairs)
        for pairs in zip(*(((a, a), (a, b), (b, b)) for a, b in parts), strict=True)
    )
    shares = np.clip(ab / np.where(bb > 0, bb, 1), 0, 1)
    best = np.argmin(aa - 2 * shares * ab + shares**2 * bb, axis=0)
    return best, shares[best, np.arange(len(best))]
