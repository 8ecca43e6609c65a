"""Figures of the evaluation report, drawn by matplotlib and returned as PNG bytes."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

if TYPE_CHECKING:
    import pandas as pd

_DOTS_PER_INCH = 110
_WIDTH = 9.0  # inches


def heat_map(table: "pd.DataFrame", value: str, title: str) -> bytes:
    """Draw one metric of a retrieval table as a matrix in percent, one row per query modality.

    Args:
        table: one row per ordered pair, with columns `query` and `gallery`.
        value: name of a column of shares.
        title: text above the matrix.
    """
    pairs = table[table["gallery"] != ""]
    names = list(dict.fromkeys([*pairs["query"], *pairs["gallery"]]))
    wide = pairs.pivot_table(index="query", columns="gallery", values=value)
    percent = 100 * wide.reindex(index=names, columns=names).to_numpy(float)
    side = 1.6 + 0.9 * len(names)
    figure, axes = _figure(side + 1.0, side)
    image = axes.imshow(percent, cmap="viridis", vmin=0, vmax=max(1.0, float(np.nanmax(percent))))
    for (row, col), number in np.ndenumerate(percent):
        if np.isfinite(number):
            light = number > 0.6 * float(np.nanmax(percent))  # the upper end of viridis
            colour = "black" if light else "white"
            axes.text(col, row, f"{number:.1f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("gallery")
    axes.set_ylabel("query")
    axes.set_title(title)
    figure.colorbar(image, ax=axes, label=f"{value}, %", shrink=0.8)
    return _png(figure)


def curves(
    table: "pd.DataFrame", x: str, y: str, lines: str, panels: str, labels: Mapping[str, str]
) -> bytes:
    """Draw one panel per value of `panels` and in it one line per value of `lines`, in percent.

    Args:
        table: long format.
        x: column of the horizontal axis.
        y: column of shares, for the vertical axis.
        lines: column whose values become lines.
        panels: column whose values become panels.
        labels: labels of the horizontal axis, by panel.
    """
    kinds = list(dict.fromkeys(table[panels]))
    names = list(dict.fromkeys(table[lines]))
    columns = min(2, len(kinds))
    rows = -(-len(kinds) // columns)
    figure, grid = _figure(_WIDTH, 0.5 + 3.2 * rows, rows, columns)
    colours = dict(zip(names, _colours(len(names)), strict=True))
    for axes, kind in zip(np.ravel(grid), kinds, strict=False):
        part = table[table[panels] == kind]
        for name, line in part.groupby(lines, sort=False):
            axes.plot(line[x], 100 * line[y], marker="o", ms=4, label=name, color=colours[name])
        axes.set_title(kind)
        axes.set_xlabel(labels.get(kind, x))
        axes.set_ylabel(f"{y}, %")
        axes.set_ylim(bottom=0)
        if set(part[x]) == set(range(int(part[x].max()) + 1)):  # counts: no ticks between them
            axes.set_xticks(sorted(set(part[x])))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, ncols=3, loc="lower left")
    for axes in np.ravel(grid)[len(kinds) :]:
        axes.set_axis_off()
    return _png(figure)


def reliability(bins: "pd.DataFrame", title: str) -> bytes:
    """Draw a reliability diagram: share of right answers against their probability.

    Args:
        bins: columns `scale` (name of the temperature), `probability`, `right`.
        title: text above the figure.
    """
    figure, axes = _figure(6.0, 5.2)
    limit = 1.05 * max(0.05, float(bins[["probability", "right"]].to_numpy().max()))
    axes.plot([0, limit], [0, limit], color="grey", lw=1, ls="--", label="perfect")
    for (name, part), colour in zip(bins.groupby("scale", sort=False), _colours(2), strict=False):
        axes.plot(part["probability"], part["right"], marker="o", ms=4, label=name, color=colour)
    axes.set_xlim(0, limit)
    axes.set_ylim(0, limit)
    axes.set_xlabel("probability given to the best answer, mean of the bin")
    axes.set_ylabel("share of the bin in which it is right")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    return _png(figure)


def coverage(table: "pd.DataFrame", title: str) -> bytes:
    """Draw measured against stated coverage.

    Args:
        table: columns `sets`, `stated`, `covered`.
        title: text above the figure.
    """
    figure, axes = _figure(6.0, 5.2)
    low = 100 * min(table["stated"].min(), table["covered"].min()) - 3
    stated = np.array([low, 100.0])
    axes.fill_between(stated, stated - 2, stated + 2, color="0.9", label="within 2 points")
    axes.plot(stated, stated, color="grey", lw=1, ls="--")
    kinds = list(table.groupby("sets", sort=False))
    for (name, part), colour in zip(kinds, _colours(len(kinds)), strict=True):
        # The kinds are drawn side by side, where their points would cover each other.
        shift = 0.25 * (list(dict.fromkeys(table["sets"])).index(name) - 0.5)
        axes.plot(
            100 * part["stated"] + shift, 100 * part["covered"],
            ls="", marker="o", ms=4, alpha=0.6, label=name, color=colour,
        )  # fmt: skip
    axes.set_xlim(*stated)
    axes.set_ylim(*stated)
    axes.set_xlabel("stated coverage, %")
    axes.set_ylabel("measured coverage, %")
    axes.set_title(title)
    axes.legend(loc="upper left")
    return _png(figure)


def colour_maps(
    panels: Sequence[tuple[str, Float[np.ndarray, "_ _ 3"], tuple[float, float, float, float]]],
) -> bytes:
    """Draw maps side by side.

    Args:
        panels: for each map its title, its colours (0 to 1, north up, NaN where there is no data),
            and its west, east, south and north edges in degrees.
    """
    ratios = [colours.shape[1] / colours.shape[0] for _, colours, _ in panels]
    height = 0.9 + (_WIDTH - 1.6 * len(panels)) / sum(ratios)
    figure, grid = _figure(_WIDTH + 1, height + 0.6, 1, len(panels), width_ratios=ratios)
    for axes, (title, colours, extent) in zip(np.ravel(grid), panels, strict=True):
        shown = np.where(np.isfinite(colours), colours, 0.93)
        middle = np.radians((extent[2] + extent[3]) / 2)
        # A degree of longitude is cos(latitude) of a degree of latitude on the ground.
        axes.imshow(shown, extent=extent, aspect=1 / np.cos(middle), interpolation="nearest")
        axes.locator_params(nbins=4)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("longitude, degrees")
        axes.set_ylabel("latitude, degrees")
    return _png(figure)


def scatter(
    xy: Float[np.ndarray, "point 2"],
    groups: Sequence[str],
    colours: Float[np.ndarray, "point 3"] | None,
    title: str,
) -> bytes:
    """Draw points in two panels: coloured by group, and by given colours.

    Args:
        xy: positions of the points, without a unit.
        groups: name of each point's group.
        colours: colours of the second panel, which is omitted if this is None.
        title: text above the figure.
    """
    names = list(dict.fromkeys(groups))
    figure, grid = _figure(_WIDTH, 5.0, 1, 1 if colours is None else 2)
    first, *second = np.ravel(grid)
    for name, colour in zip(names, _colours(len(names)), strict=True):
        inside: Bool[np.ndarray, " point"] = np.array([group == name for group in groups])
        first.scatter(*xy[inside].T, s=5, color=colour, label=name, linewidths=0)
    first.legend(markerscale=3, fontsize=8)
    first.set_title("coloured by modality", fontsize=10)
    for axes in second:
        axes.scatter(*xy.T, s=5, c=colours, linewidths=0)
        axes.set_title("coloured by place: redder to the east, greener to the north", fontsize=10)
    for axes in (first, *second):
        axes.set_xticks([])
        axes.set_yticks([])
    figure.suptitle(title)
    return _png(figure)


def _figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Any, Any]:
    """Create a figure that needs no display, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def _colours(count: int) -> Sequence[Any]:
    from matplotlib import colormaps

    return [colormaps["tab10"](number % 10) for number in range(count)]


def _png(figure: Any) -> bytes:
    stream = BytesIO()
    figure.savefig(stream, dpi=_DOTS_PER_INCH)
    return stream.getvalue()
