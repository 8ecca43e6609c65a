"""Targets of a probe: numbers, or labels of classes; dates and mixtures are refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.table_columns import column_label, read_column, short, to_series
from unigeo.schemas.errors import ProbeError

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["regression", "classification"]

LARGEST, _SMALLEST = 1e100, 1e-100
"""Bounds of magnitude and of difference: beyond them float64 has no sums of squares."""
_DATE = re.compile(
    r"\d{4}-\d{1,2}(-\d{1,2})?([T ]\d.*)?"
    r"|\d{4}[/.]\d{1,2}[/.]\d{1,2}( .*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}( .*)?"
    r"|\d{1,2}:\d{2}(:\d{2}.*)?"
)
"""A date, a month or a time of day written as text."""
_INSTEAD = "make it a number first, such as the days since a date, or its year"
_ADVICE = {
    "target": (
        " (task='regression' reads plain ones)",
        "ask for task='classification' if each is a class of its own",
    ),
    "control": ("", "give a column of categories if each is one of its own"),
}
"""Advice on how to read text as numbers, and how as classes, by the role of the column."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of classes, as numbers of the classes."""

    codes: Float[np.ndarray, " point"]
    """Number of each point's class; NaN where it is missing."""
    classes: tuple[Any, ...]
    """Label of each class, by its number."""

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        return f"Labels({len(self.codes):,} points of {len(self.classes):,} classes)"


Target = Float[np.ndarray, " _"] | Labels


def read_target(table: Any, name: Any, task: Task | None = None, what: str = "target") -> Target:
    """Read a column of a table as numbers or labels.

    Args:
        table: table in any form that `table_columns.read_column` takes.
        name: name of the column.
        task: `regression` for numbers, `classification` for labels; by default numbers if the
            column holds numbers, and labels if it holds text, categories or True and False.
        what: role of the column, for messages.

    Raises:
        ProbeError: if there is no such column or several; if it holds dates, complex numbers, or
            numbers beside text; or if the task is a regression and it holds text.
    """
    if task not in (None, "regression", "classification"):
        raise ProbeError(f"task must be 'regression' or 'classification', not {short(task)}")
    column, label = read_column(table, name), f"{what} {short(column_label(name))}"
    kind = _column_kind(column, label)
    if task is None and kind == "words":
        _refuse_numbers_as_text(column, label, *_ADVICE.get(what, _ADVICE["target"]))
    regression = task == "regression" or (task is None and kind in ("numbers", "nothing"))
    return _to_numbers(column, label) if regression else _to_labels(column, label)


def read_numbers(table: Any, name: Any) -> Float[np.ndarray, " point"]:
    """Read a column of a table as float64, NaN where it is missing.

    Raises:
        ProbeError: if there is no such column or several, or it holds anything but numbers.
    """
    numbers = read_target(table, name, "regression")
    assert isinstance(numbers, np.ndarray)
    return numbers


def class_labels(values: Any) -> Labels:
    """Convert labels of any kind to sorted classes; categories that do not occur are left out.

    Raises:
        ProbeError: if the labels are dates, of several kinds, or have no order.

    >>> class_labels(["wet", None, "dry"]).codes
    array([ 1., nan,  0.])
    """
    column = to_series(values)
    _column_kind(column, "target 'classes'")
    return _to_labels(column, "target 'classes'")


def target_values(target: Target) -> Float[np.ndarray, " point"]:
    """Return the numbers, or class numbers, of a target; NaN where missing."""
    return target.codes if isinstance(target, Labels) else target


def read_targets(targets: Mapping[str, Any], count: int) -> dict[str, Target]:
    """Read targets of `count` points.

    Args:
        targets: `Labels`, or numbers in any form that `table_columns.to_series` takes.
        count: number of points.

    Raises:
        ProbeError: naming the target and the reason.
    """
    if not targets:
        raise ProbeError("no target is named: give at least one column to predict")
    read: dict[str, Target] = {}
    for name, target in targets.items():
        if len(target) != count:
            raise ProbeError(f"target {short(name)} has {len(target)} values for {count} points")
        if not isinstance(target, Labels):
            label = f"target {short(name)}"
            target = to_series(target)
            _column_kind(target, label)
            target = _to_numbers(target, label)
        read[name] = target
    return read


