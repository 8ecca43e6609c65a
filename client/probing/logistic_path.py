"""Logistic ridge regression on one training set, solved for one penalty after the other.

Minimises mean log loss + penalty / 2 x squared length of the weights, of features standardized on
the training rows; the intercept is free. Two classes have one column of weights, more have one
each. (scikit-learn's `C` is 1 / (penalty x number of training rows).)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.band_scaling import EACH_BAND, BandScaling
from unigeo.client.probing.lbfgs import lbfgs

LOGISTIC_PENALTIES = tuple(10.0**power for power in range(1, -6, -1))
"""Penalties from 10 to 1e-5, one per decade; the largest first, since each solution starts the
next."""

_TOLERANCE = 1e-5
"""Length of the gradient at which to stop, as a share of that at zero weights."""

_LEAST_GRADIENT = 1e-12
"""Length of a gradient that rounding hides: where the rows are of one class, it starts there."""


@dataclass(frozen=True, kw_only=True, repr=False)
class FittedLogistic:
    """A map from vectors to probabilities of classes."""

    centre: Float[np.ndarray, " band"]
    """Vector that is subtracted from the vectors first."""
    weights: Float[np.ndarray, "band column"]
    """Weights in one column for two classes, else one per class."""
    intercepts: Float[np.ndarray, " column"]
    penalty: float
    """Penalty that the weights were solved for."""

    def __repr__(self) -> str:
        bands, columns = self.weights.shape
        classes = 2 if columns == 1 else columns
        return f"FittedLogistic({bands} bands, {classes} classes, penalty {self.penalty:g})"

    def predict(
        self, features: Float[np.ndarray, "point band"]
    ) -> Float[np.ndarray, "point class"]:
        """Return the probability of each class; a row with NaN gives NaN."""
        logits = (features - self.centre) @ self.weights + self.intercepts
        return _softmax(_add_reference_class(logits))


def logistic_path(
    features: Float[np.ndarray, "point band"],
    codes: Int[np.ndarray, " point"],
    penalties: Sequence[float],
    classes: int | np.integer,
    scaling: BandScaling = EACH_BAND,
    tolerance: float = _TOLERANCE,
    weights: Float[np.ndarray, " point"] | None = None,
) -> Iterator[FittedLogistic]:
    """Solve for every penalty in turn, each solution starting the next.

    The rows are turned into the eigenvectors of the bands' correlation matrix. There the largest
    curvature that log loss can have is diagonal (Böhning 1992): 1/4 of the eigenvalue for two
    classes, 1/2 for more, plus the penalty. Divided by its root, every direction is alike, and
    L-BFGS needs tens of steps. One eigendecomposition serves all penalties.

    Args:
        features: vectors of the training rows.
        codes: class number of each row.
        penalties: positive, best falling.
        classes: number of classes; the rows may lack some.
        scaling: scale of each band.
        tolerance: length of the gradient at which to stop, as a share of that at zero slopes.
        weights: positive weight of each row in all means; 1 by default.

    Yields:
        The model at each penalty.
    """
    each = np.ones(len(codes)) if weights is None else weights
    row_shares = each / each.sum()
    centre = np.asarray(row_shares @ features, np.float64)
    centred = features - centre
    variance = row_shares @ centred**2
    band_scale = scaling.factors(variance, variance + centre**2)
    standard = centred * band_scale
    eigenvalues, eigenvectors = _principal_directions(standard, row_shares)
    turned = standard @ eigenvectors
    indicators = np.eye(int(classes))[codes]
    truth = indicators[:, 1:] if classes == 2 else indicators
    max_curvature = 0.25 if classes == 2 else 0.5
    slopes = np.zeros((len(eigenvalues), truth.shape[1]))
    # Without slopes the best intercepts are the log odds of the classes' shares; a class that no
    # row has counts as half a row.
    shares = np.maximum(row_shares @ indicators, 1 / (2 * len(codes)))
    intercepts = np.log(shares[1:] / shares[0]) if classes == 2 else np.log(shares)
    for penalty in penalties:
        scale = 1 / np.sqrt(max_curvature * eigenvalues + penalty)
        scaled_slopes, intercepts = _minimise_loss(
            turned * scale,
            truth,
            row_shares,
            penalty * scale**2,
            slopes / scale[:, None],
            intercepts,
            max_curvature,
            tolerance,
        )
        slopes = scaled_slopes * scale[:, None]
        yield FittedLogistic(
            centre=centre,
            weights=band_scale[:, None] * (eigenvectors @ slopes),
            intercepts=intercepts,
            penalty=float(penalty),
        )


def _principal_directions(
    standard: Float[np.ndarray, "point band"],
    shares: Float[np.ndarray, " point"],
) -> tuple[Float[np.ndarray, " value"], Float[np.ndarray, "band value"]]:
    """Return eigenvalues and eigenvectors of the bands' correlation; no more of them than rows.

    Args:
        standard: standardized rows.
        shares: weights of the rows, which add up to 1.
    """
    rows = np.sqrt(shares)[:, None] * standard
    count, bands = rows.shape
    if bands <= count:
        values, vectors = np.linalg.eigh(rows.T @ rows)
        return np.maximum(values, 0), vectors
    # Z' Z and Z Z' have the same eigenvalues but 0; u of the smaller gives Z' u of the larger.
    values, row_vectors = np.linalg.eigh(rows @ rows.T)
    real = values > 1e-12 * max(values.max(), 1e-300)
    return values[real], rows.T @ row_vectors[:, real] / np.sqrt(values[real])


def _minimise_loss(
    design: Float[np.ndarray, "point value"],
    truth: Float[np.ndarray, "point column"],
    shares: Float[np.ndarray, " point"],
    ridge: Float[np.ndarray, " value"],
    weights: Float[np.ndarray, "value column"],
    intercepts: Float[np.ndarray, " column"],
    max_curvature: float,
    tolerance: float,
) -> tuple[Float[np.ndarray, "value column"], Float[np.ndarray, " column"]]:
    """Find the weights and intercepts of least loss by L-BFGS.

    Args:
        design: rows in coordinates of curvature 1 at most.
        truth: 1 where a row has the class of the column, else 0.
        shares: weights of the rows, which add up to 1.
        ridge: penalty of each coordinate.
        weights: weights to start from.
        intercepts: intercepts to start from.
        max_curvature: largest curvature of the log loss along a logit.
        tolerance: length of the gradient at which to stop, as a share of that at zero weights.
    """
    columns = truth.shape[1]
    # The intercept is the first row of the parameters, scaled to curvature 1 like the others.
    intercept_scale = np.sqrt(max_curvature)

    def loss(flat: Float[np.ndarray, " number"]) -> tuple[float, Float[np.ndarray, " number"]]:
        parameters = flat.reshape(-1, columns)
        slope, constant = parameters[1:], parameters[0] / intercept_scale
        logits = _add_reference_class(design @ slope + constant)
        top = logits.max(axis=1, keepdims=True)  # so that no exponential overflows
        log_sum = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        free = logits[:, -columns:]  # all but the reference class, whose logit stays 0
        value = shares @ (log_sum[:, 0] - (truth * free).sum(axis=1))
        value += 0.5 * (ridge[:, None] * slope**2).sum()
        error = shares[:, None] * (np.exp(free - log_sum) - truth)
        gradient = np.concatenate(
            [
                error.sum(axis=0, keepdims=True) / intercept_scale,
                design.T @ error + ridge[:, None] * slope,
            ]
        )
        return float(value), gradient.reshape(-1)

    start = np.concatenate([intercepts[None] * intercept_scale, weights]).reshape(-1)
    zero = np.concatenate([intercepts[None] * intercept_scale, np.zeros_like(weights)]).reshape(-1)
    stop = max(tolerance * float(np.linalg.norm(loss(zero)[1])), _LEAST_GRADIENT)
    parameters = lbfgs(loss, start, stop).reshape(-1, columns)
    return parameters[1:], parameters[0] / intercept_scale


def _add_reference_class(
    logits: Float[np.ndarray, "point column"],
) -> Float[np.ndarray, "point class"]:
    """Add the first of two classes, whose logit is 0; more classes have a column each."""
    if logits.shape[1] > 1:
        return logits
    return np.concatenate([np.zeros_like(logits), logits], axis=1)


def _softmax(logits: Float[np.ndarray, "point class"]) -> Float[np.ndarray, "point class"]:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))
