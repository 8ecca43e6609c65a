"""Progress of long work on stderr: tqdm's bar where tqdm is installed, else click's."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Push = Callable[[int], None]
"""Told how much more is done, from any thread."""


@contextmanager
def progress_bar(label: str, total: int, unit: str, show: bool = True) -> Iterator[Push]:
    """A bar of `total` units; without `show` it is told in vain."""
    if not show:
        yield lambda count: None
        return
    lock = threading.Lock()
    with _bar(label, total, unit) as bar:

        def push(count: int) -> None:
            with lock:
                bar.update(count)

        yield push


def watched[Part](parts: Sequence[Part], label: str, unit: str, show: bool) -> Iterator[Part]:
    """The parts, one after the other, each done when the next is asked for."""
    with progress_bar(label, len(parts), unit, show) as push:
        for part in parts:
            yield part
            push(1)


def _bar(label: str, total: int, unit: str) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        import click

        return click.progressbar(
            length=total,
            label=label,
            show_pos=True,
            file=sys.stderr,
            update_min_steps=max(1, total // 500),
        )
    return tqdm(total=total, unit=f" {unit}", unit_scale=True, desc=label)
