"""The exact share of each cell that a polygon covers, computed without intersecting shapes.

Edges are split where they cross the lines between rows and columns. Each piece covers a known part
of its own cell, and the full height of the piece in all cells east of it. With the sign of the
edge's direction, one cumulative sum along the row gives every cell's share. Font rasterizers use
the same rule.

Source: Levien, "Inside the fastest font renderer in the world" (2016), the signed-area accumulation
of libart and FreeType.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.shapes.outlines import Outlines, sum_at
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.index_ranges import expand_ranges
from unigeo.schemas.geo.window import Window

_MOST_CELLS = 1 << 21
"""Cells in the boxes of polygons that are computed together; they take some 100 MB."""
WINDOW_CELLS = 128
"""Cells along one side of the windows by which polygons of more cells than one are covered."""
_LEAST_SHARE = 1e-8
"""Share of a cell below which there is only rounding of metres, which for small cells is 3e-9."""
_LEAST_RISE = 1e-100
"""Rows that an edge must span; the slope of a flatter one overflows."""
_SMALL = 1e-3
"""Area, in cells, below which rounding is measured by the polygon's height."""
_OVERLAP = 0.01
"""Share beyond 0 to 1 that edges bent by a few metres can cause; more is an overlap."""


@dataclass(frozen=True, eq=False)
class Cover:
    """Cells that polygons cover, polygon by polygon."""

    polygon: Int[np.ndarray, " entry"]
    """Number of the polygon, in rising order."""
    row: Int[np.ndarray, " entry"]
    """Row of the cell, counted from the window's north-west corner."""
    col: Int[np.ndarray, " entry"]
    share: Float[np.ndarray, " entry"]
    """Share of the cell that lies in the polygon, above 0 and up to 1."""


def cover(outlines: Outlines, window: Window) -> Iterator[Cover]:
    """Yield every polygon's share of every cell of a window, one batch of polygons at a time.

    The shares of a polygon within the grid sum to its area there, in cells.

    Raises:
        RegionError: naming a polygon whose rings overlap.
    """
    return _cover_batches(outlines, window, _meets_window(outlines, window))


def cover_grid(outlines: Outlines, grid: Grid) -> Iterator[Cover]:
    """Yield every polygon's share of every cell of a grid, in bounded memory.

    Polygons of many cells are covered one window after another, so that they come in several parts.
    A part covers at most some `_MOST_CELLS` cells of all its polygons, counted with repeats.
    """
    near = _meets_window(outlines, grid.full_window)
    low, high = np.split(np.nan_to_num(outlines.bounds), 2, axis=1)
    large = near & (np.prod(high - low + 1, axis=1) > WINDOW_CELLS**2)
    yield from _cover_batches(outlines, grid.full_window, near & ~large)
    if not large.any():
        return
    (row, col), (end_row, end_col) = (
        np.clip(edge, 0, grid.shape).astype(int).tolist()
        for edge in (np.floor(low[large].min(axis=0)), np.ceil(high[large].max(axis=0)))
    )
    within = Window(row, col, end_row - row, end_col - col)
    for window in grid.shard_windows(WINDOW_CELLS, within):
        for part in _cover_batches(outlines, window, large & _meets_window(outlines, window)):
            yield replace(part, row=part.row + window.row, col=part.col + window.col)


def _cover_batches(
    outlines: Outlines, window: Window, wanted: Bool[np.ndarray, " polygon"]
) -> Iterator[Cover]:
    """Yield the shares of the wanted polygons, which all meet the window."""
    polygon = np.flatnonzero(wanted)
    if not len(polygon):
        return
    boxes = _boxes(outlines.bounds[polygon], window)
    cells = np.cumsum(boxes.height * (boxes.width + 1))
    batch = cells // _MOST_CELLS
    for members in np.split(np.arange(len(polygon)), np.flatnonzero(np.diff(batch)) + 1):
        yield _cover(outlines, window, polygon[members], boxes.take(members))


def touched_cells(outlines: Outlines, window: Window) -> Bool[np.ndarray, "row col"]:
    """Return which cells of a window are covered, in part or in full, by any polygon."""
    near, small = _meets_window(outlines, window), outlines.area < _SMALL
    # All large polygons are summed in one box, as if they were one. Small ones have their own
    # thresholds, and boxes of a few cells.
    edge = np.flatnonzero((near & ~small)[outlines.polygon])
    one_box = _Boxes(*(np.array([n]) for n in (0, 0, window.height, window.width)))
    shares = _accumulate(outlines, window, edge, np.zeros(len(edge), np.int64), one_box)
    touched: np.ndarray = shares.reshape(window.height, -1)[:, :-1] > _LEAST_SHARE
    for part in _cover_batches(outlines, window, near & small):
        touched[part.row, part.col] = True
    return touched


