"""A trained model with its tokenizer, which encodes observations as users have them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from tokenizers import Tokenizer

from unigeo.producer.encoders.encoder_inputs import check_ground, encoder_inputs
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.saved_models import load_model, save_model
from unigeo.schemas.errors import ModelError


@dataclass(frozen=True, eq=False)
class Embedder:
    """A trained model and its tokenizer; `UniGeoCLIP.from_pretrained` opens one."""

    model: UniGeoCLIP
    tokenizer: Tokenizer | None
    """Tokenizer of its text encoders; None where it has none."""

    @classmethod
    def open(cls, folder: str | Path, device: str | torch.device | None = None) -> "Embedder":
        """Open a model folder.

        Args:
            folder: folder of a finished model.
            device: device to encode on; CUDA if None and there is one, else the CPU.

        Raises:
            ModelError: if a file is missing, damaged, or of another version.
        """
        model, tokenizer = load_model(folder)
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.to(chosen), tokenizer)

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> None:
        """Write the model as a folder that `UniGeoCLIP.from_pretrained` opens.

        Args:
            folder: folder to write; an older model in it is replaced, anything else is refused.
            half: whether to write float32 weights as float16, half as large and rounded.

        Raises:
            ModelError: if the folder holds something else, or cannot be written.
        """
        save_model(self.model, self.tokenizer, folder, half=half)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that can be encoded."""
        return self.model.modalities

    @property
    def dimension(self) -> int:
        """Number of dimensions of a vector."""
        return self.model.settings.dimension

    def encode(
        self,
        modality: str,
        observations: Any,
        *,
        ground_m: float | Sequence[float] | None = None,
        batch: int = 256,
    ) -> Float32[np.ndarray, "observation dimension"]:
        """Encode observations of one modality as unit vectors.

        Args:
            modality: one of `modalities`.
            observations: an array, tensor or sequence whose first axis is the observation, by kind
                of encoder. coordinate: degrees of WGS 84, longitude first (observation 2). image:
                bytes from 0 to 255, or the unit that the model learned from (observation channel
                row col). surface: metres, NaN at voids (observation view row col). classes: numbers
                of classes (observation view row col). text: strings.
            ground_m: side of the patches on the ground in metres, one for each view; compared with
                that of the patches that the model learned from.
            batch: number of observations encoded at once.

        Raises:
            ModelError: if the model has no such encoder, or observations are of another type,
                range, shape or size on the ground.
            PointsError: if a coordinate is missing or out of range.
        """
        settings = self.model.settings
        if modality not in settings.modalities:
            raise ModelError(
                f"the model has no encoder of {modality!r}; it has {', '.join(self.modalities)}"
            )
        if batch < 1:
            raise ModelError(f"batch must be at least 1, not {batch}")
        check_ground(settings, modality, ground_m)
        inputs = encoder_inputs(settings, self.tokenizer, modality, observations)
        device = self.model.rotation.device
        vectors = np.empty((len(inputs), self.dimension), np.float32)
        with torch.inference_mode():
            for first in range(0, len(inputs), batch):
                part = inputs[first : first + batch].to(device)
                encoded = self.model.encode(modality, part)
                vectors[first : first + batch] = encoded.float().cpu().numpy()
        return vectors
