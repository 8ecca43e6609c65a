"""How much of each cell a polygon covers: exact areas, without cutting any shape.

An edge is split where it crosses the lines between rows and columns. Each piece covers a known part
of its own cell and all of the cells east of it, so that one running sum along the row gives every
cell's share. The rule is that of font rasterizers.

Source: Levien, "Inside the fastest font renderer in the world" (2016), the signed-area accumulation
of libart and FreeType.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.areas.polygons import Polygons
from unigeo.schemas.errors import RegionError
from unigeo.schemas.grid import CENTRAL_MERIDIANS, Grid, Window, from_wgs84
from unigeo.schemas.rings import pieces_per_edge, refine

_MOST_CELLS = 1 << 21  # of all polygons' boxes worked on at once: some 100 MB
_LEAST_SHARE = 1e-11  # of a cell; less is rounding
_OVERLAP = 0.01  # of a cell; more cannot come from edges that bend by a few metres
_SEAM_DEGREES = 1e-9  # 0.1 mm: PROJ turns a longitude on the seam to the other side


@dataclass(frozen=True, eq=False)
class Outlines:
    """Polygons on a grid: directed edges in fractional rows and columns of its cells."""

    start: Float[np.ndarray, "edge 2"]
    """Row and column, from the grid's north-west corner."""
    end: Float[np.ndarray, "edge 2"]
    sense: Float[np.ndarray, " edge"]
    """1 or -1: makes outer rings count upwards and holes downwards, however they run."""
    polygon: Int[np.ndarray, " edge"]
    """Which polygon the edge is of, rising."""
    count: int
    """Number of polygons."""

    @cached_property
    def bounds(self) -> Float[np.ndarray, "polygon 4"]:
        """North, west, south and east of each polygon, in rows and columns; NaN without edges."""
        bounds = np.full((self.count, 4), np.nan)
        if len(self.polygon):
            named, first = np.unique(self.polygon, return_index=True)
            bounds[named, :2] = np.minimum.reduceat(np.minimum(self.start, self.end), first)
            bounds[named, 2:] = np.maximum.reduceat(np.maximum(self.start, self.end), first)
        return bounds

    @cached_property
    def area(self) -> Float[np.ndarray, " polygon"]:
        """Area of each polygon in cells, on the grid or off it."""
        parts = self.sense * _edge_areas(self.start, self.end, self.bounds[self.polygon, 1])
        return _counted(self.polygon, parts, self.count)


@dataclass(frozen=True, eq=False)
class Cover:
    """Cells that polygons cover, polygon by polygon."""

    polygon: Int[np.ndarray, " entry"]
    """Rising."""
    row: Int[np.ndarray, " entry"]
    """Counted from the window's north-west corner."""
    col: Int[np.ndarray, " entry"]
    share: Float[np.ndarray, " entry"]
    """Of the cell that lies in the polygon, above 0 and up to 1."""


def outlines_on(polygons: Polygons, grid: Grid) -> Outlines:
    """Put polygons on a grid, refined so that the curves of their edges are held.

    Raises:
        RegionError: naming the first polygon that has no area.
    """
    turned = _in_one_turn(polygons, grid.crs)
    ring = np.repeat(np.arange(len(turned.row)), np.diff(turned.first))
    edge = np.flatnonzero(ring[1:] == ring[:-1])
    start, end = turned.lonlat[edge], turned.lonlat[edge + 1]
    points, of = refine(start, end, pieces_per_edge(start, end))
    x, y = from_wgs84(grid.crs).transform(points[:, 0], points[:, 1])
    size = grid.resolution_m
    rowcol = np.stack([-y / size - grid.row0, x / size - grid.col0], axis=-1)
    outlines = outlines_of(rowcol, ring[edge[of]], turned.row, turned.hole, len(polygons))
    flat = ~(outlines.area > 0)
    if flat.any():
        k = int(np.flatnonzero(flat)[0])
        raise RegionError(
            f"{flat.sum()} of {len(flat)} polygons have no area, the first in row {k} (label "
            f"{polygons.index[k]!r}); drop them first"
        )
    return outlines


def outlines_of(
    rowcol: Float[np.ndarray, "point 2"],
    ring: Int[np.ndarray, " point"],
    row: Int[np.ndarray, " ring"],
    hole: Bool[np.ndarray, " ring"],
    count: int,
) -> Outlines:
    """Outlines of rings on the grid.

    Args:
        rowcol: vertices of one ring after the other, without the closing ones.
        ring: which ring each vertex is of, rising.
        row: which polygon each ring is of, rising.
        hole: whether each ring is a hole.
        count: number of polygons.
    """
    if not len(ring):
        return Outlines(rowcol, rowcol, np.empty(0), ring, count)
    named, first, lengths = np.unique(ring, return_index=True, return_counts=True)
    after = np.arange(1, len(ring) + 1)
    after[first + lengths - 1] = first
    start, end = rowcol, rowcol[after]
    area = np.add.reduceat(_edge_areas(start, end, np.repeat(start[first, 1], lengths)), first)
    sense = np.sign(area) * np.where(hole[named], -1.0, 1.0)
    return Outlines(start, end, np.repeat(sense, lengths), row[ring], count)


