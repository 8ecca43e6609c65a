"""Figures as JSON and as Markdown, with the machine on which they were measured."""

import importlib.metadata
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.client.cases import Result

_VERSIONS = ("numpy", "zarr", "xarray", "tensorstore", "obstore", "numcodecs", "fsspec", "aiohttp")
_COLUMNS = {
    "seconds": ("s", "{:.4g}"),
    "cpu_s": ("CPU s", "{:.4g}"),
    "least_cpu_s": ("least CPU s", "{:.4g}"),
    "peak_mb": ("peak MB", "{:.0f}"),
    "peak_own_mb": ("own MB", "{:.0f}"),
    "bytes": ("bytes", "{:,.0f}"),
    "requests": ("requests", "{:,.0f}"),
    "not_found": ("not found", "{:.0f}"),
    "in_flight_max": ("in flight", "{:.0f}"),
    "packages": ("packages", "{:.0f}"),
    "mb": ("MB", "{:.0f}"),
    "block_s": ("block s", "{:.4g}"),
    "rounds": ("rounds", "{:.0f}"),
}
"""Heading and format of each figure, in the order of the columns."""


def machine() -> dict[str, Any]:
    """Return the machine and the versions with which the figures are measured."""
    names = (
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    )
    versions = {}
    for name in _VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": next(names, "model name: unknown").split(":", 1)[1].strip(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def document(result: Result, case: str) -> dict[str, Any]:
    """Return a result as JSON."""
    goals = [asdict(goal) | {"kept": goal.met} for goal in result.goals]
    return {
        "case": case,
        "title": result.title,
        "rows": result.rows,
        "bars": goals,
        "notes": result.notes,
    }


def table(result: dict[str, Any]) -> str:
    """Return a result as Markdown: readers, then goals."""
    rows = result["rows"]
    keys = [key for key in _COLUMNS if any(key in row for row in rows)]
    lines = [f"### {result['title']}", ""]
    lines += _table(
        ["", *(_COLUMNS[key][0] for key in keys)],
        [[row["reader"], *(_cell(row, key) for key in keys)] for row in rows],
    )
    for row in rows:
        if "failed" in row:
            lines += ["", f"{row['reader']} failed: {row['failed']}"]
    if result["bars"]:
        lines += [
            "",
            *_table(["bar", "found", "limit", ""], [_goal(bar) for bar in result["bars"]]),
        ]
    if result["notes"]:
        lines += ["", *(f"{note[0].upper()}{note[1:]}." for note in result["notes"])]
    return "\n".join([*lines, ""])


def report(found: dict[str, Any]) -> str:
    """Return the page `docs/performance.md`."""
    on = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in on["versions"].items())
    kept = [bar["kept"] for result in found["results"] for bar in result["bars"]]
    lines = [
        "# Performance",
        "",
        f"`{found['command']}` made this page. Medians; readers are processes of their own that "
        "take turns. *Peak MB* is resident memory above what was held before and above the output, "
        "mapped files included; *own MB* leaves those out.",
        "",
        f"On {on['cpu']}, {on['cores']} cores, {on['memory_gb']} GB, {on['system']}, Python "
        f"{on['python']}, {versions}.",
        "",
        f"{sum(kept)} of {len(kept)} bars are kept.",
        "",
        *([found["note"], ""] if found.get("note") else []),
    ]
    return "\n".join([*lines, *(table(result) for result in found["results"])])


def _cell(row: dict[str, Any], key: str) -> str:
    return _COLUMNS[key][1].format(row[key]) if row.get(key) is not None else ""


def _goal(goal: dict[str, Any]) -> list[str]:
    unit = f" {goal['unit']}" if goal["unit"] not in ("", "x") else goal["unit"]
    side = "≤" if goal["at_most"] else "≥"
    value, limit = (
        f"{goal[key]:,.4g}" if goal[key] < 10_000 else f"{goal[key]:,.0f}"
        for key in ("value", "limit")
    )
    return [
        goal["what"],
        f"{value}{unit}",
        f"{side} {limit}{unit}",
        "kept" if goal["kept"] else "**missed**",
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    ruled = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, ruled, *rows)]
