"""Sets of answers that contain the true location with a stated probability (conformal prediction).

A query's probabilities are a softmax over the gallery, and a set holds the most probable answers.
The kinds differ in where a set ends. `threshold` keeps every answer above one probability, which
gives the smallest sets on average; `adaptive` adds answers until their probabilities sum to a
level, which gives harder queries larger sets. Temperature and limits for one fold of blocks are
calibrated on the other folds, so no location calibrates its own set or that of a neighbour.

Sources: Sadinle, Lei & Wasserman (2019), "Least ambiguous set-valued classifiers with bounded error
levels"; Romano, Sesia & Candes (2020), "Classification with valid and adaptive coverage".
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unigeo.client.probing.conformal import conformal_quantile
from unigeo.producer.evaluation.calibration import fit_scale, log_losses
from unigeo.producer.training.recall import query_slices

KINDS = ("threshold", "adaptive")
LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95)
"""Stated coverages."""


@dataclass(frozen=True, eq=False)
class AnswerSets:
    """Coverage and size of each query's sets."""

    covered: dict[tuple[str, float], Bool[np.ndarray, " location"]]
    """Whether the set contains the query's own location, by kind and level."""
    size: dict[tuple[str, float], Int[np.ndarray, " location"]]
    """Number of answers in the set, by kind and level."""
    scale: Float[np.ndarray, " location"]
    """Inverse temperature, fitted by maximum likelihood on the other folds."""


def answer_sets(
    query: Float[Tensor, "location dimension"],
    gallery: Float[Tensor, "location dimension"],
    folds: Int[np.ndarray, " location"],
    levels: tuple[float, ...] = LEVELS,
) -> AnswerSets:
    """Build the sets of every query, calibrated on the queries of the other folds.

    Args:
        query: unit vectors.
        gallery: unit vectors of the same locations, every one of them a possible answer.
        folds: fold of each location; each fold is made of whole blocks.
        levels: shares of queries whose set shall contain their own location.
    """
    losses = log_losses(query, gallery)
    count, keys = len(query), [(kind, level) for kind in KINDS for level in levels]
    covered = {key: np.zeros(count, bool) for key in keys}
    size = {key: np.zeros(count, np.int64) for key in keys}
    scales = np.empty(count)
    for fold in np.unique(folds):
        inside, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        scale = fit_scale(losses[others])
        scales[inside] = scale
        calibration, test = (
            nonconformity_scores(query, gallery, rows, scale) for rows in (others, inside)
        )
        limits = {key: conformal_quantile(calibration[key[0]], key[1]) for key in keys}
        for key in keys:
            covered[key][inside] = test[key[0]] <= limits[key]
        for key, sizes in set_sizes(query[inside], gallery, scale, limits).items():
            size[key][inside] = sizes
    return AnswerSets(covered, size, scales)


def nonconformity_scores(
    query: Float[Tensor, "location dimension"],
    gallery: Float[Tensor, "location dimension"],
    rows: Int[np.ndarray, " row"],
    scale: float,
) -> dict[str, Float[np.ndarray, " row"]]:
    """Score by kind how poorly each query's own location fits as an answer; ties raise the score.

    The `threshold` score is the negative log probability of the own location, the `adaptive` score
    the probability of all answers at least as likely as it.
    """
    queries = torch.from_numpy(rows)
    scores: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    for part in query_slices(len(rows), len(gallery)):
        log_p = torch.log_softmax(scale * (query[queries[part]] @ gallery.T).double(), dim=1)
        true_log_p = log_p.gather(1, queries[part, None])
        scores["threshold"].append(-true_log_p[:, 0])
        scores["adaptive"].append((log_p.exp() * (log_p >= true_log_p)).sum(dim=1))
    return {kind: torch.cat(parts).numpy() for kind, parts in scores.items()}


def set_sizes(
    query: Float[Tensor, "row dimension"],
    gallery: Float[Tensor, "location dimension"],
    scale: float,
    limits: dict[tuple[str, float], float],
) -> dict[tuple[str, float], Int[np.ndarray, " row"]]:
    """Count the answers whose score is within each limit."""
    sizes: dict[tuple[str, float], list[Tensor]] = {key: [] for key in limits}
    for part in query_slices(len(query), len(gallery)):
        log_p = torch.log_softmax(scale * (query[part] @ gallery.T).double(), dim=1)
        # The cumulative sum of sorted probabilities is the adaptive score of every answer.
        cumulative = log_p.exp().sort(dim=1, descending=True).values.cumsum(dim=1)
        for (kind, level), limit in limits.items():
            within = -log_p <= limit if kind == "threshold" else cumulative <= limit
            sizes[kind, level].append(within.sum(dim=1))
    return {key: torch.cat(parts).numpy() for key, parts in sizes.items()}
