"""Observed locations as a dataset of torch, for training loops of one's own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch.utils.data import Dataset

from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.observations.protocol import Observations
from unigeo.schemas.errors import ObservationsError, PointsError
from unigeo.schemas.tables.points import check_lonlat

Item = dict[str, Any]


class LocationDataset(Dataset[Item]):
    """Map-style dataset: an item has what is observed at one location.

    An item maps each modality to its observation: `coordinate` to degrees, longitude first, in
    float64; a modality of pixels to its patch, zeros where there is none; one of texts to a string,
    empty where there is none. `present` maps each modality to whether it was observed. Items are
    collated by torch's default, and a `DataLoader` reads those of a batch together.
    """

    def __init__(
        self,
        observations: Observations,
        locations: ArrayLike,
        *,
        modalities: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        """Choose the locations; nothing is read before an item is asked for.

        Args:
            observations: what is observed, such as an open set.
            locations: number of locations to draw, at most as many as a set has; or the locations
                in degrees of WGS 84, longitude first.
            modalities: modalities to observe; all by default.
            seed: seed of the locations that are drawn.

        Raises:
            ObservationsError: if there is no such modality.
            PointsError: if a location is no position on Earth.
        """
        self.lonlat = np.array(locations, np.float64)
        if self.lonlat.ndim == 0:
            self.lonlat = observations.locations(int(self.lonlat), seed)
        if self.lonlat.ndim != 2 or self.lonlat.shape[1] != 2:
            raise PointsError(f"locations have shape (n, 2), not {self.lonlat.shape}")
        check_lonlat(self.lonlat)
        self.observations = observations
        self.modalities = tuple(observations.modalities if modalities is None else modalities)
        for name in self.modalities:
            if name not in observations.modalities:
                raise ObservationsError(
                    f"{observations.name} has no {name}; it has "
                    f"{', '.join(observations.modalities)}"
                )

    def __len__(self) -> int:
        return len(self.lonlat)

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Return several items, observed together."""
        lonlat = self.lonlat[np.asarray(indices, int)]
        items: list[Item] = [{"present": {}} for _ in indices]
        for name in self.modalities:
            values, present = self._observe(name, lonlat)
            for item, value, is_there in zip(items, values, present, strict=True):
                item[name] = value
                item["present"][name] = bool(is_there)
        return items

    def _observe(
        self, modality: str, lonlat: Float[np.ndarray, "location 2"]
    ) -> tuple[Sequence[Any] | torch.Tensor, Sequence[bool] | np.ndarray]:
        """Return the observations of a modality, and which of them are there."""
        if modality == COORDINATE:
            return torch.from_numpy(lonlat), [True] * len(lonlat)
        if self.observations.form(modality).has_pixels:
            patches = self.observations.patches(modality, lonlat)
            values = patches.values  # those of patches that are not valid mean nothing
            zeroed = np.where(patches.valid[:, None, None, None], values, values.dtype.type(0))
            return torch.from_numpy(zeroed), patches.valid
        texts = self.observations.texts(lonlat, modality)
        return [text or "" for text in texts], [text is not None for text in texts]
