"""Plain numbers of the pixels that a tower sees: means, deviations, shares of classes."""

import torch
from jaxtyping import Float32, Shaped
from torch import Tensor, nn
from torch.nn.functional import linear

from unigeo.producer.encoders.tower_settings import (
    ClassesSettings,
    ImageSettings,
    PatchSettings,
    SurfaceSettings,
)

SQUARES = (1, 2, 4)
"""Parts of a view's side: numbers are of the squares of these sides round the centre."""
_LARGEST = 10.0
"""Standard deviations from the mean to which a number is cut, so that none rules the loss."""
_LEAST_STD = 1e-6
"""Standard deviation of a number that hardly varies, beside its mean: it is not predicted."""


def plain_numbers(
    pixels: Shaped[Tensor, "point channel row col"], tower: PatchSettings
) -> Float32[Tensor, "point number"]:
    """Compute the numbers of each patch, in squares round its centre.

    Args:
        pixels: the views of each location along the channels, as the tower takes them.
        tower: settings of the tower.

    Returns:
        Of each channel the mean and the standard deviation of the pixels in squares of the whole
        side, a half and a quarter of it, the logarithms of 1 + these, of bytes only that of the
        mean, and the mean of the pixels at the centre. Of classes the share of each class instead.
        Pixels without a number are left out.
    """
    size = pixels.shape[-1]
    squares = [_centre(pixels, max(2, size // part)) for part in SQUARES]
    if isinstance(tower, ClassesSettings):
        codes = torch.arange(1, len(tower.classes) + 1, device=pixels.device)
        shares = [(one[..., None] == codes).float().mean(dim=2) for one in squares]
        return torch.cat([share.flatten(1) for share in shares], dim=1)
    numbers = [_moments(_centre(pixels, 2))[0]]
    for square in squares:
        mean, std = _moments(square)
        numbers += [mean, std, std.log1p()]
        if pixels.dtype == torch.uint8:
            numbers.append(mean.log1p())
    return torch.cat(numbers, dim=1)


def _centre(
    pixels: Shaped[Tensor, "point channel row col"], side: int
) -> Shaped[Tensor, "point channel pixel"]:
    """Return the square of some pixels' side round the centre of each channel."""
    top, left = ((size - min(side, size)) // 2 for size in pixels.shape[-2:])
    return pixels[..., top : top + side, left : left + side].flatten(2)


def _moments(
    pixels: Shaped[Tensor, "point channel pixel"],
) -> tuple[Float32[Tensor, "point channel"], Float32[Tensor, "point channel"]]:
    """Return mean and standard deviation; 0 where no pixel has a number."""
    values = pixels.float()
    if not pixels.is_floating_point():  # every pixel has a number: one pass, three times as fast
        std, mean = torch.std_mean(values, dim=-1, correction=0)
        return mean, std
    known = values.isfinite()
    count = known.sum(dim=-1).clamp(min=1)
    values = torch.where(known, values, 0.0)
    mean = values.sum(dim=-1) / count
    deviation = torch.where(known, values - mean[..., None], 0.0)
    return mean, (deviation.square().sum(dim=-1) / count).sqrt()


class StandardNumbers(nn.Module):
    """Plain numbers in standard deviations from their means, cut where they lie far off."""

    mean: Tensor
    inverse: Tensor

    def __init__(self, count: int) -> None:
        """Start unmeasured: every number is 0."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("inverse", torch.zeros(count))

    def measure(self, numbers: Float32[Tensor, "point number"]) -> None:
        """Take means and deviations from some locations; numbers that hardly vary there stay 0."""
        if len(numbers) < 2:
            return
        mean, std = numbers.mean(dim=0), numbers.std(dim=0)
        varies = std > _LEAST_STD * mean.abs().clamp(min=1)
        self.mean.copy_(mean)
        self.inverse.copy_(torch.where(varies, 1 / std.clamp(min=1e-30), 0.0))

    def forward(self, numbers: Float32[Tensor, "point number"]) -> Float32[Tensor, "point number"]:
        """Standardize numbers."""
        return ((numbers - self.mean) * self.inverse).clamp(-_LARGEST, _LARGEST)


class NumberProjection(nn.Module):
    """A linear map of the plain numbers of a tower's pixels, which is added to its vectors.

    What passes a transformer's norms and compressed channels is hard to read from its vector as a
    number. Here it is a sum of terms, so that a linear probe can. It begins at zero: as the tower
    without it.
    """

    def __init__(self, tower: PatchSettings, dimension: int) -> None:
        super().__init__()
        self.tower = tower
        self.standard = StandardNumbers(number_count(tower))
        self.weight = nn.Parameter(torch.zeros(dimension, number_count(tower)))

    def measure(self, pixels: Shaped[Tensor, "point channel row col"]) -> None:
        """Measure the scale of the numbers at some locations; before that all of them are 0."""
        self.standard.measure(plain_numbers(pixels, self.tower).to(self.standard.mean.device))

    def forward(
        self, pixels: Shaped[Tensor, "point channel row col"]
    ) -> Float32[Tensor, "point dimension"]:
        """Return what is added to the vectors."""
        with torch.autocast(pixels.device.type, enabled=False):  # heights need float32
            return linear(self.standard(plain_numbers(pixels, self.tower)), self.weight)


def number_count(tower: PatchSettings) -> int:
    """Return how many plain numbers `plain_numbers` computes of the pixels of a tower."""
    if isinstance(tower, ClassesSettings):
        return tower.views * len(tower.classes) * len(SQUARES)
    if isinstance(tower, SurfaceSettings):
        return tower.views * (1 + 3 * len(SQUARES))
    assert isinstance(tower, ImageSettings), tower
    return tower.channels * (1 + (4 if tower.dtype == "uint8" else 3) * len(SQUARES))
