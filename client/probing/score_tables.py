"""Reports of probes as small tables, and tables as Markdown."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("random", "blocked", "grouped")
_WIDEST = 60  # characters of a name that heads a column
_OF_CLASSES = {"score": "", "balanced_accuracy": "balanced", "average_precision": "precision"}
"""Columns of a report that stand side by side for classes, and what they are called there."""


def by_features(report: "pd.DataFrame", value: str | None = None) -> "pd.DataFrame":
    """One row per set of features or baseline; one column per target and split.

    Args:
        report: what `probe_table` gives.
        value: its column to show; `score` by default, which is R2 of numbers, accuracy of classes.
            Beside the accuracy then stand balanced accuracy and average precision, and a third
            level of the columns names what each is.
    """
    import pandas as pd

    targets = dict.fromkeys(report["target"])
    splits = [split for split in SPLITS if split in set(report["split"])]
    if value is None and "metric" in report and (report["metric"] == "accuracy").any():
        metrics = report.drop_duplicates("target").set_index("target")["metric"]
        tables = {column: by_features(report, column) for column in _OF_CLASSES}
        columns = {
            (target, split, name or metrics[target]): tables[column][target, split]
            for target in targets
            for split in splits
            for column, name in _OF_CLASSES.items()
            if column == "score" or metrics[target] == "accuracy"
        }
        return pd.DataFrame(columns)
    if value is None:
        value = "score" if "score" in report else "r2"
    wide = _pivot(report, "features", ["target", "split"], value)
    return wide[[(target, split) for target in targets for split in splits]]


def by_target(report: "pd.DataFrame", split: str, value: str = "r2") -> "pd.DataFrame":
    """One row per target, one column per set of features or baseline, under one split."""
    return _pivot(report[report["split"] == split], "target", ["features"], value)


def mean_scores(report: "pd.DataFrame", value: str = "r2") -> "pd.DataFrame":
    """Means over targets: one row per set of features, one column per split.

    Where the targets are of several families, the blocked means of each family follow.
    """
    means = _pivot(report, "features", ["split"], value)
    families = [name for name in report.get("family", []) if name]
    for family in dict.fromkeys(families) if len(set(families)) > 1 else ():
        part = report[(report["family"] == family) & (report["split"] == "blocked")]
        means[f"blocked, {family}"] = part.groupby("features")[value].mean()
    return means


def to_markdown(table: "pd.DataFrame", digits: int = 3) -> str:
    """Write a table with its index as Markdown, columns aligned for reading as plain text."""
    names: list[Any] = list(table.columns)
    header = [str(table.index.name or "")]
    header += [
        " ".join(str(part)[:_WIDEST] for part in (name if isinstance(name, tuple) else (name,)))
        for name in names
    ]
    lines = [[_cell(name, digits) for name in header]]
    for label, *values in table.itertuples(name=None):
        lines.append([_cell(str(label), digits), *(_cell(value, digits) for value in values)])
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    numeric = [False, *(dtype.kind in "iuf" for dtype in table.dtypes)]
    rule = [
        "-" * (width - 1) + ":" if right else "-" * width
        for width, right in zip(widths, numeric, strict=True)
    ]
    lines.insert(1, rule)
    return "\n".join(
        "| "
        + " | ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        )
        + " |"
        for line in lines
    )


def _pivot(report: "pd.DataFrame", rows: str, columns: list[str], value: str) -> "pd.DataFrame":
    """Means of `value`, rows and columns in the order in which they come in the report."""
    wide = report.pivot_table(
        index=rows, columns=columns, values=value, sort=False, aggfunc="mean", dropna=False
    )
    if len(columns) == 1:
        wide.columns = wide.columns.rename(None)
    return wide


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.{digits}f}"
    return str(value).replace("|", "\\|").replace("\n", " ")
