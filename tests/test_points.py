import datetime
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import shapely
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from unigeo.schemas.errors import PointsError
from unigeo.schemas.tables.points import read_points

LONLAT = np.array([[-71.06, 42.36], [-118.24, 34.05]])


def forms(tmp_path: Path) -> dict[str, object]:
    table = pd.DataFrame({"name": ["a", "b"], "Longitude": LONLAT[:, 0], "LAT": LONLAT[:, 1]})
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": p}}
        for p in LONLAT.tolist()
    ]
    collection = {"type": "FeatureCollection", "features": features}
    path = tmp_path / "points.geojson"
    path.write_text(json.dumps(collection))
    frame = geopandas.GeoDataFrame(
        table[["name"]], geometry=geopandas.points_from_xy(*LONLAT.T), crs="EPSG:4326"
    )
    return {
        "numpy": LONLAT,
        "list": [tuple(p) for p in LONLAT],
        "pandas": table,
        "geopandas": frame,
        "projected": frame.to_crs("EPSG:5070"),
        "series": frame.geometry,
        "geojson": collection,
        "multipoint": {"type": "MultiPoint", "coordinates": LONLAT.tolist()},
        "path": path,
        "arrow": pa.table({"lon": LONLAT[:, 0], "lat": LONLAT[:, 1]}),
        "xarray": xr.Dataset(coords={"lon": ("p", LONLAT[:, 0]), "lat": ("p", LONLAT[:, 1])}),
    }


@pytest.mark.parametrize(
    "form",
    ["numpy", "list", "pandas", "geopandas", "projected", "series", "geojson", "multipoint",
     "path", "arrow", "xarray"],
)  # fmt: skip
def test_every_accepted_form_is_read_alike(form: str, tmp_path: Path) -> None:
    read = read_points(forms(tmp_path)[form])
    assert np.allclose(read.lonlat, LONLAT, atol=1e-9)
    assert read.lonlat.dtype == np.float64


def test_a_pair_of_numbers_is_one_point() -> None:
    assert read_points((-71.06, 42.36)).lonlat.shape == (1, 2)
    assert read_points([]).lonlat.shape == (0, 2)


@given(st.lists(st.tuples(st.floats(-120, -70), st.floats(25, 49)), min_size=1, max_size=5))
def test_a_named_crs_is_projected_as_pyproj_does(points: list[tuple[float, float]]) -> None:
    lonlat = np.array(points)
    to_albers = Transformer.from_crs("OGC:CRS84", "EPSG:5070", always_xy=True)
    xy = np.stack(to_albers.transform(*lonlat.T), -1)
    assert np.allclose(read_points(xy, crs="EPSG:5070").lonlat, lonlat, atol=1e-8)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([(0, 0), (np.nan, 1)], r"1 of 2 points have no position .*, the first in row 1"),
        ([(0, 0), (1, np.inf)], "infinite, the first in row 1"),
        ([(0, 0), (np.nan, -np.inf)], "infinite, the first in row 1"),
        ([(42.36, -71.06), (34.05, -118.24)], "swapped"),
        ([(500000, 4000000)], "Name the CRS"),
        ([(400, 10)], "beyond 360"),
        ([(1, 2, 3)], "shape"),
        (None, "cannot read points from a NoneType"),
        (object(), "cannot read points from a object"),
        ("nowhere.geojson", "cannot read points from nowhere.geojson"),
        ("homes.csv", "cannot read the table homes.csv as csv: .*No such file"),
        ("homes.parquet", "cannot read the table homes.parquet as parquet"),
        ("homes.nc", "open it by xarray.open_dataset"),
        ("Denver", "Text names a file; a place is"),
        ("{" + "x" * 5000, "cannot read GeoJSON points from the text"),
        ({"type": "Polygon", "coordinates": []}, "Point or MultiPoint"),
        (pd.DataFrame({"a": [1]}), "no longitude column"),
        (pd.DataFrame({"lon": ["x"], "lat": [1]}), "longitude column 'lon' .* row 0 holds 'x'"),
        (pd.DataFrame({"lon": [1], "lat": ["39,74"]}), "row 0 holds '39,74', with a decimal comma"),
        (pd.DataFrame({"lon": [1.0, 2], "lat": ["1,5", "2"]}), "latitude column .* holds '1,5'"),
        ({"lon": [1.0, 2], "lat": [1.0]}, "must be alike"),
        (np.array([[1 + 2j, 3]]), "not complex numbers"),
        (np.array([[True, False]]), "not True and False"),
        (pd.DataFrame({"lon": [True, None], "lat": [1, 2]}), "row 0 holds True"),
        (pd.DataFrame({"lon": pd.date_range("2026", periods=2), "lat": [1, 2]}), "not dates"),
        (pa.table({"lon": [1.0], "lat": [datetime.date(2026, 1, 1)]}), "not dates"),
        (pl.DataFrame({"lon": [1 + 0.5], "lat": [datetime.date(2026, 1, 1)]}), "not dates"),
    ],
)
def test_what_is_no_point_is_refused_with_its_row(points: object, said: str) -> None:
    with pytest.raises(PointsError, match=said) as refused:
        read_points(points)
    assert len(str(refused.value)) < 600


