"""Tables of vectors, and joining them to a user's table."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int, Int8, UInt8

from unigeo.client.reading.point_status import STATUS_TEXTS, count_reasons, text_positions
from unigeo.client.reading.sampling import numbers_of
from unigeo.schemas.errors import PointsError
from unigeo.schemas.store.layout import COVARIATES, status_name
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.object_types import kind_of

if TYPE_CHECKING:
    import pandas as pd

Missing = Literal["nan", "raise", "drop"]


def column_names(modality: str, bands: int, prefix: str = "") -> list[str]:
    """Return the names of a modality's columns, padded with zeros so that they sort.

    >>> column_names("aerial", 2, "ug_")
    ['ug_aerial_000', 'ug_aerial_001']
    """
    width = max(3, len(str(bands - 1)))
    return [f"{prefix}{modality}_{band:0{width}d}" for band in range(bands)]


def share_name(modality: str) -> str:
    """Return the name of the column of the share of an area that has a modality's vectors."""
    return f"{modality}_share"


def snap_name(modality: str) -> str:
    """Return the name of the column of kilometres that points were moved to a cell."""
    return f"{modality}_snap_km"


def vector_table(
    vectors: dict[str, Float[np.ndarray, "point band"] | Int8[np.ndarray, "point band"]],
    status: dict[str, UInt8[np.ndarray, " point"]],
    index: Any = None,
    prefix: str = "",
    covariates: Sequence[str] = (),
    beside: Mapping[str, Float[np.ndarray, " point"]] = MappingProxyType({}),
) -> "pd.DataFrame":
    """Return one column per number, then further numbers, then the status texts.

    Args:
        vectors: numbers at the points by modality; covariates under their own name, last.
        status: codes by the same names.
        index: labels of the rows.
        prefix: put before every name.
        covariates: names of the covariates.
        beside: further numbers by name, such as shares of areas.
    """
    import pandas as pd

    unit = {name: values for name, values in vectors.items() if name != COVARIATES}
    numbers = []
    if unit:
        names = number_columns({name: values.shape[1] for name, values in unit.items()}, prefix)
        numbers.append((np.concatenate(list(unit.values()), axis=1), names))
    if COVARIATES in vectors:
        numbers.append((vectors[COVARIATES], [prefix + name for name in covariates]))
    tables = [
        pd.DataFrame(values, index=index, columns=names, copy=False) for values, names in numbers
    ]
    categories = pd.CategoricalDtype(list(STATUS_TEXTS.values()))
    reasons = {
        prefix + status_name(modality): pd.Categorical.from_codes(
            text_positions(codes), dtype=categories
        )
        for modality, codes in status.items()
    }
    others = {prefix + name: values for name, values in beside.items()} | reasons
    return pd.concat([*tables, pd.DataFrame(others, index=tables[0].index)], axis=1)


def number_columns(widths: Mapping[str, int], prefix: str = "") -> list[str]:
    """Return the names of the columns of vectors.

    Args:
        widths: number of bands of each modality.
        prefix: put before every name.
    """
    return [
        name for modality, width in widths.items() for name in column_names(modality, width, prefix)
    ]


def joined_columns(
    widths: Mapping[str, int],
    prefix: str = "",
    covariates: Sequence[str] = (),
    *,
    shares: bool = False,
    snaps: bool = False,
) -> list[str]:
    """Return the name of every column that `vector_table` makes.

    Args:
        widths: number of bands of each modality.
        prefix: put before every name.
        covariates: names of the covariates.
        shares: whether the table has the shares of areas.
        snaps: whether it has the distances to cells.

    >>> joined_columns({"aerial": 1})
    ['aerial_000', 'aerial_status']
    """
    arrays = [*widths, *([COVARIATES] if covariates else [])]
    columns = number_columns(widths, prefix) + [prefix + name for name in covariates]
    if shares:
        columns += [prefix + share_name(array) for array in arrays]
    if snaps:
        columns += [prefix + snap_name(array) for array in arrays]
    return columns + [prefix + status_name(array) for array in arrays]


def raise_if_missing(status: dict[str, UInt8[np.ndarray, " point"]]) -> None:
    """Raise if a point lacks a vector.

    Raises:
        PointsError: with the count of each reason and the first such points.
    """
    for modality, codes in status.items():
        missing = codes != Status.VALID
        if missing.any():
            raise PointsError(
                f"{missing.sum():,} of {len(codes):,} points have no {numbers_of(modality)} "
                f"({count_reasons(codes)}): {_first_rows(codes)}. Pass missing='nan' to keep their "
                "rows empty, or missing='drop' to leave them out."
            )


