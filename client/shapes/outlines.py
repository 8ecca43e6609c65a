"""Polygons on a grid: their edges in rows and columns, between the two seams of its map."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.shapes.polygon_rings import Polygons
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, Grid, from_wgs84
from unigeo.schemas.geo.rings import pieces_per_edge, split_edges

_SEAM_DEGREES = 1e-9
"""Distance (0.1 mm) kept from the seam, since PROJ may move a longitude on it to the other side."""
_LEAST_WIDTH = 1e-7
"""Mean width of a polygon, in cells, below which it is lost in the rounding of metres."""
_DOT = 1e-6
"""Side, in cells, of the square that replaces a narrower polygon."""


@dataclass(frozen=True, eq=False)
class Outlines:
    """Polygons on a grid, as directed edges in fractional rows and columns of its cells."""

    start: Float[np.ndarray, "edge 2"]
    """Row and column of each edge's start, from the grid's north-west corner."""
    end: Float[np.ndarray, "edge 2"]
    sense: Float[np.ndarray, " edge"]
    """1 or -1: the sign with which outer rings add area and holes subtract it, however they run."""
    polygon: Int[np.ndarray, " edge"]
    """Polygon that each edge belongs to, in rising order."""
    count: int
    """Number of polygons."""

    @cached_property
    def bounds(self) -> Float[np.ndarray, "polygon 4"]:
        """Northmost row, westmost column, southmost row and eastmost column; NaN without edges."""
        bounds = np.full((self.count, 4), np.nan)
        if len(self.polygon):
            present, first = np.unique(self.polygon, return_index=True)
            bounds[present, :2] = np.minimum.reduceat(np.minimum(self.start, self.end), first)
            bounds[present, 2:] = np.maximum.reduceat(np.maximum(self.start, self.end), first)
        return bounds

    def take(self, polygons: Int[np.ndarray, " member"]) -> "Outlines":
        """Return some of the polygons, numbered anew in rising order.

        Args:
            polygons: their numbers, rising.
        """
        number = np.full(self.count, -1)
        number[polygons] = np.arange(len(polygons))
        kept = self._edges(np.flatnonzero(number[self.polygon] >= 0))
        return replace(kept, polygon=number[kept.polygon], count=len(polygons))

    def merge(self, other: "Outlines") -> "Outlines":
        """Return the edges of both, which number the same polygons."""
        start, end, sense, polygon = (
            np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("start", "end", "sense", "polygon")
        )
        both = Outlines(start, end, sense, polygon, self.count)
        return both._edges(np.argsort(polygon, kind="stable"))  # polygons in rising order

    def _edges(self, edge: Int[np.ndarray, " member"]) -> "Outlines":
        """Return some of the edges, in the order that is given."""
        return Outlines(
            self.start[edge], self.end[edge], self.sense[edge], self.polygon[edge], self.count
        )

    @cached_property
    def area(self) -> Float[np.ndarray, " polygon"]:
        """Area of each polygon in cells, on the grid or off it."""
        parts = self.sense * _edge_areas(self.start, self.end, self.bounds[self.polygon, 1])
        return sum_at(self.polygon, parts, self.count)


def outlines_on(polygons: Polygons, grid: Grid) -> Outlines:
    """Project polygons to a grid, with edges split so finely that they follow their curves.

    A polygon smaller than rounding becomes a small square in the cell of its first vertex, so that
    it lies in one cell as a point does. One without a shape has no edges.
    """
    turned = _between_seams(polygons, grid.crs)
    ring = np.repeat(np.arange(len(turned.row)), np.diff(turned.first))
    # Each vertex begins an edge, except the last of a ring, which repeats the first.
    edge = np.flatnonzero(ring[1:] == ring[:-1])
    start, end = turned.lonlat[edge], turned.lonlat[edge + 1]
    points, edge_of_point = split_edges(start, end, pieces_per_edge(start, end))
    x, y = from_wgs84(grid.crs).transform(points[:, 0], points[:, 1])
    outlines = outlines_of(
        grid.position_m(x, y), ring[edge[edge_of_point]], turned.row, turned.hole, len(polygons)
    )
    return with_dots(outlines, grid)


def with_dots(
    outlines: Outlines, grid: Grid, anchor: Float[np.ndarray, "polygon 2"] | None = None
) -> Outlines:
    """Replace each polygon that is too narrow by a small square.

    Args:
        outlines: the polygons.
        grid: the grid they are on.
        anchor: row and column, for each polygon, that the square lies around; by default those of
            the polygon's first vertex. The square lies in the cell that `Grid.locate_m` finds.
    """
    lengths = np.abs(outlines.end - outlines.start).sum(axis=1)
    length = sum_at(outlines.polygon, lengths, outlines.count)
    # Mean width is area over half the perimeter; written so that NaN counts as narrow.
    narrow = ~(outlines.area > _LEAST_WIDTH * length / 2)
    narrow &= np.bincount(outlines.polygon, minlength=outlines.count) > 0
    if not narrow.any():
        return outlines
    present, first = np.unique(outlines.polygon, return_index=True)
    dots = present[narrow[present]]
    vertex = outlines.start[first[narrow[present]]] if anchor is None else anchor[dots]
    # Locate the cell as `sample` does, so that a point and its tiny polygon share a cell.
    south, east = ((vertex + np.array([grid.row0, grid.col0])) * grid.resolution_m).T
    cell, inside = grid.locate_m(east, -south)
    cell = np.where(inside[:, None], cell, np.floor(vertex))
    corner = np.clip(vertex - _DOT / 2, cell, cell + 1 - _DOT)
    around = corner[:, None] + _DOT * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    squares = outlines_of(
        around.reshape(-1, 2),
        np.repeat(np.arange(len(dots)), 4),
        dots,
        np.zeros(len(dots), bool),
        outlines.count,
    )
    return outlines._edges(np.flatnonzero(~narrow[outlines.polygon])).merge(squares)


def outlines_of(
    rowcol: Float[np.ndarray, "point 2"],
    ring: Int[np.ndarray, " point"],
    row: Int[np.ndarray, " ring"],
    hole: Bool[np.ndarray, " ring"],
    count: int,
) -> Outlines:
    """Build outlines from rings on the grid.

    Args:
        rowcol: vertices of all rings, one ring after the other, without the closing ones.
        ring: the ring of each vertex, in rising order.
        row: the polygon of each ring, in rising order.
        hole: whether each ring is a hole.
        count: number of polygons.
    """
    if not len(ring):
        return Outlines(rowcol, rowcol, np.empty(0), ring, count)
    present, first, lengths = np.unique(ring, return_index=True, return_counts=True)
    following = np.arange(1, len(ring) + 1)
    following[first + lengths - 1] = first  # the last vertex of a ring joins the first
    start, end = rowcol, rowcol[following]
    area = np.add.reduceat(_edge_areas(start, end, np.repeat(start[first, 1], lengths)), first)
    sense = np.sign(area) * np.where(hole[present], -1.0, 1.0)
    return Outlines(start, end, np.repeat(sense, lengths), row[ring], count)


def sum_at(
    index: Int[np.ndarray, " item"], value: Float[np.ndarray, " item"], size: int
) -> Float[np.ndarray, " cell"]:
    """Sum the values at each index; unlike `np.bincount` return floats if there are none."""
    return np.bincount(index, value, minlength=size).astype(np.float64, copy=False)


def _edge_areas(
    start: Float[np.ndarray, "edge 2"],
    end: Float[np.ndarray, "edge 2"],
    origin: Float[np.ndarray, " edge"],
) -> Float[np.ndarray, " edge"]:
    """Return what each edge adds to the area of its ring, by the shoelace formula.

    Columns are measured from `origin`, near the polygon: large numbers would lose the small area.
    """
    middle = (start[:, 1] + end[:, 1]) / 2 - origin
    areas: np.ndarray = (start[:, 0] - end[:, 0]) * middle
    return areas


def _between_seams(polygons: Polygons, crs: str) -> Polygons:
    """Move every ring between the map's two seams, and cut it in two where it crosses one."""
    if not len(polygons.row):
        return polygons
    seam = CENTRAL_MERIDIANS[crs] - 180.0
    west = np.minimum.reduceat(polygons.lonlat[:, 0], polygons.first[:-1])
    east = np.maximum.reduceat(polygons.lonlat[:, 0], polygons.first[:-1])
    turn = np.floor((west - seam) / 360.0)
    # A ring that only touches the eastern seam is not cut.
    last = np.maximum(np.ceil((east - seam) / 360.0) - 1, turn)
    lonlat = polygons.lonlat.copy()
    lonlat[:, 0] -= 360.0 * np.repeat(turn, np.diff(polygons.first))
    rings, source = [], []
    for k, ring in enumerate(np.split(lonlat, polygons.first[1:-1])):
        copies = int(last[k] - turn[k]) + 1
        for copy in range(copies):
            moved = ring - np.array([360.0 * copy, 0.0])
            rings.append(_clamp(moved, seam) if copies > 1 else moved)
            source.append(k)
    lonlat = np.concatenate(rings)
    low, high = seam + _SEAM_DEGREES, seam + 360.0 - _SEAM_DEGREES
    lonlat[:, 0] = np.clip(lonlat[:, 0], low, high)
    first = np.cumsum([0, *map(len, rings)])
    return Polygons(lonlat, first, polygons.row[source], polygons.hole[source], polygons.index)


def _clamp(ring: Float[np.ndarray, "_ 2"], seam: float) -> Float[np.ndarray, "_ 2"]:
    """Move what lies beyond the seams onto them, where it encloses no area.

    Vertices are first inserted where edges cross the seams, so that the rest keeps its shape.
    """
    for edge in (seam, seam + 360.0):
        lon = ring[:, 0]
        crossing = np.flatnonzero((lon[:-1] < edge) != (lon[1:] < edge))
        start, end = ring[crossing], ring[crossing + 1]
        share = (edge - start[:, :1]) / (end - start)[:, :1]
        ring = np.insert(ring, crossing + 1, start + (end - start) * share, axis=0)
    clamped: np.ndarray = np.clip(ring, [seam, -90.0], [seam + 360.0, 90.0])
    return clamped