def test_columns_and_crs_that_are_not_there_are_refused() -> None:
    table = pd.DataFrame({"easting": [1.0], "northing": [2.0]})
    with pytest.raises(PointsError, match="no column 'x'"):
        read_points(table, columns=("x", "northing"))
    assert read_points(table, columns=("easting", "northing")).lonlat.tolist() == [[1.0, 2.0]]
    with pytest.raises(PointsError, match="not a CRS"):
        read_points([(1, 2)], crs="EPSG:0")
    frame = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([1], [2]), crs="EPSG:4326")
    with pytest.raises(PointsError, match="leave out one"):
        read_points(frame, crs="EPSG:5070")
    boxes = geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326")
    with pytest.raises(PointsError, match="must all be points"):
        read_points(boxes)


def test_the_index_is_kept() -> None:
    table = pd.DataFrame({"lon": [1.0, 2], "lat": [3.0, 4]}, index=["p", "q"])
    assert list(read_points(table).index) == ["p", "q"]


def feature(geometry: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {}, "geometry": geometry}


def point(*coordinates: float) -> dict[str, Any]:
    return {"type": "Point", "coordinates": list(coordinates)}


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)} | members


def of_masked(xy: np.ndarray) -> Any:
    mask = np.isnan(xy)
    return np.ma.array(np.where(mask, 7.0, xy), mask=mask)


def of_geometries(xy: np.ndarray) -> Any:
    """Alternately missing and empty where there is no position."""
    shapes = [
        [None, shapely.Point()][k % 2] if np.isnan(row).any() else shapely.Point(row)
        for k, row in enumerate(xy)
    ]
    return geopandas.GeoDataFrame({"n": range(len(xy))}, geometry=shapes, crs=4326)


def of_geojson(xy: np.ndarray) -> Any:
    shapes = [
        [None, point()][k % 2] if np.isnan(row).any() else point(*row)
        for k, row in enumerate(xy.tolist())
    ]
    return collection(*map(feature, shapes))


