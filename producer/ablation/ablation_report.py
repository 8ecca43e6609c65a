"""The report of an ablation: tables by question, for reading and for machines, and a figure."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unigeo.producer.ablation.ablation_table import AblationTable
from unigeo.producer.ablation.effects import Measure, Result, effects, measures
from unigeo.producer.ablation.forest import PANELS, draw
from unigeo.producer.ablation.trials import Trial, error_of, result_of
from unigeo.schemas.errors import ModelError

RUNS, EFFECTS = "ablation.csv", "effects.csv"
FIGURE, MARKDOWN, HTML = "ablation.png", "ablation.md", "ablation.html"
_FIRST = ("R@10", "blocked joined", "blocked coordinate")
"""Measures whose differences are shown first, where they were measured and the table names none."""
_MEANS = ("R@10 worst pair", "R@1", "R@10 street->aerial", "seconds", "parameters")
_READING = (
    "Mean over seeds and its 95 % t-interval; Δ is the difference to the base, paired by seed, "
    "over the pairs of modalities that both have. `helps` and `hurts` hold after Holm's "
    "correction for all rows of the table; `may help` and `may hurt` only say that the interval "
    "of this row leaves out 0, as one row in twenty does by chance; luck of the base's runs is in "
    "every Δ."
)


def write_report(table: AblationTable, planned: Sequence[Trial], out: Path) -> list[Path]:
    """Write what the finished trials tell: every run, every effect, tables, and a figure.

    Returns:
        The files written: the runs alone while no trial of the base and of a row has finished.

    Raises:
        ModelError: if the folder cannot be written.
    """
    found = [(trial, result_of(trial, out, table.metrics)) for trial in planned]
    results = {(trial.row.title, trial.seed): result for trial, result in found if result}
    errors = {
        trial.title: error
        for trial, result in found
        if not result and (error := error_of(trial, out))
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        _runs(found, out).to_csv(out / RUNS, index=False)
        if not any(title == table.rows[0].title for title, _ in results):
            return [out / RUNS]
        compared = effects(table, results)
        compared.to_csv(out / EFFECTS, index=False)
        kinds = {measure.name: measure for measure in measures(list(results.values()))}
        shown = _shown(table, kinds)
        panels = [(name, kinds[name].percent) for name in shown[:PANELS]]
        draw(compared, panels, out / FIGURE, f"{table.name}: what each change does")
        tables = {
            question: _readable(table, question, compared, kinds, shown)
            for question in ("", *table.questions)
        }
        head = _facts(table, results, planned)
        (out / MARKDOWN).write_text(_markdown(table, head, tables, errors), encoding="utf-8")
        (out / HTML).write_text(_html(table, head, tables, errors, out), encoding="utf-8")
    except OSError as error:
        raise ModelError(f"cannot write the report in {out}: {error}") from error
    return [out / name for name in (RUNS, EFFECTS, MARKDOWN, HTML, FIGURE)]


def _shown(table: AblationTable, kinds: Mapping[str, Measure]) -> list[str]:
    """Measures of the tables and the figure, in order.

    Raises:
        ModelError: if the table names one that was not measured.
    """
    unknown = [name for name in table.shown if name not in kinds]
    if unknown:
        raise ModelError(
            f"{table.path} shows {unknown[0]!r}, which is not measured; there are "
            f"{', '.join(kinds)}"
        )
    if table.shown:
        return list(table.shown)
    others = [name for name, kind in kinds.items() if kind.judged and name not in _MEANS]
    return sorted(others, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))


def _runs(found: Sequence[tuple[Trial, Result | None]], out: Path) -> pd.DataFrame:
    """One line per run, with every recall of every pair."""
    rows = []
    for trial, result in found:
        error = None if result else error_of(trial, out)
        row: dict[str, Any] = {
            "question": trial.row.question,
            "row": trial.row.name,
            "seed": trial.seed,
            "run": trial.key,
            "state": "finished" if result else "failed" if error else "open",
            "error": error.splitlines()[-1] if error else "",
            "changes": _changes(trial.row.changes),
        }
        if result:
            row |= {measure.name: measure.of(result, result) for measure in measures([result])}
            for measure, pairs in result["retrieval"].items():
                row |= {f"{measure} {pair}": recall for pair, recall in pairs.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _readable(
    table: AblationTable,
    question: str,
    compared: pd.DataFrame,
    kinds: Mapping[str, Measure],
    shown: Sequence[str],
) -> pd.DataFrame:
    """The rows of one question as words."""
    lines = []
    for row in table.rows:
        if row.question != question:
            continue
        mine = compared[(compared["question"] == question) & (compared["row"] == row.name)]
        by_name = {effect["measure"]: effect for effect in mine.to_dict("records")}
        seeds = max(effect["seeds"] for effect in by_name.values())
        line = {"row": row.name, "seeds": str(seeds)}
        for name in shown:
            effect, kind = by_name[name], kinds[name]
            line[_heading(kind)] = _interval(kind, effect["mean"], effect["half_width"])
            if question:
                change = _interval(
                    kind, effect["difference"], effect["difference_half_width"], sign=True
                )
                line[f"Δ {name}"] = f"{change} {effect['mark']}".strip()
        for name in _MEANS:
            line[_heading(kinds[name])] = _number(kinds[name], by_name[name]["mean"])
        line["changes"] = _changes(row.changes)
        lines.append(line)
    return pd.DataFrame(lines)


def _facts(
    table: AblationTable, results: Mapping[tuple[str, int], Result], planned: Sequence[Trial]
) -> list[str]:
    settings = planned[0].recipe.training
    devices = sorted({str(result["device"]) for result in results.values()})
    return [
        f"base: preset {table.preset}, {_changes(table.changes) or 'as it is'}; "
        f"{settings.locations:,} places, {settings.steps} steps of {settings.batch}",
        f"{len(results)} of {len(planned)} runs finished, {table.seeds} seeds a row, on "
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
        parts += [f"## {question or 'Base'}", _pipes(rows)]
    if errors:
        parts += [
            "## Runs that failed",
            "\n".join(f"- {run}: {_last(e)}" for run, e in errors.items()),
        ]
    return "\n\n".join([*parts, f"![differences to the base]({FIGURE})"]) + "\n"


def _html(
    table: AblationTable,
    head: list[str],
    tables: Mapping[str, pd.DataFrame],
    errors: Mapping[str, str],
    out: Path,
) -> str:
    picture = base64.b64encode((out / FIGURE).read_bytes()).decode()
    name = html.escape(table.name)
    parts = [
        f"<!doctype html><meta charset='utf-8'><title>{name}</title><style>{_STYLE}</style>",
        f"<h1>{name}</h1>",
        "<ul>" + "".join(f"<li>{html.escape(fact)}</li>" for fact in head) + "</ul>",
        f"<p>{html.escape(_READING)}</p>",
        f"<img alt='differences to the base' src='data:image/png;base64,{picture}'>",
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


def _pipes(rows: pd.DataFrame) -> str:
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.to_numpy().tolist()]
    escaped = [
        [str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)


def _heading(measure: Measure) -> str:
    if measure.name == "parameters":
        return "million parameters"
    return f"{measure.name}, %" if measure.percent else measure.name


def _number(measure: Measure, value: float, sign: bool = False) -> str:
    if np.isnan(value):
        return ""
    if measure.name == "parameters":
        return f"{value / 1e6:.2f}"
    plus = "+" if sign else ""
    if measure.percent:
        return f"{100 * value:{plus}.1f}"
    return f"{value:{plus}.3f}" if measure.judged else f"{value:.0f}"


def _interval(measure: Measure, middle: float, half: float, sign: bool = False) -> str:
    if np.isnan(half):
        return _number(measure, middle, sign)
    return f"{_number(measure, middle, sign)} ± {_number(measure, half)}"


def _changes(changes: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in changes.items())


def _last(error: str) -> str:
    return error.splitlines()[-1]
