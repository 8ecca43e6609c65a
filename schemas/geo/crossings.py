"""Crossings, touches and overlaps of the edges of polygons' rings.

The side of an edge on which a vertex lies is exact: it is computed in float64, and in fractions
where rounding could change its sign.

Source: Shewchuk (1997), "Adaptive precision floating-point arithmetic and fast robust geometric
predicates", the error bound of orient2d.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.schemas.geo.index_ranges import expand_ranges

_RUN = 8
"""Number of consecutive edges whose common bounding box is compared first."""
_MOST_RUNS = 1 << 20
"""Number of pairs of boxes compared at once; limits memory."""
_SIGN_ERROR = 3.3306690738754716e-16
"""Error bound of orient2d, (3 + 16 eps) eps, relative to the sum of its two absolute products."""


CROSSING = "its edges cross, touch or run along each other"


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of rings, ring by ring, without those of length zero."""

    start: Float[np.ndarray, "edge 2"]
    end: Float[np.ndarray, "edge 2"]
    ring: Int[np.ndarray, " edge"]
    polygon: Int[np.ndarray, " edge"]
    after: Int[np.ndarray, " edge"]
    """Number of the next edge of the ring."""
    before: Int[np.ndarray, " edge"]
    """Number of the previous edge of the ring."""
    position: Int[np.ndarray, " edge"]
    """Position of the edge in its ring, from 0."""

    @property
    def low(self) -> Float[np.ndarray, "edge 2"]:
        """Lower left corner of each edge's bounding box."""
        return np.asarray(np.minimum(self.start, self.end))

    @property
    def high(self) -> Float[np.ndarray, "edge 2"]:
        """Upper right corner of each edge's bounding box."""
        return np.asarray(np.maximum(self.start, self.end))


@dataclass(frozen=True, eq=False)
class RingTouches:
    """Points where edges of two rings of one polygon meet; each is a vertex of one of them."""

    one: Int[np.ndarray, " touch"]
    """Number of the edge of one ring."""
    other: Int[np.ndarray, " touch"]
    """Number of the edge of the other ring."""
    at: Float[np.ndarray, "touch 2"]
    """Coordinates of the point."""


def edges_of_rings(
    vertices: Float[np.ndarray, "vertex 2"],
    first: Int[np.ndarray, " ring_end"],
    polygon: Int[np.ndarray, " ring"],
) -> Edges:
    """Build the edges of rings, which are given as `valid_polygons.find_faults` takes them."""
    ring_of = np.repeat(np.arange(len(polygon)), np.diff(first))
    step = np.flatnonzero(
        (ring_of[1:] == ring_of[:-1]) & (vertices[1:] != vertices[:-1]).any(axis=1)
    )
    ring = ring_of[step]
    size = np.bincount(ring, minlength=len(polygon))
    begin = (np.cumsum(size) - size)[ring]
    number = np.arange(len(ring))
    last = begin + size[ring] - 1
    after = np.where(number == last, begin, number + 1)
    before = np.where(number == begin, last, number - 1)
    start, end = vertices[step], vertices[step + 1]
    return Edges(start, end, ring, polygon[ring], after, before, number - begin)


def note_faults(
    faults: dict[int, str],
    polygon: Int[np.ndarray, " fault"],
    reason: str,
    at: Float[np.ndarray, "fault 2"],
) -> None:
    """Add a reason and its coordinates for each polygon that has none yet."""
    for number, index in zip(*np.unique(polygon, return_index=True), strict=True):
        faults.setdefault(int(number), f"{reason} at {at[index, 0]:.9g} {at[index, 1]:.9g}")


def spike_edges(edges: Edges) -> Int[np.ndarray, " edge"]:
    """Return the edges whose next edge runs back along them."""
    direction = edges.end - edges.start
    # The rounded scalar product only preselects: a spike's is far below 0.
    turning = np.flatnonzero((direction * direction[edges.after]).sum(axis=1) < 0)
    next_end = edges.end[edges.after[turning]]
    back: np.ndarray = turning[orientation(edges.start[turning], edges.end[turning], next_end) == 0]
    return back