def cover(outlines: Outlines, window: Window) -> Iterator[Cover]:
    """Every polygon's share of every cell of a window, a batch of polygons at a time.

    The shares of a polygon within the grid sum to its area there, in cells.

    Raises:
        RegionError: naming a polygon whose rings overlap.
    """
    near = np.flatnonzero(_near(outlines, window))
    if not len(near):
        return
    boxes = _boxes(outlines.bounds[near], window)
    cells = np.cumsum(boxes.height * (boxes.width + 1))
    batch = cells // _MOST_CELLS
    for members in np.split(np.arange(len(near)), np.flatnonzero(np.diff(batch)) + 1):
        yield _cover_of(outlines, window, near[members], boxes.take(members))


def reach(outlines: Outlines, window: Window) -> Bool[np.ndarray, "row col"]:
    """Which cells of a window any polygon covers a part of."""
    near = _near(outlines, window)
    edge = np.flatnonzero(near[outlines.polygon])
    whole = _Boxes(*(np.array([n]) for n in (0, 0, window.height, window.width)))
    shares = _accumulate(outlines, window, edge, np.zeros(len(edge), np.int64), whole)
    touched: np.ndarray = shares.reshape(window.height, -1)[:, :-1] > _LEAST_SHARE
    return touched


def holds_centre(outlines: Outlines, window: Window) -> Bool[np.ndarray, "row col"]:
    """Which cells of a window have their centre in a polygon."""
    edge = np.flatnonzero(_near(outlines, window)[outlines.polygon])
    corner = np.array([window.row, window.col])
    start, end = outlines.start[edge] - corner, outlines.end[edge] - corner
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first = np.clip(np.ceil(low - 0.5), 0, window.height).astype(np.int64)
    last = np.clip(np.ceil(high - 0.5), 0, window.height).astype(np.int64)
    piece, row = _spread(first, last - first)
    slope = (end[:, 1] - start[:, 1])[piece] / (end[:, 0] - start[:, 0])[piece]
    crossing = start[piece, 1] + (row + 0.5 - start[piece, 0]) * slope
    col = np.clip(np.ceil(crossing - 0.5), 0, window.width).astype(np.int64)
    sign = outlines.sense[edge] * np.sign(end[:, 0] - start[:, 0])
    stride = window.width + 1
    change = _counted(row * stride + col, sign[piece], window.height * stride)
    inside: np.ndarray = np.cumsum(change.reshape(-1, stride), axis=1)[:, :-1] > 0.5
    return inside


@dataclass(frozen=True)
class _Boxes:
    """The part of a window that each polygon can reach, in cells of the window."""

    top: Int[np.ndarray, " box"]
    left: Int[np.ndarray, " box"]
    height: Int[np.ndarray, " box"]
    width: Int[np.ndarray, " box"]

    def take(self, members: Int[np.ndarray, " member"]) -> "_Boxes":
        return _Boxes(*(side[members] for side in (self.top, self.left, self.height, self.width)))


def _near(outlines: Outlines, window: Window) -> Bool[np.ndarray, " polygon"]:
    """Polygons whose bounds meet the window."""
    north, west, south, east = outlines.bounds.T
    near: np.ndarray = (
        (north < window.row + window.height)
        & (south > window.row)
        & (west < window.col + window.width)
        & (east > window.col)
    )
    return near


def _boxes(bounds: Float[np.ndarray, "polygon 4"], window: Window) -> _Boxes:
    corner = np.array([window.row, window.col])
    shape = np.array([window.height, window.width])
    low = np.clip(np.floor(bounds[:, :2]) - corner, 0, shape - 1).astype(np.int64)
    high = np.clip(np.ceil(bounds[:, 2:]) - corner, low + 1, shape).astype(np.int64)
    return _Boxes(*low.T, *(high - low).T)


