"""probe through the whole command: scores, intervals, predictions, maps, suites."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import xarray as xr
from support.commands import done, point_table, refused, run

from unigeo.client.commands import table_parts as commands_tables
from unigeo.client.field.opening import open_field
from unigeo.client.probing.probe import Probe

FEW = ("--block-km", 500, "--folds", 3)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "places.csv"
    point_table().to_csv(path, index=False)
    return path


def test_probe_prints_features_and_baselines_and_writes_every_score(
    gulf: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.csv"
    output = done("probe", gulf, table, "--target", "height", *FEW, "-o", out, "--level", 0.8)
    lines = [line.split("|") for line in output.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[0][1:-1]] == [
        "features", "height random", "height blocked",
    ]  # fmt: skip
    rows = {line[1].strip(): [float(cell) for cell in line[2:4]] for line in lines[2:10]}
    assert list(rows) == [
        "coordinate", "aerial", "joined",
        "mean", "lonlat ridge", "lonlat kNN", "lonlat IDW", "lonlat trees",
    ]  # fmt: skip
    assert min(rows["coordinate"]) > 0.9
    assert " without a vector: " in output
    assert " water" in output
    best = max(("joined", "coordinate", "aerial"), key=lambda name: rows[name][1])
    assert f"Predicted by default: height by {best}." in output
    assert "Intervals that should hold 80 %" in output
    assert "above every baseline of position on " in output.splitlines()[-1]
    assert [line[3].strip() for line in lines[-2:]] == ["random", "blocked"]
    assert {line[2].strip() for line in lines[-2:]} == {best}
    scores = pd.read_csv(out)
    assert len(scores) == 8 * 2
    assert scores["dropped"].min() > 0
    assert "coverage_80" in scores


def test_scores_and_intervals_as_json(gulf: Path, table: Path) -> None:
    args = ("probe", gulf, table, "--target", "height", "--groups", "part", "--modality", "aerial")
    args = (*args, "--weights", "part", "--bounds", "-100", "100")
    ended = run(*args, *FEW, "--json")
    assert "Warning: " in ended.stderr  # a sixth of the rows has no weight; five groups are few
    found = json.loads(ended.stdout)
    assert {row["split"] for row in found["scores"]} == {"random", "blocked", "grouped"}
    assert {row["level"] for row in found["intervals"]} == {0.9}
    assert all(0 <= row["coverage"] <= 1 for row in found["intervals"])


def test_text_is_classified_and_numbers_may_be(gulf: Path, table: Path) -> None:
    args = ("probe", gulf, table, "--modality", "coordinate", *FEW)
    output = done(*args, "--target", "high")
    assert "high (accuracy)" in output
    assert "Intervals" not in output
    for column in ("high random accuracy", "high random balanced", "high blocked precision"):
        assert f" {column} " in output.splitlines()[0]
    assert "part (accuracy)" in done(*args, "--target", "part", "--task", "classification")
    assert "must hold numbers" in refused(*args, "--target", "high", "--task", "regression")


def test_predictions_come_beside_the_new_table(gulf: Path, table: Path, tmp_path: Path) -> None:
    new, out = tmp_path / "new.parquet", tmp_path / "predicted.csv"
    point_table(40).to_parquet(new)
    args = ("probe", gulf, table, "--target", "height", "--target", "high", *FEW)
    done(*args, "--predict", new, out, "--features", "coordinate")
    found = pd.read_csv(out)
    assert list(found.columns) == [
        *point_table(1).columns, "ug_height", "ug_height_lower", "ug_height_upper", "ug_high",
        "ug_high_probability", "ug_coordinate_status",
    ]  # fmt: skip
    valid = found["ug_coordinate_status"] == "valid"
    probe = open_field(gulf).probe(point_table(), ["height", "high"], block_km=500, folds=3)
    expected = probe.predict(point_table(40), "coordinate")
    for name in ("height", "height_lower", "height_upper", "high_probability"):
        np.testing.assert_allclose(found[f"ug_{name}"], expected[name])
    assert found["ug_height"][~valid].isna().all()
    assert (found["ug_high"] == found["high"])[valid].mean() > 0.8
    one = ("probe", gulf, table, "--target", "height", "--modality", "coordinate", *FEW)
    ended = run(*one, "--predict", out, tmp_path / "again.csv")
    assert ended.exit_code == 2
    assert "already has" in ended.stderr
    gone = tmp_path / "gone.csv"
    assert "gone.csv" in refused(*args, "--predict", gone, tmp_path / "again.csv")


@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_a_map_of_the_target(gulf: Path, table: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"map.{ending}"
    args = ("probe", gulf, table, "--target", "height", *FEW, "--features", "coordinate")
    done(*args, "--map", "-8,-6,6,5", out)
    if ending == "tif":
        with rasterio.open(out) as tif:
            assert tif.descriptions[0] == "prediction"
            shape = tif.shape
    else:
        shape = xr.open_zarr(out)["prediction"].shape
    assert 0 < shape[0] < open_field(gulf).grid.shape[0]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    whole = tmp_path / f"all.{ending}"
    done(*args, "--map", "all", whole)
    assert whole.exists()


@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_a_map_that_is_there_is_replaced_only_when_that_is_asked(
    gulf: Path, table: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"map.{ending}"
    args = ("probe", gulf, table, "--target", "height", *FEW, "--modality", "coordinate")
    if ending == "tif":
        out.write_bytes(b"an older map")
    else:
        xr.Dataset({"older": ("x", [1.0])}).to_zarr(out, consolidated=False)
    assert "there already" in refused(*args, "--map", "-8,-6,6,5", out)
    done(*args, "--map", "-8,-6,6,5", out, "--overwrite")
    assert out.read_bytes() != b"an older map" if ending == "tif" else not (out / "older").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--map", "all", "map.png"), "must end in .tif or .tiff or .zarr"),
        (("--map", "atlantis", "map.tif"), "neither a file nor the name of a region"),
        (("--map", "90,0,95,5", "map.tif"), "lies off the field"),
        (
            ("--features", "radar", "--save", "kept"),
            "no features 'radar'; it has coordinate, aerial, joined",
        ),
        (("--level", "0.5", "--target", "height"), "'height' is named twice"),
        (("--target", "depth"), "no column 'depth'"),
        (("--groups", "state"), "no column 'state'"),
        (("--weights", "people"), "no column 'people'"),
        (("--bounds", "0", "inf"), "beyond the bounds (0, inf)"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    gulf: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in refused("probe", gulf, table, "--target", "height", *FEW, *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--overwrite",), "--overwrite goes with --map or --save; tables are always replaced"),
        (("--features", "aerial"), "--features goes with --predict or --map or --save"),
        (("--prefix", "p_"), "--prefix goes with --predict"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    gulf: Path, table: Path, options: tuple[str, ...], words: str
) -> None:
    ended = run("probe", gulf, table, "--target", "height", *options)
    assert ended.exit_code == 2 and words in ended.stderr


def test_dates_in_a_csv_are_no_classes(gulf: Path, tmp_path: Path) -> None:
    dates = point_table().assign(sold=lambda rows: [f"2020-01-0{1 + n % 3}" for n in rows.index])
    dates.to_csv(tmp_path / "dates.csv", index=False)
    output = refused("probe", gulf, tmp_path / "dates.csv", "--target", "sold", *FEW)
    assert "'sold' holds dates or times as text" in output


def test_rows_without_a_position_are_reported_and_predicted_as_missing(
    gulf: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "holes.csv", tmp_path / "predicted.csv"
    table = point_table()
    table.loc[:1, "lon"] = np.nan
    table.to_csv(path, index=False)
    args = ("probe", gulf, path, "--target", "height", *FEW, "--modality", "coordinate")
    ended = run(*args, "--predict", path, out)
    assert ended.exit_code == 0, ended.stderr
    assert ended.stderr.count("Warning: ") >= 1
    assert "2 no position" in ended.stderr
    assert "2 no position" in ended.stdout
    found = pd.read_csv(out)
    assert found["ug_coordinate_status"].head(2).tolist() == ["no position"] * 2
    assert found["ug_height"].head(2).isna().all()


def test_thin_data_are_warned_of_in_a_line(gulf: Path, tmp_path: Path) -> None:
    point_table(40).to_csv(tmp_path / "few.csv", index=False)
    ended = run("probe", gulf, tmp_path / "few.csv", "--target", "height", *FEW)
    assert ended.exit_code == 0, ended.stderr
    assert ended.stderr.startswith("Warning: ")
    assert ".py" not in ended.stderr


def test_probe_of_a_suite_writes_what_it_prints(gulf: Path, table: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(f'[[table]]\nfile = "{table.name}"\ntargets = ["height"]\ncrs = "EPSG:8857"\n')
    out = tmp_path / "results.md"
    output = done("probe", gulf, "--suite", suite, "--data", table.parent, "--out", out)
    assert out.read_text() == output
    for part in ("- command: `unigeo", "- field: gulf, 80000 m", "## Blocked R2", "joined"):
        assert part in output
    for option in (
        ("--level", "0.5"),
        ("--crs", "EPSG:4326"),
        ("--groups", "part"),
        ("--overwrite",),
    ):
        ended = run("probe", gulf, "--suite", suite, "--data", table.parent, *option)
        assert ended.exit_code == 2 and f"leave out {option[0]}" in ended.stderr


def test_a_suite_may_score_one_set_of_features_alone(
    gulf: Path, table: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(f'[[table]]\nfile = "{table.name}"\ntargets = ["height"]\ncrs = "EPSG:8857"\n')
    given = ("probe", gulf, "--suite", suite, "--data", table.parent, "--folds", 3)
    done(*given, "--out", tmp_path / "all.csv")
    done(*given, "--features", "joined", "--out", tmp_path / "one.csv")
    every, one = (pd.read_csv(tmp_path / name) for name in ("all.csv", "one.csv"))
    left_out = every[every["features"].isin(["coordinate", "aerial"])]
    assert set(left_out["features"]) == {"coordinate", "aerial"}
    pd.testing.assert_frame_equal(every.drop(left_out.index).reset_index(drop=True), one)
    ended = run(*given, "--features", "joint")
    assert ended.exit_code and "has no features 'joint'; it has coordinate" in ended.stderr


def test_own_columns_of_what_is_predicted_stay_as_they_are(
    gulf: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the part; a label is of one type in all of them, missing or not."""
    monkeypatch.setattr(commands_tables, "MIN_ROWS", 1)
    monkeypatch.setattr(commands_tables, "MAX_ROWS", 2)
    new = tmp_path / "new.csv"
    new.write_text("id;lon;lat;price\n01;;2;1.10\n02;NA;2;NA\n03;1,5;2;TRUE\n04;-3;-4;\n")
    args = ("probe", gulf, table, "--modality", "coordinate", "--target", "high", *FEW)
    ended = run(*args, "--predict", new, tmp_path / "out.csv")
    assert "2 of 4 rows have no vector: 2 no position" in ended.stderr
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.split(";")[:4] for line in lines] == [
        line.split(";") for line in new.read_text().splitlines()
    ]
    assert [line.split(";")[4] in ("yes", "no") for line in lines[1:]] == [False, False, True, True]
    part = ("--target", "part", "--task", "classification")
    typed = (*args[:5], *part, *FEW, "--predict", new, tmp_path / "out.parquet")
    ended = run(*typed)
    assert ended.exit_code == 0, ended.stderr
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert found["id"].tolist() == ["01", "02", "03", "04"]
    assert found["ug_part"].isna().tolist() == [True, True, False, False]
    assert pq.read_schema(tmp_path / "out.parquet").field("ug_part").type == pa.int64()


