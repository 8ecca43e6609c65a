"""Quantiles of each band over polygons: exact for polygons of up to 65,536 cells, else sketched.

A quantile is the smallest value at or below which lies at least its share of the weight, as of
`numpy.quantile(..., method="inverted_cdf", weights=...)`. Of a larger polygon it is read from a
histogram of 4,096 bins between the smallest and the largest value, which errs by at most half a
bin.
"""

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Int8

from unigeo.client.areas.cell_weights import CellWeights
from unigeo.client.areas.zonal_sums import (
    ZonalSums,
    covered_windows,
    iter_cells,
    read_codes,
    read_valid,
)
from unigeo.client.reading.sampling import Modality, missing_reasons
from unigeo.client.shapes.coverage import Cover, cover, cover_grid
from unigeo.client.shapes.outlines import Outlines
from unigeo.schemas.store.quantization import FILL
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    from unigeo.client.reading.stored_field import StoredField

_MOST_CELLS = 1 << 16
"""Cells whose vectors are sorted together; they take 50 MB at 768 bands."""
_BANDS = 64
"""Bands that are sorted together; those of the most cells take 50 MB with their order."""
_BINS = 4096
"""Bins of a histogram, which takes 25 MB for each polygon at 768 bands."""
_MOST_SKETCHED = 8
"""Polygons whose histograms are filled in one pass over the shards that they cover."""

Levels = tuple[float, ...]


def zonal_quantiles(
    field: "StoredField",
    modality: str,
    outlines: Outlines,
    levels: Levels,
    sums: ZonalSums,
    weights: CellWeights | None,
) -> Float[np.ndarray, "level polygon band"]:
    """Compute the quantiles of every band over polygons, NaN without a cell.

    Args:
        field: the field to read.
        modality: its modality.
        outlines: the polygons on the field's grid.
        levels: shares of the weight, 0 to 1.
        sums: of the same modality, polygons and weights, with the smallest and largest values.
        weights: of the cells.
    """
    found = np.full((len(levels), sums.count, sums.bands), np.nan, np.float32)
    small = np.flatnonzero((sums.entries > 0) & (sums.entries <= _MOST_CELLS))
    large = np.flatnonzero(sums.entries > _MOST_CELLS)
    for polygons in _groups(small, sums.entries):
        part = outlines.take(polygons)
        found[:, polygons] = _exact(field, modality, part, levels, weights)
    for first in range(0, len(large), _MOST_SKETCHED):
        polygons = large[first : first + _MOST_SKETCHED]
        assert sums.low is not None and sums.high is not None
        ends = sums.low[polygons], sums.high[polygons]
        found[:, polygons] = _sketched(
            field, modality, outlines.take(polygons), levels, ends, weights
        )
    return found


def _groups(
    polygons: Int[np.ndarray, " polygon"], entries: Int[np.ndarray, " all"]
) -> Iterator[Int[np.ndarray, " member"]]:
    """Split polygons into runs of at most `_MOST_CELLS` cells together."""
    group: list[int] = []
    filled = 0
    for polygon in polygons.tolist():
        if group and filled + entries[polygon] > _MOST_CELLS:
            yield np.array(group)
            group, filled = [], 0
        group.append(polygon)
        filled += int(entries[polygon])
    if group:
        yield np.array(group)


def _exact(
    field: "StoredField",
    modality: str,
    outlines: Outlines,
    levels: Levels,
    weights: CellWeights | None,
) -> Float[np.ndarray, "level polygon band"]:
    """Compute quantiles by sorting the vectors of all cells of the polygons."""
    arrays, grid = field.modality(modality), field.grid
    parts = [
        _kept(part, arrays, weights)
        # A polygon of few cells with a vector may cover many without one: keep none of these.
        for part in cover_grid(outlines, grid)
    ]
    polygon, row, col, weight = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("polygon", "row", "col", "share")
    )
    number, slot = np.unique(row * grid.shape[1] + col, return_inverse=True)
    rowcol = np.stack(np.divmod(number, grid.shape[1]), axis=-1)
    stored = np.empty((len(number), arrays.vectors.bands), np.int8)
    arrays.vectors.gather(rowcol, stored)
    missing_reasons(arrays, rowcol[stored[:, 0] == FILL])  # raises, since a vector is lost
    order = np.argsort(polygon, kind="stable")
    edges = np.searchsorted(polygon[order], np.arange(outlines.count + 1))
    found = np.full((len(levels), outlines.count, stored.shape[1]), np.nan, np.float32)
    for one in range(outlines.count):
        members = order[edges[one] : edges[one + 1]]
        if len(members):
            found[:, one] = _sorted_quantiles(stored[slot[members]], weight[members], levels)
    return found


