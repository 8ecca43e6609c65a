"""Observed places as tensors: every modality of every location, and what is missing."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unigeo.producer.encoders.text import tokenize
from unigeo.producer.observations.protocol import IMAGE_MODALITIES, Observations


@dataclass(frozen=True)
class Samples:
    """Locations and what was observed at each."""

    inputs: dict[str, Tensor]
    """By modality: what its encoder takes, first axis the place."""
    present: dict[str, Tensor]
    """By modality: whether it was observed, bool per place."""
    panorama: Tensor | None = None
    """Number of the panorama that a place's street picture was cut from, -1 where there is none;
    None where the observations do not say."""

    def __len__(self) -> int:
        return len(self.inputs["coordinate"])

    def take(self, rows: Any) -> "Samples":
        """Some of the places."""
        rows = torch.as_tensor(rows)
        return self._each(lambda values: values[rows])

    def to(self, device: torch.device) -> "Samples":
        """The same places on another device; from pinned memory without waiting."""
        return self._each(lambda values: values.to(device, non_blocking=True))

    def pinned(self) -> "Samples":
        """The same places in memory that a GPU reads by itself."""
        return self._each(lambda values: values.pin_memory())

    def record(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory until a stream of the GPU has used it."""
        panorama = [] if self.panorama is None else [self.panorama]
        for values in (*self.inputs.values(), *self.present.values(), *panorama):
            values.record_stream(stream)

    def only(self, counted: Bool[Tensor, " place"]) -> "Samples":
        """The same places, of which some count as not observed."""
        return Samples(
            self.inputs,
            {name: there & counted.to(there.device) for name, there in self.present.items()},
            self.panorama,
        )

    @staticmethod
    def join(parts: "Sequence[Samples]") -> "Samples":
        """Places after places."""
        panoramas = [part.panorama for part in parts if part.panorama is not None]
        return Samples(
            {name: torch.cat([part.inputs[name] for part in parts]) for name in parts[0].inputs},
            {name: torch.cat([part.present[name] for part in parts]) for name in parts[0].present},
            torch.cat(panoramas) if panoramas else None,
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Samples":
        return Samples(
            {name: change(values) for name, values in self.inputs.items()},
            {name: change(there) for name, there in self.present.items()},
            None if self.panorama is None else change(self.panorama),
        )

    def complete(self) -> Bool[np.ndarray, " place"]:
        """Places at which every modality was observed."""
        return torch.stack(list(self.present.values())).all(dim=0).numpy()


def observe(
    observations: Observations,
    lonlat: Float[np.ndarray, "place 2"],
    texts: list[str | None],
    tokenizer: Any,
    modalities: Collection[str] | None = None,
) -> Samples:
    """Look at every place in every modality.

    Args:
        observations: the world, or a folder.
        lonlat: the places.
        texts: what is said of each, from `observations.texts`.
        tokenizer: of the text encoder.
        modalities: those to look for, beside the coordinates; all that are observed if not given.
    """
    wanted = observations.modalities if modalities is None else modalities
    everywhere = torch.ones(len(lonlat), dtype=torch.bool)
    inputs: dict[str, Tensor] = {"coordinate": torch.from_numpy(np.asarray(lonlat, np.float64))}
    present = {"coordinate": everywhere}
    for modality in IMAGE_MODALITIES:
        if modality in observations.modalities and modality in wanted:
            patches = observations.patches(modality, lonlat)  # type: ignore[arg-type]
            inputs[modality] = torch.from_numpy(patches.values)
            present[modality] = torch.from_numpy(patches.valid)
    if "text" in observations.modalities and "text" in wanted:
        inputs["text"] = tokenize(tokenizer, texts)
        present["text"] = torch.tensor([text is not None for text in texts])
    panoramas = getattr(observations, "panoramas", None)
    number = None if panoramas is None else torch.from_numpy(panoramas(lonlat))
    return Samples(inputs, present, number)