def _first_rows(codes: UInt8[np.ndarray, " point"], most: int = 5) -> str:
    """List the first rows without a vector, and why."""
    rows = np.flatnonzero(codes != Status.VALID)
    shown = ", ".join(f"row {row} {STATUS_TEXTS[int(codes[row])]}" for row in rows[:most])
    return shown + (f" and {len(rows) - most:,} more" if len(rows) > most else "")


def check_joinable(table: Any, names: list[str]) -> None:
    """Check that columns can be appended to a table, before any vector is read.

    Raises:
        PointsError: if it is no table, or has one of the columns already.
    """
    columns = table.column_names if _table_kind(table) == "arrow" else table.columns
    present = {name for name in columns if isinstance(name, str)}
    # Of a MultiIndex the new columns are named on the top level, with the other levels empty.
    present |= {name[0] for name in columns if isinstance(name, tuple) and not any(name[1:])}
    clash = [name for name in names if name in present]
    if clash:
        raise PointsError(
            f"the table already has {len(clash)} of the columns to be joined, such as "
            f"{clash[0]!r}; choose another prefix, or drop them first"
        )


def append_columns(table: Any, sampled: "pd.DataFrame") -> Any:
    """Append the sampled columns to a table, whose rows, order and dtypes stay.

    Args:
        table: a pandas DataFrame or GeoDataFrame, an Arrow table or batch, or a polars DataFrame.
        sampled: the result of `vector_table`, row for row.

    Returns:
        The same kind of table. Missing values are NaN in pandas, and null in Arrow and polars.
        The status is categorical: a dictionary in Arrow, an Enum in polars.

    Raises:
        PointsError: if it is no such table, or has a column of that name already.
    """
    check_joinable(table, list(sampled.columns))
    kind = _table_kind(table)
    if kind == "arrow":
        return _append_to_arrow(table, sampled)
    if kind == "polars":
        return _append_to_polars(table, sampled)
    return _append_to_pandas(table, sampled)


def take_rows(table: Any, rows: Int[np.ndarray, " row"]) -> Any:
    """Return some rows of a table, with all columns and with their labels."""
    kind = _table_kind(table)
    if kind == "pandas":
        return table.iloc[rows]
    return table[rows] if kind == "polars" else table.take(rows)


def _table_kind(table: Any) -> Literal["pandas", "arrow", "polars"]:
    kind = kind_of(table)
    if kind in ("pandas", "geodataframe"):
        return "pandas"
    if kind in ("arrow", "polars"):
        return kind
    raise PointsError(
        f"cannot join vectors to a {type(table).__name__}: give a pandas or polars DataFrame, a "
        "GeoDataFrame or an Arrow table (a lazy one collected first), or call sample"
    )


def _append_to_pandas(table: Any, sampled: "pd.DataFrame") -> Any:
    import pandas as pd

    new = sampled.set_axis(table.index)
    if isinstance(table.columns, pd.MultiIndex):  # names on the top level, other levels empty
        empty = [""] * (table.columns.nlevels - 1)
        new.columns = pd.MultiIndex.from_tuples([(name, *empty) for name in sampled.columns])
    new.columns.names = table.columns.names
    joined = pd.concat([table, new], axis=1)
    joined.attrs = dict(table.attrs)
    return joined


def _append_to_arrow(table: Any, sampled: "pd.DataFrame") -> Any:
    import pandas as pd
    import pyarrow as pa

    for name, column in sampled.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            values = pa.DictionaryArray.from_arrays(
                pa.array(column.cat.codes.to_numpy(np.int8)), list(column.cat.categories)
            )
        else:
            values = pa.array(column.to_numpy(), from_pandas=True)
        table = table.append_column(name, values)
    return table


def _append_to_polars(table: Any, sampled: "pd.DataFrame") -> Any:
    import pandas as pd
    import polars as pl

    columns = []
    for name, column in sampled.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            categories = pl.Enum(list(column.cat.categories))
            columns.append(pl.Series(str(name), column.tolist(), dtype=categories))
        else:
            values = np.ascontiguousarray(column.to_numpy())
            columns.append(pl.Series(str(name), values, nan_to_null=True))
    return table.hstack(columns)
