"""Discs on a grid: the points within a geodesic distance of a centre, as outlines.

A disc is a polygon of 64 vertices at equal bearings, joined by straight lines on the map. The
vertices lie 0.08 % beyond the radius, so that the polygon has the area of the circle: between them
its edges lie 0.04 % inside. One that crosses the map's seam or holds a pole has 1,024 vertices, and
is cut as any polygon is.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

from unigeo.client.shapes.outlines import Outlines, outlines_on, with_dots
from unigeo.client.shapes.polygon_rings import Polygons
from unigeo.schemas.geo.great_circle import LEAST_METRES_PER_DEGREE
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, Grid
from unigeo.schemas.geo.projection import equal_earth_m

VERTICES = 64
"""Vertices of a disc's polygon."""
MOST_RADIUS_M = 10_000_000.0
"""Largest radius, nearly a quarter of a meridian: a disc of it is nearly half of the globe."""
_CUT_VERTICES = 1024
"""Vertices of a disc that is cut at the map's seam, whose edges are straight in degrees."""
_NODES = 9
"""Vertices of a small disc that are projected; the others are interpolated between them."""
_SMALL = 0.004
"""Radius, in radians of the parallel, up to which the interpolation errs by less than 1e-8 radii.

The error is that of the fifth harmonic of the projected circle, the fourth power of this.
"""
_MARGIN = 1.02
"""Factor on a disc's width in longitude, which is computed on a sphere."""


def check_radius(radius_m: float) -> float:
    """Return a radius in metres as a float.

    Raises:
        ValueError: if it is no number, or not above 0 and up to `MOST_RADIUS_M`.
    """
    try:
        radius = float(radius_m)
    except (TypeError, ValueError):
        radius = np.nan
    if not 0 < radius <= MOST_RADIUS_M:
        raise ValueError(
            f"radius_m must be metres above 0 and up to {MOST_RADIUS_M:,.0f}, not "
            f"{radius_m!r:.100}; leave it out for the vector of the cell that holds the point"
        )
    return radius


def disc_outlines(lonlat: Float[np.ndarray, "disc 2"], radius_m: float, grid: Grid) -> Outlines:
    """Build the outlines of discs of one radius.

    A disc smaller than rounding becomes a small square in the cell that holds its centre, so that
    it has that cell's vector, as the point has. One whose centre is NaN has no edges.

    Args:
        lonlat: centres, WGS 84 degrees, longitude first.
        radius_m: geodesic radius, metres; see `check_radius`.
        grid: the grid.
    """
    central = CENTRAL_MERIDIANS[grid.crs]
    present = ~np.isnan(lonlat[:, 0])
    whole, small = _kinds(lonlat, radius_m, central)
    numbers, parts = [], []
    for chosen, nodes in ((whole & small, _NODES), (whole & ~small, VERTICES)):
        numbers.append(np.flatnonzero(chosen))
        parts.append(_vertices(lonlat[chosen], radius_m, grid, nodes))
    number = np.concatenate(numbers)
    order = np.argsort(number)
    start = np.concatenate(parts)[order]
    outlines = Outlines(
        start.reshape(-1, 2),
        np.roll(start, -1, axis=1).reshape(-1, 2),
        np.full(start.shape[0] * VERTICES, -1.0),  # clockwise, which `Outlines` counts as negative
        np.repeat(number[order], VERTICES),
        len(lonlat),
    )
    cut = np.flatnonzero(present & ~whole)
    if len(cut):
        others = outlines_on(_cut_polygons(lonlat[cut], radius_m), grid)
        outlines = outlines.merge(
            replace(others, polygon=cut[others.polygon], count=outlines.count)
        )
    centre = grid.position_m(*equal_earth_m(lonlat, central))
    return with_dots(outlines, grid, centre)


