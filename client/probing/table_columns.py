"""Columns of a table by name, whichever library the table is of, as pandas Series."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.schemas.errors import ProbeError
from unigeo.schemas.tables.object_types import Kind, kind_of

if TYPE_CHECKING:
    import pandas as pd

_FAILURES = (ValueError, TypeError, NotImplementedError, OverflowError)
"""What Arrow and polars raise on values that pandas cannot hold."""
_LISTED = 30  # names in a message
_SHOWN = 40  # characters of a name or value in a message


def column_of(table: Any, name: Any) -> "pd.Series[Any]":
    """Read one column of a table.

    Args:
        table: a pandas or polars DataFrame, a GeoDataFrame or an Arrow table.
        name: of the column: text, a number, or a tuple where columns have several levels.

    Raises:
        ProbeError: if it is no table, or has no such column or several.
    """
    import pandas as pd

    kind, names = _kind(table), column_names(table)
    found = [number for number, own in enumerate(names) if _is(own, name)]
    if not found and isinstance(name, str):  # a command has no other way to name a number
        found = [number for number, own in enumerate(names) if label_of(own) == name]
    if not found:
        raise ProbeError(f"there is no column {short(name)}; there are {listed(names)}")
    if len(found) > 1:
        raise ProbeError(
            f"{len(found)} columns of the table are named {short(name)}: rename or drop all but one"
        )
    if kind == "arrow":
        return series_of(table.column(found[0]))
    if kind == "polars":
        return series_of(table.to_series(found[0]))
    column: pd.Series[Any] = table.iloc[:, found[0]]
    return column


def series_of(values: Any) -> "pd.Series[Any]":
    """Read a column's values: a list, an array, a masked one, or of pandas, polars or Arrow.

    What is masked or null is missing. Integers beside missing values stay integers.

    Raises:
        ProbeError: if there is not one value for each row, or pandas cannot hold them.
    """
    import pandas as pd

    if isinstance(values, pd.Series):
        return values
    library = type(values).__module__.partition(".")[0]
    try:
        if library == "pyarrow":
            read: pd.Series[Any] = pd.Series(values.to_pandas(integer_object_nulls=True))
            return read
        if library == "polars":
            return _of_polars(values)
        if isinstance(values, list | tuple):
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
    """Names of a table's columns, in order.

    Raises:
        ProbeError: if it is no table.
    """
    if _kind(table) == "arrow":
        return list(table.schema.names)
    return list(table.columns)


def chosen_names(table: Any, targets: Any, what: str = "target") -> list[Any]:
    """Read which columns are asked for: one name, or several in any collection.

    Args:
        table: that has the columns.
        targets: names.
        what: the columns are, for messages.

    Raises:
        ProbeError: if none is named, one twice, or values are given for names.
    """
    alone = is_name(table, targets) or not isinstance(targets, Iterable)
    names = [targets] if alone else list(targets)
    if not names:
        raise ProbeError(f"no {what} is named: give the name of at least one column")
    if hasattr(targets, "dtype") and not all(is_name(table, name) for name in names):
        raise ProbeError(
            f"{what}s are names of columns, and the values of a {type(targets).__name__} were "
            "given: put them into the table and name their column"
        )
    labels = [label_of(name) for name in names]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise ProbeError(f"the {what} {short(twice[0])} is named twice: name each once")
    return names


def is_name(table: Any, value: Any) -> bool:
    """Whether a value names one column: text, or what a column of the table is named.

    Raises:
        ProbeError: if it is no table.
    """
    if isinstance(value, str):
        return True
    try:
        hash(value)
    except TypeError:
        return False
    return any(_is(own, value) for own in column_names(table))


def label_of(name: Any) -> str:
    """Write a column's name as text: of several levels those that are not empty.

    >>> label_of(7), label_of(("income", "")), label_of(("income", "mean"))
    ('7', 'income', 'income mean')
    """
    levels = [level for level in name if level != ""] if isinstance(name, tuple) else [name]
    return " ".join(map(str, levels))


def listed(names: Sequence[Any]) -> str:
    """List names in a message: the first of them where they are many, cut where they are long.

    >>> listed(["income", 7])
    'income, 7'
    """
    shown = ", ".join(label_of(name)[:_SHOWN] for name in names[:_LISTED])
    return shown + (f", ... ({len(names)} in all)" if len(names) > _LISTED else "")


def short(value: Any, most: int = _SHOWN) -> str:
    """Show a value or an error in a message, cut where it is long.

    >>> short("a" * 50, most=10)
    "'aaaaaa..."
    """
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def _kind(table: Any) -> Kind:
    """Whose table it is."""
    kind = kind_of(table)
    if kind in ("pandas", "geodataframe", "arrow", "polars"):
        return kind
    raise ProbeError(
        f"cannot probe a {type(table).__name__}: give a pandas or polars DataFrame, a GeoDataFrame "
        "or an Arrow table (a lazy one collected first, a file read first)"
    )


def _is(own: Any, name: Any) -> bool:
    """Whether a column's own name is the one asked for; empty levels may be left out."""
    if own is name:
        return True
    if isinstance(own, tuple) and not isinstance(name, tuple):
        levels = [level for level in own if level != ""]
        own = levels[0] if len(levels) == 1 else own
    try:
        return type(own == name) in (bool, np.bool) and bool(own == name)
    except _FAILURES:
        return False


def _of_polars(values: Any) -> "pd.Series[Any]":
    """Without pyarrow, which polars does not need: plain numbers as such, all else as objects."""
    import pandas as pd

    plain = values.dtype.is_float() or (values.dtype.is_integer() and not values.null_count())
    if plain:
        return pd.Series(values.to_numpy())
    return pd.Series(values.to_list(), dtype=object)
