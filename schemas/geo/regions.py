"""Regions, sets of polygons on the globe: by name, by bounding box, of GeoJSON."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, SHARD, Grid
from unigeo.schemas.geo.projection import equal_earth_m
from unigeo.schemas.geo.ring_degrees import chosen_crs, rings_in_degrees
from unigeo.schemas.geo.rings import (
    Ring,
    crs_of_geojson,
    in_ring,
    pieces_per_edge,
    polygons_of_geojson,
    split_edges,
)
from unigeo.schemas.geo.valid_polygons import find_faults
from unigeo.schemas.io.limits import grid_size_problem

_DEFAULT_RESOLUTION_M = 1000.0


@dataclass(frozen=True, eq=False)
class Region:
    """A set of polygons in WGS 84 longitude and latitude, and the Equal Earth CRS to map it in."""

    name: str
    """Name in messages and in the store's attributes."""
    rings: tuple[Ring, ...]
    """Outer and inner rings, closed; a point is inside if it is within an odd number of them.
    Longitudes exceed 180 where a ring crosses the antimeridian."""
    crs: str
    """One of `CENTRAL_MERIDIANS`."""
    resolution_m: float = _DEFAULT_RESOLUTION_M
    """Default side of a cell."""

    def __post_init__(self) -> None:
        if self.crs not in CENTRAL_MERIDIANS:
            raise RegionError(
                f"{self.name} cannot be mapped in {self.crs!r}: its CRS is one of "
                f"{', '.join(CENTRAL_MERIDIANS)}"
            )

    @property
    def middle(self) -> Float[np.ndarray, " 2"]:
        """Longitude and latitude halfway between the outermost ones; it may lie outside."""
        west, south, east, north = self.bounds
        return np.array([((west + east) / 2 + 180.0) % 360.0 - 180.0, (south + north) / 2])

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north of the shortest box round the region, in degrees.

        West is from -180 to below 180; east exceeds 180 where the box crosses the antimeridian.
        """
        latitudes = np.concatenate([ring[:, 1] for ring in self.rings])
        west, east = shortest_arc(self.rings)
        turn = 360.0 * math.floor((west + 180.0) / 360.0)
        return west - turn, float(latitudes.min()), east - turn, float(latitudes.max())

    @cached_property
    def outline_sha256(self) -> str:
        """SHA-256 of the rings to 1e-7 degrees, in any order."""
        rings = sorted(np.round(ring, 7).astype("<f8").tobytes() for ring in self.rings)
        return hashlib.sha256(b"".join(rings)).hexdigest()

    def contains(self, lonlat: Float[np.ndarray, "*shape 2"]) -> Bool[np.ndarray, "*shape"]:
        """Tell whether each point lies inside; NaN points do not."""
        points = lonlat.reshape(-1, 2)
        inside = np.zeros(len(points), bool)
        for turn in (-360.0, 0.0, 360.0):  # rings may cross the antimeridian, points do not
            shifted = points + np.array([turn, 0.0])
            for ring in self.rings:
                inside ^= in_ring(ring, shifted)
        return inside.reshape(lonlat.shape[:-1])

    def grid(self, resolution_m: float | None = None, shard: int = SHARD) -> Grid:
        """Return the smallest shard-aligned window of the lattice that holds the region.

        Args:
            resolution_m: side of a cell; the region's own by default.
            shard: cells along one side of a shard.

        Raises:
            RegionError: if the resolution is not positive or gives more than 10^12 cells.
        """
        size = self.resolution_m if resolution_m is None else resolution_m
        if not (isinstance(size, int | float | np.number) and math.isfinite(size) and size > 0):
            raise RegionError(f"the resolution must be a positive number of metres, not {size!r}")
        x, y = self._outline()
        side = size * shard
        west, east = math.floor(x.min() / side), math.ceil(x.max() / side)
        north, south = math.floor(-y.max() / side), math.ceil(-y.min() / side)
        shape = ((south - north) * shard, (east - west) * shard)
        if grid_size_problem(shape) is not None:
            raise RegionError(
                f"{self.name} at {size:g} m has {shape[0] * shape[1]:.1e} cells; ask for a coarser "
                "resolution or a smaller region"
            )
        return Grid(self.crs, float(size), north * shard, west * shard, shape)

    def _outline(self) -> tuple[Float[np.ndarray, " vertex"], Float[np.ndarray, " vertex"]]:
        """Project the rings to metres, their edges split so that they follow their curves."""
        rings = self._rings_on_map()
        start = np.concatenate([ring[:-1] for ring in rings])
        end = np.concatenate([ring[1:] for ring in rings])
        points, _ = split_edges(start, end, pieces_per_edge(start, end))
        return equal_earth_m(points, CENTRAL_MERIDIANS[self.crs])

    def check_map(self) -> None:
        """Check that the region lies on one side of the line where its map is cut open.

        Raises:
            RegionError: with options that produce it.
        """
        self._rings_on_map()

    def _rings_on_map(self) -> list[Ring]:
        """Return the rings within one turn west of the map's cut, or refuse those across it."""
        rings, crosses = self._unrolled(self.crs)
        if crosses:
            seam = CENTRAL_MERIDIANS[self.crs] + 180.0
            raise RegionError(
                f"{self.name} crosses longitude {(seam + 180) % 360 - 180:g}, where {self.crs} is "
                f"cut open; {self._ways_round(seam)}"
            )
        return rings

    def _unrolled(self, crs: str) -> tuple[list[Ring], bool]:
        """Return the rings within one turn west of a map's cut, and whether one lies across it."""
        seam = CENTRAL_MERIDIANS[crs] + 180.0  # where the map is cut open
        # A ring that ends at the seam lies on one side of it, as do polygons cut there.
        turns = [math.floor((ring[:, 0].min() - seam) / 360.0) + 1 for ring in self.rings]
        rings = [ring - [360.0 * turn, 0.0] for ring, turn in zip(self.rings, turns, strict=True)]
        return rings, bool(max(ring[:, 0].max() for ring in rings) > seam)

    def _ways_round(self, seam: float) -> str:
        """Say which options produce a region that lies across the cut of its map."""
        fitting = [crs for crs in CENTRAL_MERIDIANS if not self._unrolled(crs)[1]]
        if fitting:
            return f"map it in another CRS: {' or '.join(f'--crs {crs}' for crs in fitting)}"
        lonlat = np.concatenate(self.rings)
        (west, south), (east, north) = lonlat.min(axis=0), lonlat.max(axis=0)
        if any(len(np.unique(column)) > 2 for column in lonlat.T):
            return (
                "cut its polygons there, into one MultiPolygon, as RFC 7946 asks, and name "
                f"--crs {self.crs}"
            )
        seam += 360.0 * math.ceil((west - seam) / 360.0)
        # Of one name they would be two products at one place.
        sides = [
            f"--name {self.name}-{side} --bbox {w:.12g} {south:.12g} {e:.12g} {north:.12g} --crs "
            f"{self.crs}"
            for side, w, e in (("west", west, seam), ("east", seam, east))
        ]
        return f"produce its two sides: {' and '.join(sides)}"