def _cover_of(
    outlines: Outlines, window: Window, polygon: Int[np.ndarray, " box"], boxes: _Boxes
) -> Cover:
    box_of = np.full(outlines.count, -1)
    box_of[polygon] = np.arange(len(polygon))
    edge = np.flatnonzero(box_of[outlines.polygon] >= 0)
    shares = _accumulate(outlines, window, edge, box_of[outlines.polygon[edge]], boxes)
    stride = boxes.width + 1
    offset = np.cumsum(boxes.height * stride) - boxes.height * stride
    # The column after a box's last one holds rubbish: edges further east are left out.
    shares[_row_starts(boxes) + np.repeat(boxes.width, boxes.height)] = 0.0
    _refuse_overlaps(shares, offset, polygon)
    entry = np.flatnonzero(shares > _LEAST_SHARE)
    box = np.searchsorted(offset, entry, side="right") - 1
    row, col = np.divmod(entry - offset[box], stride[box])
    share = np.minimum(shares[entry], 1.0)
    return Cover(polygon[box], row + boxes.top[box], col + boxes.left[box], share)


def _refuse_overlaps(
    shares: Float[np.ndarray, " cell"],
    offset: Int[np.ndarray, " box"],
    polygon: Int[np.ndarray, " box"],
) -> None:
    wrong = np.flatnonzero((shares < -_OVERLAP) | (shares > 1 + _OVERLAP))
    if len(wrong):
        k = int(polygon[np.searchsorted(offset, wrong[0], side="right") - 1])
        raise RegionError(
            f"the polygon in row {k} overlaps or crosses itself; mend it first, for instance with "
            "shapely.make_valid"
        )


def _row_starts(boxes: _Boxes) -> Int[np.ndarray, " box_row"]:
    """Where each row of each box starts in the boxes laid one after the other."""
    strides = np.repeat(boxes.width + 1, boxes.height)
    starts: np.ndarray = np.cumsum(strides) - strides
    return starts


def _accumulate(
    outlines: Outlines,
    window: Window,
    edge: Int[np.ndarray, " edge"],
    box: Int[np.ndarray, " edge"],
    boxes: _Boxes,
) -> Float[np.ndarray, " cell"]:
    """Shares of the cells of all boxes, row by row, each row with one column more.

    Args:
        outlines: the polygons.
        window: which the boxes are parts of.
        edge: numbers of the edges to count.
        box: the box each counts in.
        boxes: one after the other in the result.
    """
    corner = np.stack([boxes.top[box] + window.row, boxes.left[box] + window.col], axis=-1)
    start, end = outlines.start[edge] - corner, outlines.end[edge] - corner
    height, width = boxes.height[box], boxes.width[box]
    low = np.clip(np.minimum(start[:, 0], end[:, 0]), 0, height)
    high = np.clip(np.maximum(start[:, 0], end[:, 0]), 0, height)
    kept = (high > low) & (np.minimum(start[:, 1], end[:, 1]) < width)
    start, end, low, high, box = start[kept], end[kept], low[kept], high[kept], box[kept]
    down = outlines.sense[edge[kept]] * np.sign(end[:, 0] - start[:, 0])
    slope = (end[:, 1] - start[:, 1]) / (end[:, 0] - start[:, 0])
    least, most = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])

    first = np.floor(low).astype(np.int64)
    piece, row = _spread(first, np.ceil(high).astype(np.int64) - first)
    upper, lower = np.maximum(low[piece], row), np.minimum(high[piece], row + 1)
    x1 = start[piece, 1] + (upper - start[piece, 0]) * slope[piece]
    x2 = start[piece, 1] + (lower - start[piece, 0]) * slope[piece]
    west = np.clip(np.minimum(x1, x2), least[piece], most[piece])
    east = np.clip(np.maximum(x1, x2), least[piece], most[piece])
    stride = boxes.width + 1
    offset = np.cumsum(boxes.height * stride) - boxes.height * stride
    at = offset[box[piece]] + row * stride[box[piece]]
    return _sum_rows(at, west, east, down[piece] * (lower - upper), boxes.width[box[piece]], boxes)


