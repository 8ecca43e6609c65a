"""Random Fourier features of coordinates, with phases computed in float64."""

import math

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor, nn

from unigeo.producer.encoders.modality_encoder import ModalityEncoder
from unigeo.producer.encoders.projection import equal_earth_tensor, sphere_tensor
from unigeo.producer.encoders.tower_settings import CoordinateSettings
from unigeo.schemas.errors import ModelError


class FourierFeatures(ModalityEncoder):
    """Base of encoders that map longitude and latitude in degrees to one token per scale.

    Source: Tancik et al. (2020), "Fourier features let networks learn high frequency functions".
    """

    frequencies: Tensor
    """Frequencies in cycles per unit, (scale, axis, width / 2), float64; saved with the weights."""

    def __init__(self, settings: CoordinateSettings) -> None:
        super().__init__()
        self.settings = settings
        frequencies = torch.from_numpy(draw_frequencies(settings))
        if settings.learned_frequencies:
            self.frequencies = nn.Parameter(frequencies)
        else:
            self.register_buffer("frequencies", frequencies)

    def tokens(self, lonlat: Float64[Tensor, "point 2"]) -> Float32[Tensor, "point scale width"]:
        """Compute the cosines and sines of each scale's phases.

        At sigma 4096 a phase reaches thousands of turns, and 100 m are a few hundredths of a turn:
        phases are in float64 whatever autocast says. A fraction of a turn is safe in float32.

        Raises:
            ModelError: if degrees or frequencies are not in float64.
        """
        check_double(lonlat=lonlat, frequencies=self.frequencies)
        on_sphere = self.settings.features == "sphere"
        position = sphere_tensor(lonlat) if on_sphere else equal_earth_tensor(lonlat)
        with torch.autocast(lonlat.device.type, enabled=False):
            # p: point, s: scale, a: axis, f: frequency
            turns = torch.einsum("pa,saf->psf", position, self.frequencies)
            # Whole turns change no cosine or sine; without them the rest fits in float32.
            phases = (2 * math.pi * (turns - turns.round())).float()
            return torch.cat([phases.cos(), phases.sin()], dim=-1)


def draw_frequencies(settings: CoordinateSettings) -> Float64[np.ndarray, "scale axis half"]:
    """Draw the Gaussian frequencies of every scale, by numpy, which is the same on every device."""
    axes = 3 if settings.features == "sphere" else 2
    normal = np.random.default_rng(settings.seed).standard_normal(
        (len(settings.sigmas), axes, settings.width // 2)
    )
    frequencies: Float64[np.ndarray, "scale axis half"] = (
        normal * np.array(settings.sigmas)[:, None, None]
    )
    return frequencies


def check_double(**tensors: Tensor) -> None:
    """Refuse tensors that are not float64.

    Raises:
        ModelError: naming the tensor.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float64:
            raise ModelError(
                f"{name} are {tensor.dtype} and must be float64: 100 m vanish in less. Pass "
                f"float64 degrees; use autocast rather than casting the model."
            )
