"""Random Fourier features of places in numpy: phases in float64, reduced modulo one turn."""

import numpy as np
from jaxtyping import Float32, Float64

from unigeo.client.encoding.layers import Weights
from unigeo.schemas.geo.encoder_projection import equal_earth, sphere
from unigeo.schemas.store.encoder import FREQUENCIES, EncoderSettings


def fourier_tokens(
    settings: EncoderSettings,
    weights: Weights,
    lonlat: Float64[np.ndarray, "point 2"],
    room: int = 0,
) -> Float32[np.ndarray, "point token width"]:
    """Cosines and sines of each scale's phases, and room for further tokens after them."""
    frequencies = weights[FREQUENCIES]
    place = sphere(lonlat) if settings.features == "sphere" else equal_earth(_wrapped(lonlat))
    scales, axes, half = frequencies.shape
    turns = place @ frequencies.transpose(1, 0, 2).reshape(axes, -1)
    turns -= np.rint(turns)
    phases = (2 * np.pi * turns).astype(np.float32).reshape(len(place), scales, half)
    tokens = np.empty((len(place), scales + room, settings.width), np.float32)
    np.cos(phases, out=tokens[:, :scales, :half])
    np.sin(phases, out=tokens[:, :scales, half:])
    return tokens


def _wrapped(lonlat: Float64[np.ndarray, "point 2"]) -> Float64[np.ndarray, "point 2"]:
    """Longitudes beyond 180 degrees brought back; the plane has one place for each."""
    lon = lonlat[:, 0]
    beyond = np.abs(lon) > 180
    if not beyond.any():
        return lonlat
    wrapped = lonlat.copy()
    wrapped[beyond, 0] = (lon[beyond] + 180) % 360 - 180
    return wrapped
