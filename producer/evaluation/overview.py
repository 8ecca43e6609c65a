"""Maps of what the model sees: colours of a dense grid of coordinates, and all places in a plane.

They redraw figures 5 and 6 of arXiv 2604.11668.
"""

import numpy as np
import torch
from jaxtyping import Float

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.geocells import encode
from unigeo.producer.evaluation.model_under_test import HoldOut
from unigeo.producer.observations.protocol import Observations

GRID = 160
"""Nodes along the longer side of a map."""
CLOSE_DEGREES = 1.0
"""Side of the map of the densest surroundings."""
MOST_VECTORS = 1500
"""That are laid out in a plane."""

ShardExtent = tuple[float, float, float, float]
"""West, east, south and north edge in degrees."""


def extents(lonlat: Float[np.ndarray, "place 2"]) -> dict[str, ShardExtent]:
    """The box of all places, and a small one round the place with the nearest neighbours."""
    west, south = lonlat.min(axis=0)
    east, north = lonlat.max(axis=0)
    gap = ((lonlat[:, None] - lonlat[None]) ** 2).sum(axis=2)
    lon, lat = lonlat[np.sort(gap, axis=1)[:, min(10, len(lonlat) - 1)].argmin()]
    half = CLOSE_DEGREES / 2
    wide = half / np.cos(np.radians(lat))
    close = (lon - wide, lon + wide, lat - half, lat + half)
    whole = (float(west), float(east), float(south), float(north))
    return {"all places": whole, "the densest surroundings": tuple(float(v) for v in close)}  # type: ignore[dict-item]


def principal_map(
    model: UniGeoCLIP, observations: Observations, extent: ShardExtent, device: torch.device
) -> Float[np.ndarray, "row col 3"]:
    """The three main directions of coordinate vectors on a grid, as colours; NaN off the land."""
    west, east, south, north = extent
    wide = (east - west) * np.cos(np.radians((south + north) / 2))
    step = max(wide, north - south) / GRID
    cols, rows = max(2, round(wide / step)), max(2, round((north - south) / step))
    lon = west + (np.arange(cols) + 0.5) / cols * (east - west)
    lat = north - (np.arange(rows) + 0.5) / rows * (north - south)
    lonlat = np.stack(np.meshgrid(lon, lat), axis=-1).reshape(-1, 2)
    land = observations.land(lonlat)
    colours = np.full((rows * cols, 3), np.nan)
    if land.sum() > 3:
        colours[land] = principal_colours(encode(model, lonlat[land], device).double().numpy())
    return colours.reshape(rows, cols, 3)


def principal_colours(
    vectors: Float[np.ndarray, "place dimension"],
) -> Float[np.ndarray, "place 3"]:
    """Scores along the three main directions, from the 2nd to the 98th percentile of each."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :3]
    scores = centred @ (axes * np.where(axes.sum(axis=0) < 0, -1, 1))  # a sign is free: fix it
    low, high = np.percentile(scores, [2, 98], axis=0)
    return np.asarray(np.clip((scores - low) / np.where(high > low, high - low, 1), 0, 1))


def plane_of_places(
    hold_out: HoldOut, seed: int = 0
) -> tuple[Float[np.ndarray, "point 2"], list[str], Float[np.ndarray, "point 3"]]:
    """Lay the vectors of all modalities out in one plane (t-SNE).

    Returns:
        Positions, the modality of each, and a colour by place: red to the east, green to the north.

    Source: van der Maaten & Hinton (2008), "Visualizing data using t-SNE".
    """
    from sklearn.manifold import TSNE

    names = list(hold_out.embeddings)
    count = min(len(hold_out), MOST_VECTORS // len(names))
    vectors = torch.cat([hold_out.embeddings[name][:count] for name in names]).numpy()
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    plane = TSNE(
        metric="cosine", init="random", perplexity=perplexity, random_state=seed, max_iter=500
    ).fit_transform(vectors)
    lonlat = hold_out.lonlat[:count]
    share = (lonlat - lonlat.min(axis=0)) / np.maximum(np.ptp(lonlat, axis=0), 1e-9)
    colour = np.column_stack([share, np.full(count, 0.4)])
    owners = [name for name in names for _ in range(count)]
    return plane.astype(np.float64), owners, np.tile(colour, (len(names), 1))
