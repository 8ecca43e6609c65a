"""Projections of `schemas.geo.encoder_projection` for tensors, on their device."""

import torch
from jaxtyping import Float64

from unigeo.schemas.geo.encoder_projection import UNITS_PER_RADIUS
from unigeo.schemas.geo.equal_earth_polynomial import SINE_RATIO, height_and_slope


def equal_earth_tensor(
    lonlat: Float64[torch.Tensor, "*point 2"],
) -> Float64[torch.Tensor, "*point 2"]:
    """Project as `encoder_projection.equal_earth` does."""
    lon, lat = torch.deg2rad(lonlat).unbind(-1)
    theta = torch.arcsin(SINE_RATIO * torch.sin(lat))
    height, slope = height_and_slope(theta)
    easting = lon * torch.cos(theta) / (SINE_RATIO * slope)
    projected: torch.Tensor = torch.stack([easting, height], dim=-1) * UNITS_PER_RADIUS
    return projected


def sphere_tensor(lonlat: Float64[torch.Tensor, "*point 2"]) -> Float64[torch.Tensor, "*point 3"]:
    """Map degrees to the sphere as `encoder_projection.sphere` does."""
    lon, lat = torch.deg2rad(lonlat).unbind(-1)
    east = torch.stack([torch.cos(lat) * torch.cos(lon), torch.cos(lat) * torch.sin(lon)], dim=-1)
    return torch.cat([east, torch.sin(lat)[..., None]], dim=-1) * UNITS_PER_RADIUS
