"""Retrieval metrics between modalities: recall at k, rank, and distance of the best answer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from unigeo.producer.training.recall import Answers, find, ordered_pairs
from unigeo.schemas.geo.great_circle import great_circle_m

if TYPE_CHECKING:
    import pandas as pd

KS = (1, 5, 10)
"""Numbers of best answers among which recall looks for the query's own location."""
RADII_M = (100.0, 1_000.0, 10_000.0, 25_000.0, 50_000.0, 200_000.0)
"""Distances within which an answer counts as right: the paper's 100 m, and wider ones."""


def retrieval_table(
    embeddings: Mapping[str, Float[Tensor, "location dimension"]],
    lonlat: Float[np.ndarray, "location 2"],
) -> "pd.DataFrame":
    """Compute the metrics of every ordered pair of modalities, and of random answers.

    Args:
        embeddings: unit vectors of the same locations in the same order, by modality.
        lonlat: the locations, WGS 84 degrees.

    Returns:
        One row per pair and one for chance: `query`, `gallery`, and the keys of
        `retrieval_metrics`.
    """
    import pandas as pd

    rows = [
        {"query": query, "gallery": gallery}
        | retrieval_metrics(find(embeddings[query], embeddings[gallery]), lonlat)
        for query, gallery in ordered_pairs(embeddings)
    ]
    return pd.DataFrame([*rows, {"query": "chance", "gallery": ""} | chance_metrics(lonlat)])


def retrieval_metrics(
    answers: Answers, lonlat: Float[np.ndarray, "location 2"]
) -> dict[str, float]:
    """Compute recall at k, accuracy at radii, median distance of the best answer, median rank."""
    error_m = great_circle_m(lonlat, lonlat[answers.top.numpy()])
    rank = answers.rank.numpy()
    recalls = {f"R@{k}": float((rank <= k).mean()) for k in KS}
    return recalls | distance_metrics(error_m) | {"median_rank": float(np.median(rank))}


def distance_metrics(error_m: Float[np.ndarray, " query"]) -> dict[str, float]:
    """Compute the share of answers within each radius, and the median distance."""
    shares = {accuracy_name(radius): float((error_m <= radius).mean()) for radius in RADII_M}
    return shares | {"median_m": float(np.median(error_m))}


def accuracy_name(radius_m: float) -> str:
    """Return the name of the accuracy at a radius.

    >>> accuracy_name(100), accuracy_name(25_000)
    ('Acc@100m', 'Acc@25km')
    """
    return f"Acc@{radius_m:g}m" if radius_m < 1000 else f"Acc@{radius_m / 1000:g}km"


def chance_metrics(lonlat: Float[np.ndarray, "location 2"]) -> dict[str, float]:
    """Compute the expected metrics of a random answer, distances from at most 512 locations."""
    count = len(lonlat)
    origins = lonlat[np.linspace(0, count - 1, min(count, 512)).astype(int)]
    error_m = np.concatenate(
        [great_circle_m(np.broadcast_to(origin, lonlat.shape), lonlat) for origin in origins]
    )
    recalls = {f"R@{k}": min(1.0, k / count) for k in KS}
    return recalls | distance_metrics(error_m) | {"median_rank": (count + 1) / 2}
