"""L-BFGS: a quasi-Newton method that minimises a smooth convex function."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

_MAX_STEPS = 300
_MEMORY = 10
"""Steps that the approximation of the curvature is built from."""
_SUFFICIENT_DECREASE = 1e-4
"""Share of the decrease that the slope promises, which a step must reach (Armijo's condition)."""
_MIN_LENGTH = 1e-10
"""Length of a step, as a share of the full one, below which rounding hides every decrease."""

_Pair = tuple[np.ndarray, np.ndarray, float]
"""A step s, the change of the gradient y along it, and 1 / (s' y)."""


def lbfgs(
    loss: Callable[[Float[np.ndarray, " number"]], tuple[float, Float[np.ndarray, " number"]]],
    start: Float[np.ndarray, " number"],
    tolerance: float,
) -> Float[np.ndarray, " number"]:
    """Minimise a smooth convex function whose curvature is about 1 at most.

    Args:
        loss: returns value and gradient at a point.
        start: point to begin at.
        tolerance: length of the gradient at which to stop.

    Source: Nocedal & Wright (2006), "Numerical Optimization", algorithm 7.5.
    """
    point = start
    value, gradient = loss(point)
    history: list[_Pair] = []
    for _ in range(_MAX_STEPS):
        if np.linalg.norm(gradient) <= tolerance:
            break
        direction = -_inverse_hessian_product(gradient, history)
        slope = float(direction @ gradient)
        length = 1.0  # the quasi-Newton step, which is taken in full as a rule
        while True:
            trial = point + length * direction
            trial_value, trial_gradient = loss(trial)
            enough = trial_value <= value + _SUFFICIENT_DECREASE * length * slope
            if enough or length < _MIN_LENGTH:
                break
            length /= 2
        if length < _MIN_LENGTH:
            break
        step, change = trial - point, trial_gradient - gradient
        curvature = float(step @ change)
        if curvature > 1e-12 * float(step @ step):  # else rounding would make the inverse huge
            history = [*history[1 - _MEMORY :], (step, change, 1 / curvature)]
        point, value, gradient = trial, trial_value, trial_gradient
    return point


def _inverse_hessian_product(
    gradient: Float[np.ndarray, " number"], history: list[_Pair]
) -> Float[np.ndarray, " number"]:
    """Multiply the gradient by the inverse Hessian that the past steps imply.

    Source: Nocedal & Wright (2006), algorithm 7.4, the two-loop recursion.
    """
    result = gradient.copy()
    shares = []
    for step, change, inverse in reversed(history):
        share = inverse * float(step @ result)
        result -= share * change
        shares.append(share)
    if history:
        # The initial inverse Hessian: s' y / y' y of the last step times the identity (eq. 7.20).
        _, change, inverse = history[-1]
        result /= inverse * float(change @ change)
    for (step, change, inverse), share in zip(history, reversed(shares), strict=True):
        result += (share - inverse * float(change @ result)) * step
    return result
