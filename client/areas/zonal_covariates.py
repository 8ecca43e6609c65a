"""Statistics of a field's covariates over polygons; each shard is read once."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.areas.cell_weights import open_weights
from unigeo.client.areas.polygon_status import (
    NO_WEIGHT,
    raise_if_missing,
    status_texts,
    warn_of_missing,
)
from unigeo.client.areas.statistic_names import Statistic
from unigeo.client.areas.zonal_sums import covered_windows, read_codes
from unigeo.client.points.join import Missing
from unigeo.client.reading.covariates import positions
from unigeo.client.shapes.area_status import add_areas, shares_of, status_of
from unigeo.client.shapes.coverage import cover
from unigeo.client.shapes.outlines import outlines_on
from unigeo.client.shapes.polygon_rings import Polygons
from unigeo.schemas.store.layout import COVARIATES, status_name
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    import pandas as pd

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


def covariate_columns(
    names: tuple[str, ...], statistics: tuple[Statistic, ...], prefix: str, *, weighted: bool
) -> list[str]:
    """Return the names of the columns that `zonal_covariates` has."""
    values = [f"{prefix}{name}{one.infix}" for one in statistics for name in names]
    amounts = ("cells", "share", "weight") if weighted else ("cells", "share")
    return [
        *values,
        *(f"{prefix}{COVARIATES}_{amount}" for amount in amounts),
        prefix + status_name(COVARIATES),
    ]


def zonal_covariates(
    field: "StoredField",
    polygons: Polygons,
    names: tuple[str, ...],
    statistics: tuple[Statistic, ...],
    *,
    weights: Any = None,
    missing: Missing = "nan",
    prefix: str = "",
    progress: bool = False,
) -> "pd.DataFrame":
    """Return statistics of each covariate over the cells that have it; see `Field.zonal`.

    No polygon is left out: whoever joins the table to that of the vectors does.

    Raises:
        ValueError: if a quantile is asked for.
    """
    import pandas as pd

    if any(one.level is not None for one in statistics):
        raise ValueError(
            "quantiles are computed of vectors; covariates have mean, std, min and max: ask for "
            "them apart"
        )
    outlines = outlines_on(polygons, field.grid)
    sums, areas = _Sums(len(polygons), len(names)), np.zeros((len(polygons), len(Status)))
    columns = positions(field, names)
    with open_weights(field, weights) as of_cells:
        for window in covered_windows(field, outlines, progress):
            factor = None if of_cells is None else of_cells.window(window)
            codes = read_codes(field, COVARIATES, window)
            valid, numbers = codes == Status.VALID, None
            for part in cover(outlines, window):
                add_areas(areas, part, codes[part.row, part.col])
                weight = part.share
                if factor is not None:
                    weight = weight * factor[part.row, part.col]
                kept = np.flatnonzero(valid[part.row, part.col] & (weight > 0))
                if not len(kept):
                    continue
                if numbers is None:
                    numbers = field.read(COVARIATES, *window.slices)[..., columns]
                cells = numbers[part.row[kept], part.col[kept]].astype(np.float64)
                sums.add(part.polygon[kept], cells, weight[kept])
    status = status_of(areas, outlines.area, polygons.missing)
    most = sums.weight.max(axis=1, initial=0.0)
    status[(status == Status.VALID) & (most == 0)] = NO_WEIGHT
    if missing == "raise":
        raise_if_missing({COVARIATES: status}, polygons.index)
    warn_of_missing(field, polygons, status)
    values = np.concatenate([sums.values(one.name) for one in statistics], axis=1)
    amounts = [areas[:, Status.VALID], shares_of(areas[:, Status.VALID], outlines.area), most]
    named = covariate_columns(names, statistics, prefix, weighted=weights is not None)
    count = values.shape[1]
    table = pd.DataFrame(values.astype(np.float32), polygons.index, named[:count])
    beside: dict[str, Any] = dict(zip(named[count:-1], amounts, strict=False))
    beside |= {named[-1]: status_texts(status, weights is not None)}
    return pd.concat([table, pd.DataFrame(beside, index=table.index)], axis=1)
