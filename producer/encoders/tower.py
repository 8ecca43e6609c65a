"""One encoder of a trained model, from observations to unit vectors."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from tokenizers import Tokenizer
from torch import Tensor, nn

from unigeo.producer.encoders.encoder_inputs import encoder_inputs
from unigeo.producer.encoders.modality_encoder import ModalityEncoder
from unigeo.producer.encoders.model import UniGeoCLIP, check_shape, unit_vectors
from unigeo.schemas.errors import ModelError


class Tower(nn.Module):
    """An encoder with the rotation and the norm that follow it in its model.

    Its vectors are those of `UniGeoCLIP.encode`, so that they compare with the vectors of the
    model's other encoders and of its fields. Gradients reach the weights.
    """

    rotation: Tensor

    def __init__(self, model: UniGeoCLIP, tokenizer: Tokenizer | None, modality: str) -> None:
        """Take the encoder of a modality from a model."""
        super().__init__()
        self.modality = modality
        self.settings = model.settings
        self.encoder = model.encoders[model.settings.tower_of(modality)]
        self.tokenizer = tokenizer
        self.register_buffer("rotation", model.rotation)

    def forward(self, observations: Any) -> Float32[Tensor, "observation dimension"]:
        """Encode observations as unit vectors.

        Args:
            observations: arrays and lists as `Embedder.encode` takes them, which are checked; or a
                tensor as `UniGeoCLIP.encode` takes it.

        Raises:
            ModelError: if observations are of another type, range or shape.
            PointsError: if a coordinate is missing or out of range.
        """
        if not isinstance(observations, Tensor):
            observations = encoder_inputs(
                self.settings, self.tokenizer, self.modality, observations
            )
        check_shape(self.settings, self.modality, observations)
        vectors = self.encoder(observations.to(self.rotation.device))
        return unit_vectors(vectors, self.rotation)


def open_tower(
    kind: type[ModalityEncoder],
    name: str | Path,
    modality: str | None,
    device: str | torch.device | None,
    revision: str | None,
) -> Tower:
    """Open one encoder of a trained model; see `ModalityEncoder.from_pretrained`.

    Raises:
        ModelError: if there is no such model, or it has no or several such encoders.
    """
    opened = UniGeoCLIP.from_pretrained(name, device, revision=revision)
    model = opened.model
    classes = {one: type(model.encoders[model.settings.tower_of(one)]) for one in model.modalities}
    found = [one for one, encoder in classes.items() if issubclass(encoder, kind)]
    if modality is None and len(found) == 1:
        modality = found[0]
    if modality is None and found:
        raise ModelError(
            f"the model {name} has several of {kind.__name__}: name one by modality=, of "
            f"{', '.join(found)}"
        )
    if modality not in found:
        listed = ", ".join(f"{one} ({encoder.__name__})" for one, encoder in classes.items())
        wanted = "" if modality is None else f" of {modality!r}"
        raise ModelError(f"the model {name} has no {kind.__name__}{wanted}; it has {listed}")
    return Tower(model, opened.tokenizer, modality)