def _kinds(
    lonlat: Float[np.ndarray, "disc 2"], radius_m: float, central: float
) -> tuple[Bool[np.ndarray, " disc"], Bool[np.ndarray, " disc"]]:
    """Return which discs the map shows in one piece, and which are small enough to interpolate."""
    angle = np.radians(_stretch(VERTICES) * radius_m / LEAST_METRES_PER_DEGREE)
    lat = np.radians(np.abs(lonlat[:, 1]))
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN centres, and poles
        wide = np.sin(min(angle, np.pi / 2)) / np.cos(lat)
        small = wide < _SMALL
        # Tangents to a circle from the pole: the disc spans this angle of longitude either way.
        half = np.degrees(np.arcsin(np.where(lat + angle < np.pi / 2, np.minimum(wide, 1), np.nan)))
        from_middle = np.abs((lonlat[:, 0] - central + 180) % 360 - 180)
        whole = from_middle + _MARGIN * half < 180
    return whole, small


@lru_cache(maxsize=4)
def _stretch(vertices: int) -> float:
    """Return the factor by which a regular polygon's vertices lie beyond the circle of its area."""
    turn = 2 * np.pi / vertices
    return float(np.sqrt(turn / np.sin(turn)))


@lru_cache(maxsize=1)
def _interpolation() -> Float[np.ndarray, "node vertex"]:
    """Return the weights by which `_NODES` points of a circle give all of its vertices.

    They are those of trigonometric interpolation, exact for harmonics up to the fourth.
    """
    turn = np.arange(VERTICES) / VERTICES - np.arange(_NODES)[:, None] / _NODES
    orders = np.arange(1, (_NODES + 1) // 2)
    weights: np.ndarray = (
        1 + 2 * np.cos(2 * np.pi * orders[:, None, None] * turn).sum(axis=0)
    ) / _NODES
    return weights


def _circle(
    lonlat: Float[np.ndarray, "disc 2"], distance_m: float, count: int
) -> Float[np.ndarray, "disc vertex 2"]:
    """Return points of geodesic circles, clockwise from the north, at equal bearings."""
    from pyproj import Geod

    bearing = np.broadcast_to(np.arange(count) * 360.0 / count, (len(lonlat), count))
    lon, lat = (np.repeat(axis, count) for axis in lonlat.T)
    distance = np.full(len(lon), distance_m)
    lon, lat, _ = Geod(ellps="WGS84").fwd(lon, lat, bearing.reshape(-1), distance)
    return np.stack([lon, lat], axis=-1).reshape(len(lonlat), count, 2)


def _vertices(
    lonlat: Float[np.ndarray, "disc 2"], radius_m: float, grid: Grid, nodes: int
) -> Float[np.ndarray, "disc vertex 2"]:
    """Return rows and columns of the vertices of discs that the map shows in one piece.

    Args:
        lonlat: the centres.
        radius_m: the radius of all of them.
        grid: the grid.
        nodes: number of vertices that are projected: all of them, or `_NODES`.
    """
    points = _circle(lonlat, _stretch(VERTICES) * radius_m, nodes)
    x, y = equal_earth_m(points.reshape(-1, 2), CENTRAL_MERIDIANS[grid.crs])
    rowcol = grid.position_m(x, y).reshape(-1, nodes, 2)
    if nodes == VERTICES:
        return rowcol
    # Differences from the first node are interpolated: whole positions would lose digits.
    first = rowcol[:, :1]
    vertices: np.ndarray = first + np.einsum("nv,dnc->dvc", _interpolation(), rowcol - first)
    return vertices


def _cut_polygons(lonlat: Float[np.ndarray, "disc 2"], radius_m: float) -> Polygons:
    """Return discs as polygons of longitude and latitude; a pole within one becomes an edge."""
    rings = []
    for circle in _circle(lonlat, _stretch(_CUT_VERTICES) * radius_m, _CUT_VERTICES):
        ring = np.concatenate([circle, circle[:1]])
        ring[:, 0] = np.unwrap(ring[:, 0], period=360.0)
        turn = ring[-1, 0] - ring[0, 0]
        if abs(turn) > 180:  # round a pole; the disc is smaller than half of the globe
            pole = np.copysign(90.0, ring[:, 1].sum())
            ends = [[ring[-1, 0], pole], [ring[0, 0], pole]]
            ring = np.concatenate([ring, ends, ring[:1]])
        rings.append(ring)
    count = len(rings)
    first = np.cumsum([0, *map(len, rings)])
    return Polygons(
        np.concatenate(rings), first, np.arange(count), np.zeros(count, bool), np.arange(count)
    )
