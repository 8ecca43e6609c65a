"""Encoder of coordinates: random Fourier features at several scales, joined by attention.

Each scale gives one token. Attention runs over the tokens of one point, never over the batch, so
that a point's vector does not depend on the other points.
"""

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unigeo.producer.encoders.features import FourierFeatures
from unigeo.producer.encoders.perceptrons import Perceptron
from unigeo.producer.encoders.tower_settings import CoordinateSettings

SCALE_EMBEDDING_STD = 0.5
"""Initial standard deviation of the scale embedding, near that of the sines (0.71) it adds to."""


class CoordinateEncoder(FourierFeatures):
    """Encoder of longitude and latitude in degrees.

    Source: Astruc et al., UniGeoCLIP, arXiv 2604.11668. Unlike its public code, attention does not
    run over the batch, phases are in float64, and scales have a learned embedding.
    """

    def __init__(self, settings: CoordinateSettings, dimension: int) -> None:
        super().__init__(settings)
        width, scales = settings.width, len(settings.sigmas)
        self.scale_perceptrons = nn.ModuleList(
            [
                Perceptron(
                    width,
                    settings.hidden,
                    settings.scale_layers,
                    width,
                    activation=nn.functional.gelu,
                )
                for _ in range(scales if settings.scale_layers else 0)
            ]
        )
        self.scale_embedding = (
            nn.Parameter(SCALE_EMBEDDING_STD * torch.randn(scales, width))
            if settings.scale_embedding
            else None
        )
        self.registers = nn.Parameter(0.02 * torch.randn(settings.registers, width))
        # A list of separate blocks: nn.TransformerEncoder would initialize them as copies of one.
        self.blocks = nn.ModuleList(
            [
                Block(width, settings.heads, settings.hidden, settings.dropout)
                for _ in range(settings.depth)
            ]
        )
        self.checkpointing = False
        self.norm = nn.LayerNorm(width)
        read = scales * width if settings.readout == "concat" else width
        self.projection = nn.Identity() if read == dimension else nn.Linear(read, dimension)

    def forward(self, lonlat: Float64[Tensor, "point 2"]) -> Float[Tensor, "point dimension"]:
        """Encode points; the vectors are not normalized.

        Raises:
            ModelError: if degrees or frequencies are not in float64.
        """
        return self.attend(self.tokens(lonlat))

    def attend(
        self, tokens: Float32[Tensor, "point scale width"]
    ) -> Float[Tensor, "point dimension"]:
        """Apply self-attention to the tokens of each point, and read its vector from them."""
        scales = tokens.shape[1]
        if self.scale_perceptrons:
            each = zip(self.scale_perceptrons, tokens.unbind(1), strict=True)
            tokens = torch.stack([net(token) for net, token in each], dim=1)
        if self.scale_embedding is not None:
            tokens = tokens + self.scale_embedding
        # Registers go last, so that a readout slices the scales from the front.
        registers = self.registers.expand(len(tokens), -1, -1)
        tokens = torch.cat([tokens, registers.to(tokens.dtype)], dim=1)
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        vectors: Tensor = self.projection(self._read(tokens, scales))
        return vectors

    def checkpoint_activations(self, on: bool) -> None:
        """Recompute the blocks in the backward pass instead of keeping their activations."""
        self.checkpointing = on

    def _read(
        self, tokens: Float[Tensor, "point token width"], scales: int
    ) -> Float[Tensor, "point read"]:
        """Summarize a point's tokens; the norm acts on single tokens or on their mean."""
        match self.settings.readout:
            case "concat":
                summary: Tensor = self.norm(tokens[:, :scales]).flatten(1)
            case "registers":
                summary = self.norm(tokens[:, scales:].mean(dim=1))
            case "mean":
                summary = self.norm(tokens[:, :scales].mean(dim=1))
        return summary


class Block(nn.Module):
    """Pre-norm transformer block over the tokens of one point."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout)
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
        """Add attention over the tokens, then an MLP of each token."""
        tokens = tokens + self.dropout(self.attention(self.attention_norm(tokens)))
        added: Tensor = self.dropout(self.mlp(self.mlp_norm(tokens)))
        return tokens + added

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
