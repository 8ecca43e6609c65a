"""Points on water or at a coast, moved to the nearest cell that has a vector."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.reading.sampling import Modality, read_status
from unigeo.client.shapes.coverage import cover_grid
from unigeo.client.shapes.discs import check_radius, disc_outlines
from unigeo.schemas.geo.great_circle import great_circle_m
from unigeo.schemas.geo.grid import Grid, from_wgs84
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

_MOVED = (Status.OUTSIDE_REGION, Status.NO_OBSERVATION, Status.WATER)
"""Statuses of points that are moved; a failure or a cell not yet produced is no coast."""
_BATCH = 256
"""Points whose surroundings are looked at together."""
_MARGIN = 1.01
"""Factor of a disc's radius, which is geodesic, over a distance along a great circle."""


def snap_points(
    modality: Modality, points: Points, snap_km: float
) -> tuple[Points, Float[np.ndarray, " point"]]:
    """Move points without a vector to the centre of the nearest cell with one.

    Args:
        modality: modality whose cells are looked at; their status alone is read.
        points: any points.
        snap_km: largest distance from a point to the cell, along a great circle: to the point of
            the cell that is nearest on the map.

    Returns:
        The points, of which those that were moved are read at the cell's centre; and how far each
        is from the cell, in kilometres: 0 where it lies in one with a vector, NaN where no such
        cell is near enough.

    Raises:
        StoreError: if the status cannot be read.
    """
    grid = modality.grid
    codes = read_status(modality, points)
    moved_km = np.where(codes == Status.VALID, 0.0, np.nan)
    lost = np.flatnonzero(np.isin(codes, _MOVED))
    if not len(lost):
        return points, moved_km
    x, y = (coordinate.copy() for coordinate in points.metres(grid.crs))
    for first in range(0, len(lost), _BATCH):
        part = lost[first : first + _BATCH]
        xy = np.stack([x[part], y[part]], axis=-1)
        cell, distance_m = _nearest_cells(modality, points.lonlat[part], xy, 1000.0 * snap_km)
        found = cell >= 0
        row, col = np.divmod(cell[found], grid.shape[1])
        x[part[found]], y[part[found]] = grid.x[col], grid.y[row]
        moved_km[part[found]] = distance_m[found] / 1000.0
    return replace(points, xy=np.stack([x, y], axis=-1), crs=grid.crs), moved_km


def check_snap(snap_km: float) -> None:
    """Raise ValueError unless a distance is one that points can be moved."""
    try:
        check_radius(1000.0 * snap_km)
    except (TypeError, ValueError) as error:
        raise ValueError(f"snap_km must be a distance in kilometres, not {snap_km!r}") from error


def _nearest_cells(
    modality: Modality,
    lonlat: Float[np.ndarray, "point 2"],
    xy: Float[np.ndarray, "point 2"],
    most_m: float,
) -> tuple[Int[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Find the nearest cell with a vector for each point.

    Returns:
        The cells, counted row by row from the grid's corner, -1 where none is near; their distance
        in metres.
    """
    grid = modality.grid
    nearest, distance = np.full(len(lonlat), -1), np.full(len(lonlat), np.inf)
    outlines = disc_outlines(lonlat, _MARGIN * most_m, grid)
    for cover in cover_grid(outlines, grid):
        number, slot = np.unique(cover.row * grid.shape[1] + cover.col, return_inverse=True)
        rowcol = np.stack(np.divmod(number, grid.shape[1]), axis=-1)
        codes = np.empty((len(number), 1), np.uint8)
        modality.status.gather(rowcol, codes)
        entries = np.flatnonzero(codes[slot, 0] == Status.VALID)
        point, cell = cover.polygon[entries], number[slot[entries]]
        within = _nearest_within(grid, rowcol[slot[entries]], xy[point])
        far = great_circle_m(lonlat[point], within)
        order = np.lexsort((cell, far, point))  # of equal distances, the northern and western cell
        point, cell, far = point[order], cell[order], far[order]
        first = np.flatnonzero(np.diff(point, prepend=-1))
        nearer = first[(far[first] <= most_m) & (far[first] < distance[point[first]])]
        nearest[point[nearer]], distance[point[nearer]] = cell[nearer], far[nearer]
    return nearest, distance


def _nearest_within(
    grid: Grid, rowcol: Int[np.ndarray, "cell 2"], xy: Float[np.ndarray, "cell 2"]
) -> Float[np.ndarray, "cell 2"]:
    """Return the point of each cell that is nearest on the map, WGS 84 degrees.

    Args:
        grid: the cells.
        rowcol: one cell for each point.
        xy: the points, eastings and northings in the grid's CRS.
    """
    half = grid.resolution_m / 2
    centre = np.stack([grid.x[rowcol[:, 1]], grid.y[rowcol[:, 0]]], axis=-1)
    nearest = np.clip(xy, centre - half, centre + half)
    x, y = nearest.T
    lonlat = from_wgs84(grid.crs).transform(x, y, direction="INVERSE")
    return np.stack(lonlat, axis=-1)
