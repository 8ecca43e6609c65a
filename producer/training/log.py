"""The log of a run: one line of JSON per step, for people, plots and the comparison of runs.

What a step gave (`loss`, `rate`, `gradient_norm`, `temperature`, `holdout`) is the same whenever a
run is repeated; what it took stands apart, under `measured`.
"""

import json
import os
from pathlib import Path
from typing import Any

from unigeo.schemas.errors import MissingExtraError

LOG = "train.jsonl"


class TrainingLog:
    """Writes the steps of a run into its folder."""

    def __init__(self, folder: Path, first: int, board: Path | None = None) -> None:
        """Go on after `first` steps; lines of steps after the last checkpoint are dropped.

        Args:
            folder: of the run.
            first: steps done.
            board: folder for tensorboard, if it is wanted.
        """
        self.path = folder / LOG
        lines = read(self.path)[:first]
        part = self.path.with_suffix(".partial")
        part.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        part.replace(self.path)
        self._board = None if board is None else _tensorboard(board, first)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, step: int, gave: dict[str, Any], measured: dict[str, Any]) -> None:
        """Add a step."""
        line = {"step": step} | gave | {"measured": measured}
        self._file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in _flat(line):
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Have the disk keep what was written, before a checkpoint relies on it."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a log; one that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def totals(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Add up what the steps took: seconds, and joules where they were measured throughout."""
    measured = [line["measured"] for line in lines]
    sums = {"seconds": sum(one["seconds"] for one in measured)}
    if measured and all("joules" in one for one in measured):
        sums["joules"] = sum(one["joules"] for one in measured)
    return sums


def _flat(line: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in line.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{name}/")
        elif name != "step":
            found.append((prefix + name, value))
    return found


def _tensorboard(folder: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            "tensorboard is not installed: pip install 'unigeo[tensorboard]', or train without "
            "tensorboard=True; train.jsonl holds the same numbers"
        ) from error
    return SummaryWriter(str(folder), purge_step=first)
