"""Who finds whom: the rank of a place among others, and recall, by cosine similarity."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unigeo.schemas.errors import ModelError

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
