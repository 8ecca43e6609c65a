"""The coordinate encoders made of perceptrons: GeoCLIP's kind, SatCLIP's, plain Fourier."""

import numpy as np
from jaxtyping import Float32, Float64

from unigeo.client.encoding.fourier import fourier_tokens
from unigeo.client.encoding.layers import Weights, perceptron
from unigeo.schemas.geo.harmonics import spherical_harmonics
from unigeo.schemas.store.encoder import EncoderSettings


def sum_of_scales(
    settings: EncoderSettings, weights: Weights, lonlat: Float64[np.ndarray, "point 2"]
) -> Float32[np.ndarray, "point band"]:
    """GeoCLIP's kind: one perceptron per scale, their outputs summed."""
    tokens = fourier_tokens(settings, weights, lonlat)
    total: np.ndarray = _perceptron(settings, weights, 0, tokens[:, 0])
    for scale in range(1, tokens.shape[1]):
        total += _perceptron(settings, weights, scale, tokens[:, scale])
    return total


def side_by_side(
    settings: EncoderSettings, weights: Weights, lonlat: Float64[np.ndarray, "point 2"]
) -> Float32[np.ndarray, "point band"]:
    """Plain Fourier features: those of all scales into one perceptron."""
    tokens = fourier_tokens(settings, weights, lonlat)
    return _perceptron(settings, weights, 0, tokens.reshape(len(tokens), -1))


def of_harmonics(
    settings: EncoderSettings, weights: Weights, lonlat: Float64[np.ndarray, "point 2"]
) -> Float32[np.ndarray, "point band"]:
    """SatCLIP's kind: spherical harmonics into a perceptron of sines."""
    harmonics = spherical_harmonics(lonlat, settings.degree).astype(np.float32)
    return _perceptron(settings, weights, 0, harmonics)


def _perceptron(
    settings: EncoderSettings,
    weights: Weights,
    number: int,
    values: Float32[np.ndarray, "point input"],
) -> Float32[np.ndarray, "point band"]:
    """One of the encoder's networks: of sines for SatCLIP's kind, else of positive parts."""
    net = f"perceptrons.{number}"
    if settings.kind == "satclip":
        return perceptron(weights, net, values, settings.depth, sine, settings.w0)
    return perceptron(weights, net, values, settings.depth, relu)


def relu(values: Float32[np.ndarray, "point hidden"]) -> Float32[np.ndarray, "point hidden"]:
    """Positive part."""
    positive: np.ndarray = np.maximum(values, 0)
    return positive


def sine(values: Float32[np.ndarray, "point hidden"]) -> Float32[np.ndarray, "point hidden"]:
    """Sine, as SIREN's layers have it (Sitzmann et al. 2020)."""
    sines: np.ndarray = np.sin(values)
    return sines