def find_touches(edges: Edges, faults: dict[int, str]) -> RingTouches:
    """Find where edges of a polygon meet, and note the meetings that make it invalid.

    Args:
        edges: of all polygons.
        faults: reason by polygon; crossings, overlaps and rings that touch themselves are added.

    Returns:
        Touches of two different rings, which are allowed.
    """
    touches = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 2)))]
    low, high = edges.low, edges.high
    for one, other in _near_pairs(edges, low, high):
        a, b, c, d = edges.start[one], edges.end[one], edges.start[other], edges.end[other]
        # Edges meet where the ends of each lie on different sides of the other, or on it.
        side_c, side_d = orientation(a, b, c), orientation(a, b, d)
        split = side_c * side_d <= 0
        side_a, side_b = np.ones(len(one)), np.ones(len(one))  # computed only where it decides
        side_a[split], side_b[split] = (orientation(c[split], d[split], p[split]) for p in (a, b))
        meet = split & (side_a * side_b <= 0)
        proper = meet & (side_c * side_d < 0) & (side_a * side_b < 0)
        # Of collinear edges the boxes' common part is what both cover: a point, or a stretch.
        corner, far = np.maximum(low[one], low[other]), np.minimum(high[one], high[other])
        collinear = (side_c == 0) & (side_d == 0)
        along = meet & collinear & (far > corner).any(axis=1)
        at = np.select(
            [(side_c == 0)[:, None], (side_d == 0)[:, None], (side_a == 0)[:, None]], [c, d, a], b
        )
        at[collinear] = corner[collinear]
        at[proper] = _crossing_points(a[proper], b[proper], c[proper], d[proper])
        bad = proper | along | (meet & (edges.ring[one] == edges.ring[other]))
        note_faults(faults, edges.polygon[one[bad]], CROSSING, at[bad])
        touch = meet & ~bad
        touches.append((one[touch], other[touch], at[touch]))
    return RingTouches(*(np.concatenate(part) for part in zip(*touches, strict=True)))


