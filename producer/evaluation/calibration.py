"""Does a probability mean what it says? One temperature by likelihood, and the error before."""

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
"""Inverse temperatures at which the likelihood is taken, each a fifth above the one before."""
BINS = 10


def log_losses(
    query: Float[Tensor, "place dimension"], gallery: Float[Tensor, "place dimension"]
) -> Float[np.ndarray, "place scale"]:
    """Negative log probability of each query's own place, under each of `SCALES`."""
    losses = np.empty((len(query), len(SCALES)))
    for rows in query_slices(len(query), len(gallery)):
        similarity = query[rows] @ gallery.T
        own = similarity.gather(1, torch.arange(len(query))[rows, None])[:, 0]
        for column, scale in enumerate(SCALES):
            total = torch.logsumexp(scale * similarity, dim=1)
            losses[rows, column] = (total - scale * own).numpy()
    return losses


def best_scale(losses: Float[np.ndarray, "place scale"]) -> float:
    """The inverse temperature under which the places are likeliest.

    Between the values of `SCALES` a parabola in their logarithm serves.
    """
    mean = losses.mean(axis=0)
    best = int(np.clip(mean.argmin(), 1, len(SCALES) - 2))
    before, here, after = mean[best - 1 : best + 2]
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
    step = np.log(SCALES[1] / SCALES[0])
    return float(SCALES[best] * np.exp(step * np.clip(shift, -1, 1)))


def own_scales(model: UniGeoCLIP) -> Mapping[tuple[str, str], float]:
    """The inverse temperature that training learned, for each ordered pair of modalities."""
    pairs = model.settings.pairs
    with torch.no_grad():
        learned = model.scale().cpu().reshape(-1)
    if len(learned) != len(pairs):
        learned = learned.mean().expand(len(pairs))
    values = dict(zip(pairs, learned.tolist(), strict=True))
    return values | {(second, first): value for (first, second), value in values.items()}


def top_answers(
    query: Float[Tensor, "place dimension"],
    gallery: Float[Tensor, "place dimension"],
    scale: Float[np.ndarray, " place"],
) -> tuple[Float[np.ndarray, " place"], Bool[np.ndarray, " place"]]:
    """Probability given to the best answer, and whether it is the query's own place."""
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
    """Answers in bins of equal size by their probability: `probability`, `right`, `answers`."""
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
    """Mean gap between probability and share of right answers (ECE).

    Source: Guo, Pleiss, Sun & Weinberger (2017), "On calibration of modern neural networks",
    equation 3; bins of equal size rather than of equal width.
    """
    gap = (bins["probability"] - bins["right"]).abs()
    return float((gap * bins["answers"]).sum() / bins["answers"].sum())
