"""Layers of a small neural network in numpy, which compute what torch's do, in float32."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Float32

Weights = Mapping[str, np.ndarray]
"""Arrays by their name in torch's `state_dict`."""

_NORM_EPSILON = 1e-5
"""Constant added to a layer norm's variance, torch's default."""


def linear(
    weights: Weights, layer: str, inputs: Float32[np.ndarray, "*row input"]
) -> Float32[np.ndarray, "*row output"]:
    """Multiply by `layer`.weight, (output, input), and add `layer`.bias."""
    weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
    # One product of two matrices is faster than a batch of small ones.
    outputs: np.ndarray = inputs.reshape(-1, weight.shape[1]) @ weight.T
    outputs += bias
    return outputs.reshape(*inputs.shape[:-1], -1)


def norm(
    weights: Weights, layer: str, inputs: Float32[np.ndarray, "*row width"]
) -> Float32[np.ndarray, "*row width"]:
    """Apply a layer norm: bring each row to mean 0 and variance 1, then scale and shift it."""
    centred: np.ndarray = inputs - inputs.mean(axis=-1, keepdims=True)
    variance = np.einsum("...w,...w->...", centred, centred) / np.float32(inputs.shape[-1])
    centred *= (1 / np.sqrt(variance + np.float32(_NORM_EPSILON)))[..., None]
    centred *= weights[f"{layer}.weight"]
    centred += weights[f"{layer}.bias"]
    return centred


def gelu(values: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Compute the exact GELU, x (1 + erf(x / sqrt 2)) / 2; the error is below 1e-6 of max(1, |x|).

    numpy has no erf, so this uses the rational approximation of Eigen's `generic_fast_erf_float`.

    >>> gelu(np.array([-1.0, 0.0, 2.0])).round(6).tolist()
    [-0.158655, 0.0, 1.9545]
    """
    scaled: np.ndarray = np.clip(values * values.dtype.type(0.5**0.5), -4, 4)
    square = scaled * scaled
    scaled *= _polynomial(_ERF_NUMERATOR, square)
    scaled /= _polynomial(_ERF_DENOMINATOR, square)
    scaled += 1
    scaled *= values
    scaled *= 0.5
    return scaled


_ERF_NUMERATOR = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_DENOMINATOR = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def _polynomial(
    coefficients: tuple[float, ...], values: Float[np.ndarray, "*any"]
) -> Float[np.ndarray, "*any"]:
    """Evaluate a polynomial by Horner's rule, highest power first, in the values' precision."""
    total = np.full_like(values, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= values
        total += values.dtype.type(coefficient)
    return total


def perceptron(
    weights: Weights,
    net: str,
    values: Float32[np.ndarray, "point input"],
    depth: int,
    activation: Callable[[np.ndarray], np.ndarray],
    factor: float = 1.0,
) -> Float32[np.ndarray, "point output"]:
    """Apply hidden layers, then the head; `factor` multiplies the first activation's input."""
    for layer in range(depth):
        values = linear(weights, f"{net}.hidden.{layer}", values)
        if layer == 0:
            values *= np.float32(factor)
        values = activation(values)
    return linear(weights, f"{net}.head", values)
