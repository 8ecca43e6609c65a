"""Retrieval by cosine similarity: the rank of each query's own location, and recall at k."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unigeo.schemas.errors import ModelError

CHUNK_NUMBERS = 2**24
"""Number of similarities in memory at once, 64 MiB."""


@dataclass(frozen=True)
class Answers:
    """Results of a search for each query."""

    rank: Int64[Tensor, " query"]
    """Rank of the query's own location in the gallery, 1 for the best; ties count against it."""
    top: Int64[Tensor, " query"]
    """Gallery row of the best answer."""


def find(
    query: Float[Tensor, "query dimension"],
    gallery: Float[Tensor, "location dimension"],
    target: Int64[Tensor, " query"] | None = None,
) -> Answers:
    """Rank a gallery by cosine similarity to each query.

    Args:
        query: unit vectors.
        gallery: unit vectors.
        target: gallery row of each query's own location; the query's index if None.

    Raises:
        ModelError: if a vector is not finite: comparisons with NaN would count it as found.
    """
    for vectors in (query, gallery):
        if not torch.isfinite(vectors).all():
            raise ModelError("vectors that are not finite cannot be compared; leave them out")
    target = torch.arange(len(query)) if target is None else target
    ranks, tops = [], []
    for rows in query_slices(len(query), len(gallery)):
        similarity = query[rows] @ gallery.T
        own = target[rows, None]
        # The target counts itself, hence 1 for the best; ties count against it.
        rank = (similarity >= similarity.gather(1, own)).sum(dim=1)
        best_other = similarity.scatter(1, own, -torch.inf).argmax(dim=1)
        ranks.append(rank)
        tops.append(torch.where(rank == 1, target[rows], best_other))
    return Answers(torch.cat(ranks), torch.cat(tops))


def query_slices(queries: int, gallery: int) -> Iterator[slice]:
    """Yield slices of queries whose similarities to the gallery fit in memory."""
    size = max(1, CHUNK_NUMBERS // max(gallery, 1))
    for start in range(0, queries, size):
        yield slice(start, start + size)


def recall_matrix(
    embeddings: Mapping[str, Float[Tensor, "location dimension"]], ks: tuple[int, ...] = (1, 10)
) -> dict[str, dict[str, dict[str, float]]]:
    """Compute recall at k of each query modality in each gallery modality.

    A query is found if its own location is among the k nearest of the gallery. Ties count against
    it, so that equal vectors find nothing.

    Args:
        embeddings: unit vectors of the same locations in the same order, by modality.
        ks: numbers of nearest answers that count.

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
    """Return the mean over all ordered pairs."""
    values = [value for row in matrix.values() for value in row.values()]
    return sum(values) / len(values)


def ordered_pairs(names: Mapping[str, object] | Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each modality as query with each other one as gallery."""
    for query in names:
        for gallery in names:
            if query != gallery:
                yield query, gallery
