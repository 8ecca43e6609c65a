"""Write the figures of a run into docs/gpu.md.

    python -m benchmarks.producer.gpu_docs results/summary.json

They replace the figures of that card, or the statement that there are none.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.producer.gpu_run import STAGES, goal_of, last_line

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
NONE = "Not yet run on a GPU: there are no figures."


def written(page: str, summary: dict[str, Any]) -> str:
    """The page with the figures of a run.

    Raises:
        ValueError: the run was a small one, or on a CPU; or the page has no room for figures.
    """
    about = summary["machine"]
    card = about.get("device")
    if summary["size"] != "base" or card in (None, "CPU"):
        raise ValueError(
            f"figures are of a GPU at full size; these are of {card}, size {summary['size']}"
        )
    if BEGIN not in page or END not in page:
        raise ValueError(f"the page lacks {BEGIN!r} or {END!r}")
    before, rest = page.split(BEGIN)
    old, after = rest.split(END)
    sections = {
        part.split("\n", 1)[0]: part for part in re.split(r"^### ", old, flags=re.MULTILINE)[1:]
    }
    sections[card] = f"{card}\n\n{tables(summary)}"
    body = "\n".join(f"### {sections[name].strip()}\n" for name in sorted(sections))
    return f"{before}{BEGIN}\n\n{body}\n{END}{after}"


def tables(summary: dict[str, Any]) -> str:
    """One table of all stages."""
    about = summary["machine"]
    lines = [
        f"torch {about['torch']}, CUDA {about['cuda']}, Triton {about['triton']}, Python "
        f"{about['python']}, {about['cores']} cores; {summary['seconds']:.0f} s in all.",
        "",
        "| stage | figure | value | goal | |",
        "| --- | --- | ---: | --- | --- |",
    ]
    for stage in STAGES:
        report = summary["stages"].get(stage.name)
        if report is None:
            lines.append(f"| {stage.name} | not run | | | |")
            continue
        if "failed" in report:
            reason = last_line(report["failed"]).replace("|", "\\|")
            lines.append(f"| {stage.name} | **failed**: {reason} | | | |")
        for figure in report.get("figures", []):
            verdict = {True: "kept", False: "**missed**", None: ""}[figure["kept"]]
            value = f"{figure['value']:.6g} {figure['unit']}".strip()
            name = figure["name"]
            lines.append(f"| {stage.name} | {name} | {value} | {goal_of(figure)} | {verdict} |")
    for name, report in summary["stages"].items():
        for key in (key for key in report if key.endswith("profile")):
            lines += ["", f"Where the time of `{name}` goes ({key}):", ""]
            lines += ["| operation | times | ms |", "| --- | ---: | ---: |"]
            lines += [
                f"| `{row['name'].replace('|', '/')[:90]}` | {row['count']} | "
                f"{row['device_ms'] or row['cpu_ms']:.3f} |"
                for row in report[key][:10]
            ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("summary", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    text = written(options.page.read_text(), json.loads(options.summary.read_text()))
    options.page.write_text(text)


if __name__ == "__main__":
    main()
