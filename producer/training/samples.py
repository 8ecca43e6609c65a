"""Training samples as tensors: the observations of every modality, and which are missing."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unigeo.producer.encoders.text import tokenize
from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.observations.protocol import Observations


@dataclass(frozen=True)
class Samples:
    """Locations with their observations in every modality."""

    inputs: dict[str, Tensor]
    """Inputs of each modality's encoder; the first axis is the sample."""
    present: dict[str, Tensor]
    """Whether each sample was observed in a modality, as bool."""
    panorama: Tensor | None = None
    """Number of the panorama that a sample's street image was cut from, -1 where there is none;
    None if the observations have no panoramas."""

    def __len__(self) -> int:
        return len(self.inputs[COORDINATE])

    def take(self, rows: Any) -> "Samples":
        """Select samples by index."""
        rows = torch.as_tensor(rows)
        return self._map(lambda values: values[rows])

    def to(self, device: torch.device) -> "Samples":
        """Copy the samples to another device; from pinned memory without waiting."""
        return self._map(lambda values: values.to(device, non_blocking=True))

    def pin_memory(self) -> "Samples":
        """Copy the samples to page-locked memory, which a GPU reads without the CPU."""
        return self._map(lambda values: values.pin_memory())

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory allocated until a CUDA stream has used it."""
        panorama = [] if self.panorama is None else [self.panorama]
        for values in (*self.inputs.values(), *self.present.values(), *panorama):
            values.record_stream(stream)

    def mask(self, counted: Bool[Tensor, " sample"]) -> "Samples":
        """Mark the samples that are not `counted` as not observed."""
        return Samples(
            self.inputs,
            {name: present & counted.to(present.device) for name, present in self.present.items()},
            self.panorama,
        )

    @staticmethod
    def concatenate(parts: "Sequence[Samples]") -> "Samples":
        """Concatenate samples of the same modalities."""
        panoramas = [part.panorama for part in parts if part.panorama is not None]
        return Samples(
            {name: torch.cat([part.inputs[name] for part in parts]) for name in parts[0].inputs},
            {name: torch.cat([part.present[name] for part in parts]) for name in parts[0].present},
            torch.cat(panoramas) if panoramas else None,
        )

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Samples":
        """Apply a function to every tensor."""
        return Samples(
            {name: function(values) for name, values in self.inputs.items()},
            {name: function(present) for name, present in self.present.items()},
            None if self.panorama is None else function(self.panorama),
        )

    def complete(self) -> Bool[np.ndarray, " sample"]:
        """Return whether each sample was observed in every modality."""
        return torch.stack(list(self.present.values())).all(dim=0).numpy()


def observe(
    observations: Observations,
    lonlat: Float[np.ndarray, "sample 2"],
    tokenizer: Any,
    modalities: Collection[str] | None = None,
) -> Samples:
    """Observe locations in every modality.

    Args:
        observations: where the locations are observed.
        lonlat: the locations, in degrees, longitude first.
        tokenizer: of the text encoder; None where text is not observed.
        modalities: modalities to observe beside the coordinates; None for all there are.
    """
    wanted = observations.modalities if modalities is None else modalities
    everywhere = torch.ones(len(lonlat), dtype=torch.bool)
    inputs: dict[str, Tensor] = {COORDINATE: torch.from_numpy(np.asarray(lonlat, np.float64))}
    present = {COORDINATE: everywhere}
    for modality in observations.modalities:
        if modality == COORDINATE or modality not in wanted:
            continue
        if observations.form(modality).has_pixels:
            patches = observations.patches(modality, lonlat)
            inputs[modality] = torch.from_numpy(patches.values)
            present[modality] = torch.from_numpy(patches.valid)
        else:
            texts = observations.texts(lonlat, modality)
            inputs[modality] = tokenize(tokenizer, texts)
            present[modality] = torch.tensor([text is not None for text in texts])
    panorama = observations.panoramas(lonlat)
    return Samples(inputs, present, None if panorama is None else torch.from_numpy(panorama))
