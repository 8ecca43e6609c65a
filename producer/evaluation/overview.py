"""Views of the vector space: a map coloured by principal components, and a t-SNE layout.

They correspond to figures 5 and 6 of arXiv 2604.11668.
"""

import numpy as np
import torch
from jaxtyping import Float

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.geocells import encode_coordinates
from unigeo.producer.evaluation.model_under_test import HoldOut
from unigeo.producer.observations.protocol import Observations

GRID = 160
"""Nodes along the longer side of a map."""
CLOSE_DEGREES = 1.0
"""Side of the map of the densest surroundings."""
MAX_VECTORS = 1500
"""Number of vectors laid out by t-SNE, over all modalities."""

MapExtent = tuple[float, float, float, float]
"""West, east, south and north edges in degrees."""


def map_extents(lonlat: Float[np.ndarray, "location 2"]) -> dict[str, MapExtent]:
    """Return the bounding box of all locations, and a small box around the densest cluster."""
    west, south = lonlat.min(axis=0)
    east, north = lonlat.max(axis=0)
    # The densest cluster is where the tenth neighbour is nearest.
    squared = ((lonlat[:, None] - lonlat[None]) ** 2).sum(axis=2)
    lon, lat = lonlat[np.sort(squared, axis=1)[:, min(10, len(lonlat) - 1)].argmin()]
    half = CLOSE_DEGREES / 2
    half_width = half / np.cos(np.radians(lat))
    close = (lon - half_width, lon + half_width, lat - half, lat + half)
    full = (float(west), float(east), float(south), float(north))
    return {"all places": full, "the densest surroundings": tuple(float(v) for v in close)}  # type: ignore[dict-item]


def principal_map(
    model: UniGeoCLIP, observations: Observations, extent: MapExtent, device: torch.device
) -> Float[np.ndarray, "row col 3"]:
    """Colour a grid by the first three principal components of its coordinate vectors.

    Returns:
        Red, green and blue from 0 to 1, north up; NaN off the land.
    """
    west, east, south, north = extent
    # Width in degrees of latitude, so that a node is about square on the ground.
    width = (east - west) * np.cos(np.radians((south + north) / 2))
    step = max(width, north - south) / GRID
    cols, rows = max(2, round(width / step)), max(2, round((north - south) / step))
    lon = west + (np.arange(cols) + 0.5) / cols * (east - west)
    lat = north - (np.arange(rows) + 0.5) / rows * (north - south)
    lonlat = np.stack(np.meshgrid(lon, lat), axis=-1).reshape(-1, 2)
    land = observations.land(lonlat)
    colours = np.full((rows * cols, 3), np.nan)
    if land.sum() > 3:
        colours[land] = principal_colours(
            encode_coordinates(model, lonlat[land], device).double().numpy()
        )
    return colours.reshape(rows, cols, 3)


def principal_colours(
    vectors: Float[np.ndarray, "location dimension"],
) -> Float[np.ndarray, "location 3"]:
    """Scale the first three principal components from their 2nd and 98th percentile to 0 and 1."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # eigenvalues in ascending order
    axes = axes[:, ::-1][:, :3]
    # The sign of an eigenvector is arbitrary: fix it, so that equal vectors get equal colours.
    scores = centred @ (axes * np.where(axes.sum(axis=0) < 0, -1, 1))
    low, high = np.percentile(scores, [2, 98], axis=0)
    return np.asarray(np.clip((scores - low) / np.where(high > low, high - low, 1), 0, 1))


def tsne_layout(
    hold_out: HoldOut, seed: int = 0
) -> tuple[Float[np.ndarray, "point 2"], list[str], Float[np.ndarray, "point 3"]]:
    """Embed the vectors of all modalities in one plane by t-SNE.

    Returns:
        Position, modality and colour of each vector. The colour shows the location: redder to the
        east, greener to the north.

    Source: van der Maaten & Hinton (2008), "Visualizing data using t-SNE".
    """
    from sklearn.manifold import TSNE

    names = list(hold_out.embeddings)
    count = min(len(hold_out), MAX_VECTORS // len(names))
    vectors = torch.cat([hold_out.embeddings[name][:count] for name in names]).numpy()
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    plane = TSNE(
        metric="cosine", init="random", perplexity=perplexity, random_state=seed, max_iter=500
    ).fit_transform(vectors)
    lonlat = hold_out.lonlat[:count]
    share = (lonlat - lonlat.min(axis=0)) / np.maximum(np.ptp(lonlat, axis=0), 1e-9)
    colour = np.column_stack([share, np.full(count, 0.4)])
    modalities = [name for name in names for _ in range(count)]
    return plane.astype(np.float64), modalities, np.tile(colour, (len(names), 1))
