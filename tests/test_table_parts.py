"""A table read in parts and written in parts is the table: nothing depends on where a part ends."""

import gzip
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unigeo.schemas.errors import PointsError, StoreError
from unigeo.schemas.tables.part_readers import TableParts, read_parts
from unigeo.schemas.tables.part_writers import write_parts
from unigeo.schemas.tables.points import read_points
from unigeo.schemas.tables.table_files import read_table, write_table

ENDINGS = [".csv", ".csv.gz", ".tsv", ".jsonl", ".parquet", ".geojson", ".arrow"]


def table(rows: int = 25) -> pd.DataFrame:
    """Columns whose first rows look like another type than the whole."""
    number = np.arange(rows)
    return pd.DataFrame(
        {
            "name": [f"n{k}" if k % 3 else 'a,"b"\nc' for k in number],
            "late": [None if k < 12 else f"w{k}" for k in number],
            "real": np.where(number < 15, number, number + 0.5),
            "gap": np.where(number == 20, np.nan, number),
            "count": number,
            "flag": number % 2 == 0,
            "mixed": [str(k) if k < 14 else "x" for k in number],
            "lon": np.linspace(-10, 10, rows),
            "lat": np.linspace(-5, 5, rows),
        }
    )


def copied(source: Path, target: Path, rows: int, **options: Any) -> list[int]:
    """Read and write a table in parts, with a column of ones beside its own; the parts' lengths."""
    lengths = []
    with (
        read_parts(str(source), None, rows, **options) as parts,
        write_parts(str(target), None, parts) as write,
    ):
        for part in parts:
            lonlat = read_points(part.points(), missing="keep").lonlat
            write(pd.DataFrame({"new": np.ones(len(part))}), part, lonlat)
            lengths.append(len(part))
        assert [len(part) for part in parts] == lengths
        assert len(parts) == sum(lengths)
    return lengths


