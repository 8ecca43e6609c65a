"""Can one modality find its place in another? Ranks, recall, and how far off the answer lies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unigeo.producer.evaluation.distance import great_circle_m
from unigeo.schemas.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd

KS = (1, 5, 10)
"""How many answers may be looked at."""
RADII_M = (100.0, 1_000.0, 10_000.0, 25_000.0, 50_000.0, 200_000.0)
"""Distances within which an answer is right: the paper's 100 m, and wider ones."""
CHUNK_NUMBERS = 2**24
"""Similarities held at once, 64 MiB."""


@dataclass(frozen=True)
class Answers:
    """What a gallery answers to each query."""

    rank: Int64[Tensor, " query"]
    """Of the query's own place, 1 for the best; ties count against it."""
    top: Int64[Tensor, " query"]
    """Row of the best answer in the gallery."""


def find(
    query: Float[Tensor, "query dimension"],
    gallery: Float[Tensor, "place dimension"],
    own: Int64[Tensor, " query"] | None = None,
) -> Answers:
    """Rank a gallery for each query by cosine similarity, some queries at a time.

    Args:
        query: unit vectors.
        gallery: unit vectors.
        own: row of each query's own place; the query's number by default.

    Raises:
        ModelError: if a vector is not finite: it would be found by nobody, and count as found.
    """
    for vectors in (query, gallery):
        if not torch.isfinite(vectors).all():
            raise ModelError("vectors that are not finite cannot be compared; leave them out")
    own = torch.arange(len(query)) if own is None else own
    ranks, tops = [], []
    for rows in query_slices(len(query), len(gallery)):
        similarity = query[rows] @ gallery.T
        mine = own[rows, None]
        rank = (similarity >= similarity.gather(1, mine)).sum(dim=1)
        other = similarity.scatter(1, mine, -torch.inf).argmax(dim=1)
        ranks.append(rank)
        tops.append(torch.where(rank == 1, own[rows], other))
    return Answers(torch.cat(ranks), torch.cat(tops))


def query_slices(queries: int, gallery: int) -> Iterator[slice]:
    """Some queries at a time, so that their similarities fit into memory."""
    size = max(1, CHUNK_NUMBERS // max(gallery, 1))
    for start in range(0, queries, size):
        yield slice(start, start + size)


def recall_matrix(
    embeddings: Mapping[str, Float[Tensor, "place dimension"]], ks: tuple[int, ...] = (1, 10)
) -> dict[str, dict[str, dict[str, float]]]:
    """Recall at k of each query modality in each gallery modality.

    A query counts as found when its own place is among the k nearest of the gallery. Ties count
    against it, so that equal vectors find nothing.

    Args:
        embeddings: unit vectors of the same places in the same order, by modality.
        ks: how many answers may be looked at.

    Returns:
        `{"R@10": {query: {gallery: recall}}}`, recall from 0 to 1.
    """
    report: dict[str, dict[str, dict[str, float]]] = {
        f"R@{k}": {query: {} for query in embeddings} for k in ks
    }
    for query, gallery in ordered_pairs(embeddings):
        rank = find(embeddings[query], embeddings[gallery]).rank
        for k in ks:
            report[f"R@{k}"][query][gallery] = float((rank <= k).double().mean())
    return report


def mean_recall(matrix: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over all ordered pairs."""
    values = [value for row in matrix.values() for value in row.values()]
    return sum(values) / len(values)


def ordered_pairs(names: Mapping[str, object] | Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every query with every other gallery."""
    for query in names:
        for gallery in names:
            if query != gallery:
                yield query, gallery


def retrieval_table(
    embeddings: Mapping[str, Float[Tensor, "place dimension"]],
    lonlat: Float[np.ndarray, "place 2"],
) -> "pd.DataFrame":
    """All figures of all ordered pairs, and of an answer drawn by lot.

    Args:
        embeddings: unit vectors of the same places in the same order, by modality.
        lonlat: the places, WGS 84 degrees.

    Returns:
        One row per pair and one for chance: `query`, `gallery`, and the columns of `figures`.
    """
    import pandas as pd

    rows = [
        {"query": query, "gallery": gallery}
        | figures(find(embeddings[query], embeddings[gallery]), lonlat)
        for query, gallery in ordered_pairs(embeddings)
    ]
    return pd.DataFrame([*rows, {"query": "chance", "gallery": ""} | chance(lonlat)])


def figures(found: Answers, lonlat: Float[np.ndarray, "place 2"]) -> dict[str, float]:
    """Recall at k, accuracy at radii, median distance of the top answer and median rank."""
    off_m = great_circle_m(lonlat, lonlat[found.top.numpy()])
    rank = found.rank.numpy()
    recalls = {f"R@{k}": float((rank <= k).mean()) for k in KS}
    return recalls | distance_figures(off_m) | {"median_rank": float(np.median(rank))}


def distance_figures(off_m: Float[np.ndarray, " query"]) -> dict[str, float]:
    """Share of answers within each radius, and the median distance."""
    shares = {accuracy_name(radius): float((off_m <= radius).mean()) for radius in RADII_M}
    return shares | {"median_m": float(np.median(off_m))}


def accuracy_name(radius_m: float) -> str:
    """Name of the accuracy at a radius.

    >>> accuracy_name(100), accuracy_name(25_000)
    ('Acc@100m', 'Acc@25km')
    """
    return f"Acc@{radius_m:g}m" if radius_m < 1000 else f"Acc@{radius_m / 1000:g}km"


def chance(lonlat: Float[np.ndarray, "place 2"]) -> dict[str, float]:
    """The same figures of an answer drawn by lot; distances from at most 512 of the places."""
    count = len(lonlat)
    some = lonlat[np.linspace(0, count - 1, min(count, 512)).astype(int)]
    off_m = np.concatenate(
        [great_circle_m(np.broadcast_to(place, lonlat.shape), lonlat) for place in some]
    )
    recalls = {f"R@{k}": min(1.0, k / count) for k in KS}
    return recalls | distance_figures(off_m) | {"median_rank": (count + 1) / 2}
