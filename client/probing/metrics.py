"""Scores of held-out predictions of numbers and of classes; each point counts by its weight."""

import numpy as np
from jaxtyping import Bool, Float, Int

_MIN_PROBABILITY = 1e-15
"""Lower bound of probabilities in the log loss, which it keeps finite; an unseen class has 0."""


Weights = Float[np.ndarray, " point"] | None
"""Weight of each point; None if all are 1."""


def r2_score(
    truth: Float[np.ndarray, " point"],
    guess: Float[np.ndarray, " point"],
    weights: Weights = None,
) -> float:
    """Compute 1 - SSE / SST, SST about the mean of `truth`; NaN if `truth` is constant.

    >>> r2_score(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]))
    0.5
    """
    error = np.average((truth - guess) ** 2, weights=weights)
    total = np.average((truth - np.average(truth, weights=weights)) ** 2, weights=weights)
    return float(1 - error / total) if total > 0 else float("nan")


def accuracy(
    codes: Int[np.ndarray, " point"],
    probabilities: Float[np.ndarray, "point class"],
    weights: Weights = None,
) -> float:
    """Compute the share of the points whose most probable class is the true one."""
    return float(np.average(probabilities.argmax(axis=1) == codes, weights=weights))


def balanced_accuracy(
    codes: Int[np.ndarray, " point"],
    probabilities: Float[np.ndarray, "point class"],
    weights: Weights = None,
) -> float:
    """Compute the mean recall over the classes that occur.

    As scikit-learn's `balanced_accuracy_score`. A constant prediction of one of k classes scores
    1 / k.
    """
    each = np.ones(len(codes)) if weights is None else weights
    correct = each * (probabilities.argmax(axis=1) == codes)
    counts = np.bincount(codes, weights=each)
    recalls = np.bincount(codes, weights=correct)[counts > 0] / counts[counts > 0]
    return float(recalls.mean())


def average_precision(
    codes: Int[np.ndarray, " point"],
    probabilities: Float[np.ndarray, "point class"],
    weights: Weights = None,
) -> float:
    """Compute the average precision of points ranked by their probability of a class.

    As scikit-learn's `average_precision_score`: sum of (R_n - R_(n-1)) P_n over the thresholds n,
    with recall R and precision P. For two classes it is that of the rarer (the second, if both are
    equally frequent); for more, the unweighted mean over the classes that occur, each against the
    rest. Probabilities without information score the share of the class.
    """
    points = np.ones(len(codes)) if weights is None else weights
    counts = np.bincount(codes, weights=points, minlength=probabilities.shape[1])
    classes = np.flatnonzero(counts)
    if len(counts) == 2:
        classes = np.array([0 if 0 < counts[0] < counts[1] else 1])
    each = [_class_precision(codes == one, probabilities[:, one], points) for one in classes]
    return float(np.mean(each))


def log_loss(
    codes: Int[np.ndarray, " point"],
    probabilities: Float[np.ndarray, "point class"],
    weights: Weights = None,
) -> float:
    """Compute the mean of -log of the true class's probability."""
    of_truth = probabilities[np.arange(len(codes)), codes]
    return float(np.average(-np.log(np.maximum(of_truth, _MIN_PROBABILITY)), weights=weights))


def _class_precision(
    truth: Bool[np.ndarray, " point"],
    score: Float[np.ndarray, " point"],
    weights: Float[np.ndarray, " point"],
) -> float:
    """Compute the average precision of one class; points of equal score share a threshold."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # last row of each score
    hits = np.cumsum((weights * truth)[order])[last]
    ranked = np.cumsum(weights[order])[last]
    recall = hits / hits[-1] if hits[-1] > 0 else hits
    # The steps of the recall, weighted by the precision hits / ranked at each threshold.
    return float((np.diff(recall, prepend=0.0) * hits / ranked).sum())
