"""Where was it taken? A place is classified to cells of a map that only coordinates describe.

Each cell is known by vectors of the coordinate encoder: that of its centre, or the mean over places
inside it. A hierarchy asks coarse cells first and looks only inside the best of them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn.functional import normalize

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.retrieval import distance_figures
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.recall import query_slices
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.great_circle import great_circle_m
from unigeo.schemas.geo.grid import from_wgs84

if TYPE_CHECKING:
    import pandas as pd

MAP = "EPSG:8857"
"""Equal Earth: cells of equal area."""
INTERIOR = 3
"""Rows and columns of places inside a cell over which its vector is averaged."""
COARSE = 4
"""Cells along the side of a coarse cell."""
BEAM = 8
"""Coarse cells that are looked into."""
MOST_CELLS = 20_000
_BATCH = 2048


@dataclass(frozen=True, eq=False)
class Geocells:
    """Squares of the map that hold land, and the vectors they are known by."""

    side_m: float
    colrow: Int[np.ndarray, "cell 2"]
    """Eastward and northward number of each cell."""
    lonlat: Float[np.ndarray, "cell 2"]
    """Centres, WGS 84 degrees."""
    centroid: Float[Tensor, "cell dimension"]
    """Vector of the centre."""
    interior: Float[Tensor, "cell dimension"]
    """Unit mean of the vectors of the places inside that are on land."""

    def of(self, lonlat: Float[np.ndarray, "place 2"]) -> Int[np.ndarray, " place"]:
        """Row of the cell that holds each place, -1 where none does."""
        number = {(int(col), int(row)): k for k, (col, row) in enumerate(self.colrow)}
        held = cell_numbers(lonlat, self.side_m)
        return np.array([number.get((int(c), int(r)), -1) for c, r in held], np.int64)


def cell_numbers(lonlat: Float[np.ndarray, "place 2"], side_m: float) -> Int[np.ndarray, "place 2"]:
    """Eastward and northward number of the cell that holds each place."""
    x, y = from_wgs84(MAP).transform(lonlat[:, 0], lonlat[:, 1])
    return np.floor(np.stack([x, y], axis=1) / side_m).astype(np.int64)


def cover(
    model: UniGeoCLIP,
    observations: Observations,
    lonlat: Float[np.ndarray, "place 2"],
    side_km: float,
    device: torch.device,
) -> Geocells:
    """Cut the land in the box that holds the places into cells, and encode them.

    Args:
        model: its coordinate encoder describes the cells.
        observations: know where land is.
        lonlat: places that are to be found; only their bounds are used.
        side_km: of a cell.
        device: to encode on.

    Raises:
        ModelError: if the cells are too many.
    """
    side = 1000 * side_km
    numbers = cell_numbers(lonlat, side)
    low, high = numbers.min(axis=0) - 1, numbers.max(axis=0) + 1
    count = int(np.prod(high - low + 1))
    if count > 4 * MOST_CELLS:
        raise ModelError(f"cells of {side_km:g} km are {count:,}; make them larger")
    axes = [np.arange(first, last + 1) for first, last in zip(low, high, strict=True)]
    colrow = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    steps = (np.arange(INTERIOR) + 0.5) / INTERIOR
    inside = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    places = _degrees((colrow[:, None] + inside).reshape(-1, 2) * side)
    land = _on_land(observations, places).reshape(len(colrow), -1)
    kept = land.any(axis=1)
    colrow, land = colrow[kept], land[kept]
    centres = _degrees((colrow + 0.5) * side)
    held = places.reshape(len(kept), -1, 2)[kept][land]
    owner = torch.from_numpy(np.nonzero(land)[0])
    vectors = encode(model, held, device)
    sums = torch.zeros(len(colrow), vectors.shape[1]).index_add_(0, owner, vectors)
    return Geocells(side, colrow, centres, encode(model, centres, device), normalize(sums, dim=1))


def encode(
    model: UniGeoCLIP, lonlat: Float[np.ndarray, "place 2"], device: torch.device
) -> Float[Tensor, "place dimension"]:
    """Unit vectors of coordinates, float32 on the CPU."""
    places = torch.from_numpy(np.ascontiguousarray(lonlat))
    with torch.inference_mode():
        parts = [
            model.encode("coordinate", part.to(device)).float().cpu()
            for part in places.split(_BATCH)
        ]
    return torch.cat(parts)


def classify(
    query: Float[Tensor, "query dimension"], cells: Float[Tensor, "cell dimension"]
) -> Int64[Tensor, " query"]:
    """Row of the nearest cell."""
    rows = query_slices(len(query), len(cells))
    return torch.cat([(query[part] @ cells.T).argmax(dim=1) for part in rows])


def classify_in_steps(
    query: Float[Tensor, "query dimension"], cells: Geocells
) -> tuple[Any, float]:
    """Row of the nearest cell inside the best coarse cells, and the share of cells looked at.

    A coarse cell is known by the unit mean of its cells' interior vectors.
    """
    coarse, numbers = np.unique(cells.colrow // COARSE, axis=0, return_inverse=True)
    owner = torch.from_numpy(numbers.reshape(-1))
    sums = torch.zeros(len(coarse), query.shape[1]).index_add_(0, owner, cells.interior)
    means = normalize(sums, dim=1)
    found, looked = [], 0
    for part in query_slices(len(query), len(cells.colrow)):
        best = (query[part] @ means.T).topk(min(BEAM, len(coarse)), dim=1).indices
        chosen = torch.zeros(len(best), len(coarse), dtype=torch.bool).scatter_(1, best, True)
        inside = chosen[:, owner]
        scores = (query[part] @ cells.interior.T).masked_fill(~inside, -torch.inf)
        found.append(scores.argmax(dim=1))
        looked += int(inside.sum()) + len(best) * len(coarse)
    return torch.cat(found), looked / (len(query) * len(cells.colrow))


def geocell_table(
    embeddings: dict[str, Float[Tensor, "place dimension"]],
    lonlat: Float[np.ndarray, "place 2"],
    cells: Geocells,
) -> "pd.DataFrame":
    """Classify each modality's places by each way of knowing a cell.

    Returns:
        One row per query modality and way: `cell_km`, `cells`, `right` (share of places put into
        their own cell), the share within radii of the cell's centre, `median_m`, and `looked_at`,
        the share of vectors compared.
    """
    import pandas as pd

    own = cells.of(lonlat)
    rows = []
    for query, vectors in embeddings.items():
        in_steps, share = classify_in_steps(vectors, cells)
        ways = {
            "centroid": (classify(vectors, cells.centroid), 1.0),
            "mean of interior": (classify(vectors, cells.interior), 1.0),
            "coarse to fine": (in_steps, share),
        }
        for way, (found, looked) in ways.items():
            off_m = great_circle_m(lonlat, cells.lonlat[found.numpy()])
            rows.append(
                {
                    "query": query, "cells by": way, "cell_km": cells.side_m / 1000,
                    "cells": len(cells.colrow), "right": float((found.numpy() == own).mean()),
                }
                | distance_figures(off_m) | {"looked_at": looked}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _degrees(xy: Float[np.ndarray, "place 2"]) -> Float[np.ndarray, "place 2"]:
    """Longitude and latitude of places on the map; off the map, infinite."""
    return np.stack(from_wgs84(MAP).transform(xy[:, 0], xy[:, 1], direction="INVERSE"), axis=1)


def _on_land(
    observations: Observations, lonlat: Float[np.ndarray, "place 2"]
) -> Bool[np.ndarray, " place"]:
    there = np.isfinite(lonlat).all(axis=1)
    land = np.zeros(len(lonlat), bool)
    land[there] = observations.land(lonlat[there])
    return land
