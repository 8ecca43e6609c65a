"""One vector of a location from those of its modalities: a projection, or their mean.

The mean in the shared space stays comparable with words and coordinates. The projection is fitted
on training locations. The directions in which a modality varies little are strengthened by the
fourth root of their variance, so that they are not lost beside the few that carry most of it; the
modalities are laid side by side, and their principal directions are kept, those that vary most a
little strengthened. The first 64 lead, so that the leading numbers serve alone, then come the
others in parts that double the whole. Within each part a random rotation spreads the directions
over all numbers, so that int8 keeps all of them.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor, nn

from unigeo.producer.observations.forms import COORDINATE
from unigeo.schemas.errors import ModelError

_POWER = 0.25
"""Power of a direction's variance by which it is divided within a modality."""
_LEVEL = 0.125
"""Power of its variance by which a principal direction of all modalities is multiplied."""
_COORDINATE = 2.0
"""Weight of the coordinates beside 1 of every other modality."""
_LEADING = 64
"""Numbers of the first part, which serves alone."""
_LEAST_VARIANCE = 1e-10
"""Variance of a direction, beside the largest, below which it is rounding."""


def fuse(
    vectors: Float32[Tensor, "point modality dimension"], present: Bool[Tensor, "point modality"]
) -> Float32[Tensor, "point dimension"]:
    """Return the direction of the mean of the unit vectors that a point has.

    A point without any vector gets zeros.
    """
    kept = torch.where(present[..., None], vectors, 0.0)
    return nn.functional.normalize(kept.sum(dim=1), dim=-1)


class FusionMap(nn.Module):
    """A linear map of the vectors of several modalities side by side to fewer numbers.

    A modality that a point lacks counts as the mean vector of that modality.
    """

    means: Tensor
    maps: Tensor

    def __init__(self, modalities: tuple[str, ...], dimension: int, numbers: int) -> None:
        """Make a map of zeros, to be fitted or loaded."""
        super().__init__()
        self.modalities = modalities
        self.register_buffer("means", torch.zeros(len(modalities), dimension))
        self.register_buffer("maps", torch.zeros(len(modalities), dimension, numbers))

    @property
    def numbers(self) -> int:
        """Number of numbers of a fused vector."""
        return self.maps.shape[-1]

    @property
    def fitted(self) -> tuple[str, ...]:
        """Modalities that take part; all of them before the map is fitted.

        Others were seen at too few training locations, and their maps are zero.
        """
        taking_part = self.maps.flatten(1).any(dim=1).tolist()
        fitted = [name for name, part in zip(self.modalities, taking_part, strict=True) if part]
        return tuple(fitted) or self.modalities

    def forward(
        self,
        modalities: tuple[str, ...],
        vectors: Float32[Tensor, "point modality dimension"],
        present: Bool[Tensor, "point modality"],
    ) -> Float32[Tensor, "point number"]:
        """Fuse unit vectors.

        Args:
            modalities: name of each modality of the vectors, some of the map's.
            vectors: unit vectors.
            present: which of them a point has.

        Raises:
            ModelError: if the map knows none of the modalities.
        """
        known = [name for name in modalities if name in self.modalities]
        if not known:
            raise ModelError(
                f"fused vectors are made of {', '.join(self.modalities)}; none of them is stored"
            )
        total = vectors.new_zeros(len(vectors), self.numbers)
        for name in known:
            number, column = self.modalities.index(name), modalities.index(name)
            moved = vectors[:, column] - self.means[number]
            total += torch.where(present[:, column, None], moved, 0.0) @ self.maps[number]
        return nn.functional.normalize(total, dim=-1)

    @torch.no_grad()
    def fit(self, vectors: Mapping[str, Float[Tensor, "point dimension"]], seed: int) -> None:
        """Fit the map on unit vectors of the same points; modalities that are not given have none.

        Raises:
            ModelError: if the points have fewer directions than numbers are wanted.
        """
        self.means.zero_()
        self.maps.zero_()
        scaled, maps = [], {}
        for name, values in vectors.items():
            own = values.double().cpu().numpy()
            self.means[self.modalities.index(name)] = torch.from_numpy(own.mean(axis=0))
            maps[name] = _strengthening(own, _COORDINATE if name == COORDINATE else 1.0)
            scaled.append((own - own.mean(axis=0)) @ maps[name])
        variance, directions = _principal(np.concatenate(scaled, axis=1))
        if len(variance) < self.numbers:
            raise ModelError(
                f"the vectors of {len(scaled[0])} training locations have {len(variance)} "
                f"directions, and fused vectors want {self.numbers}; set model.fused to less"
            )
        kept = directions[:, : self.numbers] * variance[: self.numbers] ** _LEVEL
        kept = np.concatenate(list(_rotated_parts(kept, seed)), axis=1)
        ends = np.cumsum([own.shape[1] for own in maps.values()])[:-1]
        for (name, own), part in zip(maps.items(), np.split(kept, ends), strict=True):
            self.maps[self.modalities.index(name)] = torch.from_numpy(own @ part)


def _principal(
    values: Float64[np.ndarray, "point band"],
) -> tuple[Float64[np.ndarray, " direction"], Float64[np.ndarray, "band direction"]]:
    """Return the variances of centred points along their principal directions, largest first."""
    variance, directions = np.linalg.eigh(values.T @ values / len(values))
    real = np.flatnonzero(variance > _LEAST_VARIANCE * variance[-1])[::-1]
    return variance[real], directions[:, real]


def _rotated_parts(
    directions: Float64[np.ndarray, "band direction"], seed: int
) -> Iterator[Float64[np.ndarray, "band number"]]:
    """Rotate the first directions among themselves, then each part that doubles their number."""
    random = np.random.default_rng(seed)
    start, end, count = 0, _LEADING, directions.shape[1]
    while start < count:
        part = directions[:, start:end]
        yield part @ np.linalg.qr(random.standard_normal((part.shape[1],) * 2)).Q
        start, end = end, 2 * end


def _strengthening(
    vectors: Float64[np.ndarray, "point dimension"], weight: float
) -> Float64[np.ndarray, "dimension direction"]:
    """Return the map of a modality to its strengthened directions, of length `weight` on average.

    Raises:
        ModelError: if all vectors are equal.
    """
    variance, directions = _principal(vectors - vectors.mean(axis=0))
    if not len(variance):
        raise ModelError("all vectors of a modality are equal; nothing can be fused")
    length = np.sqrt((variance ** (1 - 2 * _POWER)).sum())
    strengthened: np.ndarray = directions * (variance**-_POWER * weight / length)
    return strengthened
