"""The coordinate encoder's plane and sphere as `schemas.plane` has them, on a tensor's device."""

import torch
from jaxtyping import Float64

from unigeo.schemas.geo.encoder_projection import UNITS_PER_RADIUS, M, height_and_slope


def equal_earth_tensor(
    lonlat: Float64[torch.Tensor, "*point 2"],
) -> Float64[torch.Tensor, "*point 2"]:
    """Project as `schemas.plane.equal_earth` does."""
    lon, lat = torch.deg2rad(lonlat).unbind(-1)
    theta = torch.arcsin(M * torch.sin(lat))
    height, slope = height_and_slope(theta)
    easting = lon * torch.cos(theta) / (M * slope)
    projected: torch.Tensor = torch.stack([easting, height], dim=-1) * UNITS_PER_RADIUS
    return projected


def sphere_tensor(lonlat: Float64[torch.Tensor, "*point 2"]) -> Float64[torch.Tensor, "*point 3"]:
    """Place degrees on the sphere as `schemas.plane.sphere` does."""
    lon, lat = torch.deg2rad(lonlat).unbind(-1)
    east = torch.stack([torch.cos(lat) * torch.cos(lon), torch.cos(lat) * torch.sin(lon)], dim=-1)
    return torch.cat([east, torch.sin(lat)[..., None]], dim=-1) * UNITS_PER_RADIUS
