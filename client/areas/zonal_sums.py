"""Sums of a field's vectors over polygons; each shard is read once, however many lie in it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, Shaped, UInt8

from unigeo.client.areas.cell_weights import CellWeights
from unigeo.client.areas.windows import bounding_window
from unigeo.client.progress import with_progress
from unigeo.client.reading.leading_bands import no_direction_error
from unigeo.client.reading.sampling import numbers_of
from unigeo.client.shapes.area_status import add_areas, check_codes
from unigeo.client.shapes.coverage import Cover, cover, touched_cells
from unigeo.client.shapes.outlines import Outlines
from unigeo.schemas.errors import DamagedError
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.layout import COVARIATES, status_name
from unigeo.schemas.store.quantization import FILL
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    from unigeo.client.reading.stored_field import StoredField

ZonalValues = tuple[
    Float[np.ndarray, "polygon column"],
    dict[str, tuple[Float[np.ndarray, "polygon reason"], Float[np.ndarray, " polygon"]]],
]
"""Statistics of each polygon, and, by array, its area by status and the sum of its weights."""

_BLOCK_CELLS = 4096
"""Vectors that are summed together in float32; they take 12 MB at 768 bands."""


@dataclass(eq=False)
class ZonalSums:
    """What one modality's cells add up to in each polygon."""

    count: int
    """Number of polygons."""
    bands: int
    statistics: frozenset[str]
    """Names of the statistics that are wanted; see `statistic_names`."""
    areas: Float[np.ndarray, "polygon reason"] = field(init=False)
    """Area by status, in cells."""
    entries: Int[np.ndarray, " polygon"] = field(init=False)
    """Number of cells with a vector and a weight."""
    weight: Float[np.ndarray, " polygon"] = field(init=False)
    """Sum of weights; a cell's is the share that lies in the polygon, times its own weight."""
    total: Float[np.ndarray, "polygon band"] = field(init=False)
    """Sum of weighted vectors."""
    spread: Float[np.ndarray, "polygon band"] | None = field(init=False, default=None)
    """Weighted sum of squared distances from the mean, if `std` is wanted."""
    low: Float[np.ndarray, "polygon band"] | None = field(init=False, default=None)
    """Smallest value, if `min` or a quantile is wanted; infinite without a cell."""
    high: Float[np.ndarray, "polygon band"] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        shape = (self.count, self.bands)
        self.areas, self.entries = np.zeros((self.count, len(Status))), np.zeros(self.count, int)
        self.weight, self.total = np.zeros(self.count), np.zeros(shape)
        if "std" in self.statistics:
            self.spread = np.zeros(shape)
        if self.statistics & {"min", "quantile"}:
            self.low = np.full(shape, np.inf, np.float32)
        if self.statistics & {"max", "quantile"}:
            self.high = np.full(shape, -np.inf, np.float32)

    @property
    def has_weight(self) -> Bool[np.ndarray, " polygon"]:
        """Whether each polygon has a cell with a vector and a weight."""
        has: np.ndarray = self.weight > 0
        return has

    def mean(self) -> Float[np.ndarray, "polygon band"]:
        """Return the weighted means, NaN without a cell."""
        with np.errstate(invalid="ignore"):  # 0 / 0
            means: np.ndarray = self.total / self.weight[:, None]
        return means

    def std(self) -> Float[np.ndarray, "polygon band"]:
        """Return the weighted standard deviations of the population, NaN without a cell."""
        assert self.spread is not None
        with np.errstate(invalid="ignore"):
            deviations: np.ndarray = np.sqrt(self.spread / self.weight[:, None])
        return deviations

    def add(
        self,
        polygon: int,
        stored: Int8[np.ndarray, "cell band"],
        weights: Float[np.ndarray, " cell"],
    ) -> None:
        """Add some cells of one polygon.

        Args:
            polygon: its number.
            stored: their vectors as stored, of any length.
            weights: above 0.

        Raises:
            LayoutError: if a vector has only zeros.
        """
        vectors = stored.astype(np.float32)
        lengths = np.sqrt(np.einsum("cb,cb->c", vectors, vectors))
        if not lengths.all():
            raise no_direction_error(self.bands)
        weight = float(weights.sum())
        shares = weights / weight  # of any unit; float32 could not hold every weight
        if self.statistics == {"mean"}:
            scaled = (shares / lengths).astype(np.float32)  # normalizes and weighs in one step
        else:
            vectors /= lengths[:, None]
            scaled = shares.astype(np.float32)
        # Not `@`, whose threads wait for each other on a busy machine.
        mean = np.einsum("c,cb->b", scaled, vectors)
        if self.spread is not None:
            self._add_spread(polygon, vectors, scaled, mean, weight)
        self.total[polygon] += weight * mean.astype(np.float64)
        self.weight[polygon] += weight
        self.entries[polygon] += len(weights)
        if self.low is not None:
            self.low[polygon] = np.minimum(self.low[polygon], vectors.min(axis=0))
        if self.high is not None:
            self.high[polygon] = np.maximum(self.high[polygon], vectors.max(axis=0))

    def _add_spread(
        self,
        polygon: int,
        vectors: Float[np.ndarray, "cell band"],
        shares: Float[np.ndarray, " cell"],
        mean: Float[np.ndarray, " band"],
        weight: float,
    ) -> None:
        """Add the spread of some cells to that of the cells before them.

        Args:
            polygon: its number.
            vectors: unit vectors of the cells.
            shares: their weights, which sum to 1.
            mean: their mean.
            weight: the sum of the weights.

        Source: Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance",
        equation 2.1, with weights for counts.
        """
        assert self.spread is not None
        away = vectors - mean
        self.spread[polygon] += weight * np.einsum("c,cb->b", shares, away * away, dtype=float)
        before = self.weight[polygon]
        if before:
            apart = mean - self.total[polygon] / before
            self.spread[polygon] += apart**2 * (before * weight / (before + weight))


