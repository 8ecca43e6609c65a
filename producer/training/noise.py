"""Random changes of a batch: coordinates that are moved, and modalities that are hidden.

Every draw is a pure function of the seed, the step and the sample's index in the batch of all
processes, so that neither processes nor chunks nor a restart change it.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from unigeo.producer.training.settings import TrainingSettings
from unigeo.schemas.geo.great_circle import METRES_PER_DEGREE

KEPT = 2
"""Number of modalities of a sample that are never hidden: fewer cannot be contrasted."""


def jitter(
    lonlat: Float64[Tensor, "sample 2"],
    indices: Int[np.ndarray, " sample"],
    step: int,
    settings: TrainingSettings,
) -> Float64[Tensor, "sample 2"]:
    """Move samples by Gaussian noise of `jitter_m` metres along each axis."""
    if settings.jitter_m == 0:
        return lonlat
    # Drawn for the whole batch, then indexed: a sample's noise does not depend on its process.
    noise = np.random.default_rng([settings.seed, 1, step]).normal(size=(settings.batch, 2))
    degrees = torch.from_numpy(noise[indices]).to(lonlat)
    degrees *= settings.jitter_m / METRES_PER_DEGREE
    degrees[:, 0] /= torch.cos(torch.deg2rad(lonlat[:, 1])).clamp(min=0.01)
    moved = lonlat + degrees
    moved[:, 1] = moved[:, 1].clamp(-90, 90)
    return moved


def drop_modalities(
    present: dict[str, Tensor],
    indices: Int[np.ndarray, " sample"],
    step: int,
    settings: TrainingSettings,
) -> dict[str, Tensor]:
    """Hide each observed modality of a sample with probability `drop`, but keep two of them."""
    if settings.drop == 0:
        return present
    observed = torch.stack(list(present.values()), dim=1).cpu().numpy()
    rng = np.random.default_rng([settings.seed, 2, step])
    draws = rng.random((settings.batch, observed.shape[1]))[indices]
    kept = torch.from_numpy(_kept(observed, draws, settings.drop))
    return {name: kept[:, col].to(mask.device) for col, (name, mask) in enumerate(present.items())}


def _kept(
    observed: Bool[np.ndarray, "sample modality"], draws: np.ndarray, drop: float
) -> Bool[np.ndarray, "sample modality"]:
    """Keep observed modalities with draws of at least `drop`, and the two of the largest draws."""
    ranked = np.where(observed, draws, -1.0)
    rank = (-ranked).argsort(axis=1).argsort(axis=1)  # 0 for a sample's largest draw
    kept: Bool[np.ndarray, "sample modality"] = observed & ((draws >= drop) | (rank < KEPT))
    return kept
