"""A ridge's predictions of its own training points, each by a fit that leaves the point out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_LEAST_FREEDOM = 0.01
"""Lower bound of 1 - the weight of a point in its own prediction: leverages err by 0.1 %."""


@dataclass(frozen=True, eq=False)
class SeenFold:
    """A fold to predict by a model that was fitted on it."""

    fold: int
    """Fold to predict."""
    train: tuple[int, ...]
    """Folds that the model is fitted on."""
    best: Int[np.ndarray, " column"]
    """Number of the penalty of each target."""
    outputs: tuple[Float[np.ndarray, "point target"], ...]
    """Arrays that the predictions are written to."""
    difficulties: Float[np.ndarray, "point target"] | None
    """Array that the difficulties are written to; None if they are not wanted, which saves time."""

    @property
    def wants_difficulty(self) -> bool:
        """Whether the difficulties of the predictions are wanted."""
        return self.difficulties is not None


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
    difficulties: Float[np.ndarray, "point target"] | None = None,
) -> list[SeenFold]:
    """List the folds of a training set, to be predicted by its own model into some arrays."""
    return [SeenFold(fold, tuple(train), best, outputs, difficulties) for fold in train]


def leverage_left_out(
    difficulty: Float[np.ndarray, "*any"], count: int
) -> Float[np.ndarray, "*any"]:
    """Return the leverage of a training row for a ridge that is fitted on the other rows.

    Args:
        difficulty: factor of the usual error of the row, for the ridge that is fitted on it as
            well; see `leverage.difficulty`.
        count: number of rows that the ridge is fitted on.
    """
    own_weight = difficulty**2 - 1 + 1 / count  # the last part is that of the intercept
    return np.asarray(own_weight / np.maximum(1 - own_weight, _LEAST_FREEDOM))


def leave_out(
    truth: Float[np.ndarray, "row column"],
    fitted: Float[np.ndarray, "row column"],
    leverage: Float[np.ndarray, "row column"],
) -> Float[np.ndarray, "row column"]:
    """Return what a ridge would predict of training rows, were each left out of its fit.

    The residual r of a row becomes r (1 + leverage), with the leverage of the row for the others.

    Args:
        truth: targets.
        fitted: predictions by the ridge that is fitted on the rows.
        leverage: leverages that `leverage_left_out` returned, or those of a larger training set,
            times its number of rows over the number of rows of this one: the leverage depends on
            vectors alone, whose spread is nearly that of the larger set.

    Source: Hastie, Tibshirani & Friedman (2009), "The Elements of Statistical Learning", eq. 7.64.
    """
    return np.asarray(truth - (truth - fitted) * (1 + leverage))