def nullable(xy: np.ndarray) -> dict[str, list[float | None]]:
    return {
        name: [None if np.isnan(one) else float(one) for one in column]
        for name, column in zip(("lon", "lat"), xy.T, strict=True)
    }


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": lambda xy: xy,
    "masked": of_masked,
    "masked rows": lambda xy: list(of_masked(xy)),
    "list": lambda xy: [None if np.isnan(row).any() else tuple(row) for row in xy],
    "objects": lambda xy: [[None if np.isnan(one) else one for one in row] for row in xy],
    "pandas": lambda xy: pd.DataFrame(xy, columns=["lon", "lat"]),
    "nullable": lambda xy: pd.DataFrame(nullable(xy)).astype("Float64"),
    "pandas objects": lambda xy: pd.DataFrame(nullable(xy), dtype=object),
    "decimals": lambda xy: pd.DataFrame(
        {k: [None if v is None else Decimal(v) for v in vs] for k, vs in nullable(xy).items()},
        dtype=object,
    ),
    "text": lambda xy: pd.DataFrame(
        {k: ["" if v is None else repr(v) for v in vs] for k, vs in nullable(xy).items()}
    ),
    "mapping": nullable,
    "polars": lambda xy: pl.DataFrame(nullable(xy), schema={"lon": float, "lat": float}),
    "arrow": lambda xy: pa.table({k: pa.array(v, pa.float64()) for k, v in nullable(xy).items()}),
    "geopandas": of_geometries,
    "projected": lambda xy: of_geometries(xy).to_crs(5070),
    "series": lambda xy: of_geometries(xy).geometry,
    "geometries": lambda xy: of_geometries(xy).geometry.array,
    "geojson": of_geojson,
    "geojson text": lambda xy: json.dumps(of_geojson(xy)),
    "geojson of another CRS": lambda xy: json.loads(of_geometries(xy).to_crs(5070).to_json()),
    "xarray": lambda xy: xr.Dataset(coords={"lon": ("p", xy[:, 0]), "lat": ("p", xy[:, 1])}),
}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([(-71.06, 42.36), (-118.24, 34.05), (-90, 30), None]), min_size=1))
@pytest.mark.parametrize("form", FORMS)
def test_rows_without_a_position_are_alike_in_every_form(
    form: str, rows: list[tuple[float, float] | None]
) -> None:
    xy = np.array([(np.nan, np.nan) if row is None else row for row in rows], float)
    made = FORMS[form](xy)
    read = read_points(made, missing="keep")
    assert np.allclose(read.lonlat, xy, atol=1e-8, equal_nan=True)
    assert np.array_equal(np.isnan(read.lonlat[:, 0]), np.isnan(read.lonlat[:, 1]))
    assert np.array_equal(read.has_position, [row is not None for row in rows])
    if None in rows:
        with pytest.raises(PointsError, match=f"{rows.count(None)} of {len(rows)} points have no "
            f"position .* row {rows.index(None)}"):  # fmt: skip
            read_points(made)


def test_a_pair_is_a_point_and_a_list_of_none_is_rows() -> None:
    for points, count in (
        ((-105, 40), 1), ([-105, 40], 1), ((None, 40), 1), ((None, None), 1),
        ([None], 1), ([None, None], 2), ([None, (1, 2)], 2), ([np.ma.masked, 2.0], 1),
    ):  # fmt: skip
        assert len(read_points(points, missing="keep")) == count
    for points in ([1.0], [1.0, 2.0, 3.0], [1.0, None, 3.0]):
        with pytest.raises(PointsError):
            read_points(points)


def test_one_coordinate_that_is_missing_leaves_no_position() -> None:
    read = read_points([(1.0, np.nan), (np.nan, 2.0), (1.0, 2.0)], missing="keep")
    assert np.isnan(read.lonlat[:2]).all()
    read = read_points(of_masked(np.array([[1.0, np.nan], [3, 4]])), crs=5070, missing="keep")
    assert read.has_position.tolist() == [False, True]


def test_the_numbers_of_another_crs_stay_with_the_points() -> None:
    xy = np.array([[500_000.0, 4_000_000.0], [1e6, 3e6]])
    read = read_points(xy, crs=8858)
    assert read.xy is not None
    for kept in (read, read_points(xy, crs="EPSG:8858"), read_points(read)):
        assert np.array_equal(np.stack(kept.metres("EPSG:8858"), -1), xy)
    assert np.allclose(np.stack(read_points(read.lonlat).metres("EPSG:8858"), -1), xy, atol=1e-6)
    assert read_points(LONLAT, crs="EPSG:4326").xy is None
    part = read.take(slice(1, 2))
    assert len(part) == 1
    assert np.array_equal(np.stack(part.metres("EPSG:8858"), -1), xy[1:])


