"""Plain numbers of the pixels that a tower sees, and linear heads that predict them from vectors.

A contrastive loss keeps what tells locations apart and blurs the rest: how high a location lies, or
how bright it is. Heads that must read these numbers from the vectors keep them there.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Float32, Shaped
from torch import Tensor, nn

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import ClassesSettings, TransformerSettings

SQUARES = (1, 2, 4)
"""Parts of a view's side: numbers are of the squares of these sides round the centre."""
_LARGEST = 10.0
"""Standard deviations from the mean to which a number is cut, so that none rules the loss."""
_LEAST_STD = 1e-6
"""Standard deviation of a number that hardly varies, beside its mean: it is not predicted."""


def plain_numbers(
    pixels: Shaped[Tensor, "point channel row col"], tower: TransformerSettings
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
    known = values.isfinite()
    count = known.sum(dim=-1).clamp(min=1)
    values = torch.where(known, values, 0.0)
    mean = values.sum(dim=-1) / count
    deviation = torch.where(known, values - mean[..., None], 0.0)
    return mean, (deviation.square().sum(dim=-1) / count).sqrt()


class _Head(nn.Module):
    """A linear head of standardized numbers, which begins by predicting their means."""

    mean: Tensor
    inverse: Tensor

    def __init__(
        self, dimension: int, mean: Float32[Tensor, " number"], inverse: Float32[Tensor, " number"]
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(dimension, len(mean))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("mean", mean)
        self.register_buffer("inverse", inverse)
        # The numbers of a unit vector are of the size 1 / root of the dimension.
        self._root = math.sqrt(dimension)

    def forward(
        self, vectors: Float32[Tensor, "point dimension"], numbers: Float32[Tensor, "point number"]
    ) -> Float32[Tensor, "point number"]:
        """Return the errors of the predicted numbers, in their standard deviations."""
        targets = ((numbers - self.mean) * self.inverse).clamp(-_LARGEST, _LARGEST)
        errors: Tensor = self.linear(vectors * self._root) - targets
        return errors


class NumberHeads(nn.Module):
    """A linear head for each modality of pixels, from its vector to its standardized numbers."""

    def __init__(self, settings: ModelSettings, samples: Mapping[str, Tensor]) -> None:
        """Measure the numbers, and start from heads that predict their means.

        Args:
            settings: settings of the model.
            samples: observations of some locations in each modality of pixels, at least two.
        """
        super().__init__()
        self.settings = settings
        self.heads = nn.ModuleDict()
        for name, pixels in samples.items():
            numbers = plain_numbers(pixels, settings.towers[settings.tower_of(name)])
            mean, std = numbers.mean(dim=0), numbers.std(dim=0)
            varies = std > _LEAST_STD * mean.abs().clamp(min=1)
            inverse = torch.where(varies, 1 / std.clamp(min=1e-30), 0.0)
            self.heads[name] = _Head(settings.dimension, mean, inverse)

    def loss(
        self,
        vectors: Mapping[str, Float[Tensor, "point dimension"]],
        inputs: Mapping[str, Shaped[Tensor, "point ..."]],
        present: Mapping[str, Bool[Tensor, " point"]],
        batch: int,
    ) -> Float32[Tensor, ""]:
        """Return the squared error of the standardized numbers, a mean over modalities.

        Args:
            vectors: unit vectors of each modality.
            inputs: observations of the same locations.
            present: which of them were observed.
            batch: number of samples of all processes: a mean over these, so that the losses of the
                processes add up.
        """
        losses = []
        for name, head in self.heads.items():
            with torch.no_grad():
                numbers = plain_numbers(
                    inputs[name], self.settings.towers[self.settings.tower_of(name)]
                )
            error = head(vectors[name].float(), numbers).square().mean(dim=1)
            losses.append((error * present[name]).sum() / batch)
        return torch.stack(losses).mean()
