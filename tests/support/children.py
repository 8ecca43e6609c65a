"""Processes that tests start: none outlives its test, however that ends."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def child(command: list[Any], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A process that speaks text, killed at the end if it still runs."""
    with subprocess.Popen([*map(str, command)], text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()