def _sum_rows(
    at: Int[np.ndarray, " piece"],
    west: Float[np.ndarray, " piece"],
    east: Float[np.ndarray, " piece"],
    rise: Float[np.ndarray, " piece"],
    width: Int[np.ndarray, " piece"],
    boxes: _Boxes,
) -> Float[np.ndarray, " cell"]:
    """Split pieces of edges, each within one row, at the columns, and sum along the rows.

    Args:
        at: where the piece's row starts in the result.
        west: its western end, in columns of its box.
        east: its eastern end.
        rise: how much of the row it spans, with the sign of what lies east of it.
        width: columns of its box; what lies further east is left out.
        boxes: laid one after the other in the result.
    """
    inner_west, inner_east = np.clip(west, 0, width), np.clip(east, 0, width)
    span = np.where(east > west, east - west, 1.0)
    beyond = np.where(east > west, np.clip(-west, 0, east - west) / span, west < 0)
    first = np.floor(inner_west).astype(np.int64)
    part, col = _spread(first, np.maximum(np.ceil(inner_east).astype(np.int64) - first, 1))
    begin = np.maximum(inner_west[part], col)
    finish = np.minimum(inner_east[part], col + 1)
    upright = (east == west)[part]
    inside = (inner_west == west)[part]
    share = np.where(upright, inside, (finish - begin) / span[part]) * rise[part]
    middle = (begin + finish) / 2 - col

    cells = int((boxes.height * (boxes.width + 1)).sum())
    where = at[part] + col
    change = _counted(where, share * (1 - middle), cells + 1)
    change += _counted(where + 1, share * middle, cells + 2)[: cells + 1]
    change += _counted(at, beyond * rise, cells + 1)
    total = np.cumsum(change[:cells])
    starts = _row_starts(boxes)
    before = np.where(starts > 0, total[starts - 1], 0.0)
    shares: np.ndarray = total - np.repeat(before, np.repeat(boxes.width + 1, boxes.height))
    return shares


def _counted(
    at: Int[np.ndarray, " item"], value: Float[np.ndarray, " item"], size: int
) -> Float[np.ndarray, " cell"]:
    """Sum of the values at each place; `bincount` of nothing would be integer."""
    return np.bincount(at, value, minlength=size).astype(np.float64, copy=False)


def _spread(
    first: Int[np.ndarray, " item"], count: Int[np.ndarray, " item"]
) -> tuple[Int[np.ndarray, " piece"], Int[np.ndarray, " piece"]]:
    """Repeat each item `count` times; the item and `first`, `first + 1`, ... of each piece."""
    item = np.repeat(np.arange(len(first)), count)
    before = np.repeat(np.cumsum(count) - count, count)
    return item, first[item] + np.arange(len(item)) - before


def _edge_areas(
    start: Float[np.ndarray, "edge 2"],
    end: Float[np.ndarray, "edge 2"],
    origin: Float[np.ndarray, " edge"],
) -> Float[np.ndarray, " edge"]:
    """What each edge adds to the area of its ring, by the shoelace rule from a column `origin`."""
    middle = (start[:, 1] + end[:, 1]) / 2 - origin
    areas: np.ndarray = (start[:, 0] - end[:, 0]) * middle
    return areas


def _in_one_turn(polygons: Polygons, crs: str) -> Polygons:
    """Bring every ring between the map's two seams, cut in two where it crosses one."""
    if not len(polygons.row):
        return polygons
    seam = CENTRAL_MERIDIANS[crs] - 180.0
    west = np.minimum.reduceat(polygons.lonlat[:, 0], polygons.first[:-1])
    east = np.maximum.reduceat(polygons.lonlat[:, 0], polygons.first[:-1])
    turn = np.floor((west - seam) / 360.0)
    # A ring that only touches the eastern seam stays on its side.
    last = np.maximum(np.ceil((east - seam) / 360.0) - 1, turn)
    lonlat = polygons.lonlat.copy()
    lonlat[:, 0] -= 360.0 * np.repeat(turn, np.diff(polygons.first))
    rings, source = [], []
    for k, ring in enumerate(np.split(lonlat, polygons.first[1:-1])):
        copies = int(last[k] - turn[k]) + 1
        for copy in range(copies):
            moved = ring - np.array([360.0 * copy, 0.0])
            rings.append(_clamped(moved, seam) if copies > 1 else moved)
            source.append(k)
    lonlat = np.concatenate(rings)
    # PROJ may turn a longitude on the seam to the other side.
    low, high = seam + _SEAM_DEGREES, seam + 360.0 - _SEAM_DEGREES
    lonlat[:, 0] = np.clip(lonlat[:, 0], low, high)
    first = np.cumsum([0, *map(len, rings)])
    return Polygons(lonlat, first, polygons.row[source], polygons.hole[source], polygons.index)


def _clamped(ring: Float[np.ndarray, "_ 2"], seam: float) -> Float[np.ndarray, "_ 2"]:
    """Press what lies beyond the seams onto them, where it has no area."""
    for edge in (seam, seam + 360.0):
        lon = ring[:, 0]
        crossing = np.flatnonzero((lon[:-1] < edge) != (lon[1:] < edge))
        start, end = ring[crossing], ring[crossing + 1]
        share = (edge - start[:, :1]) / (end - start)[:, :1]
        ring = np.insert(ring, crossing + 1, start + (end - start) * share, axis=0)
    clamped: np.ndarray = np.clip(ring, [seam, -90.0], [seam + 360.0, 90.0])
    return clamped
