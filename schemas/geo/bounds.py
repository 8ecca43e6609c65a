"""Bounds in longitude and latitude of grids, shards and boxes on the map."""

import numpy as np
from jaxtyping import Float

from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, Grid, from_wgs84
from unigeo.schemas.geo.projection import equal_earth_m

_POLE = 90.0


def shard_bounds(grid: Grid, shard: int) -> Float[np.ndarray, "shard_row shard_col 4"]:
    """Return west, south, east and north of each shard, WGS 84 degrees; NaN off the globe.

    West exceeds east where the shard crosses the antimeridian.
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
    """Return west, south, east and north of the grid, WGS 84 degrees."""
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
    """Return the bounds in degrees of boxes of projected metres; NaN where they lie off the globe.

    On an Equal Earth map a parallel is a straight line on which longitudes are evenly spaced. The
    extreme longitudes therefore lie at a box's corners, or on the equator if the box crosses it.

    Args:
        crs: one of `CENTRAL_MERIDIANS`.
        west: easting of each box's western edge, metres.
        south: northing of the southern edge.
        east: easting of the eastern edge.
        north: northing of the northern edge.

    Returns:
        West, south, east and north; west exceeds east across the antimeridian.
    """
    meridian = CENTRAL_MERIDIANS[crs]
    top = float(equal_earth_m(np.array([[meridian, _POLE]]), meridian)[1][0])
    low, high = np.clip(south, -top, top), np.clip(north, -top, top)
    nearest = np.clip(0.0, low, high)  # to the equator, where a degree of longitude is widest
    offsets = []  # longitudes from the central meridian
    for y in (low, nearest, high):
        lat = _latitude(crs, y)
        per_degree, _ = equal_earth_m(
            np.stack([np.full(lat.size, meridian + 1.0), lat.ravel()], -1), meridian
        )
        offsets += [edge / per_degree.reshape(lat.shape) for edge in (west, east)]
    first, last = np.min(offsets, axis=0), np.max(offsets, axis=0)
    bounds = np.stack(
        [
            meridian + np.clip(first, -180, 180),
            _latitude(crs, low),
            meridian + np.clip(last, -180, 180),
            _latitude(crs, high),
        ],
        axis=-1,
    )
    full_turn = bounds[..., 2] - bounds[..., 0] >= 360
    for edge in (0, 2):
        bounds[..., edge] = (bounds[..., edge] + 180) % 360 - 180
    bounds[..., 2][bounds[..., 2] == -180] = 180  # an eastern edge on the antimeridian
    bounds[..., 0][full_turn], bounds[..., 2][full_turn] = -180, 180
    # Off the globe: all corners beyond half a turn, on the same side of the central meridian.
    off = (np.min(np.abs(offsets), axis=0) > 180) & (np.sign(west) == np.sign(east))
    bounds[off | (low >= high)] = np.nan
    return bounds


def _latitude(crs: str, y: Float[np.ndarray, "*box"]) -> Float[np.ndarray, "*box"]:
    """Return the latitude of northings, which does not depend on the easting."""
    _, lat = from_wgs84(crs).transform(np.zeros(y.shape), y, direction="INVERSE")
    return np.clip(np.asarray(lat, float), -_POLE, _POLE)
