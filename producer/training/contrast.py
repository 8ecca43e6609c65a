"""Contrastive loss between every pair of modalities."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn.functional import cross_entropy

RADIUS_M = 6_371_008.8
"""Mean radius of the Earth."""


def contrastive_loss(
    embeddings: Mapping[str, Float[Tensor, "point dimension"]],
    present: Mapping[str, Bool[Tensor, " point"]],
    scale: Float[Tensor, "*pair"],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    exclude: Bool[Tensor, "point point"] | None = None,
) -> Float[Tensor, ""]:
    """Average InfoNCE over all ordered pairs of modalities, with negatives from the batch.

    For each pair only the places where both were observed take part; a pair without any has no
    share in the mean.

    Args:
        embeddings: unit vectors of the same places by modality.
        present: whether each place was observed; the vectors of others are not read.
        scale: inverse temperature, one for all or one per pair in the order of `pairs`.
        pairs: unordered pairs to compare; each counts in both directions. All if not given.
        exclude: symmetric; places too near each other to be negatives. Its diagonal is ignored.

    Source: Astruc et al., UniGeoCLIP, arXiv 2604.11668.
    """
    pairs = list(combinations(embeddings, 2)) if pairs is None else pairs
    terms: list[Tensor] = []
    for (first, second), pair_scale in zip(pairs, scale.expand(len(pairs)), strict=True):
        rows = torch.nonzero(present[first] & present[second])[:, 0]
        if len(rows) == 0:
            continue
        near_rows = None if exclude is None else exclude[rows][:, rows]
        terms += both_ways(embeddings[first][rows], embeddings[second][rows], pair_scale, near_rows)
    # An empty batch has loss zero, and a gradient of zeros.
    return torch.stack(terms).mean() if terms else 0.0 * scale.sum()


def both_ways(
    first: Float[Tensor, "point dimension"],
    second: Float[Tensor, "point dimension"],
    scale: Float[Tensor, ""],
    exclude: Bool[Tensor, "point point"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """InfoNCE from the first modality to the second, and back: one product serves both."""
    logits = scale * (first @ second.T)
    own = torch.arange(len(first), device=first.device)
    if exclude is not None:
        others = ~torch.eye(len(first), dtype=torch.bool, device=first.device)
        logits = logits.masked_fill(exclude & others, -math.inf)
    return cross_entropy(logits, own), cross_entropy(logits.T, own)


def near(lonlat: Float64[Tensor, "point 2"], radius_m: float) -> Bool[Tensor, "point point"]:
    """Mark places within a great-circle distance of each other, each one near itself.

    Chords by differences of coordinates, in float64: products of unit vectors lose the last metres.
    """
    lon, lat = torch.deg2rad(lonlat).unbind(-1)
    axes = (lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin())
    chord_squared = sum((axis[:, None] - axis[None, :]) ** 2 for axis in axes)
    assert isinstance(chord_squared, Tensor)
    half_angle = min(radius_m / (2 * RADIUS_M), math.pi / 2)
    return chord_squared <= (2 * math.sin(half_angle)) ** 2
