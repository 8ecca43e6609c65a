"""What a probe predicts: numbers, or labels of classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import ProbeError

Task = Literal["regression", "classification"]


@dataclass(frozen=True, eq=False)
class Labels:
    """A target of classes."""

    codes: Float[np.ndarray, " point"]
    """Number of each point's class, NaN where it is missing."""
    classes: tuple[Any, ...]
    """The labels, in order."""

    def __len__(self) -> int:
        return len(self.codes)


Target = Float[np.ndarray, " _"] | Labels


def target_of(table: Any, name: str, task: Task | None = None) -> Target:
    """A column of a table as numbers or labels.

    Args:
        table: a DataFrame or alike.
        name: of the column.
        task: `regression` for numbers, `classification` for labels; by default numbers where the
            column holds any, and labels where it holds words, categories or True and False.

    Raises:
        ProbeError: if there is no such column, or a regression is asked of words.
    """
    if task not in (None, "regression", "classification"):
        raise ProbeError(f"task must be 'regression' or 'classification', not {task!r}")
    _check_column(table, name)
    if task is None:
        task = "regression" if _holds_numbers(table[name]) else "classification"
    return numbers_of(table, name) if task == "regression" else labels_of(table[name])


def numbers_of(table: Any, name: str) -> Float[np.ndarray, " point"]:
    """A column of a table as float64, NaN where it is missing.

    Raises:
        ProbeError: if there is no such column, or it holds anything but numbers.
    """
    _check_column(table, name)
    column = table[name]
    try:
        if hasattr(column, "isna"):  # pandas, whose own missing values numpy does not know
            return np.asarray(column.to_numpy(np.float64, na_value=np.nan))
        return np.asarray(column, np.float64)
    except (TypeError, ValueError) as error:
        raise ProbeError(f"the column {name!r} must hold numbers: {error}") from error


def column_of(table: Any, name: str) -> Any:
    """A column of a table.

    Raises:
        ProbeError: if there is no such column.
    """
    _check_column(table, name)
    return table[name]


def labels_of(values: Any) -> Labels:
    """Labels of any kind as classes, sorted; categories that do not occur are left out.

    >>> labels_of(["wet", None, "dry"]).codes
    array([ 1., nan,  0.])
    """
    import pandas as pd

    codes, classes = pd.factorize(pd.Series(np.asarray(values, object)), sort=True)
    return Labels(np.where(codes < 0, np.nan, codes).astype(np.float64), tuple(classes))


def codes_of(target: Target) -> Float[np.ndarray, " point"]:
    """Numbers, or class numbers; NaN where missing."""
    return target.codes if isinstance(target, Labels) else np.asarray(target, np.float64)


def check_targets(targets: Mapping[str, Target], count: int) -> None:
    """Refuse targets that are no column of finite numbers or labels beside `count` points.

    Raises:
        ProbeError: naming the target and what is wrong with it.
    """
    if not targets:
        raise ProbeError("no target is named: give at least one column to predict")
    for name, target in targets.items():
        if len(target) != count:
            raise ProbeError(f"target {name!r} has {len(target)} values for {count} points")
        infinite = np.isinf(codes_of(target))
        if infinite.any():
            raise ProbeError(
                f"target {name!r} is infinite in row {int(np.argmax(infinite))}: use NaN where it "
                "is missing"
            )


def _holds_numbers(column: Any) -> bool:
    import pandas as pd

    series = pd.Series(column)
    if isinstance(series.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(series.dtype):
        return False
    if pd.api.types.is_numeric_dtype(series.dtype):
        return True
    kinds = {type(value) for value in series.dropna()}
    return bool(kinds) and all(
        issubclass(k, int | float | np.number) and k is not bool for k in kinds
    )


def _check_column(table: Any, name: str) -> None:
    if name not in table.columns:
        names = list(map(str, table.columns))
        more = f", ... ({len(names)} in all)" if len(names) > 30 else ""
        raise ProbeError(f"there is no column {name!r}; there are {', '.join(names[:30])}{more}")
