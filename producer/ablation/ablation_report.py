"""The report of an ablation: tables as CSV, Markdown and HTML, and a forest plot."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unigeo.producer.ablation.ablation_table import AblationTable
from unigeo.producer.ablation.effects import Measure, TrialResult, effects, measures
from unigeo.producer.ablation.forest import PANELS, draw_forest_plot
from unigeo.producer.ablation.trials import Trial, read_error, read_result
from unigeo.schemas.errors import ModelError
from unigeo.schemas.io.atomic_files import write_text

RUNS, EFFECTS = "ablation.csv", "effects.csv"
FIGURE, MARKDOWN, HTML = "ablation.png", "ablation.md", "ablation.html"
_FIRST = ("R@10", "blocked joined", "blocked coordinate")
"""Measures that come first in the report if the table names none."""
_MEANS = ("R@10 worst pair", "R@1", "R@10 street->aerial", "seconds", "parameters")
"""Measures of which the tables show the mean alone."""
_READING = (
    "Mean over seeds and its 95 % t-interval; Δ is the difference to the base, paired by seed, "
    "over the pairs of modalities that both have. `helps` and `hurts` hold after Holm's "
    "correction for all rows of the table; `may help` and `may hurt` only say that the interval "
    "of this row leaves out 0, as one row in twenty does by chance; luck of the base's runs is in "
    "every Δ."
)


def write_report(table: AblationTable, trials: Sequence[Trial], out: Path) -> list[Path]:
    """Write the runs, their effects as tables, and a forest plot, from the finished trials.

    Returns:
        The files written; only the table of runs until a trial of the base has finished.

    Raises:
        ModelError: if the folder cannot be written, or the table shows an unknown measure.
    """
    states = [(trial, read_result(trial, out, table.metrics)) for trial in trials]
    results = {(trial.row.title, trial.seed): result for trial, result in states if result}
    errors = {
        trial.title: error
        for trial, result in states
        if not result and (error := read_error(trial, out))
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / RUNS, _runs_table(states, out).to_csv(index=False))
        if not any(title == table.rows[0].title for title, _ in results):
            return [out / RUNS]
        compared = effects(table, results)
        write_text(out / EFFECTS, compared.to_csv(index=False))
        by_name = {measure.name: measure for measure in measures(list(results.values()))}
        shown = _shown_measures(table, by_name)
        panels = [(name, by_name[name].percent) for name in shown[:PANELS]]
        draw_forest_plot(compared, panels, out / FIGURE, f"{table.name}: what each change does")
        tables = {
            question: _question_table(table, question, compared, by_name, shown)
            for question in ("", *table.questions)
        }
        head = _facts(table, results, trials)
        write_text(out / MARKDOWN, _markdown(table, head, tables, errors))
        write_text(out / HTML, _html(table, head, tables, errors, out))
    except OSError as error:
        raise ModelError(f"cannot write the report in {out}: {error}") from error
    return [out / name for name in (RUNS, EFFECTS, MARKDOWN, HTML, FIGURE)]


def _shown_measures(table: AblationTable, by_name: Mapping[str, Measure]) -> list[str]:
    """Return the names of the measures in the tables and the figure, in order.

    Raises:
        ModelError: if the table names a measure that the results lack.
    """
    unknown = [name for name in table.shown if name not in by_name]
    if unknown:
        raise ModelError(
            f"{table.path} shows {unknown[0]!r}, which is not measured; there are "
            f"{', '.join(by_name)}"
        )
    if table.shown:
        return list(table.shown)
    others = [
        name for name, measure in by_name.items() if measure.larger_is_better and name not in _MEANS
    ]
    return sorted(others, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))


def _runs_table(states: Sequence[tuple[Trial, TrialResult | None]], out: Path) -> pd.DataFrame:
    """Make a table of one row per run, with its measures and the recall of every pair."""
    rows = []
    for trial, result in states:
        error = None if result else read_error(trial, out)
        row: dict[str, Any] = {
            "question": trial.row.question,
            "row": trial.row.name,
            "seed": trial.seed,
            "run": trial.key,
            "state": "finished" if result else "failed" if error else "open",
            "error": error.splitlines()[-1] if error else "",
            "changes": _format_changes(trial.row.changes),
        }
        if result:
            row |= {measure.name: measure.value(result, result) for measure in measures([result])}
            for name, pairs in result["retrieval"].items():
                row |= {f"{name} {pair}": recall for pair, recall in pairs.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _question_table(
    table: AblationTable,
    question: str,
    compared: pd.DataFrame,
    by_name: Mapping[str, Measure],
    shown: Sequence[str],
) -> pd.DataFrame:
    """Format the rows of one question as text."""
    lines = []
    for row in table.rows:
        if row.question != question:
            continue
        of_row = compared[(compared["question"] == question) & (compared["row"] == row.name)]
        effect_of = {effect["measure"]: effect for effect in of_row.to_dict("records")}
        seeds = max(effect["seeds"] for effect in effect_of.values())
        line = {"row": row.name, "seeds": str(seeds)}
        for name in shown:
            effect, measure = effect_of[name], by_name[name]
            line[_heading(measure)] = _format_interval(
                measure, effect["mean"], effect["half_width"]
            )
            if question:
                difference = _format_interval(
                    measure, effect["difference"], effect["difference_half_width"], sign=True
                )
                line[f"Δ {name}"] = f"{difference} {effect['mark']}".strip()
        for name in _MEANS:
            measure = by_name[name]
            line[_heading(measure)] = _format_number(measure, effect_of[name]["mean"])
        line["changes"] = _format_changes(row.changes)
        lines.append(line)
    return pd.DataFrame(lines)


def _facts(
    table: AblationTable, results: Mapping[tuple[str, int], TrialResult], trials: Sequence[Trial]
) -> list[str]:
    settings = trials[0].recipe.training
    devices = sorted({str(result["device"]) for result in results.values()})
    return [
        f"base: preset {table.preset}, {_format_changes(table.changes) or 'as it is'}; "
        f"{settings.locations:,} places, {settings.steps} steps of {settings.batch}",
        f"{len(results)} of {len(trials)} runs finished, {table.seeds} seeds a row, on "
        f"{', '.join(devices)}; seconds are of training alone",
    ]


def _markdown(
    table: AblationTable,
    head: list[str],
    tables: Mapping[str, pd.DataFrame],
    errors: Mapping[str, str],
) -> str:
    parts = [f"# {table.name}", "\n".join(f"- {fact}" for fact in head), _READING]
    for question, rows in tables.items():
        parts += [f"## {question or 'Base'}", _markdown_table(rows)]
    if errors:
        parts += [
            "## Runs that failed",
            "\n".join(f"- {run}: {_last_line(e)}" for run, e in errors.items()),
        ]
    return "\n\n".join([*parts, f"![differences to the base]({FIGURE})"]) + "\n"


def _html(
    table: AblationTable,
    head: list[str],
    tables: Mapping[str, pd.DataFrame],
    errors: Mapping[str, str],
    out: Path,
) -> str:
    figure_data = base64.b64encode((out / FIGURE).read_bytes()).decode()
    name = html.escape(table.name)
    parts = [
        f"<!doctype html><meta charset='utf-8'><title>{name}</title><style>{_STYLE}</style>",
        f"<h1>{name}</h1>",
        "<ul>" + "".join(f"<li>{html.escape(fact)}</li>" for fact in head) + "</ul>",
        f"<p>{html.escape(_READING)}</p>",
        f"<img alt='differences to the base' src='data:image/png;base64,{figure_data}'>",
    ]
    for question, rows in tables.items():
        parts.append(f"<h2>{html.escape(question or 'Base')}</h2>")
        parts.append(rows.to_html(index=False, border=0))
    if errors:
        parts.append("<h2>Runs that failed</h2>")
        parts += [
            f"<h3>{html.escape(run)}</h3><pre>{html.escape(error)}</pre>"
            for run, error in errors.items()
        ]
    return "\n".join(parts) + "\n"


_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{padding:.25em .7em;text-align:left;border-bottom:1px solid #ddd;white-space:nowrap}"
    "img{max-width:100%}"
)


def _markdown_table(rows: pd.DataFrame) -> str:
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.to_numpy().tolist()]
    escaped = [
        [str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)


def _heading(measure: Measure) -> str:
    if measure.name == "parameters":
        return "million parameters"
    return f"{measure.name}, %" if measure.percent else measure.name


def _format_number(measure: Measure, value: float, sign: bool = False) -> str:
    if np.isnan(value):
        return ""
    if measure.name == "parameters":
        return f"{value / 1e6:.2f}"
    plus = "+" if sign else ""
    if measure.percent:
        return f"{100 * value:{plus}.1f}"
    return f"{value:{plus}.3f}" if measure.larger_is_better else f"{value:.0f}"


def _format_interval(measure: Measure, middle: float, half: float, sign: bool = False) -> str:
    if np.isnan(half):
        return _format_number(measure, middle, sign)
    return f"{_format_number(measure, middle, sign)} ± {_format_number(measure, half)}"


def _format_changes(changes: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in changes.items())


def _last_line(error: str) -> str:
    return error.splitlines()[-1]
