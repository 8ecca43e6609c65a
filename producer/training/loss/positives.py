"""Target weights of positives, and samples that are too near each other to be negatives."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from unigeo.producer.training.loss.contrast_settings import ContrastSettings
from unigeo.schemas.geo.great_circle import EARTH_RADIUS_M

_POSITIVE_WEIGHT = math.exp(-4.5)  # a Gaussian at three standard deviations


@dataclass(frozen=True)
class SampleLocations:
    """Position and panorama of each sample; a field that the settings do not use is None."""

    settings: ContrastSettings
    position: Float64[Tensor, "sample 3"] | None
    """Cartesian coordinates on the unit sphere."""
    panorama: Int64[Tensor, " sample"] | None
    """Number of each sample's panorama, negative for none."""

    def __getitem__(self, index: Tensor | slice) -> "SampleLocations":
        """Select samples."""
        return replace(
            self,
            position=None if self.position is None else self.position[index],
            panorama=None if self.panorama is None else self.panorama[index],
        )


def unit_sphere(lonlat: Float64[Tensor, "sample 2"]) -> Float64[Tensor, "sample 3"]:
    """Convert degrees, longitude first, to Cartesian coordinates on the unit sphere."""
    lon, lat = torch.deg2rad(lonlat).unbind(-1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)


def targets_and_exclusions(
    rows: SampleLocations, cols: SampleLocations, diagonal: int, dtype: torch.dtype
) -> tuple[Float[Tensor, "row col"] | None, Bool[Tensor, "row col"] | None]:
    """Compute target weights and the exclusion mask for a tile of logits.

    The weight is 1 for a sample with itself and with samples of its panorama. For others it is the
    Gaussian of their great-circle distance with soft targets, else 0. Pairs within the exclusion
    radius are excluded from the softmax unless they are positives, whose weight is at least that at
    three standard deviations.

    Args:
        rows: samples of the tile's rows.
        cols: samples of the tile's columns.
        diagonal: offset of the diagonal that pairs each sample with itself, as in
            `torch.diagonal`.
        dtype: of the weights.

    Returns:
        Unnormalized target weights, None if each sample is its own only positive; and the mask of
        excluded pairs, None if there are none. Excluded pairs have weight 0.
    """
    settings = rows.settings
    chord_squared = _chord_squared(rows, cols)
    weight: Tensor | None = None
    if settings.soft_m > 0:
        assert chord_squared is not None
        # Half the chord is the sine of half the angle; rounding can lift it above 1 at antipodes.
        angle = 2 * (chord_squared.sqrt() / 2).clamp_(max=1).asin_()
        weight = angle.mul_(EARTH_RADIUS_M / settings.soft_m).square_().div_(-2).exp_().to(dtype)
    if rows.panorama is not None and cols.panorama is not None:
        same = (rows.panorama[:, None] == cols.panorama) & (cols.panorama >= 0)
        weight = same.to(dtype) if weight is None else weight.masked_fill_(same, 1)
    if weight is not None:
        weight.diagonal(diagonal).fill_(1)  # empty where the diagonal misses the tile
    excluded: Tensor | None = None
    if settings.exclusion_m > 0:
        assert chord_squared is not None
        # The radius becomes a squared chord, so that this test needs no arcsine per pair.
        half_angle = min(settings.exclusion_m / (2 * EARTH_RADIUS_M), math.pi / 2)
        excluded = chord_squared <= (2 * math.sin(half_angle)) ** 2
        excluded.diagonal(diagonal).fill_(False)
        if weight is not None:
            excluded &= weight < _POSITIVE_WEIGHT
            weight.masked_fill_(excluded, 0)
    return weight, excluded


def _chord_squared(
    rows: SampleLocations, cols: SampleLocations
) -> Float64[Tensor, "row col"] | None:
    """Compute squared chord lengths on the unit sphere; None if positions are not used.

    Differences of float64 coordinates resolve metres, which 2 - 2 * cosine loses to cancellation.
    """
    if rows.position is None or cols.position is None:
        return None
    total = rows.position.new_zeros(len(rows.position), len(cols.position))
    # Axis by axis: a (row, col, 3) array of differences would take three times the memory.
    for row_axis, col_axis in zip(rows.position.T, cols.position.T, strict=True):
        difference = row_axis[:, None] - col_axis
        total.addcmul_(difference, difference)
    return total
