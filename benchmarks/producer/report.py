"""The report of one stage of a measurement: figures beside their goals, written as they come."""

import json
import os
import platform
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    name: str
    value: float
    unit: str
    least: float | None
    """Goal: at least this."""
    most: float | None
    """Goal: at most this."""
    kept: bool | None
    """Whether the goal is kept; None where there is none, or it is of another machine."""


@dataclass
class Report:
    """Figures and details of a stage, in a file that is complete after every addition."""

    path: Path | None
    """Where to write; None writes nothing."""
    judged: bool
    """Whether goals of speed count here: at full size on a GPU."""
    details: dict[str, Any] = field(default_factory=lambda: {"figures": []})

    def add(self, **details: Any) -> None:
        """Take in details by name."""
        self.details |= details
        self._write()

    def figure(
        self,
        name: str,
        value: float,
        unit: str = "",
        *,
        least: float | None = None,
        most: float | None = None,
        everywhere: bool = False,
    ) -> bool:
        """Take in a figure, and say whether its goal is missed.

        Args:
            name: what was measured.
            value: how much.
            unit: of the value and its goal.
            least: the goal, from below.
            most: the goal, from above.
            everywhere: it counts on any machine, as equality does and speed does not.
        """
        kept = None
        if (self.judged or everywhere) and (least is not None or most is not None):
            kept = (least is None or value >= least) and (most is None or value <= most)
        self.details["figures"].append(asdict(Figure(name, value, unit, least, most, kept)))
        self._write()
        return kept is False

    def _write(self) -> None:
        if self.path is not None:
            part = self.path.with_suffix(".partial")
            part.write_text(json.dumps(self.details, indent=1) + "\n")
            part.replace(self.path)


@contextmanager
def reporting(path: Path | None, device: torch.device, size: str) -> Iterator[Report]:
    """Begin a report; an error is kept in it, and ends the process with status 1."""
    report = Report(path, judged=device.type == "cuda" and size == "base")
    report.add(**machine(device), size=size)
    try:
        yield report
    except Exception:
        report.add(failed=traceback.format_exc())
        traceback.print_exc()
        sys.exit(1)


def machine(device: torch.device) -> dict[str, Any]:
    """The device and the versions of what runs on it."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "CPU",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": _version("triton"),
    }


def _version(package: str) -> str | None:
    try:
        return str(__import__(package).__version__)
    except ImportError:
        return None
