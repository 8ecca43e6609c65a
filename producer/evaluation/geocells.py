"""Geolocation by classification: a query is assigned to a cell of an equal-area map.

A cell is represented by vectors of the coordinate encoder: the vector of its centre, or the mean
over points inside it. The coarse-to-fine search compares a query with coarse cells first, and then
only with the cells inside the best of them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn.functional import normalize

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.retrieval import distance_metrics
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.recall import query_slices
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.great_circle import great_circle_m
from unigeo.schemas.geo.grid import from_wgs84

if TYPE_CHECKING:
    import pandas as pd

MAP = "EPSG:8857"
"""Equal Earth, on which squares have equal area."""
INTERIOR = 3
"""Rows and columns of points inside a cell over which its vector is averaged."""
COARSE = 4
"""Cells along the side of a coarse cell."""
BEAM = 8
"""Number of best coarse cells whose cells are compared."""
MAX_CELLS = 20_000
_BATCH = 2048


@dataclass(frozen=True, eq=False)
class Geocells:
    """Square cells of the map that contain land, and the vectors that represent them."""

    side_m: float
    colrow: Int[np.ndarray, "cell 2"]
    """Column (eastward) and row (northward) of each cell."""
    lonlat: Float[np.ndarray, "cell 2"]
    """Centres, WGS 84 degrees."""
    centroid: Float[Tensor, "cell dimension"]
    """Vector of the centre."""
    interior: Float[Tensor, "cell dimension"]
    """Normalized mean of the vectors of points inside the cell that are on land."""

    def index_of(self, lonlat: Float[np.ndarray, "location 2"]) -> Int[np.ndarray, " location"]:
        """Return the index of the cell that contains each location, -1 where none does."""
        index = {(int(col), int(row)): k for k, (col, row) in enumerate(self.colrow)}
        colrow = cell_numbers(lonlat, self.side_m)
        return np.array([index.get((int(c), int(r)), -1) for c, r in colrow], np.int64)


def cell_numbers(
    lonlat: Float[np.ndarray, "location 2"], side_m: float
) -> Int[np.ndarray, "location 2"]:
    """Return the column and row of the cell that contains each location."""
    x, y = from_wgs84(MAP).transform(lonlat[:, 0], lonlat[:, 1])
    return np.floor(np.stack([x, y], axis=1) / side_m).astype(np.int64)


def cover_land(
    model: UniGeoCLIP,
    observations: Observations,
    lonlat: Float[np.ndarray, "location 2"],
    side_km: float,
    device: torch.device,
) -> Geocells:
    """Divide the land around locations into cells, and encode the cells.

    Args:
        model: model with a coordinate encoder.
        observations: their `land` selects the cells.
        lonlat: locations to be classified; the cells cover their bounding box.
        side_km: side of a cell.
        device: device of the encoder.

    Raises:
        ModelError: if there are too many cells.
    """
    side = 1000 * side_km
    numbers = cell_numbers(lonlat, side)
    low, high = numbers.min(axis=0) - 1, numbers.max(axis=0) + 1
    count = int(np.prod(high - low + 1))
    if count > 4 * MAX_CELLS:
        raise ModelError(f"cells of {side_km:g} km are {count:,}; make them larger")
    axes = [np.arange(first, last + 1) for first, last in zip(low, high, strict=True)]
    colrow = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    steps = (np.arange(INTERIOR) + 0.5) / INTERIOR
    inside = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    points = _to_lonlat((colrow[:, None] + inside).reshape(-1, 2) * side)
    land = _is_on_land(observations, points).reshape(len(colrow), -1)
    kept = land.any(axis=1)
    colrow, land = colrow[kept], land[kept]
    centres = _to_lonlat((colrow + 0.5) * side)
    # Cells have between 1 and INTERIOR**2 points on land: encode them as one flat list, with the
    # index of each point's cell, and add up by that index.
    interior = points.reshape(len(kept), -1, 2)[kept][land]
    cell = torch.from_numpy(np.nonzero(land)[0])
    vectors = encode_coordinates(model, interior, device)
    sums = torch.zeros(len(colrow), vectors.shape[1]).index_add_(0, cell, vectors)
    centroid = encode_coordinates(model, centres, device)
    return Geocells(side, colrow, centres, centroid, normalize(sums, dim=1))


def encode_coordinates(
    model: UniGeoCLIP, lonlat: Float[np.ndarray, "location 2"], device: torch.device
) -> Float[Tensor, "location dimension"]:
    """Encode coordinates as unit vectors, float32 on the CPU."""
    points = torch.from_numpy(np.ascontiguousarray(lonlat))
    with torch.inference_mode():
        parts = [
            model.encode("coordinate", part.to(device)).float().cpu()
            for part in points.split(_BATCH)
        ]
    return torch.cat(parts)


def classify(
    query: Float[Tensor, "query dimension"], cells: Float[Tensor, "cell dimension"]
) -> Int64[Tensor, " query"]:
    """Return the index of the nearest cell."""
    rows = query_slices(len(query), len(cells))
    return torch.cat([(query[part] @ cells.T).argmax(dim=1) for part in rows])


def classify_coarse_to_fine(
    query: Float[Tensor, "query dimension"], cells: Geocells
) -> tuple[Any, float]:
    """Find the nearest cell inside the best coarse cells.

    A coarse cell is represented by the normalized mean of its cells' interior vectors.

    Returns:
        Index of the cell found for each query; number of comparisons, of cells and of coarse
        cells, as a share of those of an exhaustive search.
    """
    coarse, numbers = np.unique(cells.colrow // COARSE, axis=0, return_inverse=True)
    parent = torch.from_numpy(numbers.reshape(-1))
    sums = torch.zeros(len(coarse), query.shape[1]).index_add_(0, parent, cells.interior)
    means = normalize(sums, dim=1)
    nearest, compared = [], 0
    for part in query_slices(len(query), len(cells.colrow)):
        best = (query[part] @ means.T).topk(min(BEAM, len(coarse)), dim=1).indices
        chosen = torch.zeros(len(best), len(coarse), dtype=torch.bool).scatter_(1, best, True)
        inside = chosen[:, parent]  # from coarse cells to their cells
        # All similarities are computed and then masked: only the count is that of the hierarchy.
        scores = (query[part] @ cells.interior.T).masked_fill(~inside, -torch.inf)
        nearest.append(scores.argmax(dim=1))
        compared += int(inside.sum()) + len(best) * len(coarse)
    return torch.cat(nearest), compared / (len(query) * len(cells.colrow))


def geocell_table(
    embeddings: dict[str, Float[Tensor, "location dimension"]],
    lonlat: Float[np.ndarray, "location 2"],
    cells: Geocells,
) -> "pd.DataFrame":
    """Classify each modality's locations by each representation of the cells.

    Returns:
        One row per query modality and representation (`cells by`): `cell_km`, `cells`, `right`
        (share of locations assigned to their own cell), the share within radii of the cell's
        centre, `median_m`, and `looked_at`, the share of vectors compared.
    """
    import pandas as pd

    true_cell = cells.index_of(lonlat)
    rows = []
    for query, vectors in embeddings.items():
        coarse_to_fine, share = classify_coarse_to_fine(vectors, cells)
        methods = {
            "centroid": (classify(vectors, cells.centroid), 1.0),
            "mean of interior": (classify(vectors, cells.interior), 1.0),
            "coarse to fine": (coarse_to_fine, share),
        }
        for method, (nearest, compared) in methods.items():
            cell = nearest.numpy()
            error_m = great_circle_m(lonlat, cells.lonlat[cell])
            rows.append(
                {
                    "query": query, "cells by": method, "cell_km": cells.side_m / 1000,
                    "cells": len(cells.colrow), "right": float((cell == true_cell).mean()),
                }
                | distance_metrics(error_m) | {"looked_at": compared}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _to_lonlat(xy: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
    """Return longitude and latitude of points of the map; infinite for points off it."""
    return np.stack(from_wgs84(MAP).transform(xy[:, 0], xy[:, 1], direction="INVERSE"), axis=1)


def _is_on_land(
    observations: Observations, lonlat: Float[np.ndarray, "point 2"]
) -> Bool[np.ndarray, " point"]:
    finite = np.isfinite(lonlat).all(axis=1)
    land = np.zeros(len(lonlat), bool)
    land[finite] = observations.land(lonlat[finite])
    return land
