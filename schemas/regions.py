"""Where to produce: named regions, bounding boxes and GeoJSON files."""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.schemas.errors import RegionError
from unigeo.schemas.grid import CENTRAL_MERIDIANS, SHARD, Grid, from_wgs84

Ring = Float[np.ndarray, "_ 2"]

_DEFAULT_RESOLUTION_M = 1000.0
_EDGE_STEP_DEGREES = 0.1  # an edge this short bends by less than 10 m on the map
_MOST_CELLS = 10**12  # 100 m cells of the whole globe are 5e10


@dataclass(frozen=True, eq=False)
class Region:
    """A set of polygons in WGS 84 longitude and latitude, and the Equal Earth CRS to map it in."""

    name: str
    rings: tuple[Ring, ...]
    """Outer and inner rings, closed; a point is inside if it is within an odd number of them.
    Longitudes run on past 180 where a ring crosses the antimeridian."""
    crs: str
    resolution_m: float = _DEFAULT_RESOLUTION_M
    """Side of a cell if nothing else is asked."""

    def contains(self, lonlat: Float[np.ndarray, "*shape 2"]) -> Bool[np.ndarray, "*shape"]:
        """Whether each point lies inside; NaN points do not."""
        points = lonlat.reshape(-1, 2)
        inside = np.zeros(len(points), bool)
        for turn in (-360.0, 0.0, 360.0):
            shifted = points + np.array([turn, 0.0])
            for ring in self.rings:
                inside ^= _within(ring, shifted)
        return inside.reshape(lonlat.shape[:-1])

    def grid(self, resolution_m: float | None = None, shard: int = SHARD) -> Grid:
        """The smallest shard-aligned window of the lattice that holds the region.

        Raises:
            RegionError: if the resolution is not positive or gives more than 10^12 cells.
        """
        size = self.resolution_m if resolution_m is None else resolution_m
        if not (math.isfinite(size) and size > 0):
            raise RegionError(f"the resolution must be a positive number of metres, not {size}")
        x, y = self._outline()
        side = size * shard
        west, east = math.floor(x.min() / side), math.ceil(x.max() / side)
        north, south = math.floor(-y.max() / side), math.ceil(-y.min() / side)
        shape = ((south - north) * shard, (east - west) * shard)
        if shape[0] * shape[1] > _MOST_CELLS:
            raise RegionError(
                f"{self.name} at {size:g} m has {shape[0] * shape[1]:.1e} cells; ask for a coarser "
                "resolution or a smaller region"
            )
        return Grid(self.crs, float(size), north * shard, west * shard, shape)

    def _outline(self) -> tuple[Float[np.ndarray, " vertex"], Float[np.ndarray, " vertex"]]:
        """The rings on the map in metres, refined so that the curves of their edges are held."""
        points = np.concatenate([_refine(ring) for ring in self.rings])
        seam = CENTRAL_MERIDIANS[self.crs] + 180.0
        turns = np.floor((points[:, 0] - seam) / 360.0)
        if turns.min() != turns.max():
            raise RegionError(
                f"{self.name} crosses longitude {(seam + 180) % 360 - 180:g}, where {self.crs} is "
                f"cut open; name another of {', '.join(CENTRAL_MERIDIANS)} as its CRS, or split it"
            )
        x, y = from_wgs84(self.crs).transform(points[:, 0], points[:, 1])
        return x, y


def named_regions() -> tuple[str, ...]:
    """Names that `region` knows."""
    return tuple(_named())


def region(name: str) -> Region:
    """Look a region up by name.

    >>> region("conus").grid(25_000).shape
    (256, 512)
    """
    known = _named()
    if name not in known:
        raise RegionError(
            f"there is no region {name!r}; known are {', '.join(known)}, or give a bounding box or "
            "a GeoJSON file"
        )
    return known[name]


def region_of_bbox(
    bbox: tuple[float, float, float, float], name: str = "bbox", crs: str | None = None
) -> Region:
    """A box of longitudes and latitudes: west, south, east, north, in degrees.

    West may exceed east: the box then crosses the antimeridian.
    """
    west, south, east, north = bbox
    if not all(math.isfinite(v) for v in bbox):
        raise RegionError(f"the bounding box {bbox} holds a number that is not finite")
    if not (-90 <= south < north <= 90):
        raise RegionError(
            f"the bounding box {bbox} must be west, south, east, north in degrees, with "
            "-90 <= south < north <= 90"
        )
    if not (-180 <= west <= 180 and -180 <= east <= 180) or west == east:
        raise RegionError(
            f"the bounding box {bbox} needs two different longitudes within -180 to 180"
        )
    if east < west:
        east += 360.0
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    ring = np.array(corners, np.float64)
    return Region(name, (ring,), crs or _nearest_crs(west, east))


