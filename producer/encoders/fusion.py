"""One vector of a location from those of its modalities: their mean in the shared space.

The mean stays comparable with words and coordinates. Turned so that the leading numbers span the
principal directions it serves worse: a probe that standardizes its columns then gives directions
that hardly vary the weight of the others.
"""

import torch
from jaxtyping import Bool, Float32
from torch import Tensor


def fuse(
    vectors: Float32[Tensor, "point modality dimension"], present: Bool[Tensor, "point modality"]
) -> Float32[Tensor, "point dimension"]:
    """Return the direction of the mean of the unit vectors that a point has.

    A point without any vector gets zeros.
    """
    kept = torch.where(present[..., None], vectors, 0.0)
    return torch.nn.functional.normalize(kept.sum(dim=1), dim=-1)