def test_texts_and_codes_written_as_text_are_labels(gulf: Path, tmp_path: Path) -> None:
    """`NA` is a class like others, and so is a code with a leading zero."""
    own = point_table()
    own["code"] = np.where(own["high"] == "yes", "01", "02")
    own["land"] = np.where(own["high"] == "yes", "NA", "DE")
    own["wide"] = own["height"].map(lambda height: str(height).replace(".", ","))
    own = own.astype({"lon": str, "lat": str})
    for name in ("lon", "lat"):
        own[name] = own[name].str.replace(".", ",")
    own.to_csv(tmp_path / "t.csv", sep=";", index=False)
    args = ("probe", gulf, tmp_path / "t.csv", "--modality", "coordinate", *FEW)
    output = done(*args, "--target", "code", "--target", "land", "--target", "wide")
    for column in ("code (accuracy)", "land (accuracy)", "wide (R2)"):
        assert column.split()[0] in output
    assert output.count("(accuracy)") >= 2


def test_what_vectors_add_to_columns_of_the_table(gulf: Path, table: Path) -> None:
    args = ("probe", gulf, table, "--target", "height", "--modality", "coordinate", *FEW)
    output = done(*args, "--control", "part")
    assert "What vectors add to the controls part" in output
    found = json.loads(run(*args, "--control", "part", "--json").stdout)
    assert {row["split"] for row in found["gains"]} == {"random", "blocked"}
    assert all(row["low"] <= row["gain"] <= row["high"] for row in found["gains"])
    assert "there is no column 'rooms'" in refused(*args, "--control", "rooms")


