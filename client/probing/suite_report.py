"""The report of a suite as Markdown: mean scores, scores by target, coverage of intervals."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unigeo.client.probing.folding_tables import SEED, above_numbers, foldings_table
from unigeo.client.probing.score_tables import by_target, mean_scores, to_markdown

if TYPE_CHECKING:
    import pandas as pd


def suite_markdown(report: "pd.DataFrame", facts: Mapping[str, Any]) -> str:
    """Write a suite's scores as Markdown.

    Args:
        report: scores that `probe_suite` returned.
        facts: inputs and options of the run by name, listed above the tables.
    """
    targets = report.drop_duplicates(["table", "target"])
    counts = targets.set_index("target")[["table", "points", "dropped", "blocks"]]
    parts = [
        f"# Probes of {len(targets)} targets",
        "\n".join(f"- {name}: {value}" for name, value in facts.items()),
        "R2 of held-out predictions. Random: folds of shuffled rows. Blocked: folds of whole "
        "squares of the map, which tells what carries over to unseen country.",
        f"## Mean over {len(targets)} targets",
        to_markdown(mean_scores(report)),
        *_foldings_section(report),
        *_numbers_section(report),
        "## Blocked R2",
        to_markdown(_append_mean(by_target(report, "blocked"))),
        "## Random R2",
        to_markdown(_append_mean(by_target(report, "random"))),
        *_coverage_section(report),
        "## Points",
        "Dropped: rows that have the target and lack a vector or a covariate; they are left out of "
        "every column above alike.",
        to_markdown(counts),
    ]
    return "\n\n".join(parts)


def _foldings_section(report: "pd.DataFrame") -> list[str]:
    """Write the spread of scores over foldings; nothing if there is one."""
    if SEED not in report:
        return []
    return [
        f"## Blocked R2 over {report[SEED].nunique()} foldings",
        "Mean over the targets: its mean over the foldings, and the lowest and highest of them. "
        "Scores of other tables here are means over the foldings.",
        to_markdown(foldings_table(report)),
    ]


def _numbers_section(report: "pd.DataFrame") -> list[str]:
    """Write how far vectors are above trees on hand-made numbers; nothing without numbers."""
    table = above_numbers(report)
    if table is None:
        return []
    spread = ": its mean over the foldings, and the lowest and highest" * (SEED in report)
    return [
        "## Blocked R2 above trees on hand-made numbers",
        f"Difference in the same folds, at the same rows{spread}. The trees also see longitude and "
        "latitude; of numbers at the point and over the polygon the better trees count.",
        to_markdown(table),
    ]


def _coverage_section(report: "pd.DataFrame") -> list[str]:
    """Write the share of held-out points that lie inside their intervals; nothing without any."""
    columns = [str(name) for name in report if str(name).startswith("coverage_")]
    if not columns:
        return []
    (name,) = columns
    with_intervals = report[report[name].notna()]
    return [
        f"## Blocked coverage of {name.removeprefix('coverage_')} % intervals",
        "Share of the held-out places that lie inside their interval. Its width comes from blocks "
        "that took no part in the fit; it is counted on blocks that took part in neither.",
        to_markdown(_append_mean(by_target(with_intervals, "blocked", name))),
    ]


def _append_mean(table: "pd.DataFrame") -> "pd.DataFrame":
    """Append the mean over the rows, as a last row; empty for what is not in every row."""
    longer = table.copy()
    longer.loc["mean"] = table.mean(skipna=False)
    return longer
