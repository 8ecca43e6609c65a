"""Points spread evenly over polygons, by a quasi-random sequence."""

import numpy as np
from jaxtyping import Bool, Float

from unigeo.client.shapes.polygon_rings import Polygons, refuse
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.rings import in_ring
from unigeo.schemas.geo.sequences import r2_sequence

_FIRST, _MOST = 64, 1 << 20
"""Numbers of points tried in a polygon's box: at first, and at most."""


def points_within(polygons: Polygons, count: int) -> Float[np.ndarray, "polygon point 2"]:
    """Choose points in each polygon, evenly by area; the result is the same at each call.

    Args:
        polygons: polygons from `read_polygons`.
        count: number of points in each.

    Returns:
        WGS 84 longitude and latitude.

    Raises:
        RegionError: naming the row, if a polygon has no shape, or is too thin to find points in it.
    """
    refuse(polygons.missing, polygons.index, lambda k: "has no shape, or an empty one")
    rings = np.split(polygons.lonlat, polygons.first[1:-1])
    by_row: list[list[np.ndarray]] = [[] for _ in range(len(polygons))]
    for ring, row in zip(rings, polygons.row, strict=True):
        by_row[row].append(ring)
    points = np.empty((len(polygons), count, 2))
    for row, rings_of_row in enumerate(by_row):
        points[row] = _points_in_rings(rings_of_row, count, row)
    # Rings across the antimeridian continue beyond 180 degrees: wrap their points.
    points[..., 0] = (points[..., 0] + 180.0) % 360.0 - 180.0
    return points


def _points_in_rings(rings: list[np.ndarray], count: int, row: int) -> Float[np.ndarray, "point 2"]:
    vertices = np.concatenate(rings)
    (west, south), (east, north) = vertices.min(axis=0), vertices.max(axis=0)
    low, high = np.sin(np.radians([south, north]))
    tried = _FIRST
    while tried <= _MOST:
        share = r2_sequence(tried)
        # Area on a sphere is proportional to the sine of latitude: uniform in it is even by area.
        lat = np.degrees(np.arcsin(low + (high - low) * share[:, 1]))
        points = np.stack([west + (east - west) * share[:, 0], lat], axis=1)
        inside: Bool[np.ndarray, " point"] = np.zeros(tried, bool)
        for ring in rings:  # even-odd rule: a point in a hole is also in its outer ring
            inside ^= in_ring(ring, points)
        if inside.sum() >= count:
            chosen: np.ndarray = points[inside][:count]
            return chosen
        tried *= 4
    raise RegionError(
        f"polygon in row {row}: of {_MOST:,} places in its box fewer than {count} lie within it; "
        "leave it out, or mend it"
    )
