"""Ridge on a few labels: its penalty, its uncertainty, and a score where there are enough labels.

The penalty is the one that makes the labels most likely if weights and noise are normal (restricted
maximum likelihood: the intercept is free), so that the uncertainty has the scale of the labels. The
page of a field solves the same equations in `viewer/src/label_ridge.ts`; a test compares them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unigeo.schemas.errors import ProbeError

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
"""Penalties that are tried, times the mean squared distance of the vectors from their mean."""
LEAST_LABELS, LEAST_BLOCKS = 20, 5
"""Labels, and blocks that hold them, below which a score says nothing."""
BLOCK_M = 300_000.0
"""Side of the blocks, in metres of the field's CRS."""
_FOLDS = 5
_PROBIT = 1.702
"""Factor by which the logistic function is nearest to the normal distribution's."""


@dataclass(frozen=True, eq=False)
class LabelRidge:
    """A linear model of labels, with an unpenalized intercept."""

    centre: Float[np.ndarray, " band"]
    """Mean of the labels' vectors."""
    centred: Float[np.ndarray, "label band"]
    """The labels' vectors less their mean."""
    inverse: Float[np.ndarray, "label label"]
    """Inverse of the Gram matrix of the centred vectors plus the penalty."""
    weights: Float[np.ndarray, "band output"]
    intercept: Float[np.ndarray, " output"]
    """Prediction at the mean of the vectors: the mean of the targets."""
    penalty: float
    """Weight of the squared length of the weights beside the sum of squared errors."""
    noise: float
    """Standard deviation of labels round the linear model."""

    def predict(self, vectors: Float[np.ndarray, "cell band"]) -> Float[np.ndarray, "cell output"]:
        """Return the predicted targets."""
        return np.asarray((vectors - self.centre) @ self.weights + self.intercept)

    def deviation(self, vectors: Float[np.ndarray, "cell band"]) -> Float[np.ndarray, " cell"]:
        """Return the standard deviation of a label at each vector, given those that are known.

        Source: Rasmussen & Williams (2006), "Gaussian Processes for Machine Learning", equation
        2.26, for the linear kernel noise² / penalty, and a flat prior on the intercept.
        """
        x = vectors - self.centre
        known = x @ self.centred.T
        left = (x * x).sum(axis=1) - ((known @ self.inverse) * known).sum(axis=1)
        variance = 1 + 1 / len(self.centred) + np.maximum(left, 0) / self.penalty
        return np.asarray(self.noise * np.sqrt(variance))

    def shares(
        self,
        predicted: Float[np.ndarray, "cell output"],
        deviation: Float[np.ndarray, " cell"],
    ) -> Float[np.ndarray, "cell output"]:
        """Return the probability of each class, for targets of 0 and 1.

        It is the probability that a normal label of this mean and deviation exceeds 1/2, in
        proportion to those of the other classes. The logistic function stands for the normal
        distribution, from which it differs by 0.01 at most, since its tails do not underflow.

        Args:
            predicted: of `predict`.
            deviation: of `deviation`.
        """
        logits = _PROBIT * (predicted - 0.5) / deviation[:, None]
        logs = -np.logaddexp(0, -logits)
        likely = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(likely / likely.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class BlockScore:
    """Score of predictions in blocks that the model did not see."""

    kind: str
    """`R2` of numbers, `accuracy` of classes."""
    value: float
    baseline: float
    """Score of predicting the mean, which is 0, or the commonest class."""


def fit_labels(
    vectors: Float[np.ndarray, "label band"],
    targets: Float[np.ndarray, "label output"],
    penalty: float | None = None,
) -> LabelRidge:
    """Fit ridge to labels.

    Args:
        vectors: unit vectors, float64.
        targets: numbers, or one column of 0 and 1 for each class.
        penalty: by default that of `PENALTIES` which makes the labels most likely.

    Raises:
        ProbeError: if all labels have one vector.
    """
    centre, intercept = vectors.mean(axis=0), targets.mean(axis=0)
    centred, y = vectors - centre, targets - intercept
    gram = centred @ centred.T
    scale = float(np.trace(gram)) / len(gram)
    if not scale > 1e-12:
        raise ProbeError(
            f"the {len(gram)} labels lie in cells of one vector: there is nothing to tell apart; "
            "label cells that differ"
        )
    freedom = len(gram) - 1
    tried = []
    for candidate in [penalty] if penalty is not None else [scale * one for one in PENALTIES]:
        matrix = gram + candidate * np.eye(len(gram))
        inverse = np.linalg.inv(matrix)
        # Of labels with the covariance noise² (gram / penalty + 1): the squares that they have in
        # units of it, and minus twice the logarithm of their likelihood, less what is constant.
        squares = candidate * float(np.sum(y * (inverse @ y)))
        unlikely = freedom * np.log(squares) + np.linalg.slogdet(matrix / candidate).logabsdet
        tried.append((float(unlikely), candidate, inverse, squares))
    _, chosen, inverse, squares = min(tried, key=lambda one: one[0])
    noise = np.sqrt(squares / (freedom * targets.shape[1]))
    weights = centred.T @ (inverse @ y)
    return LabelRidge(centre, centred, inverse, weights, intercept, float(chosen), float(noise))


def block_score(
    vectors: Float[np.ndarray, "label band"],
    targets: Float[np.ndarray, "label output"],
    blocks: Int[np.ndarray, "label 2"],
    penalty: float,
    classes: bool,
) -> BlockScore | None:
    """Score predictions in blocks that were left out, a fifth of them at a time.

    Args:
        vectors: as in `fit_labels`.
        targets: as in `fit_labels`.
        blocks: row and column of each label's block.
        penalty: of the fit to all labels.
        classes: whether the targets are classes.

    Returns:
        None if there are too few labels or blocks to judge.
    """
    known, number = np.unique(blocks, axis=0, return_inverse=True)
    if len(targets) < LEAST_LABELS or len(known) < LEAST_BLOCKS:
        return None
    predicted = np.empty_like(targets)
    fold = number.reshape(-1) % _FOLDS
    for one in range(_FOLDS):
        held = fold == one
        predicted[held] = _fit_rest(vectors[~held], targets[~held], penalty, vectors[held])
    if classes:
        truth = targets.argmax(axis=1)
        right = float(np.mean(predicted.argmax(axis=1) == truth))
        return BlockScore("accuracy", right, float(targets.mean(axis=0).max()))
    spread = ((targets - targets.mean(axis=0)) ** 2).sum()
    return BlockScore("R2", float(1 - ((targets - predicted) ** 2).sum() / spread), 0.0)


def _fit_rest(
    vectors: Float[np.ndarray, "label band"],
    targets: Float[np.ndarray, "label output"],
    penalty: float,
    at: Float[np.ndarray, "held band"],
) -> Float[np.ndarray, "held output"]:
    """Predict held-out labels; from others that are alike, by their mean."""
    if np.ptp(vectors, axis=0).max() <= 1e-9 or not np.ptp(targets, axis=0).any():
        return np.broadcast_to(targets.mean(axis=0), (len(at), targets.shape[1]))
    return fit_labels(vectors, targets, penalty).predict(at)
