"""Ensembles of several modalities, with uniform weights or with learned ones.

The vector of an ensemble is the normalized weighted sum of unit vectors. Learned weights are not
negative and minimize the contrastive loss of the ensemble on their own training locations. They are
kept only if cross-validation shows a significant gain over the best single modality; otherwise the
ensemble is that modality alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from unigeo.client.probing.folds import blocked_folds
from unigeo.producer.evaluation.retrieval import KS, retrieval_metrics
from unigeo.producer.training.recall import find
from unigeo.schemas.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd

Side = Literal["gallery", "query"]
"""Role of the ensemble in retrieval."""

FOLDS = 4
"""Number of folds in which the gain of learned weights is cross-validated."""
MARGIN = 2.0
"""Standard errors by which the gain must exceed zero: one-sided, 98 %."""
_ITERATIONS = 40
_MAX_LOCATIONS = 2048  # for learning


@dataclass(frozen=True)
class Ensemble:
    """Weights of several modalities."""

    weights: dict[str, float]
    """Weights by modality, not negative, with sum 1."""
    best: str
    """Single modality of the highest recall on the training locations."""
    gain: float
    """Cross-validated mean gain in recall over the best single modality."""
    error: float
    """Standard error of the gain, over blocks."""

    @property
    def kept(self) -> bool:
        """Whether more than the best single modality has a weight."""
        return sum(weight > 0 for weight in self.weights.values()) > 1

    def combine(
        self, parts: Mapping[str, Float[Tensor, "location dimension"]]
    ) -> Float[Tensor, "location dimension"]:
        """Return the unit vectors of the ensemble."""
        return combine(parts, self.weights)


def combine(
    parts: Mapping[str, Float[Tensor, "location dimension"]], weights: Mapping[str, float]
) -> Float[Tensor, "location dimension"]:
    """Return the normalized weighted sum of unit vectors."""
    return normalize(torch.stack([weights[name] * parts[name] for name in parts]).sum(0), dim=1)


def ensemble_tables(
    embeddings: Mapping[str, Float[Tensor, "location dimension"]],
    lonlat: Float[np.ndarray, "location 2"],
    blocks: Int[np.ndarray, " location"],
    seed: int = 0,
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Retrieve each modality from the ensemble of the others, and the other way round.

    Weights are learned on half of the blocks and tested on the other half.

    Returns:
        Metrics: `query`, `gallery`, `method` (a single modality, uniform or learned weights) and
        the keys of `retrieval_metrics`. Weights: those learned, and the gain in recall over the
        best single modality (mean over R@1, R@5 and R@10) with its standard error, cross-validated
        and, with the prefix `judged_`, on the test half.
    """
    import pandas as pd

    halves = blocked_folds(blocks, 2, seed)
    train, test = np.flatnonzero(halves == 0), np.flatnonzero(halves == 1)
    metrics: list[dict[str, Any]] = []
    learned: list[dict[str, Any]] = []
    for single in embeddings:
        parts = {name: vectors for name, vectors in embeddings.items() if name != single}
        for side in ("gallery", "query"):
            names = (single, "the others") if side == "gallery" else ("the others", single)
            pair = dict(zip(("query", "gallery"), names, strict=True))
            ensemble = learn_ensemble(
                _take(parts, train), embeddings[single][train], blocks[train], side, seed
            )
            test_parts, test_single = _take(parts, test), embeddings[single][test]
            methods = test_parts | {
                "uniform weights": combine(test_parts, uniform_weights(test_parts)),
                "learned weights": ensemble.combine(test_parts),
            }
            for method, vectors in methods.items():
                query, gallery = (
                    (vectors, test_single) if side == "query" else (test_single, vectors)
                )
                row = retrieval_metrics(find(query, gallery), lonlat[test])
                metrics.append(pair | {"method": method} | row)
            gains = recall_hits(methods["learned weights"], test_single, side)
            gains -= recall_hits(test_parts[ensemble.best], test_single, side)
            gain, error = mean_and_error(gains.mean(axis=1), blocks[test])
            learned.append(
                pair
                | {"best single": ensemble.best, "kept": "yes" if ensemble.kept else "no"}
                | {"gain": ensemble.gain, "error": ensemble.error}
                | {"judged_gain": gain, "judged_error": error}
                | {f"weight_{name}": ensemble.weights.get(name, 0.0) for name in embeddings}
            )
    return pd.DataFrame(metrics), pd.DataFrame(learned)


def uniform_weights(parts: Mapping[str, object]) -> dict[str, float]:
    """Return the same weight for each part."""
    return dict.fromkeys(parts, 1 / len(parts))


