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


class Percents:
    """Adds up shares of several works, reported from any thread, as whole percents of all."""

    def __init__(self, seconds: Sequence[float], push: Push) -> None:
        """Take the estimated seconds of each work, and the callback for new percents."""
        self._seconds, self._push = seconds, push
        self._done = [0.0] * len(seconds)
        self._shown = 0
        self._lock = threading.Lock()

    def of(self, number: int) -> Callable[[float], None]:
        """Callback for the share of a work that is newly done; only `end` completes it."""

        def push(share: float) -> None:
            with self._lock:
                self._show(number, min(self._done[number] + share, 0.99))

        return push

    def end(self, number: int) -> None:
        """Mark a work as done."""
        with self._lock:
            self._show(number, 1.0)

    def _show(self, number: int, share: float) -> None:
        self._done[number] = share
        done = sum(s * d for s, d in zip(self._seconds, self._done, strict=True))
        reached = min(100, int(100 * done / max(sum(self._seconds), 1e-9) + 1e-6))
        if reached > self._shown:
            self._push(reached - self._shown)
            self._shown = reached


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
