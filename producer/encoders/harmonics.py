"""Real spherical harmonics of `schemas.geo.harmonics` for tensors, on their device, in float64."""

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from unigeo.schemas.geo.harmonics import (
    legendre_rows,
    order_masks,
    recurrence_factors,
    sectoral_factors,
)


class SphericalHarmonics(nn.Module):
    """Map from degrees to the harmonics below `degree`; its tables are rebuilt, not saved."""

    up: Tensor
    back: Tensor
    factors: Tensor
    even: Tensor
    odd: Tensor

    def __init__(self, degree: int) -> None:
        super().__init__()
        tables = (*recurrence_factors(degree), sectoral_factors(degree))
        # Flat indices into (degree, order) of the cosines, order from 0, and the sines, from 1.
        even, odd = (np.flatnonzero(triangle) for triangle in order_masks(degree))
        for name, table in zip(
            ("up", "back", "factors", "even", "odd"), (*tables, even, odd), strict=True
        ):
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def forward(self, lonlat: Float64[Tensor, "point 2"]) -> Float64[Tensor, "point harmonic"]:
        """Evaluate every harmonic, cosines first."""
        lon, lat = torch.deg2rad(lonlat).unbind(-1)
        degree = len(self.factors)
        orders = torch.arange(degree, dtype=torch.float64, device=lonlat.device)
        sectoral = self.factors * lat.cos()[:, None] ** orders
        one = torch.eye(degree, dtype=torch.float64, device=lonlat.device)
        rows = legendre_rows(lat.sin()[:, None], sectoral, self.up, self.back, one)
        legendre = torch.stack(rows, dim=1)  # point degree order
        angles = lon[:, None] * orders
        cosines = (legendre * angles.cos()[:, None]).flatten(1)[:, self.even]
        sines = (legendre * angles.sin()[:, None]).flatten(1)[:, self.odd]
        return torch.cat([cosines, sines], dim=1)
