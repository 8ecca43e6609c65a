"""SatCLIP's encoder of coordinates: spherical harmonics and a perceptron of sines."""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from unigeo.producer.encoders.features import check_double
from unigeo.producer.encoders.harmonics import SphericalHarmonics
from unigeo.producer.encoders.modality_encoder import ModalityEncoder
from unigeo.producer.encoders.perceptrons import Perceptron
from unigeo.producer.encoders.tower_settings import CoordinateSettings


class SatclipEncoder(ModalityEncoder):
    """Encoder of longitude and latitude in degrees that is smooth over the dateline and the poles.

    The published settings are degree 10 or 40, width 512, mlp_ratio 1, depth 2, dimension 256.

    Source: Klemmer et al. (2023), "SatCLIP", arXiv 2311.17179, section 3; Rußwurm et al. (2024),
    "Geographic location encoding with spherical harmonics and sinusoidal representation networks".
    """

    def __init__(self, settings: CoordinateSettings, dimension: int) -> None:
        super().__init__()
        self.settings = settings
        self.harmonics = SphericalHarmonics(settings.degree)
        perceptron = Perceptron(
            settings.degree**2,
            settings.hidden,
            settings.depth,
            dimension,
            activation=torch.sin,
            factor=settings.w0,
            dropout=settings.dropout,
        )
        _initialize(perceptron)
        self.perceptrons = nn.ModuleList([perceptron])

    def forward(self, lonlat: Float64[Tensor, "point 2"]) -> Float[Tensor, "point dimension"]:
        """Encode points; the vectors are not normalized.

        Raises:
            ModelError: if degrees are not in float64.
        """
        check_double(lonlat=lonlat)
        # Angles of `w0` times a feature are large, and bfloat16 would round them too coarsely.
        with torch.autocast(lonlat.device.type, enabled=False):
            vectors: Tensor = self.perceptrons[0](self.harmonics(lonlat).float())
        return vectors


def _initialize(perceptron: Perceptron) -> None:
    """Draw initial weights that keep the spread of the sines' angles from layer to layer.

    Source: Sitzmann et al. (2020), "Implicit neural representations with periodic activation
    functions", section 3.2, with a factor of 1 after the first layer, as in SatCLIP.
    """
    first, *later = perceptron.linears
    nn.init.uniform_(first.weight, -1 / first.in_features, 1 / first.in_features)
    for layer in later:
        limit = math.sqrt(6 / layer.in_features)
        nn.init.uniform_(layer.weight, -limit, limit)
