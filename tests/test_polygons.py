import json
import sys
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from unigeo.client.areas.polygons import read_polygons
from unigeo.client.shapes.polygon_rings import Polygons
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.regions import region

SQUARE = shapely.box(1, 2, 5, 7)
RING = shapely.box(-10, -10, 0, 0).difference(shapely.box(-6, -6, -4, -4))
PAIR = shapely.MultiPolygon([shapely.box(10, 0, 12, 2), shapely.box(14, 0, 15, 1)])
SHAPES = [SQUARE, RING, PAIR]


def forms(folder: Path) -> dict[str, Any]:
    frame = geopandas.GeoDataFrame({"name": list("abc")}, geometry=SHAPES, crs="EPSG:4326")
    collection = json.loads(frame.to_json())
    path = folder / "shapes.geojson"
    path.write_text(json.dumps(collection))
    frame.to_parquet(folder / "shapes.parquet")
    return {
        "frame": frame,
        "series": frame.geometry,
        "table": pd.DataFrame({"geometry": SHAPES}),
        "column": pd.Series(SHAPES),
        "list": SHAPES,
        "array": np.array(SHAPES),
        "geojson": collection,
        "geojson path": path,
        "text path": str(path),
        "parquet": folder / "shapes.parquet",
        "mixed list": [(1.0, 2.0, 5.0, 7.0), shapely.geometry.mapping(RING), PAIR],
    }


def areas(polygons: Polygons) -> np.ndarray:
    """Area of each row in square degrees."""
    rings = shapely.linearrings(
        polygons.lonlat, indices=np.repeat(np.arange(len(polygons.row)), np.diff(polygons.first))
    )
    area = shapely.area(shapely.polygons(rings)) * np.where(polygons.hole, -1, 1)
    return np.bincount(polygons.row, area, minlength=len(polygons))


@pytest.mark.parametrize(
    "form",
    [
        "frame", "series", "table", "column", "list", "array", "geojson", "geojson path",
        "text path", "parquet", "mixed list",
    ],
)  # fmt: skip
def test_every_form_gives_the_same_polygons(tmp_path: Path, form: str) -> None:
    polygons = read_polygons(forms(tmp_path)[form])
    assert len(polygons) == 3
    np.testing.assert_allclose(areas(polygons), [shape.area for shape in SHAPES])
    assert polygons.hole.tolist() == [False, False, True, False, False]
    assert polygons.row.tolist() == [0, 1, 1, 2, 2]
    assert read_polygons(polygons) is polygons


def test_labels_are_kept() -> None:
    index = pd.Index(["x", "x", "y"], name="place")
    frame = geopandas.GeoDataFrame(geometry=SHAPES, index=index, crs="EPSG:4326")
    pd.testing.assert_index_equal(read_polygons(frame).index, index)
    pd.testing.assert_index_equal(read_polygons(frame.geometry).index, index)
    assert read_polygons("conus").index.tolist() == ["conus"]
    features = [{"type": "Feature", "id": k, "geometry": SQUARE.__geo_interface__} for k in "pq"]
    collection = {"type": "FeatureCollection", "features": features}
    assert read_polygons(collection).index.tolist() == ["p", "q"]


def test_one_box_or_shape_or_region_is_one_polygon() -> None:
    for one in ((1.0, 2.0, 5.0, 7.0), [1, 2, 5, 7], np.array([1.0, 2, 5, 7]), SQUARE):
        polygons = read_polygons(one)
        assert areas(polygons) == pytest.approx([20.0])
    produced = read_polygons(region("manhattan"))
    assert np.array_equal(produced.lonlat, read_polygons("Manhattan").lonlat)


def test_nothing_gives_no_polygon() -> None:
    for nothing in ([], geopandas.GeoSeries([], crs="EPSG:4326"), pd.DataFrame({"geometry": []})):
        polygons = read_polygons(nothing)
        assert (len(polygons), polygons.lonlat.shape) == (0, (0, 2))


