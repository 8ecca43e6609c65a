"""Which places are positives of each other, and which are too near to be negatives."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from unigeo.producer.training.loss.contrast_settings import ContrastSettings
from unigeo.schemas.geo.great_circle import EARTH_RADIUS_M

_POSITIVE_WEIGHT = math.exp(-4.5)  # a Gaussian at three standard deviations


@dataclass(frozen=True)
class Relations:
    """Where places are, as far as the loss asks; a field that it does not ask for is None."""

    settings: ContrastSettings
    position: Float64[Tensor, "place 3"] | None
    """On the unit sphere."""
    panorama: Int64[Tensor, " place"] | None
    """Negative: of no panorama."""

    def __getitem__(self, places: Tensor | slice) -> "Relations":
        """Some of the places."""
        return replace(
            self,
            position=None if self.position is None else self.position[places],
            panorama=None if self.panorama is None else self.panorama[places],
        )


def unit_sphere(lonlat: Float64[Tensor, "place 2"]) -> Float64[Tensor, "place 3"]:
    """Positions of places given in degrees, longitude first."""
    lon, lat = torch.deg2rad(lonlat).unbind(-1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)


def relate(
    rows: Relations, cols: Relations, own: int, dtype: torch.dtype
) -> tuple[Float[Tensor, "row col"] | None, Bool[Tensor, "row col"] | None]:
    """Relate the places of a tile of logits.

    The weight is 1 for the place itself and for places of its panorama; for others it is the
    Gaussian of their distance with soft targets, else 0. Places within the exclusion radius are
    left out, but never a positive: one with the weight of three standard deviations or more.

    Args:
        rows: places of the rows.
        cols: places of the columns.
        own: column that holds the place of row 0, by which each place is known to be itself.
        dtype: of the weights.

    Returns:
        Weights of targets, before they are normalised, None if each place is its own alone; and
        what is left out of the softmax, None if nothing is. What is left out has weight 0.
    """
    settings = rows.settings
    chord_squared = _chord_squared(rows, cols)
    weight: Tensor | None = None
    if settings.soft_m > 0:
        assert chord_squared is not None
        angle = 2 * (chord_squared.sqrt() / 2).clamp_(max=1).asin_()
        weight = angle.mul_(EARTH_RADIUS_M / settings.soft_m).square_().div_(-2).exp_().to(dtype)
    if rows.panorama is not None and cols.panorama is not None:
        same = (rows.panorama[:, None] == cols.panorama) & (cols.panorama >= 0)
        weight = same.to(dtype) if weight is None else weight.masked_fill_(same, 1)
    if weight is not None:
        weight.diagonal(own).fill_(1)
    excluded: Tensor | None = None
    if settings.exclusion_m > 0:
        assert chord_squared is not None
        half_angle = min(settings.exclusion_m / (2 * EARTH_RADIUS_M), math.pi / 2)
        excluded = chord_squared <= (2 * math.sin(half_angle)) ** 2
        excluded.diagonal(own).fill_(False)
        if weight is not None:
            excluded &= weight < _POSITIVE_WEIGHT
            weight.masked_fill_(excluded, 0)
    return weight, excluded


def _chord_squared(rows: Relations, cols: Relations) -> Float64[Tensor, "row col"] | None:
    """Squared chords between places, None where positions are not asked for.

    By differences of coordinates, in float64: products of unit vectors lose the last metres.
    """
    if rows.position is None or cols.position is None:
        return None
    total = rows.position.new_zeros(len(rows.position), len(cols.position))
    for row_axis, col_axis in zip(rows.position.T, cols.position.T, strict=True):
        difference = row_axis[:, None] - col_axis
        total.addcmul_(difference, difference)
    return total
