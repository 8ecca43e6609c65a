"""Tables of a field over polygons: statistics of its numbers, and the area by status."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.areas.cell_weights import CellWeights, open_weights
from unigeo.client.areas.polygon_status import (
    NO_WEIGHT,
    POLYGON_TEXTS,
    raise_if_missing,
    status_texts,
    warn_of_missing,
)
from unigeo.client.areas.quantiles import zonal_quantiles
from unigeo.client.areas.statistic_names import MEAN, Statistic, zonal_columns
from unigeo.client.areas.zonal_covariates import zonal_covariates
from unigeo.client.areas.zonal_sums import (
    ZonalSums,
    ZonalValues,
    covered_windows,
    read_codes,
    sum_polygons,
)
from unigeo.client.points.join import Missing
from unigeo.client.reading.covariates import Selection
from unigeo.client.shapes.area_status import (
    NO_SHAPE,
    ROUNDING,
    add_areas,
    shares_of,
    status_of,
)
from unigeo.client.shapes.coverage import cover
from unigeo.client.shapes.outlines import Outlines, outlines_on
from unigeo.client.shapes.polygon_rings import Polygons, refuse
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.reading.stored_field import StoredField

OFF_THE_FIELD = "off the field"


def zonal_table(
    field: "StoredField",
    polygons: Polygons,
    chosen: Selection,
    statistics: tuple[Statistic, ...] = (MEAN,),
    *,
    weights: Any = None,
    normalize: bool = False,
    missing: Missing = "nan",
    prefix: str = "",
    progress: bool = False,
) -> "pd.DataFrame":
    """Return statistics of the vectors and covariates of each polygon; see `Field.zonal`."""
    import pandas as pd

    weighted = weights is not None
    names = zonal_columns(field.layout, chosen, statistics, prefix, weighted=weighted)
    outlines = outlines_on(polygons, field.grid)
    found: list[ZonalValues] = []
    with open_weights(field, weights) as of_cells:
        if chosen.covariates:  # first, since it refuses quantiles
            found += [zonal_covariates(field, outlines, chosen, statistics, of_cells, progress)]
        if chosen.modalities:
            vectors = _zonal_vectors(
                field, outlines, chosen.modalities, statistics, of_cells, normalize, progress
            )
            found.insert(0, vectors)
    status: dict[str, np.ndarray] = {}
    columns: list[pd.DataFrame] = []
    for values, amounts in found:
        columns.append(pd.DataFrame(values, copy=False))
        for array, (areas, weight) in amounts.items():
            codes = status_of(areas, outlines.area, polygons.missing)
            codes[(codes == Status.VALID) & (weight <= 0)] = NO_WEIGHT
            status[array] = codes
            valid = areas[:, Status.VALID]
            beside: list[Any] = [valid, shares_of(valid, outlines.area)]
            beside += [weight] if weighted else []
            beside += [status_texts(codes, weighted)]
            columns.append(pd.DataFrame(dict(enumerate(beside))))
    if missing == "raise":
        raise_if_missing(status, polygons.index)
    warn_of_missing(field, polygons, status[chosen.arrays[0]])
    table = pd.concat(columns, axis=1).set_axis(names, axis=1).set_axis(polygons.index)
    if missing == "drop":
        table = table[np.all([codes == Status.VALID for codes in status.values()], axis=0)]
    return table


def zonal_means(
    field: "StoredField",
    polygons: Polygons,
    modalities: tuple[str, ...],
    *,
    weights: Any = None,
    progress: bool = False,
) -> dict[str, Float[np.ndarray, "polygon band"]]:
    """Return the mean vectors of `Field.zonal` as float32 arrays, NaN where no cell has one."""
    outlines = outlines_on(polygons, field.grid)
    with open_weights(field, weights) as of_cells:
        sums = sum_polygons(field, modalities, outlines, {MEAN.name}, of_cells, progress)
    return {name: each.mean().astype(np.float32) for name, each in sums.items()}


def _zonal_vectors(
    field: "StoredField",
    outlines: Outlines,
    modalities: tuple[str, ...],
    statistics: tuple[Statistic, ...],
    weights: CellWeights | None,
    normalize: bool,
    progress: bool,
) -> ZonalValues:
    """Compute statistics of the vectors of each polygon."""
    kinds = {statistic.name for statistic in statistics}
    sums = sum_polygons(field, modalities, outlines, kinds, weights, progress)
    blocks = [
        block
        for name, each in sums.items()
        for block in _blocks(field, name, outlines, statistics, each, weights, normalize)
    ]
    amounts = {name: (each.areas, each.weight) for name, each in sums.items()}
    return np.concatenate(blocks, axis=1), amounts


def _blocks(
    field: "StoredField",
    modality: str,
    outlines: Outlines,
    statistics: tuple[Statistic, ...],
    sums: ZonalSums,
    weights: CellWeights | None,
    normalize: bool,
) -> list[Float[np.ndarray, "polygon band"]]:
    """Return the values of each statistic of a modality, float32."""
    levels = tuple(one.level for one in statistics if one.level is not None)
    quantiles: dict[float, np.ndarray] = {}
    if levels:
        found = zonal_quantiles(field, modality, outlines, levels, sums, weights)
        quantiles = dict(zip(levels, found, strict=True))
    blocks = []
    for statistic in statistics:
        if statistic.level is not None:
            values = quantiles[statistic.level]
        elif statistic.name == "mean":
            values = sums.mean()
            if normalize:
                with np.errstate(invalid="ignore"):
                    values /= np.linalg.norm(values, axis=1, keepdims=True)
        elif statistic.name == "std":
            values = sums.std()
        else:
            end = sums.low if statistic.name == "min" else sums.high
            assert end is not None
            values = np.where(sums.has_weight[:, None], end, np.nan)
        blocks.append(values.astype(np.float32, copy=False))
    return blocks


def shares_by_status(
    field: "StoredField",
    polygons: Polygons,
    modalities: tuple[str, ...],
    missing: Missing = "nan",
) -> "pd.DataFrame":
    """Return the share of each polygon's area by status; see `Field.coverage`."""
    import pandas as pd

    shapeless = polygons.missing
    if missing == "raise":
        refuse(shapeless, polygons.index, lambda k: "has no shape, or an empty one")
    outlines = outlines_on(polygons, field.grid)
    cells = {name: np.zeros((len(polygons), len(Status))) for name in modalities}
    for window in covered_windows(field, outlines):
        codes = {name: read_codes(field, name, window) for name in modalities}
        for part in cover(outlines, window):
            for name in modalities:
                add_areas(cells[name], part, codes[name][part.row, part.col])
    columns = {}
    for name in modalities:
        shares = shares_of(cells[name], outlines.area[:, None])
        off = shares_of(np.maximum(1 - shares.sum(axis=1), 0.0), np.where(shapeless, 0.0, 1.0))
        off[off < ROUNDING] = 0.0
        for code in Status:
            columns[name, code.label] = shares[:, code]
        columns[name, OFF_THE_FIELD] = off
        columns[name, POLYGON_TEXTS[NO_SHAPE]] = shapeless.astype(np.float64)
    warn_of_missing(field, polygons, status_of(cells[modalities[0]], outlines.area, shapeless))
    names = pd.MultiIndex.from_tuples(list(columns), names=["modality", "reason"])
    table = pd.DataFrame(np.stack(list(columns.values()), axis=1), polygons.index, names)
    return table[~shapeless] if missing == "drop" else table
