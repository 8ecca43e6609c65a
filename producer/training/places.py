"""Observed places as tensors: every modality of every location, and what is missing."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unigeo.producer.encoders.words import tokenize
from unigeo.producer.observations.protocol import PICTURES, Observations


@dataclass(frozen=True)
class Places:
    """Locations and what was observed at each."""

    inputs: dict[str, Tensor]
    """By modality: what its encoder takes, first axis the place."""
    present: dict[str, Tensor]
    """By modality: whether it was observed, bool per place."""

    def __len__(self) -> int:
        return len(self.inputs["coordinate"])

    def take(self, rows: Any) -> "Places":
        """Some of the places."""
        rows = torch.as_tensor(rows)
        return Places(
            {name: values[rows] for name, values in self.inputs.items()},
            {name: there[rows] for name, there in self.present.items()},
        )

    def to(self, device: torch.device) -> "Places":
        """The same places on another device."""
        return Places(
            {name: values.to(device) for name, values in self.inputs.items()},
            {name: there.to(device) for name, there in self.present.items()},
        )

    def complete(self) -> Bool[np.ndarray, " place"]:
        """Places at which every modality was observed."""
        return torch.stack(list(self.present.values())).all(dim=0).numpy()


def observe(
    observations: Observations,
    lonlat: Float[np.ndarray, "place 2"],
    texts: list[str | None],
    tokenizer: Any,
) -> Places:
    """Look at every place in every modality.

    Args:
        observations: the world, or a folder.
        lonlat: the places.
        texts: what is said of each, from `observations.texts`.
        tokenizer: of the text encoder.
    """
    everywhere = torch.ones(len(lonlat), dtype=torch.bool)
    inputs: dict[str, Tensor] = {"coordinate": torch.from_numpy(np.asarray(lonlat, np.float64))}
    present = {"coordinate": everywhere}
    for modality in PICTURES:
        if modality in observations.modalities:
            patches = observations.patches(modality, lonlat)  # type: ignore[arg-type]
            inputs[modality] = torch.from_numpy(patches.values)
            present[modality] = torch.from_numpy(patches.valid)
    if "text" in observations.modalities:
        inputs["text"] = tokenize(tokenizer, texts)
        present["text"] = torch.tensor([text is not None for text in texts])
    return Places(inputs, present)
