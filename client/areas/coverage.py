"""How much of each cell a polygon covers: exact areas, without cutting any shape.

An edge is split where it crosses the lines between rows and columns. Each piece covers a known part
of its own cell and all of the cells east of it, so that one running sum along the row gives every
cell's share. The rule is that of font rasterizers.

Source: Levien, "Inside the fastest font renderer in the world" (2016), the signed-area accumulation
of libart and FreeType.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.areas.outlines import Outlines, counted
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.index_ranges import expand_ranges
from unigeo.schemas.geo.window import Window

_MOST_CELLS = 1 << 21  # of all polygons' boxes worked on at once: some 100 MB
_LEAST_SHARE = 1e-8  # of a cell; less is rounding of metres, which for small cells is 3e-9
_LEAST_RISE = 1e-100  # of an edge, in rows; the slope of one that rises less has no number
_SMALL = 1e-3  # of a cell: the area below which rounding is measured by the polygon's height
_OVERLAP = 0.01  # of a cell; more cannot come from edges that bend by a few metres


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


def cover(outlines: Outlines, window: Window) -> Iterator[Cover]:
    """Every polygon's share of every cell of a window, a batch of polygons at a time.

    The shares of a polygon within the grid sum to its area there, in cells.

    Raises:
        RegionError: naming a polygon whose rings overlap.
    """
    return _cover(outlines, window, _near(outlines, window))


def _cover(
    outlines: Outlines, window: Window, wanted: Bool[np.ndarray, " polygon"]
) -> Iterator[Cover]:
    """Shares of the cells of a window, of those polygons that are wanted and meet it."""
    near = np.flatnonzero(wanted)
    if not len(near):
        return
    boxes = _boxes(outlines.bounds[near], window)
    cells = np.cumsum(boxes.height * (boxes.width + 1))
    batch = cells // _MOST_CELLS
    for members in np.split(np.arange(len(near)), np.flatnonzero(np.diff(batch)) + 1):
        yield _cover_of(outlines, window, near[members], boxes.take(members))


def reach(outlines: Outlines, window: Window) -> Bool[np.ndarray, "row col"]:
    """Which cells of a window any polygon covers a part of."""
    near, small = _near(outlines, window), outlines.area < _SMALL
    edge = np.flatnonzero((near & ~small)[outlines.polygon])
    whole = _Boxes(*(np.array([n]) for n in (0, 0, window.height, window.width)))
    shares = _accumulate(outlines, window, edge, np.zeros(len(edge), np.int64), whole)
    touched: np.ndarray = shares.reshape(window.height, -1)[:, :-1] > _LEAST_SHARE
    for part in _cover(outlines, window, near & small):
        touched[part.row, part.col] = True
    return touched


def holds_centre(outlines: Outlines, window: Window) -> Bool[np.ndarray, "row col"]:
    """Which cells of a window have their centre in a polygon."""
    edge = np.flatnonzero(_near(outlines, window)[outlines.polygon])
    corner = np.array([window.row, window.col])
    start, end = outlines.start[edge] - corner, outlines.end[edge] - corner
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first = np.clip(np.ceil(low - 0.5), 0, window.height).astype(np.int64)
    last = np.clip(np.ceil(high - 0.5), 0, window.height).astype(np.int64)
    piece, row = expand_ranges(first, last - first)
    slope = (end[:, 1] - start[:, 1])[piece] / (end[:, 0] - start[:, 0])[piece]
    crossing = start[piece, 1] + (row + 0.5 - start[piece, 0]) * slope
    col = np.clip(np.ceil(crossing - 0.5), 0, window.width).astype(np.int64)
    sign = outlines.sense[edge] * np.sign(end[:, 0] - start[:, 0])
    stride = window.width + 1
    change = counted(row * stride + col, sign[piece], window.height * stride)
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
    least = np.repeat(_least_shares(outlines)[polygon], boxes.height * stride)
    entry = np.flatnonzero(shares > least)
    box = np.searchsorted(offset, entry, side="right") - 1
    row, col = np.divmod(entry - offset[box], stride[box])
    share = np.minimum(shares[entry], 1.0)
    return Cover(polygon[box], row + boxes.top[box], col + boxes.left[box], share)


def _least_shares(outlines: Outlines) -> Float[np.ndarray, " polygon"]:
    """Share of a cell below which nothing but rounding is left of each polygon.

    Rounding grows with the height of what is summed, which is that of a small polygon.
    """
    north, _, south, _ = outlines.bounds.T
    height = np.where(outlines.area < _SMALL, np.minimum(south - north, 1.0), 1.0)
    least: np.ndarray = _LEAST_SHARE * height
    return least


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
    kept = (high - low > _LEAST_RISE) & (np.minimum(start[:, 1], end[:, 1]) < width)
    start, end, low, high, box = start[kept], end[kept], low[kept], high[kept], box[kept]
    down = outlines.sense[edge[kept]] * np.sign(end[:, 0] - start[:, 0])
    slope = (end[:, 1] - start[:, 1]) / (end[:, 0] - start[:, 0])
    least, most = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])

    first = np.floor(low).astype(np.int64)
    piece, row = expand_ranges(first, np.ceil(high).astype(np.int64) - first)
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
    part, col = expand_ranges(first, np.maximum(np.ceil(inner_east).astype(np.int64) - first, 1))
    begin = np.maximum(inner_west[part], col)
    finish = np.minimum(inner_east[part], col + 1)
    upright = (east == west)[part]
    inside = (inner_west == west)[part]
    share = np.where(upright, inside, (finish - begin) / span[part]) * rise[part]
    middle = (begin + finish) / 2 - col

    cells = int((boxes.height * (boxes.width + 1)).sum())
    where = at[part] + col
    change = counted(where, share * (1 - middle), cells + 1)
    change += counted(where + 1, share * middle, cells + 2)[: cells + 1]
    change += counted(at, beyond * rise, cells + 1)
    total = np.cumsum(change[:cells])
    starts = _row_starts(boxes)
    before = np.where(starts > 0, total[starts - 1], 0.0)
    shares: np.ndarray = total - np.repeat(before, np.repeat(boxes.width + 1, boxes.height))
    return shares
