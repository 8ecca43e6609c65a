"""The evaluation report: a self-contained HTML file, with its tables also as CSV and JSON."""

import base64
import html
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.atomic_files import write_text

if TYPE_CHECKING:
    import pandas as pd

HTML, JSON = "report.html", "report.json"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 68em; margin: 2em auto; padding: 0 1em;
       color: #1c1c1c; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .6em; border-bottom: 1px solid #e4e4e4; text-align: right; }
th { background: #f3f3f3; } td.word, th.word { text-align: left; }
.scroll { overflow-x: auto; margin-bottom: 1.6em; }
figure { margin: 1.5em 0; } figure img { max-width: 100%; }
figcaption, caption { text-align: left; color: #444; padding: .3em 0; caption-side: top; }
.warning { background: #fff3cd; border-left: 4px solid #d39e00; padding: .5em 1em; }
"""


@dataclass(frozen=True, eq=False)
class ReportTable:
    """A table with its caption."""

    name: str
    """Name of the CSV file, without its suffix."""
    caption: str
    frame: "pd.DataFrame"


@dataclass(frozen=True, eq=False)
class ReportFigure:
    """A figure with its caption."""

    name: str
    caption: str
    png: bytes


@dataclass(frozen=True, eq=False)
class Section:
    """One section of the report: text, tables and figures that answer one question."""

    title: str
    text: str
    parts: list[ReportTable | ReportFigure] = field(default_factory=list)


@dataclass(eq=False)
class EvaluationReport:
    """The results of an evaluation."""

    title: str
    facts: dict[str, str]
    """Model, data and settings of the evaluation, for the head of the report."""
    warnings: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    @property
    def tables(self) -> dict[str, "pd.DataFrame"]:
        """The tables of all sections, by name."""
        parts = [part for section in self.sections for part in section.parts]
        return {part.name: part.frame for part in parts if isinstance(part, ReportTable)}

    def write(self, folder: Path) -> Path:
        """Write `report.html`, `report.json` and a CSV file per table; return the HTML path.

        Raises:
            StoreError: if the folder cannot be written.
        """
        document = {
            "title": self.title,
            "facts": self.facts,
            "warnings": self.warnings,
            "tables": {
                name: json.loads(frame.to_json(orient="records"))
                for name, frame in self.tables.items()
            },
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, frame in self.tables.items():
                write_text(folder / f"{name}.csv", frame.to_csv(index=False))
            write_text(folder / JSON, json.dumps(document, indent=1) + "\n")
            write_text(folder / HTML, self.html())
        except OSError as error:
            raise StoreError(f"cannot write the report in {folder}: {error}") from error
        return folder / HTML

    def html(self) -> str:
        """Render the report as one HTML page with embedded figures."""
        facts = "".join(
            f"<tr><td class=word>{_text(name)}</td><td class=word>{_text(value)}</td></tr>"
            for name, value in self.facts.items()
        )
        warnings = "".join(f"<p class=warning>{_text(line)}</p>" for line in self.warnings)
        body = "\n".join(_section(section) for section in self.sections)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{_text(self.title)}</title><style>{_STYLE}</style></head>\n<body>"
            f"<h1>{_text(self.title)}</h1>\n<table>{facts}</table>\n{warnings}\n{body}\n"
            "</body></html>\n"
        )


def _section(section: Section) -> str:
    parts = "\n".join(
        _table(part) if isinstance(part, ReportTable) else _figure(part) for part in section.parts
    )
    return f"<h2>{_text(section.title)}</h2>\n<p>{_text(section.text)}</p>\n{parts}"


def _table(table: ReportTable) -> str:
    names = list(table.frame.columns)
    is_text = [table.frame[name].dtype.kind not in "iuf" for name in names]
    classes = [" class=word" if text else "" for text in is_text]  # aligned to the left
    head = "".join(f"<th{css}>{_text(name)}</th>" for name, css in zip(names, classes, strict=True))
    rows = "\n".join(
        "<tr>"
        + "".join(
            f"<td{css}>{_text(_format(value))}</td>"
            for value, css in zip(row, classes, strict=True)
        )
        + "</tr>"
        for row in table.frame.itertuples(index=False, name=None)
    )
    return (
        f"<div class=scroll><table><caption>{_text(table.caption)} "
        f'<a href="{_text(table.name)}.csv">{_text(table.name)}.csv</a></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _figure(figure: ReportFigure) -> str:
    data = base64.b64encode(figure.png).decode("ascii")
    return (
        f'<figure><img alt="{_text(figure.caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_text(figure.caption)}</figcaption></figure>"
    )


def _format(value: Any) -> str:
    """Format a number with about four significant digits, and NaN as an empty cell."""
    if not isinstance(value, float):
        return str(value)
    if value != value:  # NaN
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _text(value: object) -> str:
    """Escape a value for use in HTML."""
    return html.escape(str(value))
