"""A ridge's predictions of its own training points, each by a fit that leaves the point out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_LEAST_FREEDOM = 0.01
"""Lower bound of 1 - the weight of a point in its own prediction: leverages err by 0.1 %."""


@dataclass(frozen=True, eq=False)
class SeenFold:
    """A fold to predict by a model that was fitted on it, each point left out of the fit."""

    fold: int
    """Fold to predict."""
    train: tuple[int, ...]
    """Folds that the model is fitted on."""
    best: Int[np.ndarray, " column"]
    """Number of the penalty of each target."""
    outputs: tuple[Float[np.ndarray, "point target"], ...]
    """Arrays that the predictions are written to."""


@dataclass(frozen=True, eq=False, repr=False)
class TrainingPredictions:
    """Predictions of the training points of one model, at its penalties."""

    left_out: Float[np.ndarray, "point target"]
    """Predictions by the model with the point alone left out; NaN outside the training set."""
    unseen: Float[np.ndarray, "point target"]
    """Predictions by the model without the point's fold; NaN outside the training set."""
    left_out_without: Float[np.ndarray, "fold point target"]
    """Predictions by the model without a fold, with the point alone left out as well; NaN in that
    fold and outside the training set."""

    def __repr__(self) -> str:
        points, targets = self.left_out.shape
        return f"TrainingPredictions({points:,} points, {targets} targets)"

    def select(self, columns: Int[np.ndarray, " column"]) -> "TrainingPredictions":
        """Return the predictions of some targets, by their numbers."""
        return TrainingPredictions(
            self.left_out[:, columns],
            self.unseen[:, columns],
            self.left_out_without[:, :, columns],
        )

    @classmethod
    def concatenate(cls, parts: Sequence["TrainingPredictions"]) -> "TrainingPredictions":
        """Put the predictions of several models of the same points side by side."""
        return cls(
            np.concatenate([part.left_out for part in parts], axis=1),
            np.concatenate([part.unseen for part in parts], axis=1),
            np.concatenate([part.left_out_without for part in parts], axis=2),
        )


def seen_folds(
    train: Sequence[int],
    best: Int[np.ndarray, " column"],
    *outputs: Float[np.ndarray, "point target"],
) -> list[SeenFold]:
    """List the folds of a training set, to be predicted by its own model into some arrays."""
    return [SeenFold(fold, tuple(train), best, outputs) for fold in train]


def left_out_predictions(
    truth: Float[np.ndarray, "row column"],
    fitted: Float[np.ndarray, "row column"],
    difficulty: Float[np.ndarray, "row column"],
    count: int,
) -> Float[np.ndarray, "row column"]:
    """Return what a ridge would predict of training rows, were each left out of its fit.

    The prediction of a row by a linear smoother is h times its own target plus the part of the
    others. With the row left out the residual r becomes r / (1 - h), where h is its leverage, plus
    1 / count for the intercept.

    Args:
        truth: targets.
        fitted: predictions by the ridge that is fitted on the rows.
        difficulty: factor of the usual error, from the leverage; see `leverage.difficulty`.
        count: number of rows that the ridge is fitted on.

    Source: Hastie, Tibshirani & Friedman (2009), "The Elements of Statistical Learning", eq. 7.64.
    """
    own_weight = difficulty**2 - 1 + 1 / count
    return np.asarray(truth - (truth - fitted) / np.maximum(1 - own_weight, _LEAST_FREEDOM))
