"""Vision transformer with registers, on channels that a subclass makes of patches."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from unigeo.producer.encoders.modality_encoder import ModalityEncoder
from unigeo.producer.encoders.plain_numbers import NumberProjection
from unigeo.producer.encoders.tower_settings import ClassesSettings, SurfaceSettings


class PatchTransformer(ModalityEncoder):
    """Base of encoders whose vector is the class token of the last layer."""

    def __init__(
        self, settings: SurfaceSettings | ClassesSettings, channels: int, dimension: int
    ) -> None:
        super().__init__()
        self.tower = VisionTransformer(
            img_size=settings.size,
            patch_size=settings.patch,
            in_chans=channels,
            num_classes=0,
            global_pool="token",
            embed_dim=settings.width,
            depth=settings.depth,
            num_heads=settings.heads,
            mlp_ratio=settings.mlp_ratio,
            reg_tokens=settings.registers,
        )
        self._grid = settings.grid
        width = settings.width
        self.projection = nn.Identity() if width == dimension else nn.Linear(width, dimension)
        self.numbers = NumberProjection(settings, dimension) if settings.numbers else None

    def channels(
        self, patches: Shaped[Tensor, "point view row col"]
    ) -> Float[Tensor, "point channel row col"]:
        """Return the transformer's input."""
        raise NotImplementedError

    def forward(
        self, patches: Shaped[Tensor, "point view row col"]
    ) -> Float[Tensor, "point dimension"]:
        """Encode patches; the vectors are not normalized."""
        vectors: Tensor = self.projection(self.tower(self.channels(patches)))
        return vectors if self.numbers is None else vectors + self.numbers(patches)

    def patch_tokens(
        self, patches: Shaped[Tensor, "point view row col"]
    ) -> Float[Tensor, "point patchrow patchcol width"]:
        """Return the last layer's token of each patch, without class token and registers."""
        tokens: Any = self.tower.forward_features(self.channels(patches))
        rest: Tensor = tokens[:, self.tower.num_prefix_tokens :]
        return torch.unflatten(rest, 1, self._grid)

    def checkpoint_activations(self, on: bool) -> None:
        """Recompute the blocks in the backward pass instead of keeping their activations."""
        self.tower.set_grad_checkpointing(on)
