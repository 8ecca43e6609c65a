"""A table written is read back, in every format, on disk and through a pipe."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas
import geopandas.testing
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unigeo.schemas.errors import PointsError, StoreError
from unigeo.schemas.tables.table_files import check_writable, read_table, write_table

ENDINGS = [".csv", ".csv.gz", ".tsv", ".txt", ".jsonl", ".parquet", ".geoparquet", ".geojson"]
ENDINGS += [".json", ".arrow", ".feather"]
"""Endings of formats in which a table gives the same bytes whenever it is written."""
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=8)


class Pipe(io.TextIOWrapper):
    """Standard input or output over bytes."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", newline="")


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": ['Ørsted, "q"', "b\nc"],
            "count": [1, -2],
            "value": np.array([0.1, np.nan], np.float32),
            "lon": [-71.06, 118.24],
            "lat": [42.36, -34.05],
        }
    )


def frame() -> geopandas.GeoDataFrame:
    own = table()
    points = geopandas.points_from_xy(own["lon"], own["lat"], crs="EPSG:4326")
    return geopandas.GeoDataFrame(own[["name", "value"]], geometry=points).to_crs("EPSG:3857")


def same(read: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(
        read[list(expected)], expected, check_dtype=False, rtol=1e-7, atol=1e-9
    )
    assert read.shape == expected.shape


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_table_written_is_read_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"places{ending}"
    write_table(table(), str(path))
    same(read_table(str(path)), table())
    assert list(tmp_path.iterdir()) == [path]
    first = path.read_bytes()
    write_table(table(), str(path))
    assert path.read_bytes() == first
    assert (first[:2] == b"\x1f\x8b") == ending.endswith(".gz")


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.sampled_from(["csv", "jsonl", "parquet", "geojson", "arrow", "stata"]),
    st.lists(st.tuples(WORDS, st.floats(-180, 180), st.floats(-90, 90)), min_size=1, max_size=5),
)
def test_any_text_and_point_goes_through_a_pipe(
    monkeypatch: pytest.MonkeyPatch, kind: str, rows: list[tuple[str, float, float]]
) -> None:
    sent = pd.DataFrame(rows, columns=["name", "lon", "lat"])
    sent["name"] = "-" + sent["name"] + "-"  # CSV takes some words, such as NA, for nothing
    out = Pipe()
    monkeypatch.setattr(sys, "stdout", out)
    write_table(sent, "-", kind)
    monkeypatch.setattr(sys, "stdin", Pipe(out.buffer.getvalue()))  # type: ignore[attr-defined]
    same(read_table("-", kind), sent)


def test_a_pipe_is_csv_unless_another_format_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (None, "-"):
        write_table(table(), path)
        assert capsys.readouterr().out == table().to_csv(index=False)
    monkeypatch.setattr(sys, "stdin", Pipe(b"lon,lat\n1,2\n"))
    assert read_table("-").to_dict("list") == {"lon": [1], "lat": [2]}


def test_the_format_may_be_named_for_a_file_too(tmp_path: Path) -> None:
    path = str(tmp_path / "places.data")
    write_table(table(), path, "parquet")
    same(read_table(path, "parquet"), table())
    with pytest.raises(PointsError, match=r"cannot read the table .*places.data as csv"):
        read_table(path, "csv")


def test_an_arrow_stream_is_read_from_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    sent, content = pa.Table.from_pandas(table()), io.BytesIO()
    with pa.ipc.new_stream(content, sent.schema) as writer:
        writer.write_table(sent)
    monkeypatch.setattr(sys, "stdin", Pipe(content.getvalue()))
    same(read_table("-", "arrow"), table())


@pytest.mark.parametrize("ending", [".parquet", ".feather", ".arrow"])
def test_geometry_goes_into_geoparquet_and_arrow_with_its_crs(tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"places{ending}")
    write_table(frame(), path)
    read = read_table(path)
    assert isinstance(read, geopandas.GeoDataFrame)
    assert read.crs == "EPSG:3857"
    geopandas.testing.assert_geodataframe_equal(read, frame())


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".tsv", ".geojson"])
def test_points_go_into_other_formats_as_lon_and_lat(tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"places{ending}")
    write_table(frame(), path)
    same(read_table(path), table()[["name", "value", "lon", "lat"]])


