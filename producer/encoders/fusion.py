"""One vector of a location from those of its modalities.

The mean of unit vectors in the shared space, turned so that the leading numbers say most: those of
the first 64, of the first 128 and so on span the directions in which the means of training
locations differ most. Within each such block the axes are arbitrary, so that no single number
dominates the others when vectors are stored as bytes.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor, nn

FIRST_BLOCK = 64
"""Number of leading dimensions that are turned among themselves; the next blocks double."""


class Fusion(nn.Module):
    """Mean of the vectors that a location has, and a fixed rotation."""

    rotation: Tensor

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.register_buffer("rotation", torch.eye(dimension))

    def forward(
        self,
        vectors: Float32[Tensor, "point modality dimension"],
        present: Bool[Tensor, "point modality"],
    ) -> Float32[Tensor, "point dimension"]:
        """Fuse unit vectors, of which some are missing, into unit vectors.

        A point without any vector gets zeros.
        """
        kept = torch.where(present[..., None], vectors, 0.0)
        count = present.sum(dim=1).clamp(min=1)
        return self.turn(kept.sum(dim=1) / count[:, None])

    def turn(
        self, vectors: Float32[Tensor, "point dimension"]
    ) -> Float32[Tensor, "point dimension"]:
        """Map vectors of the shared space, such as those of words, to where fused ones are."""
        with torch.autocast(vectors.device.type, enabled=False):
            return nn.functional.normalize(vectors.float() @ self.rotation, dim=-1)


def fit_rotation(
    vectors: Mapping[str, Float32[Tensor, "location dimension"]],
    present: Mapping[str, Bool[Tensor, " location"]],
    seed: int,
) -> Float32[Tensor, "dimension dimension"]:
    """Find the rotation by the principal directions of the means of training locations.

    Args:
        vectors: unit vectors by modality.
        present: whether a location was observed in each modality.
        seed: seed of the axes within each block.
    """
    stacked = torch.stack(list(vectors.values()), dim=1).double()
    observed = torch.stack([present[name] for name in vectors], dim=1)
    total = torch.where(observed[..., None], stacked, 0.0).sum(dim=1)
    means = total[observed.any(dim=1)]
    means = means / means.norm(dim=1, keepdim=True).clamp(min=1e-12)
    # Not centred: the direction that all means share is among the leading ones.
    values, directions = np.linalg.eigh((means.T @ means).numpy())
    directions = directions[:, np.argsort(-values, kind="stable")]
    rng = np.random.default_rng(seed)
    for first, last in block_edges(directions.shape[0]):
        normal = rng.standard_normal((last - first, last - first))
        directions[:, first:last] = directions[:, first:last] @ np.linalg.qr(normal).Q
    return torch.from_numpy(directions.astype(np.float32))


def block_edges(dimension: int) -> list[tuple[int, int]]:
    """Return first and last dimension of each block.

    >>> block_edges(200)
    [(0, 64), (64, 128), (128, 200)]
    """
    edges, size = [0], FIRST_BLOCK
    while size < dimension:
        edges.append(size)
        size *= 2
    return list(pairwise([*edges, dimension]))
