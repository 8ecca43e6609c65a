"""Statistics of a field's covariates over polygons; each shard is read once."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.areas.cell_weights import CellWeights
from unigeo.client.areas.statistic_names import Statistic
from unigeo.client.areas.zonal_sums import (
    ZonalValues,
    covered_windows,
    read_codes,
    read_valid,
    weighted_cells,
)
from unigeo.client.reading.covariates import Selection, positions
from unigeo.client.shapes.area_status import add_areas
from unigeo.client.shapes.coverage import cover
from unigeo.client.shapes.outlines import Outlines
from unigeo.schemas.store.layout import COVARIATES
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    from unigeo.client.reading.stored_field import StoredField


@dataclass(eq=False)
class _Sums:
    """What the numbers of cells add up to in each polygon, of each covariate by itself."""

    polygons: int
    names: int
    centre: Float[np.ndarray, " name"] | None = None
    """Numbers from which distances are squared, near the numbers that are summed."""
    weight: Float[np.ndarray, "polygon name"] = field(init=False)
    total: Float[np.ndarray, "polygon name"] = field(init=False)
    square: Float[np.ndarray, "polygon name"] = field(init=False)
    low: Float[np.ndarray, "polygon name"] = field(init=False)
    high: Float[np.ndarray, "polygon name"] = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.polygons, self.names)
        self.weight, self.total, self.square = np.zeros((3, *shape))
        self.low, self.high = np.full(shape, np.inf), np.full(shape, -np.inf)

    def add(
        self,
        polygon: Int[np.ndarray, " entry"],
        numbers: Float[np.ndarray, "entry name"],
        weight: Float[np.ndarray, " entry"],
    ) -> None:
        """Add cells; NaN is no number, and takes no part in that covariate."""
        if self.centre is None:
            self.centre = np.nan_to_num(numbers[0])
        known = ~np.isnan(numbers)
        away = np.where(known, numbers - self.centre, 0.0)
        for k in range(self.names):
            weights = weight * known[:, k]
            for into, values in (
                (self.weight, weights),
                (self.total, weights * away[:, k]),
                (self.square, weights * away[:, k] ** 2),
            ):
                into[:, k] += np.bincount(polygon, values, minlength=self.polygons)
            rows = np.flatnonzero(known[:, k])
            np.minimum.at(self.low[:, k], polygon[rows], numbers[rows, k])
            np.maximum.at(self.high[:, k], polygon[rows], numbers[rows, k])

    def values(self, statistic: str) -> Float[np.ndarray, "polygon name"]:
        """Return a statistic, NaN where no cell has the number."""
        with np.errstate(invalid="ignore"):  # 0 / 0
            mean = self.total / self.weight
            if statistic == "std":
                variance = np.maximum(self.square / self.weight - mean**2, 0.0)
                return np.asarray(np.sqrt(variance))
        if statistic == "mean":
            return np.asarray(mean + (0.0 if self.centre is None else self.centre))
        return np.where(self.weight > 0, self.low if statistic == "min" else self.high, np.nan)


def zonal_covariates(
    field: "StoredField",
    outlines: Outlines,
    chosen: Selection,
    statistics: tuple[Statistic, ...],
    weights: CellWeights | None,
    progress: bool,
) -> ZonalValues:
    """Compute statistics of each covariate over the cells that have it.

    Raises:
        ValueError: if a quantile is asked for.
    """
    if any(one.level is not None for one in statistics):
        raise ValueError(
            "quantiles are computed of vectors; covariates have mean, std, min and max: ask for "
            "them apart"
        )
    columns = positions(field, chosen.covariates)
    sums, areas = _Sums(outlines.count, len(columns)), np.zeros((outlines.count, len(Status)))
    for window in covered_windows(field, outlines, progress):
        factor = None if weights is None else weights.window(window)
        codes = read_codes(field, COVARIATES, window)
        valid = codes == Status.VALID
        stored = read_valid(field, COVARIATES, outlines, window, valid)
        for part in cover(outlines, window):
            add_areas(areas, part, codes[part.row, part.col])
            polygon, cell, weight = weighted_cells(part, valid, factor)
            if stored is not None and len(cell):
                numbers = stored.reshape(-1, stored.shape[2])[cell][:, columns]
                sums.add(polygon, numbers.astype(np.float64), weight)
    values = np.concatenate([sums.values(one.name) for one in statistics], axis=1)
    amounts = {COVARIATES: (areas, sums.weight.max(axis=1, initial=0.0))}
    return values.astype(np.float32), amounts
