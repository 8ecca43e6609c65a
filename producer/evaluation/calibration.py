"""Calibration of retrieval probabilities: fitted inverse temperature, reliability bins and ECE."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.training.recall import query_slices

if TYPE_CHECKING:
    import pandas as pd

SCALES = np.geomspace(1.0, 400.0, 31)
"""Inverse temperatures at which the likelihood is computed, each a fifth above the one before."""
BINS = 10


def log_losses(
    query: Float[Tensor, "location dimension"], gallery: Float[Tensor, "location dimension"]
) -> Float[np.ndarray, "location scale"]:
    """Compute each query's negative log probability of its own location, under each of `SCALES`."""
    losses = np.empty((len(query), len(SCALES)))
    for rows in query_slices(len(query), len(gallery)):
        similarity = query[rows] @ gallery.T
        true_similarity = similarity.gather(1, torch.arange(len(query))[rows, None])[:, 0]
        for column, scale in enumerate(SCALES):
            total = torch.logsumexp(scale * similarity, dim=1)
            losses[rows, column] = (total - scale * true_similarity).numpy()
    return losses


def fit_scale(losses: Float[np.ndarray, "location scale"]) -> float:
    """Return the inverse temperature of the least mean loss.

    Between the values of `SCALES`, a parabola in their logarithm interpolates.
    """
    mean = losses.mean(axis=0)
    best = int(np.clip(mean.argmin(), 1, len(SCALES) - 2))
    before, middle, after = mean[best - 1 : best + 2]
    # Vertex of the parabola through three equally spaced points, in steps from the middle one.
    curvature = before - 2 * middle + after
    offset = 0.5 * (before - after) / curvature if curvature > 0 else 0.0
    step = np.log(SCALES[1] / SCALES[0])
    return float(SCALES[best] * np.exp(step * np.clip(offset, -1, 1)))


def learned_scales(model: UniGeoCLIP) -> Mapping[tuple[str, str], float]:
    """Return the inverse temperature learned in training for each ordered pair of modalities."""
    pairs = model.settings.pairs
    with torch.no_grad():
        learned = model.scale().cpu().reshape(-1)
    if len(learned) != len(pairs):
        learned = learned.mean().expand(len(pairs))
    values = dict(zip(pairs, learned.tolist(), strict=True))
    return values | {(second, first): value for (first, second), value in values.items()}


def top_answers(
    query: Float[Tensor, "location dimension"],
    gallery: Float[Tensor, "location dimension"],
    scale: Float[np.ndarray, " location"],
) -> tuple[Float[np.ndarray, " location"], Bool[np.ndarray, " location"]]:
    """Return the best answer's probability, and whether it is the query's own location."""
    probability, right = np.empty(len(query)), np.empty(len(query), bool)
    factor = torch.from_numpy(scale).float()[:, None]
    for rows in query_slices(len(query), len(gallery)):
        best = torch.softmax(factor[rows] * (query[rows] @ gallery.T), dim=1).max(dim=1)
        probability[rows] = best.values.numpy()
        right[rows] = (best.indices == torch.arange(len(query))[rows]).numpy()
    return probability, right


def reliability_bins(
    probability: Float[np.ndarray, " answer"], right: Bool[np.ndarray, " answer"]
) -> "pd.DataFrame":
    """Group answers by probability into bins of equal count.

    Returns:
        One row per bin: mean `probability`, share `right`, and the number of `answers`.
    """
    import pandas as pd

    order = np.argsort(probability, kind="stable")
    parts: list[Int[np.ndarray, " row"]] = np.array_split(order, min(BINS, len(order)))
    rows = [
        {
            "probability": float(probability[part].mean()),
            "right": float(right[part].mean()),
            "answers": len(part),
        }
        for part in parts
    ]
    return pd.DataFrame(rows)


def calibration_error(bins: "pd.DataFrame") -> float:
    """Compute the mean gap between probability and share of right answers (ECE).

    Source: Guo, Pleiss, Sun & Weinberger (2017), "On calibration of modern neural networks",
    equation 3; bins of equal count rather than of equal width.
    """
    gap = (bins["probability"] - bins["right"]).abs()
    return float((gap * bins["answers"]).sum() / bins["answers"].sum())
