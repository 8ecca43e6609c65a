"""The command as a whole, and what it says of a store; refusals of bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import stores
from support.children import child
from support.commands import done, point_table, refused, run

VERBS = [
    "info", "plan", "sample", "join", "encode", "zonal", "coverage", "region", "geotiff", "probe",
    "preview", "verify", "validate", "cite",
]  # fmt: skip
UNIGEO = [sys.executable, "-W", "error", "-m", "unigeo.client.commands.cli"]


def bare() -> dict[str, str]:
    """The environment without coverage's start-up file, which would be measured too."""
    return {key: value for key, value in os.environ.items() if not key.startswith("COV")}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "places.csv"
    point_table().to_csv(path, index=False)
    return path


def cpu_s_of(code: str) -> float:
    """Seconds of the processor that an interpreter takes."""
    code += "\nimport resource\nused = resource.getrusage(resource.RUSAGE_SELF)"
    code += "\nprint(used.ru_utime + used.ru_stime)"
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, env=bare(), capture_output=True, check=True).stdout)


def test_help_is_fast_and_loads_no_library() -> None:
    code = (
        "import json, resource, sys\nfrom unigeo.client.commands.cli import unigeo\n"
        "for args in (['--help'], *([verb, '--help'] for verb in unigeo.commands)):\n"
        "    try: unigeo(args)\n"
        "    except SystemExit as ended: assert ended.code == 0\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "heavy = {'numpy', 'pandas', 'xarray', 'zarr', 'pyproj', 'pydantic'} & set(sys.modules)\n"
        "print(json.dumps([used.ru_utime + used.ru_stime, sorted(heavy)]))"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    tried = [
        subprocess.run(
            command, env=bare(), capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(3)
    ]
    cpu_s, heavy = zip(*(json.loads(lines[-1]) for lines in tried), strict=True)
    # On one machine at one time: help of all commands costs less than one library of theirs.
    assert min(cpu_s) < min(cpu_s_of("import pandas") for _ in range(3))
    assert heavy[0] == []
    listed = [line.split()[0] for line in tried[0] if line.startswith("  ") and line.strip()]
    assert [word for word in listed if word in VERBS][: len(VERBS)] == VERBS


def test_info_says_what_a_field_is(gulf: Path) -> None:
    words = done("info", gulf)
    assert words.startswith("gulf ")
    assert "coordinate, aerial; 8 bands" in words
    facts = json.loads(done("info", gulf, "--json"))
    assert facts["modalities"] == ["coordinate", "aerial"]
    assert facts["state"] == "published"


def test_cite_names_source_and_licence(gulf: Path) -> None:
    words, facts = done("cite", gulf), json.loads(done("cite", gulf, "--json"))
    assert facts["citation"] == "Nobody (2026)"
    assert facts["licence"] == "CC0-1.0"
    assert facts["citation"] in words
    assert facts["licence"] in words


def test_validate_passes_a_store_and_names_what_breaks_one(gulf: Path, tmp_path: Path) -> None:
    assert done("validate", gulf).endswith("keeps the layout\n")
    path = tmp_path / "broken.zarr"
    shutil.copytree(gulf, path)
    document = json.loads((path / "zarr.json").read_text())
    del document["attributes"]["unigeo"]["region"]
    (path / "zarr.json").write_text(json.dumps(document))
    for verb in ("validate", "verify"):
        ended = run(verb, path)
        assert ended.exit_code == 1, ended
        assert "unigeo.region" in ended.stdout


@pytest.mark.parametrize("level", ["presence", "hash"])
def test_verify_ends_with_1_where_anything_is_damaged(
    gulf: Path, tmp_path: Path, level: str
) -> None:
    assert f"checked ({level}): no problem" in done("verify", gulf, "--level", level)
    assert json.loads(done("verify", gulf, "--json", "--level", level))["ok"]
    path = tmp_path / "damaged.zarr"
    shutil.copytree(gulf, path)
    shard = next(p for p in sorted((path / "aerial" / "c").rglob("*")) if p.is_file())
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content if level == "hash" else content[:-1])
    ended = run("verify", path, "--level", level)
    assert ended.exit_code == 1
    assert "aerial shard (0, 0)" in ended.stdout
    ended = run("verify", path, "--level", level, "--json")
    report = json.loads(ended.stdout)
    assert ended.exit_code == 1
    assert not report["ok"]
    assert any("aerial shard (0, 0)" in problem for problem in report["problems"])


def test_preview_draws_every_modality(gulf: Path, tmp_path: Path) -> None:
    lines = done("preview", gulf, "-o", tmp_path / "maps").splitlines()
    assert len(lines) == 2
    for line in lines:
        assert Path(line).read_bytes().startswith(b"\x89PNG")


def test_what_a_user_can_mend_is_one_message_and_nothing_is_written(
    gulf: Path, table: Path, tmp_path: Path
) -> None:
    out, gone, nan = tmp_path / "out.csv", tmp_path / "gone.zarr", tmp_path / "nan.csv"
    nan.write_text("lon,lat\n1,2\n,3\n")
    for verb in ("info", "verify", "validate", "cite", "preview", "coverage"):
        assert "gone.zarr" in refused(verb, gone)
    assert "gone.zarr" in refused("sample", gone, table, "-o", out)
    assert "gone.csv" in refused("join", gulf, tmp_path / "gone.csv", "-o", out)
    strict = ("--missing", "raise", "-o", out)
    assert "row 1 (no position)" in refused("sample", gulf, nan, *strict)
    assert "no modality 'radar'" in refused("join", gulf, table, "--modality", "radar", "-o", out)
    assert "neither a file nor the name" in refused("zonal", gulf, "nowhere", "-o", out)
    assert "no column 'price'; there are lon, lat" in refused(
        "probe", gulf, table, "--target", "price", "-o", out
    )
    assert "'part' is 1 everywhere" in refused(
        "probe", gulf, "-", "--target", "part", "-o", out,
        stdin=point_table().assign(part=1).to_csv(index=False),
    )  # fmt: skip
    assert not out.exists()
    assert list(tmp_path.iterdir()) == [nan]


@pytest.mark.parametrize("name", ["nowhere/out.csv", "out.doc"])
def test_an_output_that_cannot_be_written_is_refused(
    table: Path, tmp_path: Path, name: str
) -> None:
    """Before any work: even the store is not looked for."""
    out, gone = tmp_path / name, tmp_path / "gone.zarr"
    for args in (
        ("sample", gone, table),
        ("join", gone, table),
        ("encode", gone, table),
        ("zonal", gone, "conus"),
        ("coverage", gone),
        ("coverage", gone, "conus"),
        ("region", gone, "conus"),
        ("geotiff", gone),
        ("probe", gone, table, "--target", "height"),
    ):
        assert "cannot write" in refused(*args, "-o", out)
    target = ("probe", gone, table, "--target", "height")
    assert "cannot write" in refused(*target, "--predict", table, out)
    assert "cannot write" in refused(*target, "--map", "all", out)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_into_the_folder_of_a_store(gulf: Path, table: Path) -> None:
    """Its manifest lists what belongs there."""
    before = stores.tree(gulf)
    for args in (
        ("join", gulf, table, "-o", gulf / "joined.csv"),
        ("region", gulf, "0,0,1,1", "-o", gulf / "part.zarr"),
        ("geotiff", gulf, "--modality", "aerial", "-o", gulf / "aerial" / "a.tif"),
        ("probe", gulf, table, "--target", "height", "--map", "all", gulf / "map.zarr"),
        ("preview", gulf, "-o", gulf / "pictures"),
    ):
        assert "inside the Zarr store" in refused(*args)
    assert stores.tree(gulf) == before


def test_a_path_that_is_taken_is_refused(gulf: Path, tmp_path: Path) -> None:
    (tmp_path / "there.zarr").mkdir()
    (tmp_path / "there.tif").mkdir()
    assert "is there already" in refused("region", gulf, "0,0,1,1", "-o", tmp_path / "there.zarr")
    assert "it is a folder" in refused("geotiff", gulf, "-o", tmp_path / "there.tif")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sample"], "name the table beside the field"),
        (["sample", "x.csv", "--lon", "a"], "name both --lon and --lat"),
        (["sample", "x.csv", "--dtype", "int8", "--method", "bicubic"], "goes with --method near"),
        (["zonal", "1,2,3"], "a box is west,south,east,north"),
        (["region", "-9,0,1,5", "-o", "x.zarr", "--dtype", "float32"], "go with a GeoTIFF"),
        (["region", "-9,0,1,5", "-o", "x.tif"], "holds one --modality; the field has coordinate"),
        (["geotiff", "-o", "x.tif", "--modality", "aerial", "--bands", "a"], "numbers such as 0,5"),
        (["probe", "x.csv"], "name a TABLE with --target"),
        (["probe", "x.csv", "--suite", "s.toml", "--data", "."], "names tables"),
        (["probe", "--suite", "s.toml", "--data", ".", "--groups", "a"], "names tables"),
        (["probe", "--suite", "s.toml"], "needs --data"),
        (["probe", "--suite", "gone.toml", "--data", "."], "cannot read the suite gone.toml"),
        (["probe", "x.csv", "--target", "y", "-o", "nowhere/out.md"], "cannot write"),
        (["probe", "x.csv", "--target", "a", "--target", "b", "--map", "all", "x.tif"], "one --t"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(gulf: Path, args: list, words: str) -> None:
    assert words in refused(args[0], gulf, *args[1:])


def test_a_pipe_from_end_to_end(gulf: Path, tmp_path: Path) -> None:
    """`cat x.csv | unigeo join STORE - | head`: a reader that has seen enough ends it quietly."""
    table = point_table(20_000)
    table.to_csv(tmp_path / "x.csv", index=False)
    script = 'cat x.csv | "$@" join "$STORE" - --quiet | head -3'
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "bash", *UNIGEO],
        cwd=tmp_path, env=os.environ | {"STORE": str(gulf)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    header, *rows = ended.stdout.splitlines()
    assert header.split(",")[:7] == [*table.columns, "ug_coordinate_000"]
    assert float(rows[1].split(",")[0]) == pytest.approx(table["lon"][1])


def test_ctrl_c_ends_quietly_and_leaves_nothing(gulf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    rng = np.random.default_rng(0)
    table = tmp_path / "in.csv"
    lonlat = rng.uniform((-18, -13), (20, 9), (1_500_000, 2)).round(3)
    pd.DataFrame(lonlat, columns=["lon", "lat"]).to_csv(table, index=False)
    with child(
        [*UNIGEO, "join", gulf, table, "-o", out, "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        partial = tmp_path / "out.csv.partial"
        while not (partial.exists() and partial.stat().st_size):
            assert process.poll() is None, "it ended before it was interrupted"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        outputs = process.communicate()
    assert process.returncode == 130
    assert outputs == ("", "")
    assert list(tmp_path.iterdir()) == [table]