def holds_centre(outlines: Outlines, window: Window) -> Bool[np.ndarray, "row col"]:
    """Return which cells of a window have their centre in a polygon.

    An edge that crosses the line through a row's centres switches the cells east of the crossing
    in or out, by its direction; the cumulative sum counts how many polygons hold each centre.
    """
    edge = np.flatnonzero(_meets_window(outlines, window)[outlines.polygon])
    corner = np.array([window.row, window.col])
    start, end = outlines.start[edge] - corner, outlines.end[edge] - corner
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    # Rows whose centre line the edge crosses: low <= row + 0.5 < high, so that an edge which ends
    # on a centre line and the one that begins there count once.
    first = np.clip(np.ceil(low - 0.5), 0, window.height).astype(np.int64)
    last = np.clip(np.ceil(high - 0.5), 0, window.height).astype(np.int64)
    piece, row = expand_ranges(first, last - first)
    slope = (end[:, 1] - start[:, 1])[piece] / (end[:, 0] - start[:, 0])[piece]
    crossing = start[piece, 1] + (row + 0.5 - start[piece, 0]) * slope
    col = np.clip(np.ceil(crossing - 0.5), 0, window.width).astype(np.int64)
    sign = outlines.sense[edge] * np.sign(end[:, 0] - start[:, 0])
    stride = window.width + 1
    change = sum_at(row * stride + col, sign[piece], window.height * stride)
    inside: np.ndarray = np.cumsum(change.reshape(-1, stride), axis=1)[:, :-1] > 0.5
    return inside


@dataclass(frozen=True)
class _Boxes:
    """Bounding box of each polygon within a window, in cells of the window."""

    top: Int[np.ndarray, " box"]
    left: Int[np.ndarray, " box"]
    height: Int[np.ndarray, " box"]
    width: Int[np.ndarray, " box"]

    def take(self, members: Int[np.ndarray, " member"]) -> "_Boxes":
        """Return some of the boxes."""
        return _Boxes(*(side[members] for side in (self.top, self.left, self.height, self.width)))


def _meets_window(outlines: Outlines, window: Window) -> Bool[np.ndarray, " polygon"]:
    """Return which polygons have bounds that meet the window."""
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


def _cover(
    outlines: Outlines, window: Window, polygon: Int[np.ndarray, " box"], boxes: _Boxes
) -> Cover:
    """Compute the shares of a batch of polygons, each in a box of its own."""
    box_of = np.full(outlines.count, -1)
    box_of[polygon] = np.arange(len(polygon))
    edge = np.flatnonzero(box_of[outlines.polygon] >= 0)
    shares = _accumulate(outlines, window, edge, box_of[outlines.polygon[edge]], boxes)
    stride = boxes.width + 1
    offset = np.cumsum(boxes.height * stride) - boxes.height * stride
    # Each row has one column more, which holds what its last cell carries on to the east. As edges
    # beyond the box were left out, it means nothing: clear it.
    shares[_row_starts(boxes) + np.repeat(boxes.width, boxes.height)] = 0.0
    _refuse_overlaps(shares, offset, polygon)
    # From the flat result back to box, row and column.
    least = np.repeat(_least_shares(outlines)[polygon], boxes.height * stride)
    entry = np.flatnonzero(shares > least)
    box = np.searchsorted(offset, entry, side="right") - 1
    row, col = np.divmod(entry - offset[box], stride[box])
    share = np.minimum(shares[entry], 1.0)
    return Cover(polygon[box], row + boxes.top[box], col + boxes.left[box], share)


