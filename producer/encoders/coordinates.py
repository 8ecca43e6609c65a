"""Encoder of coordinates: random Fourier features at several scales, joined by attention.

Each scale gives one token; attention runs over the tokens of one point and never over the batch, so
a point's vector is the same alone and in company.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor, nn

from unigeo.producer.encoders.plane import equal_earth_tensor, sphere_tensor
from unigeo.producer.encoders.settings import CoordinateSettings
from unigeo.schemas.errors import ModelError

SCALE_EMBEDDING_STD = 0.5
"""First spread of the scale embedding, comparable to the sines (0.71) it is added to."""


class CoordinateEncoder(nn.Module):
    """Longitude and latitude in degrees to a vector.

    Source: Astruc et al., UniGeoCLIP, arXiv 2604.11668, with its public code's batch attention
    mended, the phases in float64, and a learned scale embedding added.
    """

    frequencies: Tensor
    """Cycles per unit, (scale, axis, width / 2), float64; part of the weights, drawn once."""

    def __init__(self, settings: CoordinateSettings, dimension: int) -> None:
        super().__init__()
        self.settings = settings
        width, scales = settings.width, len(settings.sigmas)
        self.register_buffer("frequencies", torch.from_numpy(draw_frequencies(settings)))
        self.scale_embedding = (
            nn.Parameter(SCALE_EMBEDDING_STD * torch.randn(scales, width))
            if settings.scale_embedding
            else None
        )
        self.registers = nn.Parameter(0.02 * torch.randn(settings.registers, width))
        hidden = round(settings.mlp_ratio * width)
        # A list of separate blocks: nn.TransformerEncoder would start them as copies of one.
        self.blocks = nn.ModuleList(
            [Block(width, settings.heads, hidden) for _ in range(settings.depth)]
        )
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Identity() if width == dimension else nn.Linear(width, dimension)

    def forward(self, lonlat: Float64[Tensor, "point 2"]) -> Float[Tensor, "point dimension"]:
        """Encode points; the vectors have no fixed length.

        Raises:
            ModelError: if degrees or frequencies are not in float64.
        """
        return self.attend(self.tokens(lonlat))

    def tokens(self, lonlat: Float64[Tensor, "point 2"]) -> Float32[Tensor, "point scale width"]:
        """Compute cosines and sines of each scale's phases, in float64 whatever autocast says.

        At sigma 4096 a phase reaches thousands of turns and 100 m are a hundredth of one, so that
        bfloat16, and TF32 products, would lose them; a turn's remainder is safe in float32.
        """
        for name, tensor in (("lonlat", lonlat), ("frequencies", self.frequencies)):
            if tensor.dtype != torch.float64:
                raise ModelError(
                    f"{name} are {tensor.dtype} and must be float64: 100 m vanish in less. Pass "
                    f"float64 degrees; use autocast rather than casting the model."
                )
        on_sphere = self.settings.features == "sphere"
        place = sphere_tensor(lonlat) if on_sphere else equal_earth_tensor(lonlat)
        with torch.autocast(lonlat.device.type, enabled=False):
            turns = torch.einsum("pa,saf->psf", place, self.frequencies)
            phases = (2 * math.pi * (turns - turns.round())).float()
            return torch.cat([phases.cos(), phases.sin()], dim=-1)

    def attend(
        self, tokens: Float32[Tensor, "point scale width"]
    ) -> Float[Tensor, "point dimension"]:
        """Join the tokens of each point by self-attention and take their mean."""
        scales = tokens.shape[1]
        if self.scale_embedding is not None:
            tokens = tokens + self.scale_embedding
        tokens = torch.cat([tokens, self.registers.expand(len(tokens), -1, -1)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        mean: Tensor = self.norm(tokens[:, :scales].mean(dim=1))
        vectors: Tensor = self.projection(mean)
        return vectors


class Block(nn.Module):
    """Pre-norm transformer block over the tokens of one point."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self, tokens: Float[Tensor, "point token width"]
    ) -> Float[Tensor, "point token width"]:
        """Let each token read the others, then think by itself."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        thought: Tensor = self.mlp(self.mlp_norm(tokens))
        return tokens + thought

    def attention(
        self, tokens: Float[Tensor, "point token width"]
    ) -> Float[Tensor, "point token width"]:
        """Attend as product, softmax, product: for ten tokens faster than a fused kernel."""
        width = tokens.shape[-1]
        heads: Tensor = self.query_key_value(tokens).unflatten(-1, (3, self.heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # point head token channel
        scores = (query * (width // self.heads) ** -0.5) @ key.transpose(-1, -2)
        joined = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        out: Tensor = self.attention_out(joined)
        return out


def draw_frequencies(settings: CoordinateSettings) -> Float64[np.ndarray, "scale axis half"]:
    """Draw the Gaussian frequencies of every scale; numpy's, so that no torch device matters."""
    axes = 3 if settings.features == "sphere" else 2
    normal = np.random.default_rng(settings.seed).standard_normal(
        (len(settings.sigmas), axes, settings.width // 2)
    )
    frequencies: Float64[np.ndarray, "scale axis half"] = (
        normal * np.array(settings.sigmas)[:, None, None]
    )
    return frequencies
