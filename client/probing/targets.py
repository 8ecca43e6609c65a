"""What a probe predicts: numbers, or labels of classes; dates and mixtures are refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.table_columns import column_of, label_of, series_of, short
from unigeo.schemas.errors import ProbeError

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["regression", "classification"]

LARGEST, _SMALLEST = 1e100, 1e-100
"""Numbers beyond, or that differ by less, have no sums of squares in float64."""
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
"""How text is read as numbers, and how as classes."""


@dataclass(frozen=True, eq=False)
class Labels:
    """A target of classes."""

    codes: Float[np.ndarray, " point"]
    """Number of each point's class, NaN where it is missing."""
    classes: tuple[Any, ...]
    """The labels, in order."""

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        return f"Labels({len(self.codes):,} points of {len(self.classes):,} classes)"


Target = Float[np.ndarray, " _"] | Labels


def target_of(table: Any, name: Any, task: Task | None = None, what: str = "target") -> Target:
    """A column of a table as numbers or labels.

    Args:
        table: in any form that `columns.column_of` takes.
        name: of the column.
        task: `regression` for numbers, `classification` for labels; by default numbers where the
            column holds any, and labels where it holds words, categories or True and False.
        what: it is, for messages.

    Raises:
        ProbeError: if there is no such column or several; it holds dates, complex numbers, or
            numbers beside words; or a regression is asked of words.
    """
    if task not in (None, "regression", "classification"):
        raise ProbeError(f"task must be 'regression' or 'classification', not {short(task)}")
    column, label = column_of(table, name), f"{what} {short(label_of(name))}"
    kind = _kind_of(column, label)
    if task is None and kind == "words":
        _refuse_numbers_as_text(column, label, *_ADVICE.get(what, _ADVICE["target"]))
    regression = task == "regression" or (task is None and kind in ("numbers", "nothing"))
    return _numbers(column, label) if regression else _labels(column, label)


def numbers_of(table: Any, name: Any) -> Float[np.ndarray, " point"]:
    """A column of a table as float64, NaN where it is missing.

    Raises:
        ProbeError: if there is no such column or several, or it holds anything but numbers.
    """
    found = target_of(table, name, "regression")
    assert isinstance(found, np.ndarray)
    return found


def labels_of(values: Any) -> Labels:
    """Labels of any kind as classes, sorted; categories that do not occur are left out.

    Raises:
        ProbeError: if they are dates, of several kinds, or cannot be told apart.

    >>> labels_of(["wet", None, "dry"]).codes
    array([ 1., nan,  0.])
    """
    column = series_of(values)
    _kind_of(column, "target 'classes'")
    return _labels(column, "target 'classes'")


def codes_of(target: Target) -> Float[np.ndarray, " point"]:
    """Numbers, or class numbers; NaN where missing."""
    return target.codes if isinstance(target, Labels) else target


def read_targets(targets: Mapping[str, Any], count: int) -> dict[str, Target]:
    """Read labels, or numbers in any form that `columns.series_of` takes, beside `count` points.

    Raises:
        ProbeError: naming the target and what is wrong with it.
    """
    if not targets:
        raise ProbeError("no target is named: give at least one column to predict")
    found: dict[str, Target] = {}
    for name, target in targets.items():
        if len(target) != count:
            raise ProbeError(f"target {short(name)} has {len(target)} values for {count} points")
        if not isinstance(target, Labels):
            label = f"target {short(name)}"
            target = series_of(target)
            _kind_of(target, label)
            target = _numbers(target, label)
        found[name] = target
    return found


Kind = Literal["numbers", "flags", "words", "categories", "nothing"]
"""What a column holds; `nothing` where every value is missing."""
_TIMES = "dates or times"


def _kind_of(column: "pd.Series[Any]", label: str) -> Kind:
    """Tell what a column holds.

    Raises:
        ProbeError: naming the first row, where it holds dates, complex numbers, things that are
            neither numbers nor labels, or several kinds.
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
    known = {kind: _kind_of_type(kind) for kind in set(map(type, values))}
    kinds = np.array([known[type(value)] for value in values], object)
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
    found: Kind = kinds[0]
    return found


def _kind_of_type(kind: type) -> str:
    """Which kind the values of one type are; those that are refused as a message names them."""
    import datetime
    from numbers import Complex, Real

    import pandas as pd

    if issubclass(kind, bool | np.bool):
        return "flags"
    if issubclass(kind, str | bytes | pd.Interval):
        return "words"
    times = datetime.date | datetime.time | datetime.timedelta | np.datetime64 | np.timedelta64
    if issubclass(kind, times | pd.Period):
        return _TIMES
    if issubclass(kind, Real | Decimal):
        return "numbers"
    return "complex numbers" if issubclass(kind, Complex) else f"{kind.__name__} values"


def _refuse_numbers_as_text(column: "pd.Series[Any]", label: str, plain: str, ask: str) -> None:
    """Refuse text that is a column of dates or numbers: each would be a class of its own.

    Whole numbers written as text stay classes, for so codes of classes are written.

    Raises:
        ProbeError: if all of it are dates, or numbers with a fraction, or most of it are numbers.
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
    """Whether a person would read it as a number: `1.5`, `1,250`, `12 %`, `$3`."""
    try:
        float(text.strip("%$€£ ").replace(",", ""))
    except ValueError:
        return False
    return True


def _numbers(column: "pd.Series[Any]", label: str) -> Float[np.ndarray, " point"]:
    """Values as float64, NaN where missing.

    Raises:
        ProbeError: naming the first row that holds no number, or one beyond the range.
    """
    if getattr(column.dtype, "kind", "O") in "biuf":
        with np.errstate(over="ignore"):  # a long double beyond float64 is infinite, and refused
            values = np.array(column.to_numpy(np.float64, na_value=np.nan))
    else:
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


def _labels(column: "pd.Series[Any]", label: str) -> Labels:
    import pandas as pd

    try:
        codes, classes = pd.factorize(column.astype(object), sort=True)
    except TypeError as error:
        raise ProbeError(
            f"{label} holds labels that cannot be put in order "
            f"({short(error, 100)}): write them as text"
        ) from error
    return Labels(np.where(codes < 0, np.nan, codes).astype(np.float64), tuple(classes))


def _check_range(values: Float[np.ndarray, " point"], label: str) -> None:
    """Refuse numbers with whose squares nothing can be computed.

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