@pytest.mark.parametrize("to", ENDINGS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_parts_make_the_whole_table(tmp_path: Path, ending: str, to: str) -> None:
    source = tmp_path / f"in{ending}"
    write_table(table(), str(source))
    written = {}
    for rows in (1, 7, 25, 100):
        target = tmp_path / f"out{rows}{to}"
        lengths = copied(source, target, rows)
        assert max(lengths) <= rows
        written[rows] = read_table(str(target))
    for one in written.values():
        pd.testing.assert_frame_equal(one, written[100])
    assert said(written[7]) == said(read_table(str(source)).assign(new=1.0))


def said(frame: pd.DataFrame) -> dict[str, list[str]]:
    """What the fields say, whatever their type."""

    def text(value: Any) -> str:
        if value is None or value != value:
            return ""
        is_number = isinstance(value, float | int) and not isinstance(value, bool)
        return f"{value:.12g}" if is_number else str(value).lower()

    return {name: [text(value) for value in frame[name].tolist()] for name in sorted(frame)}


def test_a_text_table_is_written_as_it_was_read(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    text = 'lon;lat;"a ""b""";;a;a\r\n1,5;2;"x\ny";"";01;\r\n\r\n NA ;;;1.10;"q;r";TRUE\r\n'
    source.write_bytes(b"\xef\xbb\xbf" + text.encode())
    for rows in (1, 2):
        copied(source, target, rows)
        assert target.read_bytes() == b"\xef\xbb\xbf" + (
            b'lon;lat;"a ""b""";;a;a;new\r\n1,5;2;"x\ny";"";01;;1,0\r\n'
            b' NA ;;;1.10;"q;r";TRUE;1,0\r\n'
        )


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_types_of_text_are_those_of_the_whole_column(tmp_path: Path, rows: int) -> None:
    columns = {
        "whole": (["1", "", "-3"], pa.int64()),
        "real": (["1.5", "", "1e-05"], pa.float64()),
        "large": (["9007199254740993", "1", ""], pa.int64()),
        "trailing": (["1.5", "1.10", ""], pa.string()),
        "late word": (["1", "2", "x"], pa.string()),
        "zeros": (["1", "2", "03"], pa.string()),
        "both": (["1", "2", "3.5"], pa.string()),
        "beyond": (["9223372036854775808", "1", "1"], pa.string()),
        "words": (["NA", "None", ""], pa.string()),
        "truth": (["TRUE", "False", ""], pa.string()),
        "infinite": (["inf", "1.0", "nan"], pa.string()),
        "spaced": (["1", " 2", "3"], pa.string()),
        "empty": (["", "", ""], pa.string()),
        "lon": (["0.5", "1.5", "2.5"], pa.float64()),
        "lat": (["0.5", "1.5", "2.5"], pa.float64()),
    }
    lines = [",".join(columns)]
    lines += [",".join(texts[k] for texts, _ in columns.values()) for k in range(3)]
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    for ending in (".parquet", ".arrow"):
        copied(tmp_path / "in.csv", tmp_path / f"typed{ending}", rows)
        copied(tmp_path / f"typed{ending}", tmp_path / "back.csv", rows)
        back = (tmp_path / "back.csv").read_text().splitlines()
        assert [line.rsplit(",", 2)[0] for line in back] == lines
    schema = pq.read_schema(tmp_path / "typed.parquet")
    assert {name: schema.field(name).type for name in columns} == {
        name: kind for name, (_, kind) in columns.items()
    }
    copied(tmp_path / "in.csv", tmp_path / "typed.geojson", rows)
    features = json.loads((tmp_path / "typed.geojson").read_text())["features"]
    assert [one["geometry"]["coordinates"] for one in features] == [[k, k] for k in (0.5, 1.5, 2.5)]
    properties = [one["properties"] for one in features]
    assert [one["whole"] for one in properties] == [1, None, -3]
    assert [one["large"] for one in properties] == [9007199254740993, 1, None]
    assert [one["trailing"] for one in properties] == ["1.5", "1.10", ""]
    assert "lon" not in properties[0]


def test_a_type_of_parquet_is_that_of_its_schema(tmp_path: Path) -> None:
    """Whatever the first part holds; integers with a null stay integers."""
    late = [None] * 4
    own = pa.table(
        {
            "id": pa.array([*late, 2**53 + 1], pa.int64()),
            "day": pa.array([*late, 1], pa.date32()),
            "when": pa.array([*late, 1], pa.timestamp("ns", "Europe/Berlin")),
            "price": pa.array([1, 2, 3, 4, 12345678], pa.decimal128(20, 2)),
            "tags": pa.array([*late, ["a"]], pa.list_(pa.string())),
            "kind": pa.array([*late, "a"]).dictionary_encode(),
            "text": pa.array([*late, "a"], pa.large_string()),
            "none": pa.nulls(5),
            "lon": pa.array([0.5] * 5),
            "lat": pa.array([0.5] * 5),
        }
    )
    for ending in (".parquet", ".arrow"):
        if ending == ".parquet":
            pq.write_table(own, tmp_path / "in.parquet")
        else:
            pa.feather.write_feather(own, tmp_path / "in.arrow")
        for rows in (1, 2, 100):
            for to in (".parquet", ".arrow"):
                copied(tmp_path / f"in{ending}", tmp_path / f"out{to}", rows)
                found = (
                    pq.read_table(tmp_path / "out.parquet")
                    if to == ".parquet"
                    else pa.feather.read_table(tmp_path / "out.arrow")
                )
                assert found.drop_columns(["new"]).equals(own), (ending, to, rows)
                assert found.schema.types[:-1] == own.schema.types


def test_geometry_and_its_metadata_stay_as_they_are(tmp_path: Path) -> None:
    own = table()
    points = geopandas.points_from_xy(own["lon"], own["lat"], crs="EPSG:4326")
    frame = geopandas.GeoDataFrame(own[["name"]], geometry=points)
    frame["home"] = frame.geometry.to_crs("EPSG:3857")
    frame.to_parquet(tmp_path / "in.parquet", write_covering_bbox=True)
    read = pq.read_table(tmp_path / "in.parquet")
    for to in ("out.parquet", "out.feather"):
        copied(tmp_path / "in.parquet", tmp_path / to, 10)
        found = (
            pq.read_table(tmp_path / to)
            if to.endswith("t")
            else pa.feather.read_table(tmp_path / to)
        )
        assert found.drop_columns(["new"]).equals(read)
        assert found.schema.metadata[b"geo"] == read.schema.metadata[b"geo"]
    again = geopandas.read_parquet(tmp_path / "out.parquet")
    assert again.crs == "EPSG:4326"
    assert again["home"].crs == "EPSG:3857"


def test_an_index_that_pandas_wrote_stays(tmp_path: Path) -> None:
    own = table().set_index("name")
    own.to_parquet(tmp_path / "in.parquet")
    copied(tmp_path / "in.parquet", tmp_path / "out.parquet", 10)
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "out.parquet").drop(columns="new"), own
    )


