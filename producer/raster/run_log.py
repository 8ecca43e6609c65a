"""The log of a run: one JSON object per line."""

import json
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from unigeo.schemas.errors import StoreError


class RunLog:
    """Appends to a file, which the first line creates; without a path nothing is written."""

    def __init__(self, path: Path | str | None = None) -> None:
        """Take the path of the file."""
        self.path = None if path is None else Path(path)
        self._file: TextIO | None = None
        self._lock = threading.Lock()
        self._start = time.monotonic()

    def __call__(self, event: str, **about: Any) -> None:
        """Write one line, also where several threads write."""
        if self.path is None:
            return
        line: Mapping[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "seconds": round(time.monotonic() - self._start, 3),
            "event": event,
            **about,
        }
        with self._lock:
            try:
                if self._file is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._file = self.path.open("a", encoding="utf-8")
                self._file.write(json.dumps(line, default=str) + "\n")
                self._file.flush()
            except OSError as error:
                raise StoreError(
                    f"cannot write the log {self.path}: {error}; name another with --log"
                ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
