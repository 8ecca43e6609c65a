"""One table in every format that people bring: the same points, the same columns, and back."""

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from support.commands import done

from unigeo.client.field.opening import open_field
from unigeo.schemas.errors import PointsError, PointsWarning, StoreError
from unigeo.schemas.tables.part_readers import read_parts
from unigeo.schemas.tables.part_writers import write_parts
from unigeo.schemas.tables.points import read_points
from unigeo.schemas.tables.position_texts import parse_positions
from unigeo.schemas.tables.table_files import is_table_name, read_table, write_table

ROWS = 500


def table() -> pd.DataFrame:
    number = np.arange(ROWS)
    gaps = pd.array([None if k == 7 else int(k) for k in number], "Int64")
    return pd.DataFrame(
        {
            "code": [f"{k:05d}" for k in number],
            "name": ["Zoë" if k % 2 else "=A1" for k in number],
            "count": gaps,
            "price": np.where(number == 3, np.nan, number + 0.5),
            "lon": np.linspace(-10, 10, ROWS),
            "lat": np.linspace(-5, 5, ROWS),
        }
    )


def written_xlsx(path: Path) -> None:
    pytest.importorskip("openpyxl")
    table().to_excel(path, index=False)


def written_features(path: Path, crs: Any = 4326) -> None:
    points = geopandas.points_from_xy(table().lon, table().lat, crs=4326)
    own = table().drop(columns=["lon", "lat"])
    # An index would put the rows of FlatGeobuf in another order.
    options = {"SPATIAL_INDEX": "NO"} if path.suffix == ".fgb" else {}
    geopandas.GeoDataFrame(own, geometry=points).to_crs(crs).to_file(path, **options)


def text_of(column: str, values: list[str]) -> pd.DataFrame:
    return table().drop(columns=["lon", "lat"]).assign(**{column: values})


PAIRS = list(zip(table().lat, table().lon, strict=True))
FORMS: dict[str, Any] = {
    "t.csv": lambda p: table().to_csv(p, index=False),
    "semicolon.csv": lambda p: table().to_csv(p, index=False, sep=";"),
    "german.csv": lambda p: table().to_csv(p, index=False, sep=";", decimal=","),
    "latin.csv": lambda p: table().to_csv(p, index=False, encoding="latin-1"),
    "utf16.csv": lambda p: table().to_csv(p, index=False, encoding="utf-16"),
    "t.tsv": lambda p: table().to_csv(p, index=False, sep="\t"),
    "t.jsonl": lambda p: table().to_json(p, orient="records", lines=True, double_precision=15),
    "t.json": lambda p: table().to_json(p, orient="records", double_precision=15),
    "t.parquet": lambda p: table().to_parquet(p),
    "t.arrow": lambda p: table().to_feather(p),
    "t.xlsx": written_xlsx,
    "t.dta": lambda p: table().to_stata(p, write_index=False, version=118),
    "t.gpkg": written_features,
    "metres.gpkg": lambda p: written_features(p, 3857),
    "t.shp": written_features,
    "t.fgb": written_features,
    "t.geojson": written_features,
    "wkt.csv": lambda p: text_of("WKT", [f"POINT ({x!r} {y!r})" for y, x in PAIRS]).to_csv(p),
    "pair.csv": lambda p: text_of("Lat, Lon", [f"{y!r}, {x!r}" for y, x in PAIRS]).to_csv(p),
    "pair.jsonl": lambda p: text_of("lonlat", [f"{x!r},{y!r}" for y, x in PAIRS]).to_json(
        p, orient="records", lines=True
    ),
    "pair.parquet": lambda p: text_of("coords", [f"{y!r} {x!r}" for y, x in PAIRS]).to_parquet(p),
}


