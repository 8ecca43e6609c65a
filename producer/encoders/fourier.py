"""Encoder of coordinates by Fourier features: all scales concatenated, and one perceptron."""

from jaxtyping import Float, Float64
from torch import Tensor, nn

from unigeo.producer.encoders.features import FourierFeatures
from unigeo.producer.encoders.perceptrons import Perceptron
from unigeo.producer.encoders.tower_settings import CoordinateSettings


class FourierEncoder(FourierFeatures):
    """Encoder of longitude and latitude in degrees; a baseline that does not separate scales.

    Source: Tancik et al. (2020), "Fourier features let networks learn high frequency functions".
    """

    def __init__(self, settings: CoordinateSettings, dimension: int) -> None:
        super().__init__(settings)
        inputs = len(settings.sigmas) * settings.width
        self.perceptrons = nn.ModuleList(
            [
                Perceptron(
                    inputs, settings.hidden, settings.depth, dimension, dropout=settings.dropout
                )
            ]
        )

    def forward(self, lonlat: Float64[Tensor, "point 2"]) -> Float[Tensor, "point dimension"]:
        """Encode points; the vectors are not normalized."""
        vectors: Tensor = self.perceptrons[0](self.tokens(lonlat).flatten(1))
        return vectors
