"""Scores of held-out predictions: of numbers, and of classes."""

import numpy as np
from jaxtyping import Bool, Float, Int

_LEAST_PROBABILITY = 1e-15
"""A class that a training set lacks has probability 0; its log loss stays finite."""


def r2_score(truth: Float[np.ndarray, " point"], guess: Float[np.ndarray, " point"]) -> float:
    """1 - SSE / SST, SST about the mean of `truth`; NaN where `truth` is constant.

    >>> r2_score(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]))
    0.5
    """
    total = ((truth - truth.mean()) ** 2).sum()
    return float(1 - ((truth - guess) ** 2).sum() / total) if total > 0 else float("nan")


def accuracy(
    codes: Int[np.ndarray, " point"], probabilities: Float[np.ndarray, "point class"]
) -> float:
    """Share of the points whose most probable class is the true one."""
    return float((probabilities.argmax(axis=1) == codes).mean())


def balanced_accuracy(
    codes: Int[np.ndarray, " point"], probabilities: Float[np.ndarray, "point class"]
) -> float:
    """Mean over the classes that occur of the share of their points that is found.

    As scikit-learn's `balanced_accuracy_score`: of k classes, a guess of always the same one has
    1 / k.
    """
    found = probabilities.argmax(axis=1) == codes
    counts = np.bincount(codes)
    shares = np.bincount(codes, weights=found)[counts > 0] / counts[counts > 0]
    return float(shares.mean())


def average_precision(
    codes: Int[np.ndarray, " point"], probabilities: Float[np.ndarray, "point class"]
) -> float:
    """Mean precision over the recalls, of points ranked by their probability of a class.

    As scikit-learn's `average_precision_score`: sum of (R_n - R_(n-1)) P_n over the thresholds n.
    Of two classes it is that of the rarer (the second, where both are as frequent); of more, the
    plain mean over the classes that occur, each against the rest. Where the probabilities tell
    nothing it is the share of the class.
    """
    counts = np.bincount(codes, minlength=probabilities.shape[1])
    classes = np.flatnonzero(counts)
    if len(counts) == 2:
        classes = np.array([0 if 0 < counts[0] < counts[1] else 1])
    found = [_precision(codes == one, probabilities[:, one]) for one in classes]
    return float(np.mean(found))


def log_loss(
    codes: Int[np.ndarray, " point"], probabilities: Float[np.ndarray, "point class"]
) -> float:
    """Mean of -log of the true class's probability."""
    of_truth = probabilities[np.arange(len(codes)), codes]
    return float(-np.log(np.maximum(of_truth, _LEAST_PROBABILITY)).mean())


def _precision(truth: Bool[np.ndarray, " point"], score: Float[np.ndarray, " point"]) -> float:
    """Average precision of one class; points of equal score pass a threshold together."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # of each equal score
    hits = np.cumsum(truth[order])[last]
    recall = hits / max(hits[-1], 1)
    return float((np.diff(recall, prepend=0.0) * hits / (last + 1)).sum())
