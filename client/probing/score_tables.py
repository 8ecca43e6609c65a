"""Tables of scores in other forms: by features, by target, means, and as Markdown."""

from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.probing.models import BASELINES

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("random", "blocked", "grouped")
"""Names of the splits, in the order of the columns."""
_MAX_HEADER = 60
"""Characters of a name that heads a column."""
_CLASS_COLUMNS = {"score": "", "balanced_accuracy": "balanced", "average_precision": "precision"}
"""Columns of a report that are shown side by side for classes, and their headers."""


def by_features(report: "pd.DataFrame", value: str | None = None) -> "pd.DataFrame":
    """Arrange scores with a row per set of features or baseline, a column per target and split.

    Args:
        report: scores that `probe_table` returned.
        value: column of the report to show; by default `score`, which is R2 of numbers and
            accuracy of classes. If there are classes, balanced accuracy and average precision
            are beside their accuracy, and a third level of the columns names the metric.
    """
    import pandas as pd

    targets = dict.fromkeys(report["target"])
    splits = [split for split in SPLITS if split in set(report["split"])]
    if value is None and "metric" in report and (report["metric"] == "accuracy").any():
        metrics = report.drop_duplicates("target").set_index("target")["metric"]
        tables = {column: by_features(report, column) for column in _CLASS_COLUMNS}
        # Targets of numbers keep one column per split, under the name of their metric.
        columns = {
            (target, split, name or metrics[target]): tables[column][target, split]
            for target in targets
            for split in splits
            for column, name in _CLASS_COLUMNS.items()
            if column == "score" or metrics[target] == "accuracy"
        }
        return pd.DataFrame(columns)
    if value is None:
        value = "score" if "score" in report else "r2"
    wide = _pivot(report, "features", ["target", "split"], value)
    return wide[[(target, split) for target in targets for split in splits]]


def by_target(report: "pd.DataFrame", split: str, value: str = "r2") -> "pd.DataFrame":
    """Arrange the scores of one split with a row per target, a column per set or baseline."""
    return _pivot(report[report["split"] == split], "target", ["features"], value)


def interval_table(report: "pd.DataFrame", level: float) -> "pd.DataFrame":
    """Arrange level, mean half-width and measured coverage of the intervals of each model.

    Args:
        report: scores that `probe_table` returned.
        level: level of the intervals, which is in the names of the columns.
    """
    percent = f"{100 * level:g}"
    width, covered = f"interval_{percent}", f"coverage_{percent}"
    chosen = report[~report["features"].isin(BASELINES)]
    if width not in chosen:  # targets of classes alone, which have no intervals
        return chosen.head(0)[["target", "features", "split"]]
    chosen = chosen.loc[chosen[width].notna(), ["target", "features", "split", width, covered]]
    chosen = chosen.rename(columns={width: "half_width", covered: "coverage"})
    chosen.insert(3, "level", level)
    return chosen.reset_index(drop=True)


def mean_scores(report: "pd.DataFrame", value: str = "r2") -> "pd.DataFrame":
    """Average over targets: a row per set of features, a column per split.

    If the targets are of several families, the blocked means of each family follow. A set that is
    not scored on every target has no mean over them, which would be of other targets than the rest.
    """
    means = mean_of_all(report, "features", ["split"], value)
    families = [name for name in report.get("family", []) if name]
    for family in dict.fromkeys(families) if len(set(families)) > 1 else ():
        part = report[(report["family"] == family) & (report["split"] == "blocked")]
        means[f"blocked, {family}"] = mean_of_all(part, "features", ["split"], value)["blocked"]
    return means


def mean_of_all(
    report: "pd.DataFrame", rows: str, columns: list[str], value: str
) -> "pd.DataFrame":
    """Average scores as `_pivot` does; NaN where some of a column's targets have no row."""
    means = _pivot(report, rows, columns, value)
    counts = report.groupby([rows, *columns], sort=False).size().unstack(columns)
    counts = counts.reindex(index=means.index, columns=means.columns)
    return means.where(counts == counts.max())


def to_markdown(table: "pd.DataFrame", digits: int = 3) -> str:
    """Write a table with its index as Markdown, its columns aligned for reading as plain text."""
    names: list[Any] = list(table.columns)
    header = [str(table.index.name or "")]
    header += [
        " ".join(str(part)[:_MAX_HEADER] for part in (name if isinstance(name, tuple) else (name,)))
        for name in names
    ]
    lines = [[_format_cell(name, digits) for name in header]]
    for label, *values in table.itertuples(name=None):
        lines.append(
            [_format_cell(str(label), digits), *(_format_cell(value, digits) for value in values)]
        )
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    numeric = [False, *(dtype.kind in "iuf" for dtype in table.dtypes)]
    # A rule that ends in a colon aligns its column to the right.
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
    """Pivot a report to the means of `value`; rows and columns keep the report's order."""
    # dropna=False keeps a method that has no score for any target.
    wide = report.pivot_table(
        index=rows, columns=columns, values=value, sort=False, aggfunc="mean", dropna=False
    )
    if len(columns) == 1:
        wide.columns = wide.columns.rename(None)
    return wide


def _format_cell(value: Any, digits: int) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.{digits}f}"
    return str(value).replace("|", "\\|").replace("\n", " ")
