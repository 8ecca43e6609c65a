"""Can one modality find its place in another? Recall at k for every ordered pair."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor


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
    names = list(embeddings)
    report: dict[str, dict[str, dict[str, float]]] = {
        f"R@{k}": {query: {} for query in names} for k in ks
    }
    for query in names:
        for gallery in names:
            if query == gallery:
                continue
            similarity = embeddings[query] @ embeddings[gallery].T
            own = similarity.diagonal()[:, None]
            rank = (similarity >= own).sum(dim=1)  # 1 for the best
            for k in ks:
                report[f"R@{k}"][query][gallery] = float((rank <= k).double().mean())
    return report


def mean_recall(matrix: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over all ordered pairs."""
    values = [value for row in matrix.values() for value in row.values()]
    return sum(values) / len(values)
