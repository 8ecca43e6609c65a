"""A slow link to a folder: the web server of the tests in a separate process."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Self

SERVER = Path(__file__).parents[2] / "tests" / "support" / "servers.py"


class StoreLink:
    """Serves a folder at a latency and a rate while its context lasts, and counts requests."""

    def __init__(self, folder: Path, *, latency_s: float, bytes_per_s: float | None = None) -> None:
        options = ["--latency", str(latency_s)]
        options += [] if bytes_per_s is None else ["--rate", str(bytes_per_s)]
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), str(folder), *options], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def counts(self) -> dict[str, float]:
        """Return requests, bytes, objects not found and most in flight since the last call."""
        with urllib.request.urlopen(f"{self.url}/_counts", data=b"") as answer:
            counts: dict[str, float] = json.load(answer)
        counts.pop("in_flight")
        return counts
