"""plan, sample, join and encode through the whole command, in every format."""

import io
import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
from support import stores
from support.commands import done, point_table, refused, run
from support.servers import RangeServer
from test_encoding import encoder_in_numpy, model_of

from unigeo.client.commands import points as commands_points
from unigeo.client.commands import table_parts as commands_tables
from unigeo.client.field.opening import open_field
from unigeo.client.reading.cost import StoreLink
from unigeo.producer.publishing.coordinate_encoder import coordinate_settings, coordinate_weights
from unigeo.producer.publishing.publish import publish
from unigeo.schemas.tables.table_files import read_table, write_table

ENDINGS = [".csv", ".csv.gz", ".parquet", ".geojson", ".arrow"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "places.csv"
    point_table().to_csv(path, index=False)
    return path


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are read and written 70 rows at a time."""
    monkeypatch.setattr(commands_tables, "MIN_ROWS", 1)
    monkeypatch.setattr(commands_tables, "MAX_ROWS", 70)


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(
        found[list(expected)], expected, check_dtype=False, check_categorical=False, rtol=1e-6
    )
    assert found.shape == expected.shape


@pytest.mark.parametrize("ending", ENDINGS)
def test_join_keeps_the_table_in_every_format(gulf: Path, tmp_path: Path, ending: str) -> None:
    source, out = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    write_table(point_table(), str(source))
    assert done("join", gulf, source, "-o", out) == ""
    expected = open_field(gulf).join(point_table())
    status = [name for name in expected if name.endswith("_status")]
    same(read_table(str(out)).astype(dict.fromkeys(status, str)), expected.astype(
        dict.fromkeys(status, str)
    ))  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, out.name])


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_long_table_is_the_same_in_parts(
    gulf: Path, tmp_path: Path, table: Path, ending: str
) -> None:
    out = tmp_path / f"out{ending}"
    done("join", gulf, table, "-o", out)
    expected = (
        open_field(gulf).join(point_table()).drop(columns=["coordinate_status"], errors="ignore")
    )
    found = read_table(str(out))
    numbers = [name for name in expected if not name.endswith("_status")]
    same(found[numbers], expected[numbers])
    assert found["ug_aerial_status"].astype(str).tolist() == list(expected["ug_aerial_status"])


def test_a_geodataframe_stays_one(gulf: Path, tmp_path: Path) -> None:
    own = point_table()
    points = geopandas.points_from_xy(own["lon"], own["lat"], crs="EPSG:4326")
    frame = geopandas.GeoDataFrame(own[["height"]], geometry=points).to_crs("EPSG:3857")
    frame.to_parquet(tmp_path / "in.parquet")
    done("join", gulf, tmp_path / "in.parquet", "-o", tmp_path / "out.parquet")
    found = geopandas.read_parquet(tmp_path / "out.parquet")
    assert found.crs == "EPSG:3857"
    assert found.geometry.geom_equals(frame.geometry).all()
    assert found["ug_aerial_000"].notna().any()


def test_the_prefix_and_the_columns_may_be_named(gulf: Path) -> None:
    own = point_table(5).rename(columns={"lon": "east", "lat": "north"})
    output = done(
        "join", gulf, "-", "--prefix", "f_", "--lon", "east", "--lat", "north",
        "--modality", "aerial", stdin=own.to_csv(index=False),
    )  # fmt: skip
    found = pd.read_csv(io.StringIO(output))
    assert list(found.columns) == [
        *own.columns, *(f"f_aerial_{band:03d}" for band in range(8)), "f_aerial_status",
    ]  # fmt: skip
    named = ("--lon", "east", "--lat", "north", "--prefix", "")
    assert "already has" in refused("join", gulf, "-", *named, stdin=output.replace("f_", ""))


def test_a_pipe_is_csv_unless_another_format_is_named(gulf: Path) -> None:
    expected = open_field(gulf).join(point_table(), "aerial")
    piped = done("join", gulf, "-", "--modality", "aerial", stdin=point_table().to_csv(index=False))
    same(pd.read_csv(io.StringIO(piped)).iloc[:, :14], expected.iloc[:, :14])
    for kind in ("parquet", "arrow"):
        content = io.BytesIO()
        point_table().to_parquet(content) if kind == "parquet" else point_table().to_feather(
            content
        )
        ended = run(
            "join", gulf, "-", "--modality", "aerial", "--format", kind, stdin=content.getvalue()
        )
        assert ended.exit_code == 0, ended.stderr
        read = pd.read_parquet if kind == "parquet" else pd.read_feather
        same(read(io.BytesIO(ended.stdout_bytes)).iloc[:, :14], expected.iloc[:, :14])


def test_sample_writes_coordinates_and_the_field_s_vectors(
    gulf: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "vectors.parquet"
    done("sample", gulf, table, "--modality", "coordinate", "-o", out)
    got = pd.read_parquet(out)
    expected = open_field(gulf).sample(point_table(), "coordinate")
    np.testing.assert_allclose(got[["lon", "lat"]], point_table()[["lon", "lat"]], rtol=1e-15)
    np.testing.assert_array_equal(got.iloc[:, 2:10], expected.iloc[:, :8])

    piped = done("sample", gulf, "-", "--missing", "drop", stdin=table.read_text())
    kept = len(open_field(gulf).sample(point_table(), missing="drop"))
    assert 0 < kept < 300
    assert len(piped.splitlines()) == kept + 1

    stored = pd.read_csv(io.StringIO(done("sample", gulf, table, "--dtype", "int8")))
    expected = open_field(gulf).sample(point_table(), dtype="int8")
    np.testing.assert_array_equal(stored.iloc[:, 2:10], expected.iloc[:, :8])


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
def test_one_point_by_every_method(gulf: Path, method: str) -> None:
    output = done("sample", gulf, "--at", -10, -5, "--method", method, "--prefix", "f_")
    found = pd.read_csv(io.StringIO(output))
    expected = open_field(gulf).sample([(-10.0, -5.0)], method=method, prefix="f_")
    assert found.loc[0, ["lon", "lat"]].tolist() == [-10, -5]
    np.testing.assert_allclose(found.iloc[0, 2:10].astype(float), expected.iloc[0, :8], rtol=1e-6)


def test_points_in_another_crs_come_out_in_degrees(fiji: Path) -> None:
    output = done(
        "sample", fiji, "-", "--crs", "EPSG:3832", stdin="x,y\n3000000,-2000000\n3100000,-2000000\n"
    )
    found = pd.read_csv(io.StringIO(output))
    assert found["lon"].between(176, 179).all()
    assert found["lat"].between(-18, -17).all()


@pytest.mark.usefixtures("short_parts")
def test_an_error_in_a_late_part_says_where(gulf: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    for wrong, message in (
        (91.0, "among rows 140 to 209: 1 of 70 points have a latitude beyond 90 degrees, the first "
        "in row 150"),
        ("39°", "the field 'lat' of row 150 (line 152) is '39°', which is no number"),
    ):  # fmt: skip
        own = point_table().astype({"lat": object})
        own.loc[150, "lat"] = wrong
        own.to_csv(source, index=False)
        for verb in ("sample", "join", "plan"):
            assert message in refused(verb, gulf, source, *(() if verb == "plan" else ("-o", out)))
        assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.usefixtures("short_parts")
def test_plan_counts_what_sampling_will_cost(gulf: Path, table: Path) -> None:
    field, link = open_field(gulf), StoreLink(0.03, 50e6)
    parts = [point_table().iloc[first : first + 70] for first in range(0, 300, 70)]
    expected = [field.plan(part, link=link, method="bilinear") for part in parts]
    args = ("plan", gulf, table, "--method", "bilinear", "--latency-ms", 30, "--rate-mbs", 50)
    found = json.loads(done(*args, "--json"))
    assert found["points"] == 300
    for key in ("inside", "requests", "bytes", "output_bytes"):
        assert found[key] == sum(getattr(plan, key) for plan in expected)
    assert found["seconds"] == pytest.approx(sum(plan.seconds for plan in expected))
    assert found["link"]["latency_s"] == 0.03
    assert done(*args).startswith("300 points, 300 of them on the field: at most ")
    assert " 7.0 ms per request" in done("plan", gulf, table, "--latency-ms", 7)
    assert " 8 MB/s" in done("plan", gulf, table, "--rate-mbs", 8)


def test_the_plan_comes_before_anything_large(
    gulf: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_points, "MANY_POINTS", 299)
    out = tmp_path / "out.csv"
    for verb in ("sample", "join"):
        assert run(verb, gulf, table, "-o", out).stderr.startswith("300 points, ")
        assert run(verb, gulf, table, "-o", out, "--quiet").stderr == ""
    monkeypatch.setattr(commands_points, "MANY_POINTS", 300)
    assert "300 points, " not in run("join", gulf, table, "-o", out).stderr


def test_of_a_remote_field_the_plan_comes_sooner(
    gulf: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    with RangeServer(gulf) as server:
        assert "300 points, " not in run("join", server.url, table, "-o", out).stderr
        monkeypatch.setattr(commands_points, "MANY_REMOTE_POINTS", 299)
        assert run("join", server.url, table, "-o", out).stderr.startswith("300 points, ")
    assert out.read_text() == done("join", gulf, table)


def test_encode_needs_no_cell(tmp_path: Path) -> None:
    model = model_of()
    group, grid, layout = stores.begin(tmp_path / "f", layout=stores.layout_of(bands=16))
    stores.fill(group, grid, layout)
    publish(group, encoder=coordinate_weights(model), encoder_settings=coordinate_settings(model))
    output = done("encode", tmp_path / "f", "-", stdin="id,lon,lat\n7,150,60\n8,0,0\n")
    found = pd.read_csv(io.StringIO(output))
    expected = encoder_in_numpy(model).encode(np.array([[150.0, 60.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found.iloc[:, 2:], expected, atol=1e-6)
    assert list(found.columns[:3]) == ["lon", "lat", "coordinate_000"]
