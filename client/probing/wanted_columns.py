"""Columns that a probe is asked for: named in a table, or given as values beside it."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from unigeo.client.probing.table_columns import (
    chosen_names,
    column_label,
    column_names,
    is_table,
    names_column,
    read_column,
    short,
    to_series,
)
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.tables.geojson import GEOJSON_TYPES
from unigeo.schemas.tables.object_types import kind_of

if TYPE_CHECKING:
    import pandas as pd


def probed_table(table: Any) -> Any:
    """Return a mapping of columns as a data frame, and any other table or points unchanged."""
    if isinstance(table, Mapping) and table.get("type") not in GEOJSON_TYPES:
        return _frame(dict(table), "table")
    return table


def wanted_columns(table: Any, given: Any, what: str = "target") -> tuple[Any, list[Any]]:
    """Return a table that holds the wanted columns, and their names.

    Args:
        table: table that may have the columns, or points alone.
        given: name of a column, or several; or values: a list, an array, a column of pandas, polars
            or Arrow, one for each row, or a table or mapping of such columns.
        what: role of the columns, for messages.

    Raises:
        ProbeError: if a column is not there, or values are of other rows.
    """
    if _are_names(table, given):
        if not is_table(table):
            raise ProbeError(
                f"{what} {short(given)} is the name of a column, and the points, a "
                f"{type(table).__name__}, have none: give its values, or a table"
            )
        return table, chosen_names(table, given, what)
    if is_table(given):
        columns = {name: read_column(given, name) for name in column_names(given)}
    elif isinstance(given, Mapping):
        columns = dict(given)
    else:
        columns = {_own_name(given, what): given}
    values = {name: _aligned(table, column, what) for name, column in columns.items()}
    frame = _frame(values, what)
    return frame, chosen_names(frame, list(columns), what)


def row_values(table: Any, given: Any, what: str) -> Any:
    """Return a value for each row: those of a column that is named, or those that are given.

    Raises:
        ProbeError: if the column is not there, or the values are of other rows.
    """
    if given is None:
        return None
    if is_table(table) and names_column(table, given):
        return read_column(table, given)
    if isinstance(given, str):
        raise ProbeError(f"{what} {short(given)} is the name of a column, and the points have none")
    return _aligned(table, given, what)


def _are_names(table: Any, given: Any) -> bool:
    """Return whether names of columns are given, rather than values."""
    if isinstance(given, Mapping) or is_table(given):
        return False
    if isinstance(given, str) or not isinstance(given, Iterable):
        return True
    if not is_table(table):
        return False
    if names_column(table, given):
        return True
    if _is_column(given) or (isinstance(given, list | tuple) and len(given) == _row_count(table)):
        return all(names_column(table, name) and _exists(table, name) for name in given)
    return True


def _exists(table: Any, name: Any) -> bool:
    return not isinstance(name, str) or name in map(column_label, column_names(table))


def _is_column(given: Any) -> bool:
    """Return whether it is an array, or a column of pandas, polars or Arrow."""
    return hasattr(given, "dtype") or type(given).__module__.partition(".")[0] == "pyarrow"


def _row_count(table: Any) -> int:
    return int(table.num_rows) if kind_of(table) == "arrow" else len(table)


def _own_name(given: Any, what: str) -> Any:
    """Return the name that a column brings, or that of its role."""
    name = getattr(given, "name", None)
    return what if name in (None, "") or not isinstance(name, str | int | tuple) else name


def _aligned(table: Any, given: Any, what: str) -> Any:
    """Return values of the table's rows, in their order.

    Values of pandas without labels of their own, which are numbered from 0, go by position.

    Raises:
        ProbeError: if their labels are those of other rows, or of rows in another order.
    """
    import pandas as pd

    if isinstance(given, pd.Series) and kind_of(table) in ("pandas", "geodataframe"):
        plain = given.index.equals(pd.RangeIndex(len(given)))
        if not plain and not given.index.equals(table.index):
            raise ProbeError(
                f"the rows of the {what} have other labels than those of the table, or another "
                "order: reindex one by the other (`.reindex(table.index)`), or give "
                "`.to_numpy()` if they follow each other by position"
            )
    return given


def _frame(columns: Mapping[Any, Any], what: str) -> "pd.DataFrame":
    """Put columns into one data frame, row by row.

    Raises:
        ProbeError: if they are no columns, or of different lengths.
    """
    import pandas as pd

    read = {name: to_series(values).reset_index(drop=True) for name, values in columns.items()}
    lengths = {len(column) for column in read.values()}
    if len(lengths) > 1:
        raise ProbeError(f"columns of the {what} have {sorted(lengths)} rows: give them alike")
    return pd.DataFrame(read)
