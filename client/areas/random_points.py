"""Places spread evenly over polygons."""

import numpy as np
from jaxtyping import Bool, Float

from unigeo.client.areas.polygon_rings import Polygons, refuse
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.rings import in_ring
from unigeo.schemas.geo.sequences import r2_sequence

_FIRST, _MOST = 64, 1 << 20
"""Places looked at in a polygon's box: at first, and at most."""


def places_within(polygons: Polygons, count: int) -> Float[np.ndarray, "polygon place 2"]:
    """Choose places in each polygon, evenly by area, the same ones at each call.

    Args:
        polygons: from `read_polygons`.
        count: places in each.

    Returns:
        WGS 84 longitude and latitude.

    Raises:
        RegionError: naming the row, if a polygon has no shape, or is too thin to find them.
    """
    refuse(polygons.missing, polygons.index, lambda k: "has no shape, or an empty one")
    rings = np.split(polygons.lonlat, polygons.first[1:-1])
    by_row: list[list[np.ndarray]] = [[] for _ in range(len(polygons))]
    for ring, row in zip(rings, polygons.row, strict=True):
        by_row[row].append(ring)
    found = np.empty((len(polygons), count, 2))
    for row, own in enumerate(by_row):
        found[row] = _places(own, count, row)
    found[..., 0] = (found[..., 0] + 180.0) % 360.0 - 180.0
    return found


def _places(rings: list[np.ndarray], count: int, row: int) -> Float[np.ndarray, "place 2"]:
    vertices = np.concatenate(rings)
    (west, south), (east, north) = vertices.min(axis=0), vertices.max(axis=0)
    low, high = np.sin(np.radians([south, north]))
    tried = _FIRST
    while tried <= _MOST:
        share = r2_sequence(tried)
        lat = np.degrees(np.arcsin(low + (high - low) * share[:, 1]))
        places = np.stack([west + (east - west) * share[:, 0], lat], axis=1)
        inside: Bool[np.ndarray, " place"] = np.zeros(tried, bool)
        for ring in rings:  # holes lie in outer rings, so what is in both is out
            inside ^= in_ring(ring, places)
        if inside.sum() >= count:
            found: np.ndarray = places[inside][:count]
            return found
        tried *= 4
    raise RegionError(
        f"polygon in row {row}: of {_MOST:,} places in its box fewer than {count} lie within it; "
        "leave it out, or mend it"
    )
