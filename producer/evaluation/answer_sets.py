"""Sets of answers that hold the true place as often as stated (split conformal prediction).

Probabilities are a softmax over the gallery. Both kinds of set take the likeliest answers first.
`threshold` takes all above one probability, which makes the smallest sets on average; `adaptive`
takes them until their sum reaches a level, so that harder queries get larger sets. Threshold and
temperature come from the blocks that are not judged: no place calibrates itself or a neighbour.

Sources: Sadinle, Lei & Wasserman (2019), "Least ambiguous set-valued classifiers with bounded error
levels"; Romano, Sesia & Candes (2020), "Classification with valid and adaptive coverage".
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unigeo.client.probing.conformal import conformal_quantile
from unigeo.producer.evaluation.calibration import best_scale, log_losses
from unigeo.producer.training.recall import query_slices

KINDS = ("threshold", "adaptive")
LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95)
"""Stated coverages."""


@dataclass(frozen=True, eq=False)
class AnswerSets:
    """What the sets of each query did."""

    covered: dict[tuple[str, float], Bool[np.ndarray, " place"]]
    """By kind and level: whether the set holds the query's own place."""
    size: dict[tuple[str, float], Int[np.ndarray, " place"]]
    """By kind and level: answers in the set."""
    scale: Float[np.ndarray, " place"]
    """Inverse temperature by likelihood on the other blocks."""


def answer_sets(
    query: Float[Tensor, "place dimension"],
    gallery: Float[Tensor, "place dimension"],
    folds: Int[np.ndarray, " place"],
    levels: tuple[float, ...] = LEVELS,
) -> AnswerSets:
    """Make a set for every query, calibrated on the queries of the other folds.

    Args:
        query: unit vectors.
        gallery: unit vectors of the same places; all of them may be in a set.
        folds: of the places, made of whole blocks.
        levels: shares of queries whose set is to hold their own place.
    """
    losses = log_losses(query, gallery)
    count, keys = len(query), [(kind, level) for kind in KINDS for level in levels]
    covered = {key: np.zeros(count, bool) for key in keys}
    size = {key: np.zeros(count, np.int64) for key in keys}
    scales = np.empty(count)
    for fold in np.unique(folds):
        inside, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        scale = best_scale(losses[others])
        scales[inside] = scale
        known, judged = (own_scores(query, gallery, rows, scale) for rows in (others, inside))
        limits = {key: conformal_quantile(known[key[0]], key[1]) for key in keys}
        for key in keys:
            covered[key][inside] = judged[key[0]] <= limits[key]
        for key, sizes in set_sizes(query[inside], gallery, scale, limits).items():
            size[key][inside] = sizes
    return AnswerSets(covered, size, scales)


def own_scores(
    query: Float[Tensor, "place dimension"],
    gallery: Float[Tensor, "place dimension"],
    rows: Int[np.ndarray, " row"],
    scale: float,
) -> dict[str, Float[np.ndarray, " row"]]:
    """How strange each query's own place is as an answer, by kind; ties count against it.

    `threshold`: its negative log probability. `adaptive`: the probability of all answers that are
    at least as likely.
    """
    own = torch.from_numpy(rows)
    scores: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    for part in query_slices(len(rows), len(gallery)):
        logs = torch.log_softmax(scale * (query[own[part]] @ gallery.T).double(), dim=1)
        mine = logs.gather(1, own[part, None])
        scores["threshold"].append(-mine[:, 0])
        scores["adaptive"].append((logs.exp() * (logs >= mine)).sum(dim=1))
    return {kind: torch.cat(parts).numpy() for kind, parts in scores.items()}


def set_sizes(
    query: Float[Tensor, "row dimension"],
    gallery: Float[Tensor, "place dimension"],
    scale: float,
    limits: dict[tuple[str, float], float],
) -> dict[tuple[str, float], Int[np.ndarray, " row"]]:
    """Number of answers whose score is within each limit."""
    sizes: dict[tuple[str, float], list[Tensor]] = {key: [] for key in limits}
    for part in query_slices(len(query), len(gallery)):
        logs = torch.log_softmax(scale * (query[part] @ gallery.T).double(), dim=1)
        sums = logs.exp().sort(dim=1, descending=True).values.cumsum(dim=1)
        for (kind, level), limit in limits.items():
            within = -logs <= limit if kind == "threshold" else sums <= limit
            sizes[kind, level].append(within.sum(dim=1))
    return {key: torch.cat(parts).numpy() for key, parts in sizes.items()}
