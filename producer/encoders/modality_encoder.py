"""Base of the encoders, which opens the one of a trained model alone."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from unigeo.producer.encoders.tower import Tower


class ModalityEncoder(nn.Module):
    """Base of modules that encode the observations of one modality."""

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        modality: str | None = None,
        device: str | torch.device | None = None,
        *,
        revision: str | None = None,
    ) -> "Tower":
        """Open the encoder of this class of a trained model, alone.

        Args:
            name: folder, field or model of the hub, as in `UniGeoCLIP.from_pretrained`.
            modality: modality of the encoder; needed where the model has several of this class.
            device: device to encode on; CUDA if None and there is one, else the CPU.
            revision: branch, tag or commit of a model of the hub.

        Returns:
            The encoder with the rotation and the norm that follow it in the model.

        Raises:
            ModelError: if there is no such model, or it has no such encoder.
        """
        from unigeo.producer.encoders.tower import open_tower

        return open_tower(cls, name, modality, device, revision)