def test_a_table_without_rows_is_one_empty_part(tmp_path: Path) -> None:
    for ending in (".csv", ".parquet", ".arrow"):
        source, target = tmp_path / f"t{ending}", tmp_path / f"out{ending}"
        write_table(table().head(0), str(source))
        assert copied(source, target, 10) == [0]
        assert list(read_table(str(target)).columns) == [*table().columns, "new"]
    (tmp_path / "t.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    assert copied(tmp_path / "t.geojson", tmp_path / "out.geojson", 10) == [0]
    assert json.loads((tmp_path / "out.geojson").read_text())["features"] == []


def test_a_part_ends_where_its_rows_grow_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unigeo.schemas.tables.text_tables.PART_CHARACTERS", 1000)
    write_table(table().assign(name="x" * 400), str(tmp_path / "t.csv"))
    assert copied(tmp_path / "t.csv", tmp_path / "out.csv", 10_000) == [3] * 8 + [1]


def test_a_pipe_is_read_as_often_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("csv", "parquet"):
        content = io.BytesIO()
        getattr(table(), f"to_{kind}")(content, index=False)
        pipe = io.TextIOWrapper(io.BytesIO(content.getvalue()))
        monkeypatch.setattr(sys, "stdin", pipe)
        with read_parts("-", kind, 10) as parts:
            assert [len(part) for part in parts] == [10, 10, 5]
            assert [len(part) for part in parts] == [10, 10, 5]


def parts_of(rows: int = 10) -> Iterator[pd.DataFrame]:
    return (table().iloc[first : first + rows] for first in range(0, 25, rows))


def test_csv_goes_out_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    with write_parts(None) as write:
        for part in parts_of():
            write(part)
            assert capsys.readouterr().out == part.to_csv(index=False, header=part.index[0] == 0)


@pytest.mark.parametrize("kind", ["parquet", "geojson", "arrow"])
def test_other_formats_go_out_whole(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    with write_parts("-", kind) as write:
        for part in parts_of():
            write(part)
            assert out.buffer.getvalue() == b""  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(out.buffer.getvalue())))  # type: ignore[attr-defined]
    assert len(read_table("-", kind)) == 25


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_write_that_is_broken_off_leaves_what_was_there(
    tmp_path: Path, ending: str, error: type[BaseException]
) -> None:
    path = tmp_path / f"t{ending}"
    path.write_bytes(b"before")
    with pytest.raises(error), write_parts(str(path)) as write:
        write(table())
        raise error
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_that_a_format_cannot_hold_is_one_clear_error(tmp_path: Path) -> None:
    wrong = table().assign(count="word")
    with (
        pytest.raises(StoreError, match=r"cannot write the table .*t.parquet as parquet"),
        write_parts(str(tmp_path / "t.parquet")) as write,
    ):
        write(table())
        write(wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".parquet", ".geojson", ".arrow"])
def test_repeated_names_stay_in_text_and_are_refused_elsewhere(tmp_path: Path, ending: str) -> None:
    (tmp_path / "t.csv").write_text("a,lon,a,lat\n1,2,x,3\n")
    copied(tmp_path / "t.csv", tmp_path / "out.csv", 10)
    assert (tmp_path / "out.csv").read_text() == "a,lon,a,lat,new\n1,2,x,3,1.0\n"
    with pytest.raises(StoreError, match=r"several columns are named 'a'; rename them, or write"):
        copied(tmp_path / "t.csv", tmp_path / f"out{ending}", 10)
    assert not (tmp_path / f"out{ending}").exists()


def test_damage_is_named_at_once_or_when_it_is_reached(tmp_path: Path) -> None:
    def read(name: str) -> list[Any]:
        with read_parts(str(tmp_path / name), None, 2) as parts:
            return list(parts)

    (tmp_path / "t.csv").write_text("lon,lat\n1,2\n3,4\n5,6,7,8\n")
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    (tmp_path / "t.geojson").write_bytes(b'{"a": 1}')
    (tmp_path / "t.arrow").write_bytes(b"ARROW1")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"lon,lat\n" + b"1,2\n" * 9000)[:-10])
    damaged = ("t.csv", "t.parquet", "t.csv.gz", "t.arrow", "gone.csv", "gone.parquet", "t.doc")
    for name in damaged:
        with pytest.raises(PointsError, match=rf"cannot read .*{name}"):
            read(name)
    with pytest.raises(PointsError, match="not valid GeoJSON"):
        read("t.geojson")


def test_a_table_says_how_it_is_written(tmp_path: Path) -> None:
    def parts(content: bytes) -> TableParts:
        (tmp_path / "t.csv").write_bytes(content)
        with read_parts(str(tmp_path / "t.csv"), None, 10) as found:
            return found

    assert parts("lon,lat,é\n1,2,\n".encode()).note == ""
    assert "not UTF-8" in parts("lon,lat,é\n1,2,\n".encode("latin-1")).note