def _least_shares(outlines: Outlines) -> Float[np.ndarray, " polygon"]:
    """Return the share of a cell below which there is only rounding, for each polygon.

    Rounding is proportional to the heights that are summed, so a small polygon has a smaller one.
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
    """Raise if a share is below 0 or above 1, since then a polygon covers a cell twice."""
    wrong = np.flatnonzero((shares < -_OVERLAP) | (shares > 1 + _OVERLAP))
    if len(wrong):
        k = int(polygon[np.searchsorted(offset, wrong[0], side="right") - 1])
        raise RegionError(
            f"the polygon in row {k} overlaps or crosses itself; mend it first, for instance with "
            "shapely.make_valid"
        )


def _row_starts(boxes: _Boxes) -> Int[np.ndarray, " box_row"]:
    """Return the index in the flat result at which each row of each box starts."""
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
    """Sum the shares of the cells of all boxes.

    Args:
        outlines: the polygons.
        window: of which the boxes are parts.
        edge: numbers of the edges to add.
        box: the box that each of them is added to.
        boxes: their sizes; they are laid one after the other in the result.

    Returns:
        The shares, flat: box by box, row by row, each row with one column more than the box.
    """
    corner = np.stack([boxes.top[box] + window.row, boxes.left[box] + window.col], axis=-1)
    start, end = outlines.start[edge] - corner, outlines.end[edge] - corner
    height, width = boxes.height[box], boxes.width[box]
    low = np.clip(np.minimum(start[:, 0], end[:, 0]), 0, height)
    high = np.clip(np.maximum(start[:, 0], end[:, 0]), 0, height)
    # Horizontal edges span no height, and edges east of the box add nothing to its cells.
    kept = (high - low > _LEAST_RISE) & (np.minimum(start[:, 1], end[:, 1]) < width)
    start, end, low, high, box = start[kept], end[kept], low[kept], high[kept], box[kept]
    down = outlines.sense[edge[kept]] * np.sign(end[:, 0] - start[:, 0])
    slope = (end[:, 1] - start[:, 1]) / (end[:, 0] - start[:, 0])
    least, most = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])

    # One piece for each row that an edge spans: its height in the row, and its columns there.
    # Rounding may carry the columns past the ends of an edge, so they are clipped to these.
    first = np.floor(low).astype(np.int64)
    piece, row = expand_ranges(first, np.ceil(high).astype(np.int64) - first)
    upper, lower = np.maximum(low[piece], row), np.minimum(high[piece], row + 1)
    x1 = start[piece, 1] + (upper - start[piece, 0]) * slope[piece]
    x2 = start[piece, 1] + (lower - start[piece, 0]) * slope[piece]
    west = np.clip(np.minimum(x1, x2), least[piece], most[piece])
    east = np.clip(np.maximum(x1, x2), least[piece], most[piece])
    stride = boxes.width + 1
    offset = np.cumsum(boxes.height * stride) - boxes.height * stride
    row_start = offset[box[piece]] + row * stride[box[piece]]
    return _sum_rows(
        row_start, west, east, down[piece] * (lower - upper), boxes.width[box[piece]], boxes
    )


def _sum_rows(
    row_start: Int[np.ndarray, " piece"],
    west: Float[np.ndarray, " piece"],
    east: Float[np.ndarray, " piece"],
    rise: Float[np.ndarray, " piece"],
    width: Int[np.ndarray, " piece"],
    boxes: _Boxes,
) -> Float[np.ndarray, " cell"]:
    """Split pieces of edges, each within one row, at the columns, and sum along the rows.

    Args:
        row_start: index in the result at which the piece's row starts.
        west: western end of the piece, in columns of its box.
        east: its eastern end.
        rise: share of the row's height that it spans; negative if what lies east is outside.
        width: columns of its box; what lies further east is left out.
        boxes: their sizes; they are laid one after the other in the result.
    """
    # The share `beyond` of a piece lies west of the box. All cells of the row are east of it.
    inner_west, inner_east = np.clip(west, 0, width), np.clip(east, 0, width)
    span = np.where(east > west, east - west, 1.0)
    beyond = np.where(east > west, np.clip(-west, 0, east - west) / span, west < 0)
    first = np.floor(inner_west).astype(np.int64)
    part, col = expand_ranges(first, np.maximum(np.ceil(inner_east).astype(np.int64) - first, 1))
    begin = np.maximum(inner_west[part], col)
    finish = np.minimum(inner_east[part], col + 1)
    # A vertical piece spans no columns, so that its rise cannot be divided by columns.
    vertical = (east == west)[part]
    in_box = (inner_west == west)[part]
    share = np.where(vertical, in_box, (finish - begin) / span[part]) * rise[part]
    # East of the piece lies 1 - middle of its own cell, on average, and all of the cells further
    # east. As differences along the row: share * (1 - middle) here, and the rest one column later.
    middle = (begin + finish) / 2 - col

    cells = int((boxes.height * (boxes.width + 1)).sum())
    index = row_start[part] + col
    change = sum_at(index, share * (1 - middle), cells + 1)
    change += sum_at(index + 1, share * middle, cells + 2)[: cells + 1]
    change += sum_at(row_start, beyond * rise, cells + 1)
    # One cumulative sum over all rows; what came before each row is subtracted again.
    total = np.cumsum(change[:cells])
    starts = _row_starts(boxes)
    before = np.where(starts > 0, total[starts - 1], 0.0)
    shares: np.ndarray = total - np.repeat(before, np.repeat(boxes.width + 1, boxes.height))
    return shares