def check_weights(values: Any, count: int) -> Float[np.ndarray, " row"]:
    """Read the weights of `count` rows as float64, 0 where missing.

    Args:
        values: numbers in any form that `table_columns.to_series` takes.
        count: number of rows.

    Raises:
        ProbeError: if there is not one number per row, one is negative, or none is above 0.
    """
    column = to_series(values)
    if len(column) != count:
        raise ProbeError(f"there are {len(column):,} weights for {count:,} rows")
    _column_kind(column, "weights")
    given = _to_numbers(column, "weights")
    weights = np.where(np.isnan(given), 0.0, given)
    if (weights < 0).any():
        row = int(np.argmax(weights < 0))
        raise ProbeError(
            f"a weight is 0 or more, and that of row {row} is {weights[row]:g}: a row of weight 0 "
            "takes no part"
        )
    if not (weights > 0).any():
        raise ProbeError(f"none of the {count:,} weights is above 0: no row takes part")
    return weights


ColumnKind = Literal["numbers", "flags", "words", "categories", "nothing"]
"""Kind of a column's values; `nothing` if every value is missing."""
_TIMES = "dates or times"
"""Kind of values that is refused, as messages name it."""


def _column_kind(column: "pd.Series[Any]", label: str) -> ColumnKind:
    """Return the kind of a column's values.

    Raises:
        ProbeError: naming the first row, if the values are dates, complex numbers, neither numbers
            nor labels, or of several kinds.
    """
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "categories"
    if pd.api.types.is_bool_dtype(dtype):
        return "flags"
    if getattr(dtype, "kind", "O") in "iuf":
        return "numbers"
    rows = np.flatnonzero(column.notna())
    if not len(rows):
        return "nothing"
    values = column.iloc[rows].astype(object).tolist()
    kind_of = {each: _type_kind(each) for each in set(map(type, values))}  # few types, many values
    kinds = np.array([kind_of[type(value)] for value in values], object)
    for kind in dict.fromkeys(kinds):
        if kind in ("numbers", "flags", "words"):
            continue
        number = int(np.argmax(kinds == kind))
        raise ProbeError(
            f"{label} holds {kind}, the first in row {rows[number]}: "
            f"{short(str(values[number]))}. Numbers or classes are needed: "
            f"{_INSTEAD if kind == _TIMES else 'give it a column of these'}"
        )
    if len(set(kinds)) > 1:
        counts = ", ".join(f"{kind} ({(kinds == kind).sum():,})" for kind in dict.fromkeys(kinds))
        first = [short(values[int(np.argmax(kinds == kind))]) for kind in dict.fromkeys(kinds)]
        raise ProbeError(
            f"{label} mixes {counts}, such as {' and '.join(first)}: give "
            "numbers alone, missing where there is none, or text alone"
        )
    single: ColumnKind = kinds[0]
    return single


def _type_kind(value_type: type) -> str:
    """Return the kind of the values of one type; a kind that is refused as messages name it."""
    import datetime
    from numbers import Complex, Real

    import pandas as pd

    if issubclass(value_type, bool | np.bool):
        return "flags"
    if issubclass(value_type, str | bytes | pd.Interval):
        return "words"
    times = datetime.date | datetime.time | datetime.timedelta | np.datetime64 | np.timedelta64
    if issubclass(value_type, times | pd.Period):
        return _TIMES
    if issubclass(value_type, Real | Decimal):
        return "numbers"
    return "complex numbers" if issubclass(value_type, Complex) else f"{value_type.__name__} values"


