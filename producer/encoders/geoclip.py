"""GeoCLIP's encoder of coordinates: one perceptron per scale, their outputs summed."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from unigeo.producer.encoders.features import FourierFeatures
from unigeo.producer.encoders.perceptrons import Perceptron
from unigeo.producer.encoders.tower_settings import CoordinateSettings


class GeoclipEncoder(FourierFeatures):
    """Encoder of longitude and latitude in degrees whose scales meet only in the sum.

    The published settings are sigmas 1, 16 and 256, width 512, mlp_ratio 2, depth 3, dimension 512.

    Source: Vivanco Cepeda, Nayak & Shah (2023), "GeoCLIP", arXiv 2309.16020, section 3.1.
    """

    def __init__(self, settings: CoordinateSettings, dimension: int) -> None:
        super().__init__(settings)
        width, hidden, depth = settings.width, settings.hidden, settings.depth
        self.perceptrons = nn.ModuleList(
            [
                Perceptron(width, hidden, depth, dimension, dropout=settings.dropout)
                for _ in settings.sigmas
            ]
        )

    def forward(self, lonlat: Float64[Tensor, "point 2"]) -> Float[Tensor, "point dimension"]:
        """Encode points; the vectors are not normalized."""
        scales = self.tokens(lonlat).unbind(1)
        outputs = [net(token) for net, token in zip(self.perceptrons, scales, strict=True)]
        return torch.stack(outputs).sum(0)
