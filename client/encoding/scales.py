"""The coordinate encoder of one token per scale, joined by attention."""

import numpy as np
from jaxtyping import Float32, Float64

from unigeo.client.encoding.fourier import fourier_tokens
from unigeo.client.encoding.layers import Weights, gelu, linear, norm, perceptron
from unigeo.schemas.store.encoder import EncoderSettings


def encode_attended(
    settings: EncoderSettings, weights: Weights, lonlat: Float64[np.ndarray, "point 2"]
) -> Float32[np.ndarray, "point band"]:
    """Encode by self-attention between each point's tokens, a readout and a projection."""
    tokens = fourier_tokens(settings, weights, lonlat, extra=settings.registers)
    scales = len(settings.sigmas)
    for scale in range(scales if settings.scale_layers else 0):
        net, token = f"scale_perceptrons.{scale}", tokens[:, scale]
        tokens[:, scale] = perceptron(weights, net, token, settings.scale_layers, gelu)
    if settings.scale_embedding:
        tokens[:, :scales] += weights["scale_embedding"]
    tokens[:, scales:] = weights["registers"]
    for block in (f"blocks.{number}" for number in range(settings.depth)):
        normed = norm(weights, f"{block}.attention_norm", tokens)
        tokens += _attention(weights, block, normed, settings.heads)
        hidden = linear(weights, f"{block}.mlp.0", norm(weights, f"{block}.mlp_norm", tokens))
        tokens += linear(weights, f"{block}.mlp.2", gelu(hidden))
    vectors = _readout(settings, weights, tokens)
    if settings.read != settings.dimension:
        vectors = linear(weights, "projection", vectors)
    return vectors


def _readout(
    settings: EncoderSettings, weights: Weights, tokens: Float32[np.ndarray, "point token width"]
) -> Float32[np.ndarray, "point read"]:
    """Return one vector per point: its tokens concatenated, or the mean of some of them."""
    scales = len(settings.sigmas)
    if settings.readout == "concat":
        return norm(weights, "norm", tokens[:, :scales]).reshape(len(tokens), -1)
    chosen = tokens[:, scales:] if settings.readout == "registers" else tokens[:, :scales]
    return norm(weights, "norm", chosen.mean(axis=1))


def _attention(
    weights: Weights, block: str, tokens: Float32[np.ndarray, "point token width"], heads: int
) -> Float32[np.ndarray, "point token width"]:
    """Apply multi-head self-attention between the tokens of each point."""
    points, count, width = tokens.shape
    joint = linear(weights, f"{block}.query_key_value", tokens)
    # (point, token, 3 x head x part) to three arrays (point, head, token, part).
    query, key, value = joint.reshape(points, count, 3, heads, -1).transpose(2, 0, 3, 1, 4)
    scores = query @ key.swapaxes(-1, -2)  # point head token token
    scores *= np.float32((width // heads) ** -0.5)
    # The softmax of each row; without its maximum, the exponential cannot overflow.
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    joined = (scores @ value).swapaxes(1, 2).reshape(points, count, width)
    return linear(weights, f"{block}.attention_out", joined)
