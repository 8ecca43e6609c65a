"""Random Fourier features of longitude and latitude: phases in float64, modulo one turn."""

import numpy as np
from jaxtyping import Float32, Float64

from unigeo.client.encoding.layers import Weights
from unigeo.schemas.geo.encoder_projection import equal_earth, sphere
from unigeo.schemas.store.encoder import FREQUENCIES, EncoderSettings


def fourier_tokens(
    settings: EncoderSettings,
    weights: Weights,
    lonlat: Float64[np.ndarray, "point 2"],
    extra: int = 0,
) -> Float32[np.ndarray, "point token width"]:
    """Return one token per scale, the cosines and sines of its phases.

    Args:
        settings: of the encoder.
        weights: of the encoder.
        lonlat: WGS 84 degrees.
        extra: tokens that are left uninitialized after those of the scales.
    """
    frequencies = weights[FREQUENCIES]
    on_sphere = settings.features == "sphere"
    coordinates = sphere(lonlat) if on_sphere else equal_earth(_wrap_longitude(lonlat))
    scales, axes, half = frequencies.shape
    turns = coordinates @ frequencies.transpose(1, 0, 2).reshape(axes, -1)
    # Whole turns are dropped in float64: the fine scales make so many that float32 would lose the
    # fraction, and with it the difference between neighbouring cells.
    turns -= np.rint(turns)
    phases = (2 * np.pi * turns).astype(np.float32).reshape(len(lonlat), scales, half)
    tokens = np.empty((len(lonlat), scales + extra, settings.width), np.float32)
    np.cos(phases, out=tokens[:, :scales, :half])
    np.sin(phases, out=tokens[:, :scales, half:])
    return tokens


def _wrap_longitude(lonlat: Float64[np.ndarray, "point 2"]) -> Float64[np.ndarray, "point 2"]:
    """Bring longitudes beyond 180 degrees back; on the plane 190 and -170 would differ."""
    lon = lonlat[:, 0]
    beyond = np.abs(lon) > 180
    if not beyond.any():
        return lonlat
    wrapped = lonlat.copy()
    wrapped[beyond, 0] = (lon[beyond] + 180) % 360 - 180
    return wrapped
