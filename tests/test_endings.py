"""However `unigeo-produce` ends, it says so in one line and an exit code."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unigeo.producer.commands.endings import TRACEBACK, error_line, run_command
from unigeo.producer.pipeline.stopping import kept_when_stopped
from unigeo.schemas import errors

OWN = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.UnigeoError)
]
OTHERS = [OSError, PermissionError, MemoryError, RuntimeError, KeyError, TypeError, ValueError]
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)


def command_of(act: Callable[[], object]) -> click.Command:
    """A command that does one thing."""

    @click.command(context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1, type=click.UNPROCESSED)
    def command(rest: tuple[str, ...]) -> None:
        act()

    return command


@given(kind=st.sampled_from([*OWN, *OTHERS]), text=TEXTS)
def test_an_error_of_any_class_is_one_line(kind: type[Exception], text: str) -> None:
    line = error_line(kind(text))
    assert len(line.splitlines()) == (0 if kind in OWN and not text.split() else 1)
    assert all(word in line for word in text.split()) or kind is KeyError


@pytest.mark.parametrize("kind", [errors.ModelError, errors.DamagedError, RuntimeError, OSError])
def test_the_exit_code_says_whether_a_user_can_mend_it(
    kind: type[Exception], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise kind("first\nsecond")

    monkeypatch.delenv(TRACEBACK, raising=False)
    assert run_command(command_of(fail)) == (1 if kind is RuntimeError else 2)
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and "first second" in said and said.count("\n") == 1
    monkeypatch.setenv(TRACEBACK, "1")
    run_command(command_of(fail))
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["", "two shards of here are kept"])
def test_both_signals_stop_in_one_line_that_says_what_is_kept(
    number: int, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> None:
        os.kill(os.getpid(), number)
        signal.sigtimedwait([], 5)  # a signal that is handled ends the wait

    def stop_in_stage() -> None:
        with kept_when_stopped(stage):
            stop()

    before = signal.getsignal(signal.SIGTERM)
    assert run_command(command_of(stop_in_stage if stage else stop)) == 128 + number
    assert signal.getsignal(signal.SIGTERM) == before
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"Stopped by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}: ")
    assert (stage or "the same command goes on") in line


LIGHT = """
import contextlib, io, sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None  # an import of it fails, as if it were not installed
from unigeo.producer.commands.cli import main
for line in sys.argv[2:]:
    sys.argv[1:] = line.split()
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    print(code, said.getvalue().strip().replace("\\n", " // "))
"""


def test_a_light_install_says_which_extra_each_command_needs(tmp_path: object) -> None:
    absent = "torch,torchvision,timm,transformers,tokenizers,rasterio,affine,PIL,scipy,tqdm,sklearn"
    lines = [
        "--region conus",
        "--region conus --dry-run",
        "observe set.toml --out set",
        "evaluate model",
        "ablate table.toml --out out",
        "numbers suite.toml --out numbers",
        "places --out places.csv",
    ]
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, absent, *lines],
        capture_output=True, text=True, check=True, cwd=str(tmp_path),
    )  # fmt: skip
    ends = done.stdout.splitlines()
    assert len(ends) == len(lines)
    for line, end in zip(lines, ends, strict=True):
        assert end.startswith("2 Error: ") and end.endswith("pip install 'unigeo[produce]'"), line
