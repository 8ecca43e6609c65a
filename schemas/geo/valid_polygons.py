"""Whether polygons are valid, as the OGC has it, found without a library of geometry.

The rings of a valid polygon neither cross nor run along each other. Each ring touches itself
nowhere; two rings touch at single points at most. Holes lie in their outer ring, not in another
hole, and leave the interior in one piece; parts lie apart. The rule is that of `shapely.is_valid`.
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
    """Say of every polygon that is not valid why it is not.

    Args:
        vertices: of every ring, one ring after the other, each closed; finite.
        first: number of each ring's first vertex, and of all vertices at the end.
        polygon: which polygon each ring is of, rising; a part's outer ring comes before its holes.
        hole: whether each ring is a hole.

    >>> bow = np.array([[0.0, 0], [1, 1], [1, 0], [0, 1], [0, 0]])
    >>> faults_of(bow, np.array([0, 5]), np.array([0]), np.array([False]))
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
    """Note holes outside their ring, and rings within others where they may not be."""
    inner, outer = _nested_rings(edges, touches, polygon)
    part = np.cumsum(~hole) - 1
    own_ring = np.flatnonzero(~hole)[part]
    held = np.zeros(len(hole), bool)
    held[inner[hole[inner] & (outer == own_ring[inner])]] = True
    for ring in np.flatnonzero(hole & ~held):
        faults.setdefault(int(polygon[ring]), _OUTSIDE)
    twice = hole[inner] & hole[outer] & (part[inner] == part[outer])
    for ring in inner[twice]:
        faults.setdefault(int(polygon[ring]), _HOLE_IN_HOLE)
    in_hole = set(zip(inner[hole[outer]], part[outer[hole[outer]]], strict=True))
    for ring, around in zip(inner, outer, strict=True):
        if not hole[ring] and not hole[around] and (ring, part[around]) not in in_hole:
            faults.setdefault(int(polygon[ring]), _PART_IN_PART)


def _nested_rings(
    edges: Edges, touches: RingTouches, polygon: Int[np.ndarray, " ring"]
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    """Rings that lie within another of the same polygon, and that other one."""
    probe, lying = _probe_points(edges, touches)
    place_of = polygon[lying]
    levels = np.unique(probe[:, 1])
    rank = np.searchsorted(levels, probe[:, 1])
    order = np.lexsort((rank, place_of))
    key = place_of[order] * len(levels) + rank[order]
    base = edges.polygon * len(levels)
    # A place belongs to the upper one of two edges that meet at its latitude.
    until = np.searchsorted(key, base + np.searchsorted(levels, edges.high[:, 1]))
    since = np.searchsorted(key, base + np.searchsorted(levels, edges.low[:, 1]))
    edge, number = expand_ranges(since, until - since)
    place = order[number]
    other = edges.ring[edge] != lying[place]
    edge, place = edge[other], place[other]
    west = orientation(edges.start[edge], edges.end[edge], probe[place]) == np.where(
        edges.end[edge, 1] > edges.start[edge, 1], 1, -1
    )
    count = len(polygon)
    crossed, times = np.unique(
        lying[place[west]].astype(np.int64) * count + edges.ring[edge[west]], return_counts=True
    )
    inner, outer = np.divmod(crossed[times % 2 == 1], count)
    return inner, outer


def _probe_points(
    edges: Edges, touches: RingTouches
) -> tuple[Float[np.ndarray, "ring 2"], Int[np.ndarray, " ring"]]:
    """A place on each ring that lies on no other one, and the ring's number."""
    touched: dict[int, set[tuple[float, float]]] = {}
    for edge in (touches.one, touches.other):
        for ring, at in zip(edges.ring[edge].tolist(), touches.at.tolist(), strict=True):
            touched.setdefault(ring, set()).add(tuple(at))
    ring, begin = np.unique(edges.ring, return_index=True)
    probe = edges.start[begin]
    ends = np.append(begin[1:], len(edges.ring))
    for number in np.flatnonzero(np.isin(ring, list(touched))):
        own = slice(int(begin[number]), int(ends[number]))
        start, end = edges.start[own], edges.end[own]
        for place in np.concatenate([start, (start + end) / 2, start + (end - start) / 3]):
            if tuple(place.tolist()) not in touched[int(ring[number])]:
                probe[number] = place
                break
    return probe, ring


def _check_connected(
    edges: Edges,
    touches: RingTouches,
    polygon: Int[np.ndarray, " ring"],
    hole: Bool[np.ndarray, " ring"],
    faults: dict[int, str],
) -> None:
    """Note parts whose rings touch in a chain that closes: what lies within it is cut off."""
    part = np.cumsum(~hole) - 1
    one, other = edges.ring[touches.one], edges.ring[touches.other]
    same = np.flatnonzero(part[one] == part[other])
    above: dict[object, object] = {}

    def root(node: object) -> object:
        while above.setdefault(node, node) != node:
            above[node] = above[above[node]]
            node = above[node]
        return node

    at = map(tuple, touches.at[same].tolist())
    links = {
        (ring, (part[ring], place))
        for pair, place in zip(zip(one[same], other[same], strict=True), at, strict=True)
        for ring in pair
    }
    for ring, place in sorted(links):
        top, below = root(("ring", ring)), root(("place", place))
        if top == below:
            faults.setdefault(int(polygon[ring]), _CUT)
        above[top] = below
