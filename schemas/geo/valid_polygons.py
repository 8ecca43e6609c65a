"""Validity of polygons by the OGC's rules, without a geometry library.

The rings of a valid polygon neither cross nor overlap. No ring touches itself, and two rings touch
at single points only. Holes lie inside their outer ring and outside other holes, and leave the
interior connected; parts do not overlap. The result is that of `shapely.is_valid`.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.schemas.geo.crossings import (
    CROSSING,
    Edges,
    RingTouches,
    crosses_at_touch,
    edges_of_rings,
    find_touches,
    note_faults,
    orientation,
    spike_edges,
)
from unigeo.schemas.geo.index_ranges import expand_ranges

_THIN = "a ring has fewer than three different vertices"
_SPIKE = "its ring runs back on itself"
_OUTSIDE = "a hole lies outside its ring"
_HOLE_IN_HOLE = "a hole lies within another"
_PART_IN_PART = "a part lies within another"
_CUT = "its holes cut it in pieces"


def find_faults(
    vertices: Float[np.ndarray, "vertex 2"],
    first: Int[np.ndarray, " ring_end"],
    polygon: Int[np.ndarray, " ring"],
    hole: Bool[np.ndarray, " ring"],
) -> dict[int, str]:
    """Return the reason for each polygon that is not valid.

    Args:
        vertices: finite coordinates of all rings, ring by ring, each ring closed.
        first: index of each ring's first vertex, then the number of vertices.
        polygon: number of each ring's polygon, rising; a part's outer ring comes before its holes.
        hole: whether each ring is a hole.

    Returns:
        The first reason found, by the polygon's number.

    >>> bow = np.array([[0.0, 0], [1, 1], [1, 0], [0, 1], [0, 0]])
    >>> find_faults(bow, np.array([0, 5]), np.array([0]), np.array([False]))
    {0: 'its edges cross, touch or run along each other at 0.5 0.5'}
    """
    faults: dict[int, str] = {}
    edges = edges_of_rings(vertices, first, polygon)
    thin = np.bincount(edges.ring, minlength=len(polygon)) < 3
    for number in np.unique(polygon[thin]).tolist():
        faults[number] = _THIN
    back = spike_edges(edges)
    note_faults(faults, edges.polygon[back], _SPIKE, edges.end[back])
    touches = find_touches(edges, faults)
    crossing = crosses_at_touch(edges, touches)
    note_faults(faults, edges.polygon[touches.one[crossing]], CROSSING, touches.at[crossing])
    several = np.bincount(polygon, minlength=1)[polygon] > 1
    if several.any():
        _check_nesting(edges, touches, polygon, hole, faults)
        _check_connected(edges, touches, polygon, hole, faults)
    return dict(sorted(faults.items()))


def _check_nesting(
    edges: Edges,
    touches: RingTouches,
    polygon: Int[np.ndarray, " ring"],
    hole: Bool[np.ndarray, " ring"],
    faults: dict[int, str],
) -> None:
    """Note holes outside their outer ring, and rings nested where they may not be."""
    inner, outer = _nested_rings(edges, touches, polygon)
    part = np.cumsum(~hole) - 1  # an outer ring begins a part
    outer_ring = np.flatnonzero(~hole)[part]
    enclosed = np.zeros(len(hole), bool)
    enclosed[inner[hole[inner] & (outer == outer_ring[inner])]] = True
    for ring in np.flatnonzero(hole & ~enclosed):
        faults.setdefault(int(polygon[ring]), _OUTSIDE)
    hole_in_hole = hole[inner] & hole[outer] & (part[inner] == part[outer])
    for ring in inner[hole_in_hole]:
        faults.setdefault(int(polygon[ring]), _HOLE_IN_HOLE)
    # A part may lie within another part's outer ring if it lies in one of that part's holes.
    in_hole = set(zip(inner[hole[outer]], part[outer[hole[outer]]], strict=True))
    for ring, around in zip(inner, outer, strict=True):
        if not hole[ring] and not hole[around] and (ring, part[around]) not in in_hole:
            faults.setdefault(int(polygon[ring]), _PART_IN_PART)


def _nested_rings(
    edges: Edges, touches: RingTouches, polygon: Int[np.ndarray, " ring"]
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    """Return pairs of rings of one polygon, the first of which lies within the second.

    A ring lies within another one if a ray from one of its points to the east crosses the other an
    odd number of times.
    """
    probe, probe_ring = _probe_points(edges, touches)
    probe_polygon = polygon[probe_ring]
    levels = np.unique(probe[:, 1])
    rank = np.searchsorted(levels, probe[:, 1])
    order = np.lexsort((rank, probe_polygon))
    # Keys sort probe points by polygon and then by latitude, so that the points of an edge's
    # polygon that lie between the latitudes of its ends are one range.
    key = probe_polygon[order] * len(levels) + rank[order]
    base = edges.polygon * len(levels)
    # Half open, [low, high): a ray through a vertex must cross one of its two edges, not both.
    until = np.searchsorted(key, base + np.searchsorted(levels, edges.high[:, 1]))
    since = np.searchsorted(key, base + np.searchsorted(levels, edges.low[:, 1]))
    edge, number = expand_ranges(since, until - since)
    point = order[number]
    other = edges.ring[edge] != probe_ring[point]
    edge, point = edge[other], point[other]
    # West of an edge is its left side if it runs north, and its right side if it runs south.
    west = orientation(edges.start[edge], edges.end[edge], probe[point]) == np.where(
        edges.end[edge, 1] > edges.start[edge, 1], 1, -1
    )
    count = len(polygon)
    crossed, times = np.unique(
        probe_ring[point[west]].astype(np.int64) * count + edges.ring[edge[west]],
        return_counts=True,
    )
    inner, outer = np.divmod(crossed[times % 2 == 1], count)
    return inner, outer


def _probe_points(
    edges: Edges, touches: RingTouches
) -> tuple[Float[np.ndarray, "ring 2"], Int[np.ndarray, " ring"]]:
    """Return a point of each ring that lies on no other ring, and the ring's number.

    A ring that others touch is searched for a vertex, or a point of an edge, where none does.
    """
    touched: dict[int, set[tuple[float, float]]] = {}
    for edge in (touches.one, touches.other):
        for ring, at in zip(edges.ring[edge].tolist(), touches.at.tolist(), strict=True):
            touched.setdefault(ring, set()).add(tuple(at))
    ring, begin = np.unique(edges.ring, return_index=True)
    probe = edges.start[begin]
    ends = np.append(begin[1:], len(edges.ring))
    for number in np.flatnonzero(np.isin(ring, list(touched))):
        of_ring = slice(int(begin[number]), int(ends[number]))
        start, end = edges.start[of_ring], edges.end[of_ring]
        for point in np.concatenate([start, (start + end) / 2, start + (end - start) / 3]):
            if tuple(point.tolist()) not in touched[int(ring[number])]:
                probe[number] = point
                break
    return probe, ring


def _check_connected(
    edges: Edges,
    touches: RingTouches,
    polygon: Int[np.ndarray, " ring"],
    hole: Bool[np.ndarray, " ring"],
    faults: dict[int, str],
) -> None:
    """Note parts whose rings touch in a closed chain, which cuts the interior.

    Rings and points are the nodes of a graph, touches its edges. Union-find detects its cycles.
    """
    part = np.cumsum(~hole) - 1
    one, other = edges.ring[touches.one], edges.ring[touches.other]
    same = np.flatnonzero(part[one] == part[other])
    above: dict[object, object] = {}

    def root(node: object) -> object:
        while above.setdefault(node, node) != node:
            above[node] = above[above[node]]  # halves the path for the next search
            node = above[node]
        return node

    at = map(tuple, touches.at[same].tolist())
    links = {
        (ring, (part[ring], point))
        for pair, point in zip(zip(one[same], other[same], strict=True), at, strict=True)
        for ring in pair
    }
    for ring, point in sorted(links):
        ring_root, point_root = root(("ring", ring)), root(("point", point))
        if ring_root == point_root:  # already linked, so this link closes a cycle
            faults.setdefault(int(polygon[ring]), _CUT)
        above[ring_root] = point_root
