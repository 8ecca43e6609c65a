"""The log of a run: one line of JSON per step, for people, plots and the comparison of runs.

A step's metrics (`loss`, `rate`, `gradient_norm`, `temperature`, `holdout`) are the same whenever a
run is repeated; its time and energy, which are not, are kept apart under `measured`.
"""

import json
import os
from pathlib import Path
from typing import Any

from unigeo.schemas.errors import MissingExtraError
from unigeo.schemas.io.atomic_files import write_text
from unigeo.schemas.io.json_text import load_json

LOG = "train.jsonl"


class TrainingLog:
    """Writer of a run's log, in the run's folder."""

    def __init__(self, folder: Path, first: int, board: Path | None = None) -> None:
        """Continue the log after `first` steps; lines of steps after the checkpoint are dropped.

        Args:
            folder: of the run.
            first: number of steps done.
            board: folder for tensorboard; None to write no such log.
        """
        self.path = folder / LOG
        lines = read_log(self.path)[:first]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        self._board = None if board is None else _tensorboard(board, first)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, step: int, metrics: dict[str, Any], measured: dict[str, Any]) -> None:
        """Append the line of a step."""
        line = {"step": step} | metrics | {"measured": measured}
        self._file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in _flatten(line):
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Force the lines to disk, before a checkpoint relies on them."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file and the tensorboard log."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the complete lines of a log; a line that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    records = []
    for line in lines:
        try:
            records.append(load_json(line))
        except ValueError:
            break
    return records


def total_measured(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Sum the seconds of all steps, and their joules if every step has them."""
    measured = [line["measured"] for line in lines]
    sums = {"seconds": sum(one["seconds"] for one in measured)}
    if measured and all("joules" in one for one in measured):
        sums["joules"] = sum(one["joules"] for one in measured)
    return sums


def _flatten(line: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """List the values of nested dicts, with the path of keys as their name."""
    values: list[tuple[str, float]] = []
    for name, value in line.items():
        if isinstance(value, dict):
            values += _flatten(value, f"{prefix}{name}/")
        elif name != "step":
            values.append((prefix + name, value))
    return values


def _tensorboard(folder: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            "tensorboard is not installed: pip install 'unigeo[tensorboard]', or train without "
            "tensorboard=True; train.jsonl holds the same numbers"
        ) from error
    return SummaryWriter(str(folder), purge_step=first)