def _kept(part: Cover, arrays: Modality, weights: CellWeights | None) -> Cover:
    """Return the cells of a cover that have a vector and a weight, with weights for shares."""
    codes = np.empty((len(part.row), 1), np.uint8)
    arrays.status.gather(np.stack([part.row, part.col], axis=-1), codes)
    weight = part.share
    if weights is not None:
        weight = weight * weights.at(part.row, part.col, arrays.grid)
    kept = np.flatnonzero((codes[:, 0] == Status.VALID) & (weight > 0))
    return Cover(part.polygon[kept], part.row[kept], part.col[kept], weight[kept])


def _sorted_quantiles(
    stored: Int8[np.ndarray, "cell band"],
    weight: Float[np.ndarray, " cell"],
    levels: Levels,
) -> Float[np.ndarray, "level band"]:
    """Compute weighted quantiles of every band of some cells."""
    lengths = np.sqrt(np.einsum("cb,cb->c", stored, stored, dtype=np.float32))
    found = np.empty((len(levels), stored.shape[1]), np.float32)
    for first in range(0, stored.shape[1], _BANDS):
        bands = slice(first, first + _BANDS)
        values = stored[:, bands] / lengths[:, None]
        order = np.argsort(values, axis=0)
        below = np.cumsum(weight[order], axis=0)
        below /= below[-1]
        for number, level in enumerate(levels):
            # The last sum is 1, so that there is always one at or above the level.
            at = (below < level).sum(axis=0)
            found[number, bands] = np.take_along_axis(
                values, np.take_along_axis(order, at[None], axis=0), axis=0
            )[0]
    return found


def _sketched(
    field: "StoredField",
    modality: str,
    outlines: Outlines,
    levels: Levels,
    ends: tuple[Float[np.ndarray, "polygon band"], Float[np.ndarray, "polygon band"]],
    weights: CellWeights | None,
) -> Float[np.ndarray, "level polygon band"]:
    """Read quantiles from histograms between the ends, filled in one pass over the shards."""
    low, high = ends
    bands = low.shape[1]
    histogram = np.zeros((outlines.count, bands * _BINS))
    width = np.where(high > low, (high - low).astype(np.float64), 1.0) / _BINS
    for window in covered_windows(field, outlines):
        valid = read_codes(field, modality, window) == Status.VALID
        stored = read_valid(field, modality, outlines, window, valid)
        if stored is None:
            continue
        factor = None if weights is None else weights.window(window)
        cells = (iter_cells(part, stored, valid, factor) for part in cover(outlines, window))
        for polygon, vectors, weight in chain.from_iterable(cells):
            lengths = np.sqrt(np.einsum("cb,cb->c", vectors, vectors, dtype=np.float32))
            values = vectors / lengths[:, None]
            bins = ((values - low[polygon]) / width[polygon]).astype(np.int64)
            bins = np.clip(bins, 0, _BINS - 1) + np.arange(bands) * _BINS
            counted = np.repeat(weight, bands)
            histogram[polygon] += np.bincount(bins.reshape(-1), counted, bands * _BINS)
    below = np.cumsum(histogram.reshape(outlines.count, bands, _BINS), axis=2)
    below /= below[..., -1:]
    middles = [(below < level).sum(axis=2) + 0.5 for level in levels]
    found = np.stack([low + np.minimum(bin_, _BINS - 0.5) * width for bin_ in middles])
    clipped: np.ndarray = np.clip(found, low, high)
    return clipped.astype(np.float32)