def test_a_probe_is_kept_and_predicts_later(gulf: Path, table: Path, tmp_path: Path) -> None:
    kept, new = tmp_path / "height", tmp_path / "new.csv"
    point_table(40).drop(columns="height").to_csv(new, index=False)
    args = ("probe", gulf, table, "--target", "height", *FEW)
    done(*args, "--save", kept, "--predict", new, tmp_path / "first.csv")
    output = done("probe", gulf, "--load", kept, "--predict", new, tmp_path / "second.csv")
    assert "height random" in output
    first, second = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("first", "second"))
    pd.testing.assert_frame_equal(first, second, rtol=1e-9)
    done("probe", gulf, "--load", kept, "--map", "-8,-6,6,5", tmp_path / "height.tif")
    assert (tmp_path / "height.tif").exists()
    assert "overwrite" in refused(*args, "--save", kept)
    done(*args, "--save", kept, "--overwrite", "--features", "coordinate")
    assert "only of coordinate" not in done("probe", gulf, "--load", kept)
    aerial = ("probe", gulf, "--load", kept, "--features", "aerial", "--predict", new)
    assert "no features 'aerial'" in refused(*aerial, tmp_path / "third.csv")
    assert "leave out TABLE" in run("probe", gulf, table, "--load", kept).stderr
    assert "no probe" in refused("probe", gulf, "--load", tmp_path)


