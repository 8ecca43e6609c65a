"""Progress bars on stderr: tqdm's if tqdm is installed, else click's.

A library shows a bar where it is asked to. A command shows one wherever work takes longer than
`LATE_S`, without passing that down: it enters `late_bars`.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

Advance = Callable[[int], None]
"""Called with the number of units done since the last call, from any thread."""
LATE_S = 2.0
"""Seconds of work after which a command shows a bar."""
_since: ContextVar[float | None] = ContextVar("since", default=None)
"""Time from which work is measured; None where no bar is shown that nobody asked for."""


@contextmanager
def late_bars(wanted: bool) -> Iterator[None]:
    """Show the bar of each loop that goes on `LATE_S` after this is entered, one at a time.

    Args:
        wanted: whether to show them; False also hides those that an outer block wants.
    """
    token = _since.set(time.monotonic() if wanted else None)
    try:
        yield
    finally:
        _since.reset(token)


@contextmanager
def progress_bar(label: str, total: int, unit: str, show: bool = True) -> Iterator[Advance]:
    """Show a bar of `total` units, and yield the function that advances it.

    Without `show` there is no bar, except a late one in `late_bars`.
    """
    since = _since.get()
    if not show and since is None:
        yield lambda count: None
        return
    with ExitStack() as opened:
        if since is not None:  # one bar at a time
            opened.enter_context(late_bars(False))
        bar = opened.enter_context(_bar(label, total, unit)) if show else None
        lock, done = threading.Lock(), 0

        def advance(count: int) -> None:
            nonlocal bar, done
            with lock:
                done += count
                if bar is not None:
                    bar.update(count)
                elif done < total and since is not None and time.monotonic() - since > LATE_S:
                    bar = opened.enter_context(_bar(label, total, unit))
                    bar.update(done)

        yield advance


def with_progress[Part](parts: Sequence[Part], label: str, unit: str, show: bool) -> Iterator[Part]:
    """Yield the parts under a bar; each counts as done when the next one is requested."""
    with progress_bar(label, len(parts), unit, show) as advance:
        for part in parts:
            yield part
            advance(1)


class TaskProgress:
    """Combines the progress of several tasks, reported from any thread, into whole percents."""

    def __init__(self, seconds: Sequence[float], advance: Advance) -> None:
        """Take the estimated seconds of each task, and the callback for new percents."""
        self._seconds, self._advance = seconds, advance
        self._done = [0.0] * len(seconds)
        self._shown = 0
        self._lock = threading.Lock()

    def callback(self, number: int) -> Callable[[float], None]:
        """Return a callback for newly done shares (0 to 1) of a task; only `end` completes it."""

        def add(share: float) -> None:
            with self._lock:
                self._show(number, min(self._done[number] + share, 0.99))

        return add

    def end(self, number: int) -> None:
        """Mark a task as done."""
        with self._lock:
            self._show(number, 1.0)

    def _show(self, number: int, share: float) -> None:
        self._done[number] = share
        done = sum(s * d for s, d in zip(self._seconds, self._done, strict=True))
        # The small constant keeps a sum of shares such as 0.29999... from losing a percent.
        percent = min(100, int(100 * done / max(sum(self._seconds), 1e-9) + 1e-6))
        if percent > self._shown:
            self._advance(percent - self._shown)
            self._shown = percent


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
