"""Timing of readers against each other: each is a process, and they take turns."""

import ctypes
import json
import mmap
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]


@dataclass
class Reader:
    """One reader in one case."""

    name: str
    """Key in `readers.READERS`."""
    store: str
    points: Path
    label: str
    rounds: int | None = None
    """Number of rounds, for a reader too slow for all of them."""
    python: Path = Path(sys.executable)
    checked: bool = True
    """Whether its output is compared with the true vectors."""
    figures: list[dict[str, float]] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return medians over the rounds."""
        keys = self.figures[0].keys()
        row: dict[str, Any] = {"reader": self.label, "rounds": len(self.figures)}
        for key in keys:
            row[key] = statistics.median(figure[key] for figure in self.figures)
        row |= {key: value for key, value in self.memory.items() if key.startswith("peak")}
        row["each_s"] = [round(figure["seconds"], 5) for figure in self.figures]
        return row


class Process:
    """A reader's process, which reads one command per line."""

    def __init__(self, reader: Reader) -> None:
        command = [str(reader.python), "-m", "benchmarks.client.readers"]
        self._process = subprocess.Popen(
            [*command, reader.name, reader.store, str(reader.points)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def tell(self, what: str) -> dict[str, float]:
        """Send one command, and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the reader ended: {self._process.args}")
        answer: dict[str, float] = json.loads(line)
        return answer


def race(
    readers: Sequence[Reader],
    rounds: int,
    *,
    before: Callable[[Reader], None] | None = None,
    after: Callable[[Reader], dict[str, float]] | None = None,
    fresh: bool = False,
    measure: bool = False,
) -> list[dict[str, Any]]:
    """Let readers take turns, round by round.

    Args:
        readers: readers, whose figures are filled; one that fails to start is reported and skipped.
        rounds: number of timed readings of each reader.
        before: called before each timed reading.
        after: called after each timed reading; its figures are stored beside the seconds.
        fresh: start a process for each reading; otherwise one per reader, whose first reading is
            not timed.
        measure: measure the peak of memory at the first reading, in a fresh process.

    Returns:
        One row of medians per reader.
    """
    # Readers alternate, so that other work on the machine slows all of them alike.
    alive: list[tuple[Reader, Process | None]] = []
    failed: list[dict[str, Any]] = []
    for reader in readers:
        try:
            process = Process(reader)
        except RuntimeError as error:
            failed.append({"reader": reader.label, "failed": str(error)})
            continue
        single = reader.rounds == 1
        if measure or not fresh:
            reader.memory = process.tell("measure")
            if single:
                reader.figures.append(reader.memory)
        if reader.checked and not single and not process.tell("check")["right"]:
            raise RuntimeError(f"{reader.label} read other vectors than the true ones")
        if fresh or single:
            process.__exit__()
        alive.append((reader, None if fresh or single else process))
    for number in range(rounds):
        for reader, process in alive:
            if len(reader.figures) > number or len(reader.figures) == reader.rounds:
                continue
            current = process or Process(reader)
            if before:
                before(reader)
            figures = current.tell("run")
            if after:
                figures |= after(reader)
            reader.figures.append(figures)
            if process is None:
                current.__exit__()
    for _, process in alive:
        if process:
            process.__exit__()
    return [reader.row() for reader, _ in alive] + failed


def evict(paths: Sequence[Path]) -> float:
    """Drop files from the page cache, and return the share of their pages that stayed."""
    left = pages = 0
    libc = ctypes.CDLL(None, use_errno=True)
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if not size:
                continue
            count = -(-size // mmap.PAGESIZE)
            with mmap.mmap(
                descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
            ) as map_:
                address = ctypes.addressof(ctypes.c_char.from_buffer(map_))
                resident = (ctypes.c_ubyte * count)()
                if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), resident):
                    raise OSError(ctypes.get_errno(), "mincore")
            left += sum(byte & 1 for byte in resident)  # the lowest bit: the page is in memory
            pages += count
        finally:
            os.close(descriptor)
    return left / max(pages, 1)


def warm(paths: Sequence[Path]) -> None:
    """Read files into the page cache."""
    for path in paths:
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
