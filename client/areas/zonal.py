"""Tables of a field over polygons: statistics of its vectors, and the area by status."""

from collections import Counter
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
from unigeo.client.areas.statistic_names import MEAN, Statistic
from unigeo.client.areas.zonal_sums import ZonalSums, covered_windows, read_codes, sum_polygons
from unigeo.client.points.join import Missing
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
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.reading.stored_field import StoredField

OFF_THE_FIELD = "off the field"


def zonal_statistics(
    field: "StoredField",
    polygons: Polygons,
    modalities: tuple[str, ...],
    statistics: tuple[Statistic, ...] = (MEAN,),
    *,
    weights: Any = None,
    normalize: bool = False,
    missing: Missing = "nan",
    prefix: str = "",
    progress: bool = False,
) -> "pd.DataFrame":
    """Return statistics of the vectors of each polygon; see `Field.zonal`."""
    import pandas as pd

    widths = field.layout.widths_of(modalities)
    names = [
        name
        for modality, bands in widths.items()
        for statistic in statistics
        for name in statistic.columns(modality, bands, prefix)
    ]
    check_distinct(names)
    outlines = outlines_on(polygons, field.grid)
    with open_weights(field, weights) as of_cells:
        kinds = {statistic.name for statistic in statistics}
        sums = sum_polygons(field, modalities, outlines, kinds, of_cells, progress)
        status = {
            name: status_of(each.areas, outlines.area, polygons.missing)
            for name, each in sums.items()
        }
        for name, codes in status.items():
            codes[(codes == Status.VALID) & ~sums[name].has_weight] = NO_WEIGHT
        if missing == "raise":
            raise_if_missing(status, polygons.index)
        warn_of_missing(field, polygons, status[modalities[0]])
        blocks = [
            block
            for name in modalities
            for block in _blocks(field, name, outlines, statistics, sums[name], of_cells, normalize)
        ]
    table = pd.DataFrame(np.concatenate(blocks, axis=1), index=polygons.index, columns=names)
    counts: dict[str, Any] = {}
    for name, each in sums.items():
        valid = each.areas[:, Status.VALID]
        values = [valid, shares_of(valid, outlines.area), each.weight]
        named = amount_columns(name, prefix, weighted=weights is not None)
        counts |= dict(zip(named, values, strict=False))  # without weights no column of them
        counts[prefix + status_name(name)] = status_texts(status[name], weights is not None)
    table = pd.concat([table, pd.DataFrame(counts, index=table.index)], axis=1)
    if missing == "drop":
        table = table[np.all([codes == Status.VALID for codes in status.values()], axis=0)]
    return table


def zonal_means(
    field: "StoredField", polygons: Polygons, modalities: tuple[str, ...], *, progress: bool = False
) -> dict[str, Float[np.ndarray, "polygon band"]]:
    """Return the mean vectors of `Field.zonal` as float32 arrays, NaN where no cell has one."""
    sums = sum_polygons(
        field, modalities, outlines_on(polygons, field.grid), {MEAN.name}, None, progress
    )
    return {name: each.mean().astype(np.float32) for name, each in sums.items()}


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


def check_distinct(names: list[str]) -> None:
    """Check that no two columns have one name.

    Raises:
        LayoutError: naming one that is there twice.
    """
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise LayoutError(
            f"two columns would be named {twice!r}, of a modality and of a statistic of another; "
            "ask for one modality at a time"
        )


def amount_columns(modality: str, prefix: str = "", *, weighted: bool = False) -> list[str]:
    """Return the names of the columns that say how much of a polygon counts."""
    amounts = ("cells", "share", "weight") if weighted else ("cells", "share")
    return [f"{prefix}{modality}_{amount}" for amount in amounts]


def zonal_columns(
    modality: str,
    bands: int,
    prefix: str = "",
    statistics: tuple[Statistic, ...] = (MEAN,),
    *,
    weighted: bool = False,
) -> list[str]:
    """Return the names of the columns that `zonal_statistics` has for a modality."""
    values = [name for one in statistics for name in one.columns(modality, bands, prefix)]
    amounts = amount_columns(modality, prefix, weighted=weighted)
    return [*values, *amounts, prefix + status_name(modality)]


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