@pytest.mark.parametrize("name", ["crs", "coords", "dims", "geometry", "x", "type", "index"])
def test_a_table_is_recognized_by_its_type_and_not_by_its_columns(name: str) -> None:
    columns = {"lon": [1.0, 2.0], "lat": [3.0, 4.0], name: ["EPSG:5070", "POINT (1 3)"]}
    others = {"crs": ["a", "b"], "geometry": ["c", "d"], "coords": ["e", "f"], "dims": ["g", "h"]}
    for make in (pd.DataFrame, pl.DataFrame, pa.table, dict):
        for table in (make(columns), make(others | columns)):
            assert read_points(table).lonlat.tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_a_geodataframe_without_an_active_geometry_is_a_table() -> None:
    frame = geopandas.GeoDataFrame({"lon": [1.0], "lat": [2.0]})
    assert read_points(frame).lonlat.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["lat", "lon", "lat"], "2 columns may be meant: 'lat', 'lat'. Rename or drop all but one"),
        (["Lon", "lat", "lon"], "'Lon', 'lon'.*, or name both with columns="),
        (["lon", "y"], "no pair of coordinate columns among lon, y"),
        (["x", "lat"], "no pair of coordinate columns among x, lat"),
        ([], "no longitude column among none"),
    ],
)
def test_columns_that_may_be_meant_twice_are_named(names: list[str], said: str) -> None:
    with pytest.raises(PointsError, match=said):
        read_points(pd.DataFrame([range(len(names))], columns=names))


def test_the_more_telling_of_two_names_is_taken() -> None:
    def read(names: list[str], **options: Any) -> list[float]:
        table = pd.DataFrame([range(len(names))], columns=names)
        return read_points(table, **options).lonlat[0].tolist()

    assert read(["longitude", "lat", "lon"]) == [2, 1]
    assert read(["x", "y", "lon", "lat"]) == [2, 3]
    assert read(["x", "y", "lon"]) == [0, 1]
    assert read(["Lon", "lat", "lon"], columns=("lon", "lat")) == [2, 1]
    with pytest.raises(PointsError, match="2 columns may be meant: 'lat', 'lat'"):
        read(["lon", "lat", "lat"], columns=("lon", "lat"))
    with pytest.raises(PointsError, match="names two columns, longitude first"):
        read(["lon", "lat"], columns=("lat", "lat"))


def test_a_row_of_a_table_is_read_by_its_names() -> None:
    table = pd.DataFrame({"lat": [42.0, 34.0], "lon": [-71.0, -118.0]})
    assert read_points(table.iloc[1]).lonlat.tolist() == [[-118.0, 34.0]]
    assert read_points({"lat": 40, "lon": -105}).lonlat.tolist() == [[-105.0, 40.0]]
    assert read_points(pd.Series([-105.0, 40.0])).lonlat.tolist() == [[-105.0, 40.0]]


