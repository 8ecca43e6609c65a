"""Linear heads that predict plain numbers of the pixels that a tower saw, from its vectors.

A contrastive loss keeps what tells locations apart and blurs the rest: how high a location lies, or
how bright it is. Heads that must read these numbers from the vectors keep them there.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Float32, Shaped
from torch import Tensor, nn

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.plain_numbers import StandardNumbers, number_count, plain_numbers
from unigeo.producer.encoders.tower_settings import PatchSettings


class _Head(nn.Module):
    """A linear head of standardized numbers, which begins by predicting their means."""

    def __init__(self, tower: PatchSettings, dimension: int) -> None:
        super().__init__()
        self.tower = tower
        self.standard = StandardNumbers(number_count(tower))
        self.linear = nn.Linear(dimension, number_count(tower))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        # The numbers of a unit vector are of the size 1 / root of the dimension.
        self._root = math.sqrt(dimension)

    def forward(
        self,
        vectors: Float32[Tensor, "point dimension"],
        pixels: Shaped[Tensor, "point channel row col"],
    ) -> Float32[Tensor, "point number"]:
        """Return the errors of the predicted numbers, in their standard deviations."""
        with torch.no_grad():
            targets = self.standard(plain_numbers(pixels, self.tower))
        errors: Tensor = self.linear(vectors * self._root) - targets
        return errors


class NumberHeads(nn.Module):
    """A linear head for each modality of pixels, from its vector to its standardized numbers."""

    def __init__(self, settings: ModelSettings, samples: Mapping[str, Tensor]) -> None:
        """Measure the numbers, and start from heads that predict their means.

        Args:
            settings: settings of the model.
            samples: observations of some locations in each modality of pixels; of one that has
                fewer than two no number is predicted.
        """
        super().__init__()
        self.heads = nn.ModuleDict()
        for name, pixels in samples.items():
            tower = settings.pixel_tower(name)
            head = _Head(tower, settings.dimension)
            head.standard.measure(plain_numbers(pixels, tower))
            self.heads[name] = head

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
            error = head(vectors[name].float(), inputs[name]).square().mean(dim=1)
            losses.append((error * present[name]).sum() / batch)
        return torch.stack(losses).mean()