@pytest.mark.parametrize("crs", ["EPSG:5070", "EPSG:3857", "EPSG:8858", "EPSG:4269"])
def test_another_crs_gives_the_same_polygons(crs: str) -> None:
    boxes = [shapely.box(-100, 30, -90, 40), shapely.box(-99, 31, -91, 39)]
    frame = geopandas.GeoDataFrame(geometry=shapely.segmentize(boxes, 0.05), crs="EPSG:4326")
    polygons = read_polygons(frame.to_crs(crs))
    assert areas(polygons) == pytest.approx([100.0, 64.0], rel=1e-5)
    with pytest.raises(RegionError, match=r"carry the CRS .* and EPSG:2163 was named"):
        read_polygons(frame.to_crs(crs), "EPSG:2163")
    bare = pd.DataFrame({"geometry": frame.to_crs(crs).geometry.values})
    assert areas(read_polygons(bare, crs)) == pytest.approx([100.0, 64.0], rel=1e-5)


def test_a_straight_edge_of_another_crs_is_kept_straight_there() -> None:
    west, south, east, north = -2_000_000, 500_000, 2_000_000, 2_500_000
    box = geopandas.GeoSeries([shapely.box(west, south, east, north)], crs="EPSG:5070")
    lonlat = read_polygons(box).lonlat
    back = geopandas.GeoSeries(shapely.points(lonlat), crs="EPSG:4326").to_crs("EPSG:5070")
    assert (back.distance(box.iloc[0].boundary) < 1e-3).all()
    assert len(lonlat) > 500


def test_a_ring_of_another_crs_may_cross_the_antimeridian() -> None:
    fiji = geopandas.GeoSeries([shapely.box(2.7e6, -2.4e6, 3.3e6, -1.8e6)], crs="EPSG:8859")
    lonlat = read_polygons(fiji).lonlat
    assert np.abs(np.diff(lonlat[:, 0])).max() < 0.2
    assert lonlat[:, 0].min() < -180 < lonlat[:, 0].max()
    pole = geopandas.GeoSeries([shapely.box(-1e6, -1e6, 1e6, 1e6)], crs="EPSG:3031")
    with pytest.raises(RegionError, match=r"row 0 .*runs round a pole"):
        read_polygons(pole)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([SQUARE, shapely.Point(0, 0)], r"1 of 2 .*row 1 \(label 1\), is a Point"),
        ([SQUARE, "POLYGON EMPTY"], r"row 1 \(label 1\): there is no region .*from_wkt"),
        ([shapely.box(0, 0, 1, np.inf)], "row 0 .*NaN or infinite"),
        ([SQUARE, shapely.box(500_000, 0, 600_000, 9000)], "row 1 .*beyond 90 degrees; name its"),
    ],
)
def test_a_bad_polygon_is_named(bad: list[Any], said: str) -> None:
    with pytest.raises(RegionError, match=said):
        read_polygons(pd.Series(bad))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), "not valid .*Self-intersection"),
        ("atlantis", "atlantis is neither a file nor the name of a region"),
        (3.5, "cannot read polygons from a float"),
        ((5, 7, 1), "cannot read polygons from 3 numbers: a box is four"),
        ([(0, 0, 1, 1), (0, 5, 1, 4)], r"row 1 \(label 1\): the bounding box"),
        ([(0, 0, 1, 1), "nowhere"], r"row 1 \(label 1\): there is no region 'nowhere'"),
        ({"type": "FeatureCollection", "features": [{}]}, "polygon in row 0"),
    ],
)
def test_what_is_no_polygon_is_refused(bad: Any, said: str) -> None:
    with pytest.raises(RegionError, match=said):
        read_polygons(bad)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    for name in ("broken.geojson", "broken.parquet"):
        (tmp_path / name).write_text("{")
        with pytest.raises(RegionError, match="cannot read"):
            read_polygons(tmp_path / name)


def test_geojson_boxes_and_names_need_no_shapely(monkeypatch: pytest.MonkeyPatch) -> None:
    document = shapely.geometry.mapping(RING)
    for name in ("shapely", "geopandas"):
        monkeypatch.setitem(sys.modules, name, None)
    assert len(read_polygons([document, (0, 0, 1, 1), "conus"])) == 3
    with pytest.raises(ImportError, match=r"unigeo\[geo\]"):
        read_polygons(Path(__file__))