def region_of_geojson(path: Path | str, crs: str | None = None) -> Region:
    """The polygons of a GeoJSON file: a geometry, a feature or a collection.

    Raises:
        RegionError: if the file cannot be read or holds no polygon.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RegionError(f"cannot read a GeoJSON region from {path}: {error}") from error
    rings = tuple(_rings(document, str(path)))
    if not rings:
        raise RegionError(f"{path} holds no polygon; a region is one polygon or several")
    lons = np.concatenate([ring[:, 0] for ring in rings])
    return Region(path.stem, rings, crs or _nearest_crs(lons.min(), lons.max()))


def _nearest_crs(west: float, east: float) -> str:
    """The Equal Earth CRS whose central meridian is nearest, hence whose shear is least."""
    middle = (west + east) / 2

    def distance(crs: str) -> float:
        return abs((middle - CENTRAL_MERIDIANS[crs] + 180) % 360 - 180)

    return min(CENTRAL_MERIDIANS, key=distance)


@lru_cache(maxsize=1)
def _named() -> dict[str, Region]:
    text = files("unigeo.schemas").joinpath("regions.geojson").read_text(encoding="utf-8")
    found = {}
    for feature in json.loads(text)["features"]:
        about = feature["properties"]
        rings = tuple(_rings(feature, "regions.geojson"))
        found[about["name"]] = Region(
            about["name"], rings, about["crs"], float(about["resolution_m"])
        )
    return found


def _rings(document: Any, source: str) -> list[Ring]:
    """Every ring of every polygon in a GeoJSON document."""
    kind = document.get("type") if isinstance(document, dict) else None
    try:
        if kind == "FeatureCollection":
            return [ring for feature in document["features"] for ring in _rings(feature, source)]
        if kind == "Feature":
            return _rings(document["geometry"], source)
        if kind == "GeometryCollection":
            return [ring for part in document["geometries"] for ring in _rings(part, source)]
        if kind == "Polygon":
            return [_ring(ring, source) for ring in document["coordinates"]]
        if kind == "MultiPolygon":
            return [_ring(ring, source) for part in document["coordinates"] for ring in part]
    except (KeyError, TypeError, ValueError) as error:
        raise RegionError(f"{source} is not valid GeoJSON: {error!r} in a {kind}") from error
    raise RegionError(f"{source}: a region needs Polygon or MultiPolygon, found {kind!r}")


def _ring(vertices: Any, source: str) -> Ring:
    ring = np.array(vertices, np.float64)[:, :2]
    if len(ring) < 4 or not np.array_equal(ring[0], ring[-1]):
        raise RegionError(
            f"{source}: a polygon's ring needs 4 or more vertices, the last the first"
        )
    if not np.isfinite(ring).all() or np.abs(ring[:, 1]).max() > 90:
        raise RegionError(f"{source}: a vertex is not a finite WGS 84 longitude and latitude")
    return ring


def _within(ring: Ring, points: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
    """Even-odd rule: a ray to the east crosses the ring an odd number of times."""
    lon, lat = points[:, 0], points[:, 1]
    inside = np.zeros(len(points), bool)
    near = np.flatnonzero(
        (lat >= ring[:, 1].min())
        & (lat <= ring[:, 1].max())
        & (lon >= ring[:, 0].min())
        & (lon <= ring[:, 0].max())
    )
    lon, lat = lon[near], lat[near]
    odd = np.zeros(len(near), bool)
    for (lon1, lat1), (lon2, lat2) in pairwise(ring):
        if lat1 == lat2:
            continue
        spans = (lat1 <= lat) != (lat2 <= lat)
        odd ^= spans & (lon < lon1 + (lat - lat1) * ((lon2 - lon1) / (lat2 - lat1)))
    inside[near] = odd
    return inside


def _refine(ring: Ring) -> Float[np.ndarray, "point 2"]:
    """Put points along each edge, no more than `_EDGE_STEP_DEGREES` apart."""
    pieces = []
    for start, end in pairwise(ring):
        count = max(1, math.ceil(np.abs(end - start).max() / _EDGE_STEP_DEGREES))
        pieces.append(start + (end - start) * (np.arange(count) / count)[:, None])
    return np.concatenate(pieces)
