"""Longitudes and latitudes that windows of a grid span."""

import numpy as np
from jaxtyping import Float

from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, Grid, from_wgs84
from unigeo.schemas.geo.projection import equal_earth_m

_POLE = 90.0


def shard_bounds(grid: Grid, shard: int) -> Float[np.ndarray, "shard_row shard_col 4"]:
    """West, south, east and north of each shard, WGS 84 degrees; NaN where it lies off the globe.

    West exceeds east where the antimeridian lies between them. On this map a parallel is a straight
    line on which longitudes are evenly spaced, so the corners hold the extremes, and the equator
    where the shard crosses it.
    """
    rows, cols = grid.shape[0] // shard, grid.shape[1] // shard
    side = float(shard * grid.resolution_m)
    north = -(grid.row0 * grid.resolution_m + side * np.arange(rows))
    west = grid.col0 * grid.resolution_m + side * np.arange(cols)
    return box_bounds(
        grid.crs,
        *np.broadcast_arrays(
            west[None], (north - side)[:, None], west[None] + side, north[:, None]
        ),
    )


def grid_bounds(grid: Grid) -> tuple[float, float, float, float]:
    """West, south, east and north of the whole grid, WGS 84 degrees."""
    edges = [np.array([edge], float) for edge in grid.bounds]
    ((west, south, east, north),) = box_bounds(grid.crs, *edges).tolist()
    return west, south, east, north


def box_bounds(
    crs: str,
    west: Float[np.ndarray, "*box"],
    south: Float[np.ndarray, "*box"],
    east: Float[np.ndarray, "*box"],
    north: Float[np.ndarray, "*box"],
) -> Float[np.ndarray, "*box 4"]:
    """Degrees that boxes of projected metres span; NaN where they lie off the globe."""
    meridian = CENTRAL_MERIDIANS[crs]
    top = float(equal_earth_m(np.array([[meridian, _POLE]]), meridian)[1][0])
    low, high = np.clip(south, -top, top), np.clip(north, -top, top)
    nearest = np.clip(0.0, low, high)  # to the equator, where a degree is widest
    turns = []
    for y in (low, nearest, high):
        lat = _latitude(crs, y)
        per_degree, _ = equal_earth_m(
            np.stack([np.full(lat.size, meridian + 1.0), lat.ravel()], -1), meridian
        )
        turns += [edge / per_degree.reshape(lat.shape) for edge in (west, east)]
    first, last = np.min(turns, axis=0), np.max(turns, axis=0)
    bounds = np.stack(
        [
            meridian + np.clip(first, -180, 180),
            _latitude(crs, low),
            meridian + np.clip(last, -180, 180),
            _latitude(crs, high),
        ],
        axis=-1,
    )
    whole = bounds[..., 2] - bounds[..., 0] >= 360
    for edge in (0, 2):
        bounds[..., edge] = (bounds[..., edge] + 180) % 360 - 180
    bounds[..., 2][bounds[..., 2] == -180] = 180
    bounds[..., 0][whole], bounds[..., 2][whole] = -180, 180
    off = (np.min(np.abs(turns), axis=0) > 180) & (np.sign(west) == np.sign(east))
    bounds[off | (low >= high)] = np.nan
    return bounds


def _latitude(crs: str, y: Float[np.ndarray, "*box"]) -> Float[np.ndarray, "*box"]:
    _, lat = from_wgs84(crs).transform(np.zeros(y.shape), y, direction="INVERSE")
    return np.clip(np.asarray(lat, float), -_POLE, _POLE)
