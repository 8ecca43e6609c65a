"""How `unigeo-produce` ends: one line for every error and every stop, and the exit code."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from unigeo.schemas.errors import UnigeoError
from unigeo.schemas.io.store_errors import describe_error, unreachable_errors

TRACEBACK = "UNIGEO_TRACEBACK"
"""Environment variable that, if not empty, adds the traceback to the line of an error."""
_EXTRAS = {"distributed": "cluster", "dask": "cluster", "h5py": "evaluate", "pynvml": "energy"}
"""Extra that installs a package; every other one comes with `produce`."""
_GOES_ON = "what is finished is kept, and the same command goes on from there"


def run_command(command: click.Command) -> int:
    """Run a command; SIGTERM stops it as Ctrl-C does.

    Returns:
        The exit code: 2 for errors that a user can mend, 1 for others, 128 and the number of the
        signal for a stop.
    """
    with _interrupted_by_sigterm() as received:
        try:
            code = command(standalone_mode=False)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort as abort:  # click's form of KeyboardInterrupt
            return _stopped(abort.__cause__ or abort, received)
        except KeyboardInterrupt as stop:
            return _stopped(stop, received)
        except BrokenPipeError:
            # The reader of a pipe has closed it. Python flushes stdout once more at exit and would
            # print an error: let it flush into the null device.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception as error:
            if os.environ.get(TRACEBACK):
                traceback.print_exc()
            click.echo(f"Error: {error_line(error)}", err=True)
            return 2 if isinstance(error, (UnigeoError, ImportError, *unreachable_errors())) else 1
    return code if isinstance(code, int) else 0


def error_line(error: Exception) -> str:
    """Describe an error of any class in one line."""
    if isinstance(error, UnigeoError):
        return " ".join(str(error).split())
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if name is not None and not name.startswith("unigeo"):
        package = name.partition(".")[0]
        extra = _EXTRAS.get(package, "produce")
        return f"this needs the package {package}: pip install 'unigeo[{extra}]'"
    if isinstance(error, MemoryError):
        return f"out of memory ({_text(error)}); {_GOES_ON} with more of it"
    if isinstance(error, unreachable_errors()):
        return f"{describe_error(error)}; {_GOES_ON} once that is mended"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return (
        f"an error that unigeo did not expect, {type(error).__name__}{where}: {_text(error)}. "
        f"{_GOES_ON[0].upper()}{_GOES_ON[1:]}; {TRACEBACK}=1 shows where it came from"
    )


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _stopped(stop: BaseException, received: list[int]) -> int:
    """Say that the command was stopped; return its exit code."""
    # A stage that ends in its own time says what it kept, and which signal it was.
    about: list[Any] = [*stop.args] if isinstance(stop, KeyboardInterrupt) else []
    number = about[1] if len(about) > 1 else (received or [signal.SIGINT])[-1]
    what = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    click.echo(f"Stopped by {what}: {about[0] if about else _GOES_ON}", err=True)
    return 128 + int(number)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[list[int]]:
    """Have SIGTERM raise KeyboardInterrupt, and yield the list of its signals.

    Batch systems and container engines end a job by SIGTERM.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, previous)
