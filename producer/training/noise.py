"""What is changed of a batch at random: where a place is taken to be, and what is hidden of it.

Every draw is a pure function of the seed, the step and the place's position in the whole batch, so
neither processes nor chunks nor a restart change it.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from unigeo.producer.training.settings import TrainingSettings
from unigeo.schemas.geo.great_circle import METRES_PER_DEGREE

KEPT = 2
"""Modalities of a place that are never hidden: fewer cannot be contrasted."""


def jitter(
    lonlat: Float64[Tensor, "place 2"],
    positions: Int[np.ndarray, " place"],
    step: int,
    settings: TrainingSettings,
) -> Float64[Tensor, "place 2"]:
    """Move places by Gaussian noise of `jitter_m` metres each way."""
    if settings.jitter_m == 0:
        return lonlat
    noise = np.random.default_rng([settings.seed, 1, step]).normal(size=(settings.batch, 2))
    degrees = torch.from_numpy(noise[positions]).to(lonlat)
    degrees *= settings.jitter_m / METRES_PER_DEGREE
    degrees[:, 0] /= torch.cos(torch.deg2rad(lonlat[:, 1])).clamp(min=0.01)
    moved = lonlat + degrees
    moved[:, 1] = moved[:, 1].clamp(-90, 90)
    return moved


def hide(
    present: dict[str, Tensor],
    positions: Int[np.ndarray, " place"],
    step: int,
    settings: TrainingSettings,
) -> dict[str, Tensor]:
    """Hide each observed modality of a place with probability `drop`, but for two of them."""
    if settings.drop == 0:
        return present
    seen = torch.stack(list(present.values()), dim=1).cpu().numpy()
    rng = np.random.default_rng([settings.seed, 2, step])
    draws = rng.random((settings.batch, seen.shape[1]))[positions]
    kept = torch.from_numpy(_kept(seen, draws, settings.drop))
    return {
        name: kept[:, col].to(there.device) for col, (name, there) in enumerate(present.items())
    }


def _kept(
    seen: Bool[np.ndarray, "place modality"], draws: np.ndarray, drop: float
) -> Bool[np.ndarray, "place modality"]:
    luck = np.where(seen, draws, -1.0)
    rank = (-luck).argsort(axis=1).argsort(axis=1)  # 0 for the luckiest modality of a place
    kept: Bool[np.ndarray, "place modality"] = seen & ((draws >= drop) | (rank < KEPT))
    return kept
