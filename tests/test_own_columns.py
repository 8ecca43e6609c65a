"""A user's own columns come out of the commands as they went in, whatever they hold."""

import csv
import datetime
import decimal
import gzip
import io
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.commands import done, refused, run

from unigeo.client.commands import table_parts as commands_tables
from unigeo.client.field.opening import open_field
from unigeo.schemas.tables.arrow_values import format_json_values, format_texts
from unigeo.schemas.tables.table_files import read_table

FEW = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = ["01001", "1.10", "NA", "None", "TRUE", "9007199254740993", "", " a ", "1e5", "-0", "nan"]
LATIN = st.sampled_from(bytes(range(1, 256)).decode("cp1252", "ignore"))
ANY = st.characters(codec="utf-8", exclude_characters="\0\ufeff")
NEW = 9
"""Columns of eight bands and a status."""


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are read and written two rows at a time."""
    monkeypatch.setattr(commands_tables, "MIN_ROWS", 1)
    monkeypatch.setattr(commands_tables, "MAX_ROWS", 2)


@st.composite
def text_tables(draw: st.DrawFn) -> tuple[list[list[str]], dict[str, Any], str]:
    """Rows below a header, how they are delimited, and their encoding."""
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    letters = LATIN if encoding == "cp1252" else ANY
    if quoting == csv.QUOTE_MINIMAL:  # a line end within a field is quoted by any sane program
        letters = letters.filter(lambda letter: letter != "\r")
    field = st.one_of(st.sampled_from(WORDS), st.text(letters, max_size=6))
    width = draw(st.integers(0, 3))
    names = draw(st.lists(st.text(letters, max_size=4), min_size=width, max_size=width))
    rows = [["n" + name for name in names]]
    rows += draw(st.lists(st.lists(field, min_size=width, max_size=width), max_size=5))
    number = st.one_of(st.floats(-20, 20).map(repr), st.sampled_from(["", "NA", "-5.0 ", "7"]))
    at, first = draw(st.integers(0, width)), True
    for row in rows:
        row[at:at] = ["lon", "Latitude"] if first else [draw(number), draw(number)]
        first = False
    delimited = {
        "delimiter": draw(st.sampled_from(",;\t|")),
        "quoting": quoting,
        "lineterminator": draw(st.sampled_from(["\n", "\r\n"])),
    }
    return rows, delimited, encoding


def written(path: Path, table: tuple[list[list[str]], dict[str, Any], str]) -> None:
    rows, delimited, encoding = table
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, **delimited).writerows(rows)


def read(content: bytes, table: tuple[list[list[str]], dict[str, Any], str]) -> list[list[str]]:
    _, delimited, encoding = table
    lines = io.StringIO(content.decode(encoding), newline="")
    return list(csv.reader(lines, delimiter=delimited["delimiter"]))


@FEW
@given(text_tables())
def test_every_field_of_a_text_table_is_the_same_after_parsing(
    gulf: Path, tmp_path: Path, table: tuple[list[list[str]], dict[str, Any], str]
) -> None:
    source, out, rows = tmp_path / "in.csv", tmp_path / "out.csv", table[0]
    written(source, table)
    args = ("join", gulf, source, "--modality", "aerial", "--quiet")
    for content in (run(*args).stdout_bytes, run(*args, "-o", out) and out.read_bytes()):
        assert [row[:-NEW] for row in read(content, table)] == rows
    piped = run("join", gulf, "-", "--modality", "aerial", "--quiet", stdin=source.read_bytes())
    assert piped.stdout_bytes == out.read_bytes()


@FEW
@given(text_tables())
def test_a_type_in_parquet_gives_the_text_back(
    gulf: Path, tmp_path: Path, table: tuple[list[list[str]], dict[str, Any], str]
) -> None:
    rows = table[0]
    rows[0] = [
        name if name in ("lon", "Latitude") else f"{name} {k}" for k, name in enumerate(rows[0])
    ]
    written(tmp_path / "in.csv", table)
    for to, back in ((".parquet", ".csv"), (".arrow", ".csv")):
        typed, text = tmp_path / f"out{to}", tmp_path / f"back{back}"
        run("join", gulf, tmp_path / "in.csv", "--modality", "aerial", "--quiet", "-o", typed)
        run("join", gulf, typed, "--modality", "aerial", "--prefix", "x_", "--quiet", "-o", text)
        with text.open(encoding="utf-8", newline="") as file:
            assert [row[: -2 * NEW] for row in csv.reader(file)] == rows
        assert pq.read_schema(tmp_path / "out.parquet").names[:-NEW] == rows[0]


MENU: dict[Any, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint8(): st.integers(0, 255),
    pa.float64(): st.floats(allow_nan=False),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(ANY, max_size=4),
    pa.large_string(): st.text(ANY, max_size=4),
    pa.binary(): st.binary(max_size=3),
    pa.date32(): st.dates(),
    pa.time64("us"): st.times(),
    pa.timestamp("ns"): st.integers(-(2**62), 2**62),
    pa.timestamp("us", "Europe/Berlin"): st.integers(-(10**15), 10**15),
    pa.duration("ms"): st.integers(-(10**6), 10**6),
    pa.decimal128(20, 3): st.integers(-(10**9), 10**9).map(lambda n: decimal.Decimal(n).scaleb(-3)),
    pa.list_(pa.int32()): st.lists(st.integers(-9, 9), max_size=3),
    pa.struct([("a", pa.int8()), ("b", pa.string())]): st.fixed_dictionaries(
        {"a": st.integers(0, 9), "b": st.text("ab", max_size=2)}
    ),
    pa.dictionary(pa.int32(), pa.string()): st.sampled_from(["a", "b", "c"]),
    pa.null(): st.none(),
}


@st.composite
def arrow_tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(0, 5))
    kinds = draw(st.lists(st.sampled_from(list(MENU)), max_size=4))
    columns = {}
    for number, kind in enumerate(kinds):
        values = st.lists(st.one_of(st.none(), MENU[kind]), min_size=rows, max_size=rows)
        columns[f"own {number}"] = pa.array(draw(values), kind)
    coordinate = st.lists(st.one_of(st.none(), st.floats(-15, 15)), min_size=rows, max_size=rows)
    columns |= {name: pa.array(draw(coordinate), pa.float64()) for name in ("lon", "lat")}
    return pa.table(columns)


@FEW
@given(arrow_tables())
def test_every_type_and_value_of_parquet_stays(gulf: Path, tmp_path: Path, table: pa.Table) -> None:
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(table, source)
    for _ in range(2):
        done("join", gulf, source, "--modality", "aerial", "-o", out)
        found, own = pq.read_table(out), pq.read_table(source)
        assert found.schema.types[:-NEW] == own.schema.types
        assert found.select(own.schema.names).equals(own)
        feather = tmp_path / "out.feather"
        done("join", gulf, source, "--modality", "aerial", "-o", feather)
        assert pa.feather.read_table(feather).select(own.schema.names).cast(own.schema).equals(own)
        done("join", gulf, source, "--modality", "aerial", "-o", tmp_path / "out.csv")
        with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))[1:]
        expected = list(zip(*map(format_texts, own.columns), strict=True))
        assert [tuple(line[:-NEW]) for line in lines] == expected


@pytest.mark.parametrize(
    ("values", "kind", "texts"),
    [
        ([2**53 + 1, None], pa.int64(), ["9007199254740993", ""]),
        ([0.1, None, math.nan], pa.float32(), ["0.1", "", "nan"]),
        ([0.1, 1e20, 1.0], pa.float64(), ["0.1", "1e+20", "1.0"]),
        ([decimal.Decimal("1.10")], pa.decimal128(9, 2), ["1.10"]),
        ([decimal.Decimal("0.00000010")], pa.decimal128(9, 8), ["0.00000010"]),
        ([datetime.date(2020, 1, 2)], pa.date32(), ["2020-01-02"]),
        ([0, 1], pa.timestamp("ns"), ["1970-01-01 00:00:00", "1970-01-01 00:00:00.000000001"]),
        ([500_000], pa.timestamp("us", "+01:00"), ["1970-01-01 01:00:00.5+0100"]),
        ([0], pa.timestamp("s", "UTC"), ["1970-01-01 00:00:00Z"]),
        ([61], pa.time32("s"), ["00:01:01"]),
        ([90, None], pa.duration("s"), ["90 s", ""]),
        ([True, None], pa.bool_(), ["True", ""]),
        ([b"\xff\x00"], pa.binary(), ["ff00"]),
        ([[1, None], None], pa.list_(pa.int64()), ["[1, null]", ""]),
        ([{"a": "ü"}], pa.struct([("a", pa.string())]), ['{"a": "ü"}']),
        ([[("k", 1)]], pa.map_(pa.string(), pa.int64()), ['[["k", 1]]']),
        (["a", None, "a"], pa.dictionary(pa.int8(), pa.string()), ["a", "", "a"]),
    ],
)
def test_values_of_arrow_are_written_exactly(
    values: list[Any], kind: pa.DataType, texts: list[str]
) -> None:
    column = pa.chunked_array([pa.array(values, kind)])
    assert format_texts(column) == texts
    json.dumps(format_json_values(column), allow_nan=False)


def test_json_has_numbers_and_null_as_such() -> None:
    column = pa.chunked_array([pa.array([2**53 + 1, None])])
    assert format_json_values(column) == [2**53 + 1, None]
    assert format_json_values(pa.chunked_array([pa.array([0.5, math.inf])])) == [0.5, None]
    assert format_json_values(pa.chunked_array([pa.array([True, None])])) == [True, None]


def test_features_stay_whole(gulf: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.geojson", tmp_path / "out.geojson"
    point = {"type": "Point", "coordinates": [1.5, 2, 30], "bbox": [1, 2, 1, 2]}
    features = [
        {
            "type": "Feature",
            "id": 2**53 + 1,
            "geometry": point,
            "properties": {"n": 2**60, "a": None},
        },
        {
            "type": "Feature",
            "id": "x",
            "geometry": None,
            "properties": {"deep": {"b": [1, {"c": 2}]}},
        },
        {"type": "Feature", "geometry": point, "properties": None, "extra": [1.0]},
        {
            "type": "Feature",
            "geometry": point,
            "properties": {"lon": "east", "id": "own", "ü": True},
        },
    ]
    document = {"type": "FeatureCollection", "name": "ü", "features": features}
    source.write_text(json.dumps(document))
    output = run("join", gulf, source, "--modality", "aerial", "-o", out)
    assert output.stderr == "1 of 4 rows has no vector: 1 no position\n"
    found = json.loads(out.read_text())
    assert found["name"] == "ü"
    for one, own in zip(found["features"], features, strict=True):
        new = {
            name: one["properties"].pop(name)
            for name in list(one["properties"])
            if name[:3] == "ug_"
        }
        assert len(new) == NEW
        assert one == own | {"properties": own["properties"] or {}}
    done("join", gulf, source, "--modality", "aerial", "-o", tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert table["id_"].tolist() == ["9007199254740993", "x", "", ""]
    assert table["n"].tolist() == [str(2**60), "", "", ""]
    assert table["deep"].tolist()[1] == '{"b": [1, {"c": 2}]}'
    assert table["geometry"].tolist() == [
        "POINT (1.5 2.0)",
        "",
        "POINT (1.5 2.0)",
        "POINT (1.5 2.0)",
    ]
    done("join", gulf, source, "--modality", "aerial", "-o", tmp_path / "out.parquet")
    typed = pq.read_table(tmp_path / "out.parquet")
    assert typed["n"].to_pylist() == [2**60, None, None, None]
    assert typed["ü"].to_pylist() == [None, None, None, True]


def test_a_crs_member_goes_with_its_coordinates(gulf: Path, tmp_path: Path) -> None:
    points = geopandas.GeoSeries.from_xy([-3.0], [4.0], crs="EPSG:4326").to_crs("EPSG:3857")
    points.to_frame("geometry").to_file(tmp_path / "in.geojson", driver="GeoJSON")
    done("join", gulf, tmp_path / "in.geojson", "-o", tmp_path / "out.geojson")
    found = geopandas.read_file(tmp_path / "out.geojson")
    assert found.crs == "EPSG:3857"
    assert found.geometry.geom_equals(points).all()
    expected = open_field(gulf).sample([(-3.0, 4.0)], "aerial")
    assert found["ug_aerial_000"][0] == pytest.approx(expected["aerial_000"][0])


@pytest.mark.parametrize("to", [".geojson", ".csv"])
def test_a_second_geometry_is_wkt_with_its_crs_named(gulf: Path, tmp_path: Path, to: str) -> None:
    points = geopandas.points_from_xy([1.25, 3], [4, 5], crs="EPSG:4326")
    frame = geopandas.GeoDataFrame({"v": [1, 2]}, geometry=points)
    frame["home"] = frame.geometry.to_crs("EPSG:3857")
    frame.loc[1, "home"] = None
    frame.to_parquet(tmp_path / "in.parquet")
    done("join", gulf, tmp_path / "in.parquet", "--modality", "aerial", "-o", tmp_path / f"out{to}")
    if to == ".csv":
        found = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
        assert found["lon"].tolist() == [1.25, 3]
    else:
        found = geopandas.read_file(tmp_path / "out.geojson")
        assert found.geometry.x.tolist() == [1.25, 3]
    home = geopandas.GeoSeries.from_wkt([found["home"][0]], crs=found["home_crs"][0])
    assert home.crs == "EPSG:3857"
    assert home[0] == frame["home"][0]
    assert pd.isna(found["home"][1]) or found["home"][1] == ""


def test_text_coordinates_of_parquet_are_read_as_those_of_text(gulf: Path, tmp_path: Path) -> None:
    own = pa.table(
        {"lon": ["-1.50", " -2 ", "NA"], "lat": pa.array(["3", "4", None]).dictionary_encode()}
    )
    pq.write_table(own, tmp_path / "in.parquet")
    output = run("join", gulf, tmp_path / "in.parquet", "-o", tmp_path / "out.parquet")
    assert output.stderr == "1 of 3 rows has no vector: 1 no position\n"
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(["lon", "lat"]).equals(own)
    expected = open_field(gulf).sample([(-1.5, 3), (-2, 4)], "aerial")
    np.testing.assert_array_equal(found["ug_aerial_003"].to_pylist()[:2], expected["aerial_003"])
    wrong = tmp_path / "wrong.parquet"
    args = ("join", gulf, wrong, "-o", tmp_path / "out.csv")
    pq.write_table(pa.table({"lon": ["1", "2", "3"], "lat": ["1", "2", "N39"]}), wrong)
    assert "the field 'lat' of row 2 is 'N39'" in refused(*args)
    pq.write_table(pa.table({"lon": [True], "lat": [1.0]}), wrong)
    assert "must hold numbers" in refused(*args)


TABLE = "id,lon,lat\n01,1,2\n02,,2\n03,5,5\n04,170,80\n05,NA,none\n06,-3,4\n"


@pytest.mark.parametrize("verb", ["sample", "join"])
def test_rows_without_a_vector_are_kept_dropped_or_refused(
    gulf: Path, tmp_path: Path, verb: str
) -> None:
    """Of six rows one lies in the lake, one outside, and two nowhere."""
    args = (verb, gulf, "-", "--modality", "aerial")
    summary = "4 of 6 rows have no vector: 1 outside region, 1 water, 2 no position"
    kept = run(*args, "--missing", "nan", stdin=TABLE)
    assert kept.stderr.startswith(f"Warning: {summary}.")
    assert len(kept.stdout.splitlines()) == 7
    status = pd.read_csv(io.StringIO(kept.stdout)).iloc[:, -1].tolist()
    assert status == ["valid", "no position", "water", "outside region", "no position", "valid"]
    assert run(*args, stdin=TABLE).stdout == kept.stdout

    dropped = run(*args, "--missing", "drop", "--quiet", stdin=TABLE)
    assert dropped.stdout.splitlines() == [kept.stdout.splitlines()[row] for row in (0, 1, 6)]
    assert f"{summary} (left out)" in dropped.stderr  # most rows: printed even if quiet

    error = refused(*args, "--missing", "raise", "-o", tmp_path / "out.csv", stdin=TABLE)
    assert "no aerial vector at row 1 (no position). Use --missing nan" in error
    later = "lon,lat\n1,2\n1,2\n1,2\n5,5\n170,80\n"
    strict = ("--missing", "raise", "-o", tmp_path / "out.csv")
    assert "at row 3 (water)" in refused(*args, *strict, stdin=later)
    assert list(tmp_path.iterdir()) == []


def test_one_line_says_what_has_no_vector_by_modality_where_they_differ(gulf: Path) -> None:
    lines = [f"{lon},{lat}" for lon, lat in [(1, 2)] * 8 + [(20, 12), (5, 5)]] + ["nan,1"]
    output = run("join", gulf, "-", stdin="lon,lat\n" + "\n".join(lines) + "\n").stderr
    assert output == (
        "2 of 11 rows have no coordinate vector: 1 water, 1 no position; "
        "3 of 11 rows have no aerial vector: 1 no observation, 1 water, 1 no position\n"
    )
    assert run("join", gulf, "-", "--quiet", stdin="lon,lat\n1,2\n1,2\n,1\n").stderr == ""
    assert run("join", gulf, "-", stdin="lon,lat\n1,2\n1,2\n").stderr == ""


def test_a_warning_of_most_rows_names_the_likely_cause_once(gulf: Path, tmp_path: Path) -> None:
    """Swapped: the gulf reaches from 20 west to 25 east, and from 15 south to 18 north."""
    (tmp_path / "in.csv").write_text("lon,lat\n" + "16,-19\n" * 7 + "1,2\n")
    out = ("-o", tmp_path / "out.csv", "--modality", "coordinate")
    for quiet in ((), ("--quiet",)):
        (line,) = run("join", gulf, tmp_path / "in.csv", *out, *quiet).stderr.splitlines()
        assert line.startswith(
            "Warning: 7 of 8 rows have no vector: 7 outside region. Longitude and"
        )
        assert "look swapped" in line
        assert "--lon and --lat" in line
        assert "columns=" not in line


def test_a_missing_column_is_reported_with_the_options_of_the_shell(gulf: Path) -> None:
    output = refused("join", gulf, "-", stdin="a;b\n1;2\n")
    assert "no longitude column among a, b" in output
    assert "name both with --lon and --lat" in output
    assert "read as semicolon-separated UTF-8, columns: 2" in output


def test_a_table_that_is_not_utf_8_is_noted(gulf: Path) -> None:
    table = "name,lon,lat\nZoë,1,2\n".encode("cp1252")
    output = run("join", gulf, "-", stdin=table)
    assert output.stderr == "Note: the table is not UTF-8; it is read as cp1252\n"
    assert output.stdout_bytes.splitlines()[1].startswith("Zoë,1,2,".encode("cp1252"))
    assert run("join", gulf, "-", "--quiet", stdin=table).stderr == ""


def test_coordinates_in_another_crs_stay_properties_of_features(gulf: Path, tmp_path: Path) -> None:
    table = "x,y,v\n334000.50,445000,1.10\n,445000,2\n"
    args = ("join", gulf, "-", "--modality", "aerial", "--crs", "EPSG:3857")
    run(*args, "-o", tmp_path / "out.geojson", stdin=table)
    first, second = json.loads((tmp_path / "out.geojson").read_text())["features"]
    own = [{name: one["properties"][name] for name in "xyv"} for one in (first, second)]
    assert own == [{"x": "334000.50", "y": 445000, "v": "1.10"}, {"x": "", "y": 445000, "v": "2"}]
    assert first["geometry"]["coordinates"] == pytest.approx([3.0004, 3.9943], abs=1e-4)
    assert second["geometry"] is None


@pytest.fixture
def forty_rows() -> Iterator[str]:
    yield "lon;lat;n\n" + "1,5;2;01\n" * 40


def test_decimal_commas_go_on_in_the_new_columns(gulf: Path, forty_rows: str) -> None:
    result = run("join", gulf, "-", "--modality", "aerial", stdin=forty_rows)
    assert "Note: its numbers have decimal commas" in result.stderr
    output = result.stdout
    found = pd.read_csv(io.StringIO(output), sep=";", decimal=",", dtype={"n": str})
    expected = open_field(gulf).sample([(1.5, 2.0)], "aerial")
    np.testing.assert_allclose(found.iloc[39, 3:11].astype(float), expected.iloc[0, :8], rtol=1e-6)
    assert found["n"].tolist() == ["01"] * 40


def test_views_that_polars_writes_are_read(gulf: Path, tmp_path: Path) -> None:
    own = pl.DataFrame(
        {"lon": ["-1.5", "NA"], "lat": [-3.0, 2.0], "s": ["a", None], "c": ["x", "x"]}
    )
    own = own.with_columns(pl.col("c").cast(pl.Categorical))
    own.write_ipc(tmp_path / "in.arrow")
    for missing, rows in (("nan", 2), ("drop", 1)):
        for to in ("csv", "parquet", "geojson", "arrow"):
            out = tmp_path / f"out.{to}"
            args = ("--modality", "aerial", "--missing", missing, "-o", out)
            done("join", gulf, tmp_path / "in.arrow", *args)
            found = read_table(str(out))
            assert len(found) == rows
            assert (found["s"][0], found["c"][0]) == ("a", "x")
    kinds = pa.ipc.open_file(tmp_path / "out.arrow").schema.types
    assert kinds[:4] == pa.ipc.open_file(tmp_path / "in.arrow").schema.types


def test_text_comes_packed_and_through_pipes_of_any_kind(gulf: Path, tmp_path: Path) -> None:
    table = b"id;lon;lat\n01;-1,5;-3\n02;;1\n03;-1;-3\n"
    args = ("--modality", "aerial", "--quiet")
    expected = run("join", gulf, "-", *args, stdin=table).stdout_bytes
    assert run("join", gulf, "-", *args, stdin=gzip.compress(table)).stdout_bytes == expected
    fifo, source, out = tmp_path / "fifo.csv", tmp_path / "in.csv", tmp_path / "out.tsv"
    os.mkfifo(fifo)
    with ThreadPoolExecutor() as pool:
        pool.submit(fifo.write_bytes, table)
        assert run("join", gulf, fifo, *args).stdout_bytes == expected
    source.write_bytes(table)
    done("join", gulf, source, *args, "-o", out)
    assert out.read_text().splitlines()[1].startswith("01\t-1,5\t-3\t")
    done("join", gulf, source, *args, "-o", tmp_path / "out.csv.gz")
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()) == expected
    done("join", gulf, source, *args, "-o", source)
    assert source.read_bytes() == expected
