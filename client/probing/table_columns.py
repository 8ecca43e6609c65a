"""Columns of a table by name as pandas Series, for tables of several libraries."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.schemas.errors import ProbeError
from unigeo.schemas.tables.object_types import Kind, kind_of

if TYPE_CHECKING:
    import pandas as pd

_FAILURES = (ValueError, TypeError, NotImplementedError, OverflowError)
"""Errors that Arrow and polars raise on values that pandas cannot hold."""
_TABLES = ("pandas", "geodataframe", "arrow", "polars")
"""Kinds of tables whose columns can be read."""
_MAX_LISTED = 30
"""Names in a message."""
_MAX_CHARACTERS = 40
"""Characters of a name or value in a message."""


def read_column(table: Any, name: Any) -> "pd.Series[Any]":
    """Read one column of a table.

    Args:
        table: a pandas or polars DataFrame, a GeoDataFrame or an Arrow table.
        name: name of the column: text, a number, or a tuple if columns have several levels.

    Raises:
        ProbeError: if `table` is no table, or has no such column or several.
    """
    import pandas as pd

    library, names = _table_kind(table), column_names(table)
    matches = [number for number, known in enumerate(names) if _same_name(known, name)]
    if not matches and isinstance(name, str):  # a command has no other way to name a number
        matches = [number for number, known in enumerate(names) if column_label(known) == name]
    if not matches:
        raise ProbeError(f"there is no column {short(name)}; there are {listed(names)}")
    if len(matches) > 1:
        raise ProbeError(
            f"{len(matches)} columns of the table are named {short(name)}: rename or drop all but "
            "one"
        )
    if library == "arrow":
        return to_series(table.column(matches[0]))
    if library == "polars":
        return to_series(table.to_series(matches[0]))
    column: pd.Series[Any] = table.iloc[:, matches[0]]
    return column


def to_series(values: Any) -> "pd.Series[Any]":
    """Convert a column's values: a list, an array, or a column of pandas, polars or Arrow.

    Masked and null values are missing. Integers beside missing values stay integers.

    Raises:
        ProbeError: if there is not one value per row, or pandas cannot hold the values.
    """
    import pandas as pd

    if isinstance(values, pd.Series):
        return values
    library = type(values).__module__.partition(".")[0]
    try:
        if library == "pyarrow":
            # Else integers beside nulls would become floats, and so other labels of classes.
            read: pd.Series[Any] = pd.Series(values.to_pandas(integer_object_nulls=True))
            return read
        if library == "polars":
            return _polars_series(values)
        if isinstance(values, list | tuple):
            # Objects first: pandas itself would turn integers beside None into floats.
            return pd.Series(list(values), dtype=object).infer_objects()
        if np.ndim(values) != 1:
            raise ProbeError(
                f"a column has one value for each row, not the shape {np.shape(values)}"
            )
        return pd.Series(values)
    except _FAILURES as error:
        if isinstance(error, ProbeError):
            raise
        raise ProbeError(f"cannot read the values of a column: {short(error, 300)}") from error


def column_names(table: Any) -> list[Any]:
    """Return the names of a table's columns, in order.

    Raises:
        ProbeError: if `table` is no table.
    """
    if _table_kind(table) == "arrow":
        return list(table.schema.names)
    return list(table.columns)


def chosen_names(table: Any, targets: Any, what: str = "target") -> list[Any]:
    """Return the names of the wanted columns as a list.

    Args:
        table: table that has the columns.
        targets: one name, or several in any collection.
        what: role of the columns, for messages.

    Raises:
        ProbeError: if no column is named, or one is named twice.
    """
    alone = names_column(table, targets) or not isinstance(targets, Iterable)
    names = [targets] if alone else list(targets)
    if not names:
        raise ProbeError(f"no {what} is named: give the name of at least one column")
    labels = [column_label(name) for name in names]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise ProbeError(f"the {what} {short(twice[0])} is named twice: name each once")
    return names


def names_column(table: Any, value: Any) -> bool:
    """Return whether a value names one column: text, or the name of a column of the table.

    Raises:
        ProbeError: if `table` is no table.
    """
    if isinstance(value, str):
        return True
    try:
        hash(value)
    except TypeError:
        return False
    return any(_same_name(known, value) for known in column_names(table))


def column_label(name: Any) -> str:
    """Write a column's name as text; empty levels are left out.

    >>> column_label(7), column_label(("income", "")), column_label(("income", "mean"))
    ('7', 'income', 'income mean')
    """
    levels = [level for level in name if level != ""] if isinstance(name, tuple) else [name]
    return " ".join(map(str, levels))


def listed(names: Sequence[Any]) -> str:
    """List names for a message: the first ones if they are many, cut if they are long.

    >>> listed(["income", 7])
    'income, 7'
    """
    shown = ", ".join(column_label(name)[:_MAX_CHARACTERS] for name in names[:_MAX_LISTED])
    return shown + (f", ... ({len(names)} in all)" if len(names) > _MAX_LISTED else "")


def short(value: Any, most: int = _MAX_CHARACTERS) -> str:
    """Write a value or an error for a message, cut if it is long.

    >>> short("a" * 50, most=10)
    "'aaaaaa..."
    """
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def is_table(value: Any) -> bool:
    """Return whether it is a table whose columns can be read."""
    return kind_of(value) in _TABLES


def _table_kind(table: Any) -> Kind:
    """Return the kind of a table that a probe can read, by its library."""
    kind = kind_of(table)
    if kind is not None and kind in _TABLES:
        return kind
    raise ProbeError(
        f"cannot probe a {type(table).__name__}: give a pandas or polars DataFrame, a GeoDataFrame "
        "or an Arrow table (a lazy one collected first, a file read first)"
    )


def _same_name(known: Any, name: Any) -> bool:
    """Return whether a column is named `name`, where empty levels may be left out."""
    if known is name:
        return True
    if isinstance(known, tuple) and not isinstance(name, tuple):
        levels = [level for level in known if level != ""]
        known = levels[0] if len(levels) == 1 else known
    try:  # names of any type: arrays compare to arrays, and some types not at all
        return type(known == name) in (bool, np.bool) and bool(known == name)
    except _FAILURES:
        return False


def _polars_series(values: Any) -> "pd.Series[Any]":
    """Convert a polars Series without pyarrow; values other than plain numbers become objects."""
    import pandas as pd

    plain = values.dtype.is_float() or (values.dtype.is_integer() and not values.null_count())
    if plain:
        return pd.Series(values.to_numpy())
    return pd.Series(values.to_list(), dtype=object)
