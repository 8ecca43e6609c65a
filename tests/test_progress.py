import sys
from pathlib import Path

import numpy as np
import pytest

from unigeo import client
from unigeo.client import progress
from unigeo.client.progress import progress_bar, with_progress


@pytest.mark.parametrize("without", [None, "tqdm"])
def test_a_bar_counts_what_is_pushed(
    without: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By tqdm, or where that is not installed by click."""
    if without:
        monkeypatch.setitem(sys.modules, without, None)
    with progress_bar("reading", 10, "points") as push:
        push(4)
        push(6)
    assert list(with_progress([1, 2], "shards", "shards", show=True)) == [1, 2]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "reading" in shown.err
    assert without or "10.0/10.0" in shown.err


def test_what_takes_long_is_shown_in_a_command_alone(
    gulf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bar at a time, and none where a command says so."""
    monkeypatch.setattr(progress, "LATE_S", -1.0)  # everything takes longer
    field = client.open_field(gulf)

    def work() -> str:
        field.coverage()
        field.sample(np.zeros((20_000, 2)), "aerial")
        field.similar((0.0, 0.0), "coordinate")
        return capsys.readouterr().err

    assert work() == ""
    with progress.late_bars(True):
        shown = work()
        assert "aerial" in shown and "cells" in shown
        with progress_bar("outer", 2, "parts"):
            assert "cells" not in work()
        capsys.readouterr()
        with progress.late_bars(False):
            assert work() == ""
        monkeypatch.setattr(progress, "LATE_S", 1000.0)
        assert work() == ""
    monkeypatch.setattr(progress, "LATE_S", -1.0)
    assert work() == ""


def test_nothing_is_shown_unasked(gulf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    field = client.open_field(gulf)
    for method in ("nearest", "bicubic"):
        field.sample([(0.0, 0.0)], method=method)
    assert capsys.readouterr() == ("", "")
    field.sample([(0.0, 0.0)], "aerial", progress=True)
    assert "aerial" in capsys.readouterr().err