@pytest.fixture(params=FORMS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    FORMS[request.param](path)
    return path


def test_the_same_rows_are_the_same_points(path: Path, gulf: Path) -> None:
    expected = table()[["lon", "lat"]].to_numpy()
    frame = read_table(str(path))
    for points in (str(path), path, frame):
        np.testing.assert_allclose(read_points(points).lonlat, expected, atol=1e-8)
    codes = frame["code"].tolist()
    assert codes == table()["code"].tolist()
    assert (frame["price"].astype(float) - table()["price"]).abs().max() == 0
    assert frame["count"].isna().tolist() == table()["count"].isna().tolist()
    field = open_field(gulf)
    joined, sampled = field.join(path, "aerial"), field.sample(table(), "aerial", prefix="ug_")
    assert joined["ug_aerial_003"].equals(sampled["ug_aerial_003"])


@pytest.mark.parametrize("to", [".csv", ".tsv", ".jsonl", ".parquet", ".arrow", ".geojson", ".xlsx",
                                ".dta", ".gpkg", ".fgb"])  # fmt: skip
def test_what_is_read_can_be_written(tmp_path: Path, to: str) -> None:
    if to == ".xlsx":
        pytest.importorskip("openpyxl")
    for name in ("t.csv", "t.dta", "metres.gpkg", "pair.parquet"):
        source, target = tmp_path / name, tmp_path / f"{name}{to}"
        FORMS[name](source)
        with (
            read_parts(str(source), None, 170) as parts,
            write_parts(str(target), None, parts) as write,
        ):
            for part in parts:
                lonlat = read_points(part.points(), missing="keep").lonlat
                write(pd.DataFrame({"new": np.ones(len(part), np.float32)}), part, lonlat)
        again = read_table(str(target))
        np.testing.assert_allclose(
            read_points(again).lonlat, table()[["lon", "lat"]].to_numpy(), atol=1e-8
        )
        assert again["code"].tolist() == table()["code"].tolist()
        assert again["name"].tolist() == table()["name"].tolist()
        assert again["count"].astype("Int64").equals(table()["count"])
        assert again["new"].eq(1).all()
        if to == ".gpkg" and name == "metres.gpkg":
            assert again.crs == "EPSG:3857"


def test_labels_of_stata_stay_and_codes_are_not_renumbered(tmp_path: Path) -> None:
    own = pd.DataFrame({"sex": [2, 9, 2], "lon": [1.0, 2, 3], "lat": [1.0, 2, 3]})
    labels = {"sex": {2: "female", 9: "not said"}}
    own.to_stata(
        tmp_path / "in.dta", write_index=False, value_labels=labels, variable_labels={"sex": "Sex"}
    )
    with (
        read_parts(str(tmp_path / "in.dta"), None, 2) as parts,
        write_parts(str(tmp_path / "out.dta"), None, parts) as write,
    ):
        for part in parts:
            write(pd.DataFrame({"new": np.ones(len(part))}), part)
    with pd.read_stata(tmp_path / "out.dta", iterator=True, convert_categoricals=False) as out:
        assert out.value_labels() == labels
        assert out.variable_labels()["sex"] == "Sex"
        assert read_table(str(tmp_path / "out.dta"))["sex"].tolist() == [2, 9, 2]


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    long = table().rename(columns={"price": "a name of more than thirty-two letters"})
    with pytest.raises(StoreError, match="Stata's names have at most 32"):
        write_table(long, str(tmp_path / "t.dta"))
    with pytest.raises(StoreError, match="which Stata cannot hold exactly"):
        write_table(table().assign(count=2**60), str(tmp_path / "t.dta"))
    with pytest.raises(StoreError, match="this table has no coordinates"):
        write_table(pd.DataFrame({"a": [1]}), str(tmp_path / "t.gpkg"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".dta", ".gpkg", ".shp", ".jsonl", ".xlsx"])
def test_a_file_cut_short_is_one_error_that_names_it(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    FORMS[path.name](path)
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    with pytest.raises(PointsError, match=r"cannot read the table .*t\."):
        read_table(str(path))
    with (
        pytest.raises(PointsError, match=r"cannot read the table .*t\."),
        read_parts(str(path), None, 9) as parts,
    ):
        list(parts)


def test_of_several_sheets_the_one_that_is_read_is_said(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        table().to_excel(book, sheet_name="now", index=False)
        table()[:3].to_excel(book, sheet_name="then", index=False)
    with pytest.warns(PointsWarning, match="sheet 'now' is read, the first of 2"):
        assert len(read_table(str(tmp_path / "t.xlsx"))) == ROWS


def test_lines_of_features_are_geojson(tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": [1.5, 2.5]}
    feature = json.dumps({"type": "Feature", "properties": {"n": 1}, "geometry": point})
    (tmp_path / "t.geojsonl").write_text(f"\x1e{feature}\n\n{feature}\n")
    assert read_points(tmp_path / "t.geojsonl").lonlat.tolist() == [[1.5, 2.5]] * 2
    for text, said in (('{"a": 1}\n[2]\n', "line 2 holds no object"), ("\n", "it is empty")):
        (tmp_path / "t.jsonl").write_text(text)
        with pytest.raises(PointsError, match=said):
            read_table(str(tmp_path / "t.jsonl"))
    assert not is_table_name("t.geojson")


@given(st.floats(-180, 180), st.floats(-90, 90), st.sampled_from([", ", ",", "; ", " "]))
def test_a_position_as_text_says_its_coordinates(lon: float, lat: float, between: str) -> None:
    lon, lat = round(lon, 6) + 0.0, round(lat, 6) + 0.0
    pair = f"{lat:.6f}{between}{lon:.6f}"
    sides = f"{abs(lat):.6f}° {'NS'[lat < 0]}{between}{abs(lon):.6f}° {'EW'[lon < 0]}"
    for text in (pair, f"({pair})", f"POINT ({lon:.6f} {lat:.6f})", sides):
        assert parse_positions([text], "Coordinates", str).tolist() == [[lon, lat]]
    if between in ("; ", " "):
        assert parse_positions([pair.replace(".", ",")], "latlon", str).tolist() == [[lon, lat]]


@pytest.mark.parametrize(
    "text",
    [
        "39°30'36\"N 105°12'0\"W",
        "39° 30' 36\" N, 105° 12' 0\" W",
        "39° 30′ 36″ N 105° 12′ 0″ W",
        "39° 30.6' N; 105° 12' W",
        "39°30'36'' -105°12'",
        "+39°30'36\"/-105°12'00.0\"",
    ],
)
def test_minutes_and_seconds_are_parts_of_degrees(text: str) -> None:
    ((lon, lat),) = parse_positions([text], "gps", str)
    assert (lon, lat) == pytest.approx((-105.2, 39.51), abs=1e-12)


def test_positions_that_are_none_say_what_to_do() -> None:
    cases = [
        (["39°61'N 105°W"], "gps", "it has 61 minutes"),
        (["39, -105", "12 Main St"], "location", "row 1 .*is '12 Main St': .*a geocoder"),
        (["-105.2, 39"], "coords", "its latitude, -105.2, is beyond 90 degrees; rename"),
        (["SRID=5070;POINT (1 2)"], "geom", "it is in EPSG:5070"),
        (["39 N, 38 S"], "gps", "one of N and S goes with one of E and W"),
    ]
    for values, name, said in cases:
        with pytest.raises(PointsError, match=said):
            read_points(pd.DataFrame({name: values}))
    missing = read_points(pa.table({"wkt": ["POINT EMPTY", None, ""]}), missing="keep")
    assert not missing.has_position.any()
    with pytest.raises(PointsError, match="'GEOID' can be joined by its keys"):
        read_points(pd.DataFrame({"GEOID": ["01001"]}))
    with pytest.raises(PointsError, match="'Street address', become coordinates by a geocoder"):
        read_points(pd.DataFrame({"Street address": ["1 Main St"]}))


def test_zonal_keeps_the_shapes_in_a_geopackage(gulf: Path, tmp_path: Path) -> None:
    shapes = geopandas.GeoDataFrame(
        {"name": ["a", "b"]},
        geometry=[shapely.box(-8, -9, 6, 7), shapely.box(0, 0, 3, 3)],
        crs=4326,
    )
    shapes.to_file(tmp_path / "in.geojson")
    done("zonal", gulf, tmp_path / "in.geojson", "-o", tmp_path / "out.gpkg")
    found = geopandas.read_file(tmp_path / "out.gpkg")
    assert found.to_crs(4326).geometry.geom_equals(shapes.geometry).all()
    assert found["name"].tolist() == ["a", "b"]
    assert found["ug_aerial_status"].tolist()[0] == "valid"
