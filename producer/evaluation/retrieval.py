"""Can one modality find its place in another? Ranks, recall, and how far off the answer lies."""

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
"""How many answers may be looked at."""
RADII_M = (100.0, 1_000.0, 10_000.0, 25_000.0, 50_000.0, 200_000.0)
"""Distances within which an answer is right: the paper's 100 m, and wider ones."""


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