def sum_polygons(
    field: "StoredField",
    modalities: Iterable[str],
    outlines: Outlines,
    statistics: Iterable[str],
    weights: CellWeights | None,
    progress: bool,
) -> dict[str, ZonalSums]:
    """Sum each modality over polygons, in one pass over the shards that they cover."""
    wanted = frozenset(statistics)
    sums = {
        name: ZonalSums(outlines.count, field.layout.width(name), wanted) for name in modalities
    }
    for window in covered_windows(field, outlines, progress):
        factor = None if weights is None else weights.window(window)
        for name, into in sums.items():  # one shard of one modality is in memory at a time
            codes = read_codes(field, name, window)
            valid = codes == Status.VALID
            stored = read_valid(field, name, outlines, window, valid)
            for part in cover(outlines, window):
                add_areas(into.areas, part, codes[part.row, part.col])
                if stored is not None:
                    for polygon, vectors, weight in iter_cells(part, stored, valid, factor):
                        into.add(polygon, vectors, weight)
    return sums


def iter_cells(
    part: Cover,
    stored: Int8[np.ndarray, "row col band"],
    valid: Bool[np.ndarray, "row col"],
    factor: Float[np.ndarray, "row col"] | None,
) -> Iterator[tuple[int, Int8[np.ndarray, "cell band"], Float[np.ndarray, " cell"]]]:
    """Yield the valid cells of a cover polygon by polygon, at most some thousand at a time.

    Args:
        part: the cover of a window.
        stored: the window's vectors as stored.
        valid: whether each cell has one.
        factor: the weights of the cells beside their shares.

    Yields:
        The number of the polygon, vectors as stored, and their weights, which are above 0.
    """
    flat = stored.reshape(-1, stored.shape[2])
    polygon, cell, weight = weighted_cells(part, valid, factor)
    for start in range(0, len(polygon), _BLOCK_CELLS):
        block = slice(start, start + _BLOCK_CELLS)
        # Entries are in the order of polygons: yield each run of one polygon.
        edges = np.flatnonzero(np.diff(polygon[block], prepend=-1, append=-1))
        for first, last in pairwise((start + edges).tolist()):
            run = slice(first, last)
            yield int(polygon[first]), flat[cell[run]], weight[run]


def weighted_cells(
    part: Cover,
    valid: Bool[np.ndarray, "row col"],
    factor: Float[np.ndarray, "row col"] | None,
) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " entry"], Float[np.ndarray, " entry"]]:
    """Return the valid cells of a cover that have a weight.

    Args:
        part: the cover of a window.
        valid: whether each cell of the window is valid.
        factor: the weights of the cells beside their shares.

    Returns:
        The number of each entry's polygon; of its cell, counted row by row; and its weight.
    """
    weight = part.share if factor is None else part.share * factor[part.row, part.col]
    kept = np.flatnonzero(valid[part.row, part.col] & (weight > 0))
    cell = part.row[kept] * valid.shape[1] + part.col[kept]
    return part.polygon[kept], cell, weight[kept]


def covered_windows(
    field: "StoredField", outlines: Outlines, progress: bool = False
) -> Iterator[Window]:
    """Yield the window of each shard that polygons cover."""
    within = bounding_window(field.grid, outlines)
    windows = [] if within is None else list(field.grid.shard_windows(field.layout.shard, within))
    for window in with_progress(windows, "zonal", "shards", progress):
        touched = touched_cells(outlines, window)
        if touched.any():
            yield _crop(window, touched)


def _crop(window: Window, wanted: Bool[np.ndarray, "row col"]) -> Window:
    """Return the smallest window that holds the wanted cells."""
    rows, cols = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    top, left = int(rows[0]), int(cols[0])
    height, width = int(rows[-1]) - top + 1, int(cols[-1]) - left + 1
    return Window(top, left, height, width).shifted(window.row, window.col)


def read_codes(field: "StoredField", array: str, window: Window) -> UInt8[np.ndarray, "row col"]:
    """Read the status codes of a window."""
    return check_codes(field.read(status_name(array), *window.slices))


def read_valid(
    field: "StoredField",
    array: str,
    outlines: Outlines,
    window: Window,
    valid: Bool[np.ndarray, "row col"],
) -> Shaped[np.ndarray, "row col band"] | None:
    """Read a window's vectors or covariates as stored; None if no polygon covers a valid cell.

    Raises:
        DamagedError: if a valid cell holds no number: then the store has lost a part.
    """
    if not (valid & touched_cells(outlines, window)).any():
        return None
    stored: np.ndarray = field.read(array, *window.slices)
    # A cell may lack some of its covariates; a vector's bands all have the fill value, or none has.
    empty = np.isnan(stored).all(axis=-1) if array == COVARIATES else stored[..., 0] == FILL
    lost = np.argwhere(empty & valid)
    if len(lost):
        row, col = lost[0] + (window.row, window.col)
        raise DamagedError(
            f"{len(lost)} cells have the status valid and no {numbers_of(array)}, the first in row "
            f"{row}, column {col}: the store has lost a shard, or does not let it be read. Copy "
            "the store anew."
        )
    return stored