def _refuse_numbers_as_text(column: "pd.Series[Any]", label: str, plain: str, ask: str) -> None:
    """Refuse text that holds dates or numbers: each would be a class of its own.

    Whole numbers written as text stay classes, since codes of classes are written so.

    Args:
        column: text.
        label: name of the column, for messages.
        plain: how to read plain numbers, for messages.
        ask: how to read each text as a class, for messages.

    Raises:
        ProbeError: if all texts are dates, or numbers some of which have a fraction, or if most
            rows are numbers.
    """
    counts = {text: count for text, count in column.value_counts().items() if isinstance(text, str)}
    if not counts:
        return
    if all(_DATE.fullmatch(text.strip()) for text in counts):
        raise ProbeError(
            f"{label} holds dates or times as text, such as "
            f"{short(next(iter(counts)))}: {_INSTEAD}; or {ask}"
        )
    numbers = [text for text in counts if _is_number(text)]
    words = [text for text in counts if not _is_number(text)]
    if numbers and not words and not all(text.strip().lstrip("+-").isdecimal() for text in numbers):
        raise ProbeError(
            f"{label} holds numbers as text, such as {short(numbers[0])}: make them "
            f"numbers{plain}, or {ask}"
        )
    rows = sum(counts[text] for text in numbers)
    if words and 2 * rows > sum(counts.values()):
        raise ProbeError(
            f"{label} holds numbers as text in {rows:,} rows, such as "
            f"{short(numbers[0])}, and words in {sum(counts.values()) - rows:,}, such as "
            f"{short(words[0])}: make the words missing values, or {ask}"
        )


def _is_number(text: str) -> bool:
    """Return whether a person would read a text as a number: `1.5`, `1,250`, `12 %`, `$3`."""
    try:
        float(text.strip("%$€£ ").replace(",", ""))
    except ValueError:
        return False
    return True


def _to_numbers(column: "pd.Series[Any]", label: str) -> Float[np.ndarray, " point"]:
    """Convert values to float64, NaN where missing.

    Raises:
        ProbeError: naming the first row that holds no number, or a number beyond the range.
    """
    if getattr(column.dtype, "kind", "O") in "biuf":
        with np.errstate(over="ignore"):  # a long double beyond float64 is infinite, and refused
            values = np.array(column.to_numpy(np.float64, na_value=np.nan))
    else:
        # One by one, since a message names the row; text such as "1.5" is a number to `float`.
        values = np.full(len(column), np.nan)
        for row in np.flatnonzero(column.notna()).tolist():
            value: Any = column.iat[row]
            try:
                values[row] = float(value)
            except OverflowError:
                values[row] = np.inf
            except (TypeError, ValueError) as error:
                raise ProbeError(
                    f"{label} must hold numbers, but row {row} holds {short(value)}: "
                    "make it a number, or a missing value"
                ) from error
    _check_range(values, label)
    return values


def _to_labels(column: "pd.Series[Any]", label: str) -> Labels:
    """Convert values to sorted classes.

    Raises:
        ProbeError: if the values have no order.
    """
    import pandas as pd

    try:
        # As objects, so that a categorical column has the order and classes of its values.
        codes, classes = pd.factorize(column.astype(object), sort=True)
    except TypeError as error:
        raise ProbeError(
            f"{label} holds labels that cannot be put in order "
            f"({short(error, 100)}): write them as text"
        ) from error
    return Labels(np.where(codes < 0, np.nan, codes).astype(np.float64), tuple(classes))


def _check_range(values: Float[np.ndarray, " point"], label: str) -> None:
    """Refuse numbers whose squares are beyond the range of float64.

    Raises:
        ProbeError: naming the first row.
    """
    infinite = np.isinf(values)
    if infinite.any():
        raise ProbeError(
            f"{label} is infinite in row {int(np.argmax(infinite))}, or beyond the "
            "range of float64: use NaN where it is missing"
        )
    huge = np.abs(values) > LARGEST
    if huge.any():
        row = int(np.argmax(huge))
        raise ProbeError(
            f"{label} is {values[row]:g} in row {row}, whose square is beyond the "
            "range of float64: give it in a larger unit, or its logarithm"
        )
    known = values[np.isfinite(values)]
    if len(known) and 0 < np.ptp(known) < _SMALLEST:
        raise ProbeError(
            f"{label} differs by {np.ptp(known):g} at most, whose square is 0 in "
            "float64: give it in a smaller unit"
        )