def test_other_shapes_go_into_csv_as_wkt_in_degrees(tmp_path: Path) -> None:
    path = str(tmp_path / "boxes.csv")
    box = shapely.box(-71, 42, -70, 43)
    boxes = geopandas.GeoDataFrame({"n": [1]}, geometry=[box], crs="EPSG:4326")
    write_table(boxes.to_crs("EPSG:3857"), path)
    (wkt,) = read_table(path)["geometry"]
    assert shapely.from_wkt(wkt).symmetric_difference(box).area < 1e-9
    write_table(frame().assign(lon="elsewhere"), path)
    assert read_table(path)["geometry"].str.startswith("POINT (").all()


def test_geojson_is_what_others_read(tmp_path: Path) -> None:
    path = tmp_path / "places.geojson"
    write_table(table(), str(path))
    read = geopandas.read_file(path)
    assert read.crs == "EPSG:4326"
    assert read.geometry.x.tolist() == table()["lon"].tolist()
    assert list(read.columns) == ["name", "count", "value", "geometry"]
    first = json.loads(path.read_text())["features"][1]
    assert first["properties"] == {"name": "b\nc", "count": -2, "value": None}


def test_geojson_ids_and_missing_properties_are_kept(tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": [1, 2, 30]}
    features = [
        {"type": "Feature", "id": "a", "properties": {"n": 1}, "geometry": point},
        {"type": "Feature", "properties": None, "geometry": point},
    ]
    path = tmp_path / "f.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    read = read_table(str(path))
    assert list(read.columns) == ["id", "n", "lon", "lat"]
    assert read["id"].tolist()[0] == "a"
    assert read["lon"].tolist() == [1, 1]
    many = {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}
    path.write_text(json.dumps(many))
    with pytest.raises(PointsError, match="MultiPoint"):
        read_table(str(path))


def test_geojson_without_points_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.geojson"
    for wrong in (pd.DataFrame({"a": [1]}), pd.DataFrame({"x": [5e5], "y": [4e6]})):
        with pytest.raises(StoreError, match="GeoJSON needs places in degrees"):
            write_table(wrong, str(path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"places{ending}"
    path.write_bytes(b"before")

    def fail(*args: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StoreError, match=r"cannot write the table .*the disk is full"):
        write_table(table(), str(path))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_column_that_a_format_cannot_hold_is_one_clear_error(tmp_path: Path) -> None:
    mixed = table().assign(name=[{"a": 1}, 3])
    with pytest.raises(StoreError, match="as parquet"):
        write_table(mixed, str(tmp_path / "f.parquet"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"f{ending}"
    write_table(table(), str(path))
    path.write_bytes(b"" if ending in (".csv", ".tsv", ".txt") else path.read_bytes()[:-30])
    with pytest.raises(PointsError, match="cannot read the table"):
        read_table(str(path))


def test_what_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    listed = r"a table ends in one of \.csv, \.csv\.gz, \.parquet"
    with pytest.raises(StoreError, match=rf"cannot write out\.xls: {listed}"):
        check_writable("out.xls")
    with pytest.raises(PointsError, match=rf"cannot read in\.data: {listed}"):
        read_table("in.data")
    with pytest.raises(PointsError, match=r"cannot read in\.xls: save it as \.xlsx"):
        read_table("in.xls")
    with pytest.raises(PointsError, match=r"cannot read t\.pkl: pickles are never read"):
        read_table("t.pkl")
    with pytest.raises(StoreError, match=r"cannot write out\.shp: .* write GeoPackage"):
        check_writable("out.shp")
    with pytest.raises(PointsError, match=r"cannot read https://a\.b/c\.csv: a table is a file"):
        read_table("https://a.b/c.csv")
    for call in (read_table, check_writable):
        with pytest.raises((PointsError, StoreError), match="no format 'xls'; there are csv, json"):
            call("-", "xls")
    with pytest.raises(StoreError, match="there is no folder"):
        check_writable(str(tmp_path / "no" / "out.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(StoreError, match="it is no file"):
        write_table(table(), str(tmp_path / "folder.csv"))
    with pytest.raises(StoreError, match="/dev/full: it is no file"):
        check_writable("/dev/full", "csv")
    check_writable(None)
    check_writable("-", "geojson")


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    write_table(table(), str(tmp_path / "link.csv"))
    assert (tmp_path / "link.csv").is_symlink()
    same(read_table(str(tmp_path / "real.csv")), table())


def test_a_reader_that_has_seen_enough_ends_the_writing_quietly() -> None:
    code = (
        "import pandas as pd\nfrom unigeo.schemas.tables.table_files import write_table\n"
        "write_table(pd.DataFrame({'a': range(200_000)}), '-')"
    )
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"{sys.executable}" -c "$1" | head -1', "bash", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "a\n", "")
