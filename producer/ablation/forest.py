"""Forest plot of an ablation: each row's difference to the base, with its interval."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from unigeo.schemas.io.atomic_files import file_beside

PANELS = 3
"""Most measures drawn side by side."""
_COLOURS = {"helps": "#1b7837", "may help": "#7fbf7b", "hurts": "#762a83", "may hurt": "#af8dc3"}
_UNCLEAR = "#777777"
_TICKS = 5
_ROW_INCHES = 0.24


def draw_forest_plot(
    effects: pd.DataFrame, measures: list[tuple[str, bool]], path: Path, title: str
) -> None:
    """Draw differences to the base as a forest plot, rows grouped by question.

    Args:
        effects: table from `effects.effects`.
        measures: names, and whether the measure is a share, drawn in percentage points.
        path: path of the PNG file.
        title: text above the figure.
    """
    rows = effects[effects["question"] != ""]
    lines = list(_lines(rows))
    figure = Figure(
        figsize=(4.0 + 3.2 * len(measures), 1.4 + _ROW_INCHES * len(lines)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, (measure, percent) in zip(panels, measures, strict=True):
        _panel(axes, rows[rows["measure"] == measure], lines, 100.0 if percent else 1.0)
        axes.set_xlabel(f"{measure},\ndifference to the base{', points' if percent else ''}")
    first = panels[0]
    first.set_yticks(range(len(lines)), [name for _, name in lines], fontsize=8)
    for label, (_, name) in zip(first.get_yticklabels(), lines, strict=True):
        if not name.startswith("  "):
            label.set_fontweight("bold")
    first.set_ylim(len(lines) - 0.4, -0.6)  # downwards, in the order of the table
    figure.suptitle(title, fontsize=11)
    keys = [
        Line2D([], [], color=colour, marker="o", label=mark)
        for mark, colour in {**_COLOURS, "unclear": _UNCLEAR}.items()
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), fontsize=8)
    with file_beside(path) as part:
        figure.savefig(part, dpi=130, format="png")


def _lines(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the key and label of each line from top to bottom: questions and their rows."""
    for question, part in rows.groupby("question", sort=False):
        yield (str(question), ""), str(question)
        for name in part["row"].unique():
            yield (str(question), str(name)), f"  {name}"


def _panel(
    axes: Axes, rows: pd.DataFrame, lines: list[tuple[tuple[str, str], str]], unit: float
) -> None:
    """Draw one measure: a point with its interval for each row."""
    line_number = {key: number for number, (key, _) in enumerate(lines)}
    axes.axvline(0, color="black", linewidth=0.8)
    for row in rows.to_dict("records"):
        y = line_number[row["question"], row["row"]]
        if pd.isna(row["difference"]):
            axes.text(
                0.02,
                y,
                "no result",
                transform=axes.get_yaxis_transform(),
                fontsize=7,
                verticalalignment="center",
            )
            continue
        half = row["difference_half_width"] * unit
        axes.errorbar(
            row["difference"] * unit,
            y,
            xerr=None if pd.isna(half) else half,
            fmt="o",
            markersize=4,
            color=_COLOURS.get(row["mark"], _UNCLEAR),
            elinewidth=1.4,
        )
    for (_, name), number in line_number.items():
        if not name:
            # Shade the headings of questions, which have no row name.
            axes.axhspan(number - 0.5, number + 0.5, color="#eeeeee", zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(_TICKS))
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
