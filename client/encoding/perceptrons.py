"""Coordinate encoders made of perceptrons: GeoCLIP's, SatCLIP's, and plain Fourier features."""

import numpy as np
from jaxtyping import Float32, Float64

from unigeo.client.encoding.fourier import fourier_tokens
from unigeo.client.encoding.layers import Weights, perceptron
from unigeo.schemas.geo.harmonics import spherical_harmonics
from unigeo.schemas.store.encoder import EncoderSettings


def encode_summed(
    settings: EncoderSettings, weights: Weights, lonlat: Float64[np.ndarray, "point 2"]
) -> Float32[np.ndarray, "point band"]:
    """Encode as GeoCLIP does: one perceptron per scale, whose outputs are summed."""
    tokens = fourier_tokens(settings, weights, lonlat)
    total: np.ndarray = _perceptron(settings, weights, 0, tokens[:, 0])
    for scale in range(1, tokens.shape[1]):
        total += _perceptron(settings, weights, scale, tokens[:, scale])
    return total


def encode_concatenated(
    settings: EncoderSettings, weights: Weights, lonlat: Float64[np.ndarray, "point 2"]
) -> Float32[np.ndarray, "point band"]:
    """Encode by plain Fourier features: one perceptron of those of all scales."""
    tokens = fourier_tokens(settings, weights, lonlat)
    return _perceptron(settings, weights, 0, tokens.reshape(len(tokens), -1))


def encode_harmonics(
    settings: EncoderSettings, weights: Weights, lonlat: Float64[np.ndarray, "point 2"]
) -> Float32[np.ndarray, "point band"]:
    """Encode as SatCLIP does: spherical harmonics, then a perceptron with sine activations."""
    harmonics = spherical_harmonics(lonlat, settings.degree).astype(np.float32)
    return _perceptron(settings, weights, 0, harmonics)


def _perceptron(
    settings: EncoderSettings,
    weights: Weights,
    number: int,
    values: Float32[np.ndarray, "point input"],
) -> Float32[np.ndarray, "point band"]:
    """Apply one of the encoder's networks, with sines for SatCLIP's kind and ReLU for others."""
    net = f"perceptrons.{number}"
    if settings.kind == "satclip":
        return perceptron(weights, net, values, settings.depth, sine, settings.w0)
    return perceptron(weights, net, values, settings.depth, relu)


def relu(values: Float32[np.ndarray, "point hidden"]) -> Float32[np.ndarray, "point hidden"]:
    """Return the positive part."""
    positive: np.ndarray = np.maximum(values, 0)
    return positive


def sine(values: Float32[np.ndarray, "point hidden"]) -> Float32[np.ndarray, "point hidden"]:
    """Return the sine, the activation of SIREN (Sitzmann et al. 2020)."""
    sines: np.ndarray = np.sin(values)
    return sines