def test_shapes_of_shapely_are_points() -> None:
    assert read_points(shapely.Point(-105, 40)).lonlat.tolist() == [[-105.0, 40.0]]
    assert len(read_points(shapely.MultiPoint([(1, 2), (3, 4)]))) == 2
    with pytest.raises(PointsError, match="found 'Polygon'"):
        read_points(shapely.box(0, 0, 1, 1))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (collection(feature({"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]})),
         "feature 0 is a MultiPoint; a feature is one row"),
        (collection(feature(point(1, 2)), feature({"type": "Polygon", "coordinates": []})),
         "feature 1 is a Polygon"),
        (feature({"type": "MultiPoint", "coordinates": [[1, 2]]}), "the feature is a MultiPoint"),
        ({"type": "GeometryCollection", "geometries": [point(1, 2)]}, "found 'GeometryCollection'"),
        (collection({"type": "Feature"}), "feature 0 has no member 'geometry'"),
        (collection("x"), "feature 0 has no member"),
        (collection(feature("x")), "geometry of feature 0 is 'x'"),
        (collection(feature({"type": "Point"})), "coordinates of feature 0 are None"),
        (collection(feature(point(1))), r"coordinates of feature 0 are \[1\]"),
        (collection(feature({"type": "Point", "coordinates": ["a", "b"]})), "row 0 holds 'a'"),
        ({"type": "FeatureCollection"}, "no list of features"),
        ({"type": "MultiPoint"}, "no list of coordinates"),
        (collection(crs={"type": "link", "properties": {}}), "crs member names no CRS"),
        (collection(feature(point(1, 2)) | {"crs": {"type": "name",
          "properties": {"name": "EPSG:5070"}}}), "feature 0 names a CRS of its own, EPSG:5070"),
    ],
)  # fmt: skip
def test_geojson_that_is_no_points_is_refused_by_feature(document: Any, said: str) -> None:
    with pytest.raises(PointsError, match=said):
        read_points(document)


def test_geojson_may_hold_arrays() -> None:
    assert np.array_equal(read_points({"type": "MultiPoint", "coordinates": LONLAT}).lonlat, LONLAT)
    one = feature({"type": "Point", "coordinates": np.array([1.0, 2.0, 3.0])})
    assert read_points(one).lonlat.tolist() == [[1.0, 2.0]]


def test_the_crs_member_of_geojson_is_obeyed(tmp_path: Path) -> None:
    frame = of_geometries(LONLAT).to_crs(5070)
    text = frame.to_json()
    path = tmp_path / "p.geojson"
    path.write_text(text)
    member = json.loads(text)["crs"]
    xy = np.stack([frame.geometry.x, frame.geometry.y], -1).tolist()
    for document in (
        text,
        json.loads(text),
        path,
        {"type": "MultiPoint", "coordinates": xy, "crs": member},
    ):
        assert np.allclose(read_points(document).lonlat, LONLAT, atol=1e-8)
        assert np.allclose(read_points(document, crs=5070).lonlat, LONLAT, atol=1e-8)
        with pytest.raises(PointsError, match="and EPSG:3857 was named; leave out one"):
            read_points(document, crs="EPSG:3857")
    for one in (feature(point(*xy[0])) | {"crs": member}, point(*xy[0]) | {"crs": member}):
        assert np.allclose(read_points(one).lonlat, LONLAT[:1], atol=1e-8)


def test_an_xarray_grid_is_no_list_of_points() -> None:
    lon, lat = np.linspace(-110, -90, 5), np.linspace(35, 45, 5)
    for width in (1, 4, 5):
        grid = xr.DataArray(
            np.zeros((5, width)), dims=("lat", "lon"), coords={"lat": lat, "lon": lon[:width]}
        )
        with pytest.raises(PointsError, match=r"stacked .* \.stack\(point=\('lat', 'lon'\)\)"):
            read_points(grid)
        stacked = read_points(grid.stack(point=("lat", "lon")))
        expected = [(x, y) for y in lat for x in lon[:width]]
        assert np.allclose(stacked.lonlat, expected)


def test_xarray_coordinates_are_matched_by_the_names_of_their_dimensions() -> None:
    lon, lat = np.meshgrid(np.linspace(-110, -90, 5), np.linspace(35, 45, 4))
    swath = xr.Dataset(coords={"lon": (("r", "c"), lon), "lat": (("c", "r"), lat.T)})
    assert np.array_equal(read_points(swath).lonlat, np.stack([lon.ravel(), lat.ravel()], -1))
    line = xr.Dataset(coords={"lon": ("p", [1.0, 2.0]), "lat": 40.0})
    assert read_points(line).lonlat.tolist() == [[1.0, 40.0], [2.0, 40.0]]
    rows = xr.Dataset(coords={"lon": (("r", "c"), lon), "lat": ("r", lat[:, 0])})
    assert np.array_equal(read_points(rows).lonlat, np.stack([lon.ravel(), lat.ravel()], -1))
    one = xr.DataArray(0.0, coords={"lon": 1.0, "lat": 2.0})
    assert read_points(one).lonlat.tolist() == [[1.0, 2.0]]


def test_the_crs_of_an_xarray_object_is_obeyed() -> None:
    to_albers = Transformer.from_crs("OGC:CRS84", "EPSG:5070", always_xy=True)
    x, y = to_albers.transform(*LONLAT.T)
    albers = xr.DataArray(0, attrs={"crs_wkt": CRS(5070).to_wkt()})
    for name in ("spatial_ref", "albers"):
        data = xr.Dataset(
            {"t": ("p", [1.0, 2.0], {"grid_mapping": name})},
            coords={"x": ("p", x), "y": ("p", y), name: albers},
        )
        assert np.allclose(read_points(data).lonlat, LONLAT, atol=1e-8)
        beside = data.assign_coords(lon=("p", LONLAT[:, 0]), lat=("p", LONLAT[:, 1]))
        assert np.array_equal(read_points(beside).lonlat, LONLAT)
    with pytest.raises(PointsError, match="Name the CRS"):
        read_points(data.drop_vars(name))
