"""Encoder of images: SigLIP's vision transformer."""

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import SiglipVisionConfig, SiglipVisionModel

from unigeo.producer.encoders.modality_encoder import ModalityEncoder
from unigeo.producer.encoders.plain_numbers import NumberProjection
from unigeo.producer.encoders.pretrained import checkpoint_tower, load_tower
from unigeo.producer.encoders.tower_settings import ImageSettings

ATTENTION = "sdpa"
"""Name of the attention implementation in `transformers`."""


class ImageEncoder(ModalityEncoder):
    """Encoder of aerial or street images, with attention pooling.

    SigLIP's position table is square. A tower without a checkpoint has a table of its own grid
    instead: a street image of 4 x 6 patches is neither padded (half more tokens) nor squeezed, and
    no table is interpolated in every step. A pretrained tower keeps its table, and images are
    resized to its square as by SigLIP's own processor.
    """

    def __init__(self, settings: ImageSettings, dimension: int, *, pretrained: bool = True) -> None:
        """Build the tower; `pretrained=False` does not read a checkpoint: weights follow later."""
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
            self.tower = _build_tower(settings)
        width = settings.width
        self.projection = nn.Identity() if width == dimension else nn.Linear(width, dimension)
        self.numbers = NumberProjection(settings, dimension) if settings.numbers else None

    def forward(
        self,
        images: UInt8[Tensor, "point channel row col"] | Float32[Tensor, "point channel row col"],
    ) -> Float[Tensor, "point dimension"]:
        """Encode images; the vectors are not normalized."""
        pooled: Tensor = self.tower(pixel_values=self.pixels(images)).pooler_output
        vectors: Tensor = self.projection(pooled)
        return vectors if self.numbers is None else vectors + self.numbers(images)

    def patch_tokens(
        self,
        images: UInt8[Tensor, "point channel row col"] | Float32[Tensor, "point channel row col"],
    ) -> Float[Tensor, "point patchrow patchcol width"]:
        """Return the last layer's token of each patch, before pooling."""
        tokens: Tensor = self.tower(pixel_values=self.pixels(images)).last_hidden_state
        return torch.unflatten(tokens, 1, self.settings.grid)

    def pixels(
        self,
        images: UInt8[Tensor, "point channel row col"] | Float32[Tensor, "point channel row col"],
    ) -> Float[Tensor, "point band height breadth"]:
        """Scale the values of images, and resize them.

        The scale is -1 to 1 as in SigLIP's processor, or each band's mean and standard deviation,
        where the inverse hyperbolic sine compresses the few bright pixels of night lights and snow.
        """
        if self.settings.pixel_mean and self.settings.pretrained is None:
            mean, std = (
                torch.tensor(numbers, device=images.device)[:, None, None]
                for numbers in (self.settings.pixel_mean, self.settings.pixel_std)
            )
            values = torch.asinh((images.float() - mean) / std)
        else:
            values = images.float() / 127.5 - 1.0
        if values.shape[-2:] != self.settings.size:
            values = interpolate(values, self.settings.size, mode="bilinear", antialias=True)
        # A checkpoint's patch embedding takes three channels.
        if self.settings.pretrained is not None and values.shape[1] == 1:
            values = values.expand(-1, 3, -1, -1)
        return values

    def checkpoint_activations(self, on: bool) -> None:
        """Recompute the blocks in the backward pass instead of keeping their activations."""
        checkpoint_tower(self.tower, on)


def _build_tower(settings: ImageSettings) -> SiglipVisionModel:
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
    if rows != cols:  # SigLIP made a table for the square of `image_size`: replace it
        table = nn.Embedding(rows * cols, settings.width)
        nn.init.normal_(table.weight, std=settings.width**-0.5)  # as SigLIP initializes its own
        tower.embeddings.position_embedding = table
        tower.embeddings.position_ids = torch.arange(rows * cols)[None]
    return tower
