import sys
from pathlib import Path

import pytest

from unigeo import client
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


def test_nothing_is_shown_unasked(gulf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    field = client.open_field(gulf)
    for method in ("nearest", "bicubic"):
        field.sample([(0.0, 0.0)], method=method)
    assert capsys.readouterr() == ("", "")
    field.sample([(0.0, 0.0)], "aerial", progress=True)
    assert "aerial" in capsys.readouterr().err