def _crossing_points(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Intersect the lines through a and b with those through c and d."""

    def cross(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        area: np.ndarray = one[:, :1] * other[:, 1:] - one[:, 1:] * other[:, :1]
        return area

    with np.errstate(divide="ignore", invalid="ignore"):
        points: np.ndarray = a + (b - a) * (cross(c - a, d - c) / cross(b - a, d - c))
    return points


def _near_pairs(
    edges: Edges, low: Float[np.ndarray, "edge 2"], high: Float[np.ndarray, "edge 2"]
) -> Iterator[tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]]:
    """Yield pairs of edges of one polygon whose boxes meet and that are not adjacent.

    Boxes of runs of `_RUN` edges are compared first, then the edges of one run with the other's
    box, and only then edges with edges.
    """
    begin = np.flatnonzero((edges.position % _RUN == 0) | (np.diff(edges.ring, prepend=-1) != 0))
    if not len(begin):
        return
    size = np.diff(begin, append=len(edges.ring))
    run_low, run_high = np.minimum.reduceat(low, begin), np.maximum.reduceat(high, begin)
    for first in range(0, len(begin), _MOST_RUNS // _RUN):  # edges within a run
        runs = np.arange(first, min(first + _MOST_RUNS // _RUN, len(begin)))
        # Each run of n edges is expanded to the n^2 pairs (i, j), of which i < j are kept.
        item, number = expand_ranges(np.zeros(len(runs), np.int64), size[runs] ** 2)
        i, j = np.divmod(number, size[runs[item]])
        later = i < j
        run = begin[runs[item[later]]]
        yield _separate_pairs(edges, low, high, run + i[later], run + j[later])
    for one, other in _meeting_boxes(run_low, run_high, edges.polygon[begin]):
        for first in range(0, len(one), _MOST_RUNS // _RUN):
            pair = slice(first, first + _MOST_RUNS // _RUN)
            run, mate = one[pair], other[pair]
            item, i = expand_ranges(begin[run], size[run])
            mate = mate[item]
            near = _boxes_meet(low, high, i, run_low, run_high, mate)
            item, j = expand_ranges(begin[mate[near]], size[mate[near]])
            yield _separate_pairs(edges, low, high, i[near][item], j)


def _separate_pairs(
    edges: Edges,
    low: Float[np.ndarray, "edge 2"],
    high: Float[np.ndarray, "edge 2"],
    i: Int[np.ndarray, " pair"],
    j: Int[np.ndarray, " pair"],
) -> tuple[Int[np.ndarray, " near"], Int[np.ndarray, " near"]]:
    """Keep the pairs of edges whose boxes meet and that are not adjacent in their ring."""
    near = np.flatnonzero(_boxes_meet(low, high, i, low, high, j))
    i, j = i[near], j[near]
    apart = (edges.after[i] != j) & (edges.after[j] != i)
    return i[apart], j[apart]


def _boxes_meet(
    low: Float[np.ndarray, "box 2"],
    high: Float[np.ndarray, "box 2"],
    i: Int[np.ndarray, " pair"],
    other_low: Float[np.ndarray, "other 2"],
    other_high: Float[np.ndarray, "other 2"],
    j: Int[np.ndarray, " pair"],
) -> Bool[np.ndarray, " pair"]:
    """Tell pair by pair whether two boxes share a point."""
    meet = np.ones(len(i), bool)
    for axis in (0, 1):
        meet &= low[:, axis][i] <= other_high[:, axis][j]
        meet &= other_low[:, axis][j] <= high[:, axis][i]
    return meet


def _meeting_boxes(
    low: Float[np.ndarray, "box 2"],
    high: Float[np.ndarray, "box 2"],
    of: Int[np.ndarray, " box"],
) -> Iterator[tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]]:
    """Yield pairs of different boxes of one polygon that share a point, each pair once.

    Boxes are sorted along one axis, so those that overlap a box along it are a range after it.
    """
    sweeps = []
    for axis in (0, 1):
        order = np.lexsort((low[:, axis], of))
        levels = np.unique(low[:, axis])
        last = np.searchsorted(levels, high[order, axis], side="right") - 1
        # Keys of one polygon lie apart from those of the next, so one search serves all.
        base = of[order].astype(np.int64) * len(levels)
        key = base + np.searchsorted(levels, low[order, axis])
        count = np.searchsorted(key, base + last, side="right") - np.arange(len(order)) - 1
        sweeps.append((int(count.sum()), axis, order, count))
    # The axis along which fewer boxes overlap; the other one is tested pair by pair.
    _, axis, order, count = min(sweeps, key=lambda sweep: sweep[0])
    block = np.cumsum(count) // _MOST_RUNS
    for members in np.split(np.arange(len(order)), np.flatnonzero(np.diff(block)) + 1):
        item, mate = expand_ranges(members + 1, count[members])
        one, other = order[members[item]], order[mate]
        across = 1 - axis
        meet = (low[one, across] <= high[other, across]) & (low[other, across] <= high[one, across])
        yield one[meet], other[meet]


def orientation(
    a: Float[np.ndarray, "item 2"], b: Float[np.ndarray, "item 2"], c: Float[np.ndarray, "item 2"]
) -> Float[np.ndarray, " item"]:
    """Return 1 where c lies left of the line from a to b, -1 right of it and 0 on it, exactly."""
    ac, bc = a - c, b - c
    left, right = ac[:, 0] * bc[:, 1], ac[:, 1] * bc[:, 0]
    sign: np.ndarray = np.sign(left - right)
    zero = ((ac == 0) | (bc[:, ::-1] == 0)).all(axis=1)  # both products, exactly
    with np.errstate(invalid="ignore"):
        sure = np.abs(left - right) > _SIGN_ERROR * (np.abs(left) + np.abs(right))
    for k in np.flatnonzero(~sure & ~zero):
        (ax, ay), (bx, by), (cx, cy) = (map(Fraction, p[k].tolist()) for p in (a, b, c))
        area = (ax - cx) * (by - cy) - (ay - cy) * (bx - cx)
        sign[k] = (area > 0) - (area < 0)
    return sign


def crosses_at_touch(edges: Edges, touches: RingTouches) -> Bool[np.ndarray, " touch"]:
    """Tell whether one ring passes through the other where they touch."""
    at = touches.at
    back, ahead = _adjacent_vertices(edges, touches.other, at)
    sides = [
        _is_left_of_path(at, ahead, back, arm) for arm in _adjacent_vertices(edges, touches.one, at)
    ]
    crossing: np.ndarray = sides[0] != sides[1]
    return crossing


def _adjacent_vertices(
    edges: Edges, edge: Int[np.ndarray, " touch"], at: Float[np.ndarray, "touch 2"]
) -> tuple[Float[np.ndarray, "touch 2"], Float[np.ndarray, "touch 2"]]:
    """Return the vertices of the ring before and after a point on an edge or at its end."""
    start, end = edges.start[edge], edges.end[edge]
    at_start, at_end = (start == at).all(axis=1), (end == at).all(axis=1)
    back = np.where(at_start[:, None], edges.start[edges.before[edge]], start)
    ahead = np.where(at_end[:, None], edges.end[edges.after[edge]], end)
    return back, ahead


def _is_left_of_path(
    at: Float[np.ndarray, "touch 2"],
    ahead: Float[np.ndarray, "touch 2"],
    back: Float[np.ndarray, "touch 2"],
    point: Float[np.ndarray, "touch 2"],
) -> Bool[np.ndarray, " touch"]:
    """Tell whether a point lies left of the path from `back` through `at` to `ahead`."""
    turn = orientation(at, ahead, back)
    side_ahead, side_back = orientation(at, ahead, point), orientation(at, back, point)
    # The left side is the angle counter-clockwise from `ahead` to `back`: below 180 degrees both
    # conditions hold in it, above 180 degrees one suffices, at 180 degrees they are the same.
    narrow = (side_ahead > 0) & (side_back < 0)
    wide = ~((side_back > 0) & (side_ahead < 0))
    left: np.ndarray = np.where(turn > 0, narrow, np.where(turn < 0, wide, side_ahead > 0))
    return left
