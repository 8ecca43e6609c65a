"""Encoder of surface models: a vision transformer with registers, on heights in metres."""

import math

import torch
from jaxtyping import Float, Float32
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from unigeo.producer.encoders.model_settings import SurfaceSettings

LOW = 0.02
"""Share of a patch's pixels below its low ground; the minimum could be a single pit."""


class SurfaceEncoder(nn.Module):
    """Encoder of heights in metres whose vector is the class token of the last layer."""

    def __init__(self, settings: SurfaceSettings, dimension: int) -> None:
        super().__init__()
        self.settings = settings
        self.tower = VisionTransformer(
            img_size=settings.size,
            patch_size=settings.patch,
            in_chans=settings.views * len(settings.channels),
            num_classes=0,
            global_pool="token",
            embed_dim=settings.width,
            depth=settings.depth,
            num_heads=settings.heads,
            mlp_ratio=settings.mlp_ratio,
            reg_tokens=settings.registers,
        )
        width = settings.width
        self.projection = nn.Identity() if width == dimension else nn.Linear(width, dimension)

    def forward(
        self, heights: Float32[Tensor, "point view row col"]
    ) -> Float[Tensor, "point dimension"]:
        """Encode surfaces; the vectors are not normalized."""
        vectors: Tensor = self.projection(self.tower(self.channels(heights)))
        return vectors

    def patch_tokens(
        self, heights: Float32[Tensor, "point view row col"]
    ) -> Float[Tensor, "point patchrow patchcol width"]:
        """Return the last layer's token of each patch, without class token and registers."""
        tokens: Tensor = self.tower.forward_features(self.channels(heights))
        patches: Tensor = tokens[:, self.tower.num_prefix_tokens :]
        return torch.unflatten(patches, 1, self.settings.grid)

    def checkpoint_activations(self, on: bool) -> None:
        """Recompute the blocks in the backward pass instead of keeping their activations."""
        self.tower.set_grad_checkpointing(on)

    def channels(
        self, heights: Float32[Tensor, "point view row col"]
    ) -> Float32[Tensor, "point channel row col"]:
        """Compress heights so that both a house and a mountain remain visible, for each view.

        Pixels without a height are set to the low ground; a patch without any height is flat at sea
        level. Channels are ordered by kind, then by view.
        """
        low = low_ground(heights)
        filled = torch.where(heights.isfinite(), heights, low)
        planes = {
            "relative": torch.asinh((filled - low) / self.settings.relative_m),
            "level": torch.asinh(low / self.settings.level_m).expand_as(heights),
        }
        return torch.cat([planes[name] for name in self.settings.channels], dim=1)


def low_ground(
    heights: Float32[Tensor, "point view row col"],
) -> Float32[Tensor, "point view 1 1"]:
    """Return the height below which 2 % of a patch's pixels lie; 0 if none has a height."""
    known = torch.where(heights.isfinite(), heights, torch.inf).flatten(2)  # unknown sort last
    rank = max(1, math.ceil(LOW * known.shape[2]))
    low = known.kthvalue(rank, dim=2).values
    low = torch.where(low.isfinite(), low, known.amin(dim=2))  # fewer heights than the rank
    return torch.where(low.isfinite(), low, 0.0)[:, :, None, None]
