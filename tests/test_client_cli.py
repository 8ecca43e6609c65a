"""Every command as a process of its own, as a user runs it; refusals of bad input."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stores

from unigeo.client.cli import main
from unigeo.client.opening import open_field

Refused = Callable[..., str]


def run(*args: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "unigeo.client.cli", *map(str, args)]
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The message of a command that a user can mend: exit code 2, nothing on stdout.

    Runs in this process, to save the start of each.
    """

    def refuse(*args: object) -> str:
        monkeypatch.setattr(sys, "argv", ["unigeo", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert ended.value.code == 2
        assert said.out == ""
        assert said.err.count("Error: ") == 1
        return said.err

    return refuse


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of places in the store `gulf`, some in its lake; `height` follows the vectors."""
    lonlat = np.random.default_rng(0).uniform((-18, -13), (20, 9), (300, 2))
    vectors, _ = stores.encoder()("coordinate", lonlat)
    table = pd.DataFrame({"lon": lonlat[:, 0], "lat": lonlat[:, 1]})
    table["height"] = vectors @ np.arange(8.0)
    table["word"] = "a"
    path = tmp_path_factory.mktemp("tables") / "places.csv"
    table.to_csv(path, index=False)
    return path


def test_info_says_what_a_field_is(gulf: Path) -> None:
    words = run("info", gulf)
    assert words.returncode == 0, words.stderr
    assert words.stdout.startswith("gulf ")
    assert "coordinate, aerial; 8 bands" in words.stdout
    facts = json.loads(run("info", gulf, "--json").stdout)
    assert facts["modalities"] == ["coordinate", "aerial"]
    assert facts["state"] == "published"


def test_cite_names_source_and_licence(gulf: Path) -> None:
    ended = run("cite", gulf)
    assert ended.returncode == 0
    assert "Nobody (2026)" in ended.stdout
    assert "CC0-1.0" in ended.stdout


def test_validate_passes_a_store_and_names_what_breaks_one(gulf: Path, tmp_path: Path) -> None:
    assert run("validate", gulf).returncode == 0
    path = tmp_path / "broken.zarr"
    shutil.copytree(gulf, path)
    document = json.loads((path / "zarr.json").read_text())
    del document["attributes"]["unigeo"]["region"]
    (path / "zarr.json").write_text(json.dumps(document))
    ended = run("validate", path)
    assert ended.returncode == 1, ended
    assert "region" in ended.stdout
    assert "Traceback" not in ended.stderr


def test_sample_writes_places_and_the_field_s_vectors(
    gulf: Path, places: Path, tmp_path: Path
) -> None:
    out = tmp_path / "vectors.parquet"
    ended = run("sample", gulf, places, "--modality", "coordinate", "-o", out)
    assert ended.returncode == 0, ended.stderr
    got = pd.read_parquet(out)
    table = pd.read_csv(places)
    expected = open_field(gulf).sample(table, "coordinate")
    np.testing.assert_array_equal(got[["lon", "lat"]], table[["lon", "lat"]])
    np.testing.assert_array_equal(got.iloc[:, 2:10], expected.iloc[:, :8])

    piped = run("sample", gulf, "-", "--missing", "drop", stdin=places.read_text())
    assert piped.returncode == 0, piped.stderr
    kept = len(open_field(gulf).sample(table, missing="drop"))
    assert 0 < kept < len(table)
    assert len(piped.stdout.splitlines()) == kept + 1

    one = run("sample", gulf, "--at", -10, -5, "--method", "bilinear")
    assert one.returncode == 0, one.stderr
    assert one.stdout.splitlines()[1].startswith("-10.0,-5.0,")


def test_join_keeps_the_table(gulf: Path, places: Path, tmp_path: Path) -> None:
    out = tmp_path / "joined.csv"
    ended = run("join", gulf, places, "-o", out)
    assert ended.returncode == 0, ended.stderr
    got, table = pd.read_csv(out), pd.read_csv(places)
    pd.testing.assert_frame_equal(got[list(table.columns)], table)
    assert got.shape[1] == table.shape[1] + 2 * (8 + 1)


def test_preview_draws_every_modality(gulf: Path, tmp_path: Path) -> None:
    ended = run("preview", gulf, "-o", tmp_path / "maps")
    assert ended.returncode == 0, ended.stderr
    for line in ended.stdout.splitlines():
        assert Path(line).read_bytes().startswith(b"\x89PNG")
    assert len(ended.stdout.splitlines()) == 2


def test_probe_prints_features_and_baselines_and_writes_every_score(
    gulf: Path, places: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.csv"
    ended = run(
        "probe", gulf, places, "--target", "height", "--block-km", 500, "--folds", 3, "-o", out
    )
    assert ended.returncode == 0, ended.stderr
    lines = [line.split("|") for line in ended.stdout.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[0][1:-1]] == [
        "features", "height random", "height blocked",
    ]  # fmt: skip
    rows = {line[1].strip(): [float(cell) for cell in line[2:4]] for line in lines[2:]}
    assert list(rows) == [
        "coordinate", "aerial", "joined",
        "mean", "lonlat ridge", "lonlat kNN", "lonlat IDW", "lonlat trees",
    ]  # fmt: skip
    assert min(rows["coordinate"]) > 0.9
    assert "without a vector left out" in ended.stdout
    scores = pd.read_csv(out)
    assert len(scores) == 8 * 2
    assert scores["dropped"].min() > 0


def test_probe_of_a_suite_writes_what_it_prints(gulf: Path, places: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'[[table]]\nfile = "{places.name}"\ntargets = ["height"]\ncrs = "EPSG:8857"\n'
    )
    out = tmp_path / "results.md"
    ended = run("probe", gulf, "--suite", suite, "--data", places.parent, "--out", out)
    assert ended.returncode == 0, ended.stderr
    assert out.read_text() == ended.stdout
    for part in ("- command: `unigeo probe ", "- field: gulf, 80000 m", "## Blocked R2", "joined"):
        assert part in ended.stdout


def test_what_a_user_can_mend_is_one_message_and_nothing_is_written(
    gulf: Path, places: Path, tmp_path: Path, refused: Refused
) -> None:
    ended = run("info", tmp_path / "gone.zarr")
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: ")
    assert len(ended.stderr.splitlines()) == 1

    out = tmp_path / "out.csv"
    gone = tmp_path / "gone.zarr"
    nan = tmp_path / "nan.csv"
    nan.write_text("lon,lat\n1,2\n,3\n")
    assert "gone.zarr" in refused("info", gone)
    assert "gone.zarr" in refused("sample", gone, places, "-o", out)
    assert "gone.csv" in refused("join", gulf, tmp_path / "gone.csv", "-o", out)
    assert "no column 'price'; there are lon, lat" in refused(
        "probe", gulf, places, "--target", "price", "-o", out
    )
    assert "'word' is 'a' everywhere" in refused(
        "probe", gulf, places, "--target", "word", "-o", out
    )
    assert "NaN or infinite, the first in row 1" in refused("sample", gulf, nan, "-o", out)
    assert "no modality 'radar'" in refused("join", gulf, places, "--modality", "radar", "-o", out)
    assert not out.exists()
    assert list(tmp_path.iterdir()) == [nan]


@pytest.mark.parametrize("name", ["nowhere/out.csv", "out.doc"])
def test_an_output_that_cannot_be_written_is_refused(
    gulf: Path, places: Path, tmp_path: Path, name: str, refused: Refused
) -> None:
    out = tmp_path / name
    for args in (("sample", gulf, places), ("probe", gulf, places, "--target", "height")):
        assert "cannot write" in refused(*args, "-o", out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sample"], "one place with --at"),
        (["sample", "x.csv", "--lon", "a"], "name both --lon and --lat"),
        (["probe", "x.csv"], "name a TABLE with --target"),
        (["probe", "x.csv", "--suite", "s.toml", "--data", "."], "names tables"),
        (["probe", "--suite", "s.toml"], "needs --data"),
        (["probe", "--suite", "gone.toml", "--data", "."], "cannot read the suite gone.toml"),
        (["probe", "x.csv", "--target", "y", "-o", "nowhere/out.md"], "cannot write"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(
    gulf: Path, args: list, words: str, refused: Refused
) -> None:
    assert words in refused(args[0], gulf, *args[1:])
