"""Encoder of pictures: SigLIP's vision transformer."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import SiglipVisionConfig, SiglipVisionModel

from unigeo.producer.encoders.pretrained import checkpoint_tower, load_tower
from unigeo.producer.encoders.settings import ImageSettings

ATTENTION = "sdpa"
"""Implementation of attention in `transformers`."""


class ImageEncoder(nn.Module):
    """Pictures to a vector, by attention pooling.

    SigLIP's position table is square. A tower made from nothing gets a table of its own grid
    instead: a street view of 4 x 6 patches is seen as it is, neither padded (a third more tokens)
    nor squeezed, and no table is interpolated at every step. A pretrained tower keeps its table,
    and pictures are resized to its square as its own processor does.
    """

    def __init__(self, settings: ImageSettings, dimension: int, *, pretrained: bool = True) -> None:
        """Build the tower; `pretrained=False` leaves a checkpoint unread, to load weights later."""
        super().__init__()
        self.settings = settings
        if settings.pretrained is not None and pretrained:
            expected = {
                "hidden_size": settings.width,
                "num_hidden_layers": settings.depth,
                "num_attention_heads": settings.heads,
                "intermediate_size": round(settings.mlp_ratio * settings.width),
                "image_size": settings.size[0],
                "patch_size": settings.patch,
                "num_channels": 3,
                "vision_use_head": True,
            }
            self.tower = load_tower(SiglipVisionModel, settings.pretrained, expected)
        else:
            self.tower = _tower(settings)
        width = settings.width
        self.projection = nn.Identity() if width == dimension else nn.Linear(width, dimension)

    def forward(
        self, pictures: UInt8[Tensor, "point channel row col"]
    ) -> Float[Tensor, "point dimension"]:
        """Encode pictures; the vectors have no fixed length."""
        pooled: Tensor = self.tower(pixel_values=self.pixels(pictures)).pooler_output
        vectors: Tensor = self.projection(pooled)
        return vectors

    def patch_tokens(
        self, pictures: UInt8[Tensor, "point channel row col"]
    ) -> Float[Tensor, "point patchrow patchcol width"]:
        """Give the last layer's token of each patch, before pooling."""
        tokens: Tensor = self.tower(pixel_values=self.pixels(pictures)).last_hidden_state
        return torch.unflatten(tokens, 1, self.settings.grid)

    def pixels(
        self, pictures: UInt8[Tensor, "point channel row col"]
    ) -> Float[Tensor, "point band height breadth"]:
        """Scale pictures and resize them.

        To -1 to 1 as SigLIP's processor does, or by mean and deviation, where the inverse
        hyperbolic sine keeps the few bright pixels of night lights and snow within reach.
        """
        if self.settings.pixel_mean and self.settings.pretrained is None:
            mean, std = (
                torch.tensor(numbers, device=pictures.device)[:, None, None]
                for numbers in (self.settings.pixel_mean, self.settings.pixel_std)
            )
            values = torch.asinh((pictures.float() - mean) / std)
        else:
            values = pictures.float() / 127.5 - 1.0
        if values.shape[-2:] != self.settings.size:
            values = interpolate(values, self.settings.size, mode="bilinear", antialias=True)
        if self.settings.pretrained is not None and values.shape[1] == 1:
            values = values.expand(-1, 3, -1, -1)
        return values

    def checkpoint_activations(self, on: bool) -> None:
        """Recompute the blocks in the backward pass rather than keep what they made."""
        checkpoint_tower(self.tower, on)


def _tower(settings: ImageSettings) -> SiglipVisionModel:
    config = SiglipVisionConfig(
        hidden_size=settings.width,
        num_hidden_layers=settings.depth,
        num_attention_heads=settings.heads,
        intermediate_size=round(settings.mlp_ratio * settings.width),
        image_size=settings.size[0],
        patch_size=settings.patch,
        num_channels=3 if settings.pretrained is not None else settings.channels,
        attn_implementation=ATTENTION,
    )
    tower = SiglipVisionModel(config)
    rows, cols = settings.grid
    if rows != cols:
        table = nn.Embedding(rows * cols, settings.width)
        nn.init.normal_(table.weight, std=settings.width**-0.5)  # as SigLIP starts its own
        tower.embeddings.position_embedding = table
        tower.embeddings.position_ids = torch.arange(rows * cols)[None]
    return tower
