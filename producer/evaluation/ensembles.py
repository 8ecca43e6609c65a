"""Several modalities asked at once: uniform weights can hurt, learned ones must not.

An ensemble is the unit vector of a weighted sum of unit vectors. Weights are learned on places of
their own, none below zero, by the contrastive loss of the ensemble. They are kept only if places
that took no part in learning them show a gain over the best single modality that is more than
chance; otherwise the ensemble is that modality alone.
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
from unigeo.producer.evaluation.retrieval import KS, figures
from unigeo.producer.training.recall import find
from unigeo.schemas.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd

Side = Literal["gallery", "query"]
"""Whether the ensemble is looked for, or looks."""

FOLDS = 4
"""In which weights are tried on places that did not teach them."""
MARGIN = 2.0
"""Standard errors by which the gain must exceed nothing: one-sided, 98 %."""
_ROUNDS = 40
_MOST_PLACES = 2048  # to learn from


@dataclass(frozen=True)
class Ensemble:
    """Weights of several modalities."""

    weights: dict[str, float]
    """None below zero; they sum to 1."""
    best: str
    """Single modality that did best on the places learned from."""
    gain: float
    """Mean gain in recall over it, on places that did not teach the weights."""
    error: float
    """Standard error of the gain, over blocks."""

    @property
    def kept(self) -> bool:
        """Whether more than the best single modality has a weight."""
        return sum(weight > 0 for weight in self.weights.values()) > 1

    def combine(
        self, parts: Mapping[str, Float[Tensor, "place dimension"]]
    ) -> Float[Tensor, "place dimension"]:
        """Unit vectors of the ensemble."""
        return combine(parts, self.weights)


def combine(
    parts: Mapping[str, Float[Tensor, "place dimension"]], weights: Mapping[str, float]
) -> Float[Tensor, "place dimension"]:
    """Unit vectors of a weighted sum of unit vectors."""
    return normalize(torch.stack([weights[name] * parts[name] for name in parts]).sum(0), dim=1)


def ensemble_tables(
    embeddings: Mapping[str, Float[Tensor, "place dimension"]],
    lonlat: Float[np.ndarray, "place 2"],
    blocks: Int[np.ndarray, " place"],
    seed: int = 0,
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Each modality against the ensemble of the others, and the others' against it.

    Half of the blocks teach the weights, the other half judges.

    Returns:
        Figures: `query`, `gallery`, `method` (a single modality, uniform or learned weights) and
        those of `retrieval.figures`. Weights: which were learned, the gain in recall over the best
        single modality (mean over R@1, R@5 and R@10) with its standard error, on places that did
        not teach them and, as `judged_`, on the half that judges.
    """
    import pandas as pd

    halves = blocked_folds(blocks, 2, seed)
    taught, judged = np.flatnonzero(halves == 0), np.flatnonzero(halves == 1)
    found: list[dict[str, Any]] = []
    learned: list[dict[str, Any]] = []
    for single in embeddings:
        parts = {name: vectors for name, vectors in embeddings.items() if name != single}
        for side in ("gallery", "query"):
            names = (single, "the others") if side == "gallery" else ("the others", single)
            about = dict(zip(("query", "gallery"), names, strict=True))
            ensemble = learn(
                _take(parts, taught), embeddings[single][taught], blocks[taught], side, seed
            )
            ours, one = _take(parts, judged), embeddings[single][judged]
            methods = ours | {
                "uniform weights": combine(ours, uniform(ours)),
                "learned weights": ensemble.combine(ours),
            }
            for method, vectors in methods.items():
                query, gallery = (vectors, one) if side == "query" else (one, vectors)
                row = figures(find(query, gallery), lonlat[judged])
                found.append(about | {"method": method} | row)
            ahead = scores_of(methods["learned weights"], one, side)
            ahead -= scores_of(ours[ensemble.best], one, side)
            gain, error = mean_and_error(ahead.mean(axis=1), blocks[judged])
            learned.append(
                about
                | {"best single": ensemble.best, "kept": "yes" if ensemble.kept else "no"}
                | {"gain": ensemble.gain, "error": ensemble.error}
                | {"judged_gain": gain, "judged_error": error}
                | {f"weight_{name}": ensemble.weights.get(name, 0.0) for name in embeddings}
            )
    return pd.DataFrame(found), pd.DataFrame(learned)


def uniform(parts: Mapping[str, object]) -> dict[str, float]:
    """The same weight for each."""
    return dict.fromkeys(parts, 1 / len(parts))


