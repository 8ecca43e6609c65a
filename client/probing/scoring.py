"""Scores of held-out predictions: of numbers, and of classes."""

import numpy as np
from jaxtyping import Float, Int

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
    """Mean over the classes that occur of the share of their points that is found."""
    found = probabilities.argmax(axis=1) == codes
    counts = np.bincount(codes)
    shares = np.bincount(codes, weights=found)[counts > 0] / counts[counts > 0]
    return float(shares.mean())


def log_loss(
    codes: Int[np.ndarray, " point"], probabilities: Float[np.ndarray, "point class"]
) -> float:
    """Mean of -log of the true class's probability."""
    of_truth = probabilities[np.arange(len(codes)), codes]
    return float(-np.log(np.maximum(of_truth, _LEAST_PROBABILITY)).mean())