def learn_ensemble(
    parts: Mapping[str, Float[Tensor, "location dimension"]],
    single: Float[Tensor, "location dimension"],
    blocks: Int[np.ndarray, " location"],
    side: Side,
    seed: int = 0,
) -> Ensemble:
    """Learn weights, and keep them only if they beat the best single modality.

    Args:
        parts: unit vectors of the modalities that form the ensemble.
        single: unit vectors of the modality on the other side, at the same locations.
        blocks: number of each location's block; a block is never split over folds.
        side: role of the ensemble.
        seed: of the folds.

    Raises:
        ModelError: if there are fewer than two modalities, or fewer blocks than folds.
    """
    if len(parts) < 2:
        raise ModelError("an ensemble needs two modalities")
    if len(np.unique(blocks)) < FOLDS:
        raise ModelError(f"weights are tried in {FOLDS} folds of blocks, and there are too few")
    parts = {name: vectors[:_MAX_LOCATIONS] for name, vectors in parts.items()}
    single, blocks = single[:_MAX_LOCATIONS], blocks[:_MAX_LOCATIONS]
    hits = {name: recall_hits(vectors, single, side) for name, vectors in parts.items()}
    best = max(hits, key=lambda name: float(hits[name].mean()))
    folds = blocked_folds(blocks, FOLDS, seed)
    gains = np.zeros((len(blocks), len(KS)))
    for fold in range(FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        candidate = combine(parts, fit_weights(_take(parts, train), single[train], side, best))
        # Both are ranked in the gallery of all folds, so that their recalls compare.
        gains[test] = (recall_hits(candidate, single, side) - hits[best])[test]
    gain, error = mean_and_error(gains.mean(axis=1), blocks)
    best_alone = {name: float(name == best) for name in parts}
    ensemble = Ensemble(best_alone, best, gain, error)
    if gain > MARGIN * error and (gains.mean(axis=0) >= 0).all():
        return replace(ensemble, weights=fit_weights(parts, single, side, best))
    return ensemble


def fit_weights(
    parts: Mapping[str, Float[Tensor, "location dimension"]],
    single: Float[Tensor, "location dimension"],
    side: Side,
    start: str,
) -> dict[str, float]:
    """Minimize the contrastive loss over non-negative weights and the temperature.

    Args:
        parts: unit vectors of the modalities that form the ensemble.
        single: unit vectors of the modality on the other side, at the same locations.
        side: role of the ensemble.
        start: modality that has all the weight at first.

    Returns:
        Weights by modality, with sum 1.
    """
    from scipy.optimize import minimize

    # Similarities and lengths of a weighted sum follow from these products by linearity, so that
    # no iteration touches the vectors again.
    similarity = torch.stack([part @ single.T for part in parts.values()])
    stack = torch.stack(list(parts.values()))
    overlap = torch.einsum("mpd,npd->pmn", stack, stack)
    target = torch.arange(len(single))

    def loss(values: Float[np.ndarray, " number"]) -> tuple[float, Float[np.ndarray, " number"]]:
        parameters = torch.tensor(values, dtype=torch.float32, requires_grad=True)
        weights, scale = parameters[:-1], parameters[-1].exp()
        length = torch.einsum("m,pmn,n->p", weights, overlap, weights).clamp(min=1e-8).sqrt()
        logits = scale * torch.einsum("m,mpq->pq", weights, similarity) / length[:, None]
        value = cross_entropy(logits if side == "query" else logits.T, target)
        (grad,) = torch.autograd.grad(value, parameters)
        return float(value.detach()), grad.double().numpy()

    names = list(parts)
    first = np.array([float(name == start) for name in names] + [np.log(10.0)])
    bounds = [(0.0, None)] * len(names) + [(np.log(1.0), np.log(200.0))]
    best = minimize(
        loss, first, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
    )
    weights = np.maximum(best.x[:-1], 0)
    total = weights.sum()
    if not np.isfinite(total) or total <= 0:
        return {name: float(name == start) for name in names}
    return {name: float(value / total) for name, value in zip(names, weights, strict=True)}


def recall_hits(
    ensemble: Float[Tensor, "location dimension"],
    single: Float[Tensor, "location dimension"],
    side: Side,
) -> Float[np.ndarray, "location k"]:
    """Return 1 where a query finds its own location among the k nearest, else 0."""
    query, gallery = (ensemble, single) if side == "query" else (single, ensemble)
    rank = find(query, gallery).rank.numpy()
    return (rank[:, None] <= np.array(KS)).astype(float)


def mean_and_error(
    values: Float[np.ndarray, " location"], blocks: Int[np.ndarray, " location"]
) -> tuple[float, float]:
    """Return the mean and its standard error, clustered by block."""
    _, numbers = np.unique(blocks, return_inverse=True)
    count = int(numbers.max()) + 1
    # Deviations within a block are correlated: square their sum, not each of them.
    sums = np.bincount(numbers, weights=values - values.mean(), minlength=count)
    spread = np.sqrt((sums**2).sum() * count / max(1, count - 1))
    return float(values.mean()), float(spread / len(values))


def _take(parts: Mapping[str, Tensor], rows: Int[np.ndarray, " row"]) -> dict[str, Tensor]:
    return {name: vectors[rows] for name, vectors in parts.items()}