def learn(
    parts: Mapping[str, Float[Tensor, "place dimension"]],
    single: Float[Tensor, "place dimension"],
    blocks: Int[np.ndarray, " place"],
    side: Side,
    seed: int = 0,
) -> Ensemble:
    """Learn weights, and keep them only if they are better than the best single modality.

    Args:
        parts: unit vectors of the modalities that make the ensemble.
        single: those of the modality on the other side, of the same places.
        blocks: number of each place's block; whole blocks are kept apart.
        side: which side the ensemble is on.
        seed: of the folds.

    Raises:
        ModelError: if there are no two modalities, or fewer blocks than folds.
    """
    if len(parts) < 2:
        raise ModelError("an ensemble needs two modalities")
    if len(np.unique(blocks)) < FOLDS:
        raise ModelError(f"weights are tried in {FOLDS} folds of blocks, and there are too few")
    parts = {name: vectors[:_MOST_PLACES] for name, vectors in parts.items()}
    single, blocks = single[:_MOST_PLACES], blocks[:_MOST_PLACES]
    scores = {name: scores_of(vectors, single, side) for name, vectors in parts.items()}
    best = max(scores, key=lambda name: float(scores[name].mean()))
    folds = blocked_folds(blocks, FOLDS, seed)
    gains = np.zeros((len(blocks), len(KS)))
    for fold in range(FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        tried = combine(parts, fit(_take(parts, train), single[train], side, best))
        gains[test] = (scores_of(tried, single, side) - scores[best])[test]
    gain, error = mean_and_error(gains.mean(axis=1), blocks)
    alone = {name: float(name == best) for name in parts}
    found = Ensemble(alone, best, gain, error)
    if gain > MARGIN * error and (gains.mean(axis=0) >= 0).all():
        return replace(found, weights=fit(parts, single, side, best))
    return found


def fit(
    parts: Mapping[str, Float[Tensor, "place dimension"]],
    single: Float[Tensor, "place dimension"],
    side: Side,
    start: str,
) -> dict[str, float]:
    """Weights, none below zero, with the least contrastive loss; from one modality alone."""
    from scipy.optimize import minimize

    similarity = torch.stack([part @ single.T for part in parts.values()])
    stack = torch.stack(list(parts.values()))
    overlap = torch.einsum("mpd,npd->pmn", stack, stack)
    own = torch.arange(len(single))

    def loss(values: Float[np.ndarray, " number"]) -> tuple[float, Float[np.ndarray, " number"]]:
        free = torch.tensor(values, dtype=torch.float32, requires_grad=True)
        weights, scale = free[:-1], free[-1].exp()
        length = torch.einsum("m,pmn,n->p", weights, overlap, weights).clamp(min=1e-8).sqrt()
        logits = scale * torch.einsum("m,mpq->pq", weights, similarity) / length[:, None]
        value = cross_entropy(logits if side == "query" else logits.T, own)
        (slope,) = torch.autograd.grad(value, free)
        return float(value.detach()), slope.double().numpy()

    names = list(parts)
    first = np.array([float(name == start) for name in names] + [np.log(10.0)])
    bounds = [(0.0, None)] * len(names) + [(np.log(1.0), np.log(200.0))]
    best = minimize(
        loss, first, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": _ROUNDS}
    )
    found = np.maximum(best.x[:-1], 0)
    total = found.sum()
    if not np.isfinite(total) or total <= 0:
        return {name: float(name == start) for name in names}
    return {name: float(value / total) for name, value in zip(names, found, strict=True)}


def scores_of(
    ensemble: Float[Tensor, "place dimension"], single: Float[Tensor, "place dimension"], side: Side
) -> Float[np.ndarray, "place k"]:
    """Whether each query finds its place among the k nearest, 0 or 1."""
    query, gallery = (ensemble, single) if side == "query" else (single, ensemble)
    rank = find(query, gallery).rank.numpy()
    return (rank[:, None] <= np.array(KS)).astype(float)


def mean_and_error(
    values: Float[np.ndarray, " place"], blocks: Int[np.ndarray, " place"]
) -> tuple[float, float]:
    """Mean and its standard error, places of one block counted as one draw."""
    _, numbers = np.unique(blocks, return_inverse=True)
    count = int(numbers.max()) + 1
    sums = np.bincount(numbers, weights=values - values.mean(), minlength=count)
    spread = np.sqrt((sums**2).sum() * count / max(1, count - 1))
    return float(values.mean()), float(spread / len(values))


def _take(parts: Mapping[str, Tensor], rows: Int[np.ndarray, " row"]) -> dict[str, Tensor]:
    return {name: vectors[rows] for name, vectors in parts.items()}
