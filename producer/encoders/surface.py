"""Encoder of surface models: a vision transformer with registers, on heights in metres."""

import math

import torch
from jaxtyping import Float32
from torch import Tensor

from unigeo.producer.encoders.patch_transformer import PatchTransformer
from unigeo.producer.encoders.tower_settings import SurfaceSettings

LOW = 0.02
"""Share of a patch's pixels below its low ground; the minimum could be a single pit."""


class SurfaceEncoder(PatchTransformer):
    """Encoder of heights in metres."""

    def __init__(self, settings: SurfaceSettings, dimension: int) -> None:
        super().__init__(settings, settings.views * len(settings.channels), dimension)
        self.settings = settings

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