def named_regions() -> tuple[str, ...]:
    """Return the names that `region` knows."""
    return tuple(_named())


def region(name: str) -> Region:
    """Look up a region by its name.

    Raises:
        RegionError: if there is none of this name.

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
    """Build a region from a box: west, south, east and north, in degrees.

    If west exceeds east, the box crosses the antimeridian. Such a box that would span more than
    half the globe is refused as a mistake; an east beyond 180 says that it is intended.

    Raises:
        RegionError: if the numbers are not such a box.
    """
    west, south, east, north = bbox
    if not all(math.isfinite(v) for v in bbox):
        raise RegionError(f"the bounding box {bbox} holds a number that is not finite")
    if not (-90 <= south < north <= 90):
        raise RegionError(
            f"the bounding box {bbox} must be west, south, east, north in degrees, with "
            "-90 <= south < north <= 90"
        )
    if not (-360 <= west <= 360 and -360 <= east <= 360) or west == east or east - west > 360:
        raise RegionError(
            f"the bounding box {bbox} needs two different longitudes, west and east, in degrees "
            "within -360 to 360, and at most 360 degrees apart"
        )
    if east < west:
        span = east + 360.0 - west
        if span <= 0 or span > 180:
            raise RegionError(
                f"the bounding box {bbox} has its west, {west:g}, east of its east, {east:g}: "
                f"exchange the two; a box across the antimeridian that spans more than 180 degrees "
                f"is written with an east of {east + 360:g}"
            )
        east += 360.0
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    ring = np.array(corners, np.float64)
    return Region(name, (ring,), _nearest_crs(west, east) if crs is None else crs)


def region_of_geojson(
    document: Mapping[str, Any],
    source: str,
    *,
    name: str = "polygons",
    crs: str | None = None,
    own_crs: Any = None,
) -> Region:
    """Build a region from the polygons of GeoJSON: a geometry, a feature or a collection.

    Args:
        document: GeoJSON.
        source: its name in errors.
        name: of the region.
        crs: the Equal Earth CRS to map it in; by default the one of least shear.
        own_crs: of the coordinates, if the document does not name it; WGS 84 by default.

    Raises:
        RegionError: if it holds no polygon, or an invalid one.
    """
    rings = _rings_of(document, source, own_crs)
    if not rings:
        raise RegionError(f"{source} holds no polygon; a region is one polygon or several")
    return Region(name, rings, _nearest_crs(*shortest_arc(rings)) if crs is None else crs)


def shortest_arc(rings: Sequence[Ring]) -> tuple[float, float]:
    """Return the west and the east of the shortest arc that holds all rings.

    Polygons that GeoJSON cuts at the antimeridian lie on both of its sides.
    """
    low = np.array([ring[:, 0].min() for ring in rings])
    width = np.array([ring[:, 0].max() for ring in rings]) - low
    low = low % 360.0
    order = np.argsort(low)
    low, high = low[order], (low + width)[order]
    reached = np.maximum(np.maximum.accumulate(high), high.max() - 360.0)
    gaps = np.append(low[1:], low[0] + 360.0) - reached
    widest = int(np.argmax(gaps))
    west = float(low[(widest + 1) % len(low)])
    return west, west + 360.0 - float(gaps[widest])


def _rings_of(document: Mapping[str, Any], source: str, own_crs: Any) -> tuple[Ring, ...]:
    """Return the rings of all polygons of a GeoJSON document, in degrees.

    Raises:
        RegionError: naming the source, if a polygon is invalid or leaves the globe.
    """
    parts = polygons_of_geojson(document, source)
    rings = [ring for part in parts for ring in part]
    if not rings:
        return ()
    xy, first = np.concatenate(rings), np.cumsum([0, *map(len, rings)])
    crs = chosen_crs(crs_of_geojson(document, source), own_crs)

    def refuse(bad: Bool[np.ndarray, " ring"], why: str) -> None:
        if bad.any():
            raise RegionError(f"{source}: ring {np.flatnonzero(bad)[0]} {why}")

    lonlat, ends = rings_in_degrees(xy, first, crs, refuse)
    part_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    hole = np.array([k > 0 for part in parts for k in range(len(part))])
    for number, fault in find_faults(xy, first, part_of, hole).items():
        raise RegionError(f"{source}: part {number} is not valid ({fault}); mend it first")
    return tuple(np.split(lonlat, ends[1:-1]))


def _nearest_crs(west: float, east: float) -> str:
    """Return the Equal Earth CRS of the nearest central meridian, whose shear is least."""
    middle = (west + east) / 2

    def distance(crs: str) -> float:
        return abs((middle - CENTRAL_MERIDIANS[crs] + 180) % 360 - 180)

    return min(CENTRAL_MERIDIANS, key=distance)


@lru_cache(maxsize=1)
def _named() -> dict[str, Region]:
    text = files("unigeo.schemas.geo").joinpath("regions.geojson").read_text(encoding="utf-8")
    regions = {}
    for feature in json.loads(text)["features"]:
        properties = feature["properties"]
        polygons = polygons_of_geojson(feature, "regions.geojson")
        rings = tuple(ring for polygon in polygons for ring in polygon)
        regions[properties["name"]] = Region(
            properties["name"], rings, properties["crs"], float(properties["resolution_m"])
        )
    return regions
