import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from unigeo.schemas.errors import PointsError
from unigeo.schemas.points import read_points

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


def test_one_place_is_a_point() -> None:
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
        ([(0, 0), (np.nan, 1)], "row 1"),
        ([(0, 0), (1, np.inf)], "infinite, the first in row 1"),
        ([(42.36, -71.06), (34.05, -118.24)], "swapped"),
        ([(500000, 4000000)], "Name the CRS"),
        ([(400, 10)], "beyond 360"),
        ([(1, 2, 3)], "shape"),
        ("nowhere.geojson", "cannot read GeoJSON"),
        ({"type": "Polygon", "coordinates": []}, "Point or MultiPoint"),
        (object(), "cannot read points"),
        (pd.DataFrame({"a": [1]}), "no longitude column"),
        (pd.DataFrame({"lon": ["x"], "lat": [1]}), "must hold numbers"),
    ],
)
def test_what_is_no_place_is_refused_with_its_row(points: object, said: str) -> None:
    with pytest.raises(PointsError, match=said):
        read_points(points)


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