def test_each_target_of_a_kept_probe_is_mapped(gulf: Path, table: Path, tmp_path: Path) -> None:
    kept, args = tmp_path / "both", ("--map", "-8,-6,6,5")
    targets = ("--target", "height", "--target", "part", "--task", "regression")
    ended = run("probe", gulf, table, *targets, *args, tmp_path / "a.tif")
    assert ended.exit_code == 2 and "--load it with --target" in ended.stderr
    done("probe", gulf, table, *targets, *FEW, "--save", kept)
    load = ("probe", gulf, "--load", kept)
    for target in ("height", "part"):
        done(*load, "--target", target, *args, tmp_path / f"{target}.zarr")
        drawn = xr.open_zarr(tmp_path / f"{target}.zarr")["prediction"].values
        expected = Probe.load(kept, open_field(gulf)).map(target, (-8, -6, 6, 5))["prediction"]
        assert np.allclose(drawn, expected.values, equal_nan=True)
    assert "no target 'depth'; it has height, part" in refused(
        *load, "--target", "depth", *args, tmp_path / "b.tif"
    )
    ended = run(*load, "--target", "height")
    assert ended.exit_code == 2 and "--target names what --map draws" in ended.stderr


@pytest.mark.parametrize(
    "option",
    [
        ("--level", "0.5"),
        ("--folds", "5"),
        ("--seed", "0"),
        ("--method", "bilinear"),
        ("--modality", "aerial"),
        ("--control", "north"),
        ("--save", "again"),
    ],
)
def test_a_loaded_probe_refuses_what_it_would_not_heed(
    gulf: Path, tmp_path: Path, option: tuple[str, str]
) -> None:
    ended = run("probe", gulf, "--load", tmp_path, *option)
    assert ended.exit_code == 2
    assert f"leave out {option[0]}" in ended.stderr
