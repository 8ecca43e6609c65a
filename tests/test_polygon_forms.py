"""Polygons in every form are held to the same checks, and answer alike."""

import json
import warnings
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unigeo import client
from unigeo.client.areas.polygons import read_polygons
from unigeo.schemas.errors import RegionError

SQUARE = shapely.box(1, 2, 5, 7)
BOW = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
FORMS = (
    "shapes", "array", "frame", "series", "geometries", "table", "dictionaries", "geojson", "file",
    "text path", "features", "interfaces",
)  # fmt: skip


class Interface:
    """What gives itself as GeoJSON."""

    def __init__(self, shape: shapely.Geometry) -> None:
        self.shape = shape

    @property
    def __geo_interface__(self) -> Any:
        return shapely.geometry.mapping(self.shape)


def broken(number: float) -> shapely.Polygon:
    """A triangle of which one coordinate is no number."""
    with np.errstate(invalid="ignore"):
        return shapely.Polygon([(0, 0), (number, 1), (1, 1)])


def form_of(form: str, shapes: list[Any], folder: Path, crs: Any = None) -> Any:
    """The same shapes in another form; where a form can, it carries the CRS."""
    geometries = [None if s is None else shapely.geometry.mapping(s) for s in shapes]
    features = [{"type": "Feature", "properties": {}, "geometry": g} for g in geometries]
    collection: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs is not None:
        name = f"urn:ogc:def:crs:EPSG::{crs}"
        collection["crs"] = {"type": "name", "properties": {"name": name}}
    path = folder / "shapes.geojson"
    path.write_text(json.dumps(collection))
    series = geopandas.GeoSeries(shapes, crs=crs)
    forms = {
        "shapes": shapes,
        "array": np.array([*shapes, None], object)[:-1],
        "frame": geopandas.GeoDataFrame({"crs": range(len(shapes))}, geometry=series),
        "series": series,
        "geometries": series.values,
        "table": pd.DataFrame({"geometry": pd.Series(shapes, dtype=object), "crs": "a", "wkb": 1}),
        "dictionaries": geometries,
        "geojson": collection,
        "file": path,
        "text path": str(path),
        "features": features,
        "interfaces": [None if s is None else Interface(s) for s in shapes],
    }
    return forms[form]


@pytest.mark.parametrize("form", FORMS)
def test_a_row_without_a_shape_is_kept(tmp_path: Path, form: str) -> None:
    shapes = [SQUARE, None, shapely.Polygon(), shapely.MultiPolygon(), SQUARE]
    polygons = read_polygons(form_of(form, shapes, tmp_path))
    assert polygons.missing.tolist() == [False, True, True, True, False]
    assert polygons.row.tolist() == [0, 4]
    alone = read_polygons(form_of(form, [None], tmp_path))
    assert alone.missing.tolist() == [True]


@pytest.mark.parametrize("none", [None, np.nan, pd.NA, pd.NaT, float("nan"), np.ma.masked])
def test_what_stands_for_no_shape(none: Any) -> None:
    for form in ([SQUARE, none], [(0, 0, 1, 1), none], pd.Series([none, SQUARE], dtype=object)):
        assert read_polygons(form).missing.sum() == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (BOW, "is not valid .*make_valid"),
        (shapely.Polygon(SQUARE.exterior, [BOW.exterior]), "is not valid"),
        (shapely.Polygon(SQUARE.exterior, [shapely.box(8, 8, 9, 9).exterior]), "is not valid"),
        (shapely.MultiPolygon([SQUARE, shapely.box(2, 3, 8, 9)]), "is not valid"),
        (shapely.MultiPolygon([SQUARE, shapely.box(5, 2, 8, 9)]), "is not valid"),
        (shapely.Polygon([(1, 1)] * 4), "is not valid"),
        (shapely.Point(1, 2), "Point"),
        (shapely.LineString([(0, 0), (1, 1)]), "LineString"),
        (shapely.MultiPoint([(0, 0), (1, 1)]), "MultiPoint"),
        (shapely.GeometryCollection([SQUARE, shapely.Point(1, 1)]), "of Point, Polygon"),
        (
            shapely.GeometryCollection([shapely.GeometryCollection([SQUARE])]),
            "of GeometryCollection",
        ),
        (broken(np.nan), "NaN"),
        (broken(np.inf), "infinite"),
        (shapely.box(39, -105, 41, -103), "look swapped"),
        (shapely.box(5e5, 4.1e6, 6e5, 4.2e6), r"name its CRS \(crs=, or --crs\)"),
        (shapely.box(5e5, 10, 6e5, 20), "a longitude beyond .*name its CRS"),
        (shapely.box(-190, 10, 190, 20), "more than 360 degrees"),
    ],
)
def test_a_bad_shape_is_refused_by_its_row(
    tmp_path: Path, form: str, shape: shapely.Geometry, said: str
) -> None:
    with pytest.raises(RegionError, match=f"(?s)row 2 \\(label 2\\).*{said}"):
        read_polygons(form_of(form, [SQUARE, None, shape], tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_a_collection_of_polygons_is_one_of_several_parts(tmp_path: Path, form: str) -> None:
    far = shapely.box(10, 10, 11, 11)
    parts = shapely.GeometryCollection([SQUARE, shapely.MultiPolygon([far])])
    polygons = read_polygons(form_of(form, [parts], tmp_path))
    assert polygons.row.tolist() == [0, 0]
    twice = shapely.GeometryCollection([SQUARE, SQUARE])
    with pytest.raises(RegionError, match="not valid"):
        read_polygons(form_of(form, [twice], tmp_path))


@pytest.mark.parametrize(
    ("coordinates", "said"),
    [
        ([[0, 0], [1, 0], [1, 1], [0, 1]], r"4 or more positions, the last the same.*has 4, from"),
        ([[0, 0], [1, 0], [0, 0]], "has 3"),
        ([[0, 0], [1, 0], [True, 1], [0, 0]], "a bool, not a number"),
        ([[0, 0], [1, 0], ["1", 1], [0, 0]], "a str, not a number"),
        ([[0, 0], [1, 0], [1j, 1], [0, 0]], "a complex, not a number"),
        ([[0, 0], [1, 0], [None, 1], [0, 0]], "a NoneType, not a number"),
        ([[0, 0], [1, 0], [float("nan"), 1], [0, 0]], "NaN or infinite"),
        ([[0, 0], [1, 0], [10**400, 1], [0, 0]], "not valid GeoJSON"),
        ([[0, 0], [1], [1, 1], [0, 0]], "not valid GeoJSON: a position is no two numbers"),
        ([[0, 0], [1, 0], None, [0, 0]], "not valid GeoJSON: a position is no two numbers"),
        ([0, 0, 1, 1], "not valid GeoJSON"),
        ("abcd", "not valid GeoJSON"),
    ],
)
def test_a_malformed_ring_is_refused_by_its_row(coordinates: Any, said: str) -> None:
    good = shapely.geometry.mapping(SQUARE)
    bad = {"type": "Polygon", "coordinates": [coordinates]}
    features = [{"type": "Feature", "id": k, "geometry": g} for k, g in (("p", good), ("q", bad))]
    with pytest.raises(RegionError, match=rf"row 1 \(label 'q'\).*{said}"):
        read_polygons({"type": "FeatureCollection", "features": features})
    with pytest.raises(RegionError, match=rf"row 1 \(label 1\).*{said}"):
        read_polygons([good, bad])


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"type": "Feature"}, "has no geometry"),
        ({"type": "FeatureCollection"}, "no list of features"),
        ({"type": "FeatureCollection", "features": "ab"}, "no list of features"),
        ({"type": "FeatureCollection", "features": [1]}, "found None"),
        ({"type": "Topology"}, "found Topology"),
        ({"west": 1}, "found None"),
        ({"type": "Polygon"}, "not valid GeoJSON"),
        ({"type": "Polygon", "coordinates": None}, "not valid GeoJSON"),
        ({"type": "Polygon", "coordinates": [[], [[0, 0]] * 4]}, "holes and no outer ring"),
        ({"type": "GeometryCollection", "geometries": [1]}, "not valid GeoJSON"),
    ],
)
def test_what_is_no_geojson_of_polygons_is_refused(document: Any, said: str) -> None:
    with pytest.raises(RegionError, match=said):
        read_polygons(document)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_may_lie_in_another_crs(tmp_path: Path, form: str) -> None:
    boxes = geopandas.GeoSeries([shapely.box(-100, 30, -90, 40), shapely.box(-99, 31, -91, 39)])
    there = boxes.set_crs(4326).segmentize(0.5).to_crs(5070)
    shapes = [*there.tolist(), None]
    expected = read_polygons(geopandas.GeoSeries(shapes, crs=5070))
    carried = form in ("frame", "series", "geometries", "geojson", "file", "text path")
    given = form_of(form, shapes, tmp_path, 5070)
    found = read_polygons(given, None if carried else 5070)
    np.testing.assert_allclose(found.lonlat, expected.lonlat)
    assert found.row.tolist() == [0, 1]
    assert found.crs.to_epsg() == 5070
    np.testing.assert_array_equal(read_polygons(given, "EPSG:5070").lonlat, found.lonlat)
    if carried:
        with pytest.raises(RegionError, match=r"carry the CRS NAD83 .* and 3857 was named"):
            read_polygons(given, 3857)
        with pytest.raises(RegionError, match=r"carry the CRS NAD83 .* and OGC:CRS84 was named"):
            read_polygons(given, "OGC:CRS84")
    with pytest.raises(RegionError, match="is not a CRS that PROJ knows"):
        read_polygons(given, "EPSG:banana")
    for crs in (4978, 5703):
        with pytest.raises(RegionError, match=r"cannot lie in .*, a (Geocentric|Vertical) CRS"):
            read_polygons([SQUARE], crs)


def test_the_same_crs_may_be_named_twice(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(geometry=[SQUARE], crs=4326)
    for crs in (4326, "EPSG:4326", "OGC:CRS84", frame.crs):
        assert len(read_polygons(frame, crs)) == 1
        assert len(read_polygons(json.loads(frame.to_json()), crs)) == 1


def test_geojson_with_more_than_one_crs_is_refused(tmp_path: Path) -> None:
    document = form_of("geojson", [SQUARE, SQUARE], tmp_path, 4326)
    other = {"type": "name", "properties": {"name": "EPSG:5070"}}
    document["features"][1]["crs"] = other
    with pytest.raises(RegionError, match="a feature names the CRS EPSG:5070"):
        read_polygons(document)
    link = {"type": "link", "properties": {"href": "a"}}
    with pytest.raises(RegionError, match="names no CRS"):
        read_polygons(document | {"crs": link})


def test_a_box_may_lie_in_another_crs() -> None:
    box = (-1_000_000, 1_500_000, -900_000, 1_600_000)
    expected = read_polygons(geopandas.GeoSeries([shapely.box(*box)], crs=5070)).lonlat
    found = read_polygons(box, 5070).lonlat
    assert found.min(axis=0) == pytest.approx(expected.min(axis=0))
    assert found.max(axis=0) == pytest.approx(expected.max(axis=0))
    with pytest.raises(RegionError, match="west < east"):
        read_polygons((1, 0, 0, 1), 5070)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((-99, 40, -100, 41), "west, -99, east of its east, -100: exchange the two"),
        ((100, -60, -70, 60), "spans more than 180 degrees is written with an east of 290"),
        ((39, -105, 41, -103), "west, south, east, north in degrees"),
        ((0, 5, 1, 4), "south < north"),
        ((1, 0, 1, 2), "two different longitudes"),
        ((0, 0, np.nan, 1), "not finite"),
        ((5e5, 0, 6e5, 1), "two different longitudes"),
        ((True, 0, 1, 1), "four real numbers"),
        ((1j, 0, 1, 1), "four real numbers"),
        ((-200, 0, 200, 1), "at most 360 degrees apart"),
    ],
)
def test_a_box_that_is_none_is_refused(box: tuple[float, ...], said: str) -> None:
    for form in (box, list(box), np.array(box)):
        if isinstance(form, np.ndarray) and box[0] is True:
            continue  # numpy has made it 1.0
        with pytest.raises(RegionError, match=said):
            read_polygons(form)
    with pytest.raises(RegionError, match=rf"row 1 \(label 1\): .*{said}"):
        read_polygons([(0, 0, 1, 1), box])


def test_longitudes_may_count_from_0_to_360(gulf: Path) -> None:
    field = client.open_field(gulf)
    west, shifted = shapely.box(-12, -9, -2, 4), shapely.box(348, -9, 358, 4)
    forms = [west, shifted, shapely.geometry.mapping(shifted), (348, -9, 358, 4)]
    table = field.zonal(forms, "aerial").drop(columns="aerial_status")
    for row in (1, 2, 3):
        np.testing.assert_allclose(table.iloc[row], table.iloc[0], atol=1e-6)
    assert len(read_polygons((100, -60, 290, 60)).lonlat) == 5


def test_coordinates_are_one_ring() -> None:
    ring = [(1.0, 2.0), (5, 2), (5, 7), (1, 7), (1, 2)]
    for form in (ring, np.array(ring), [list(place) for place in ring], tuple(ring)):
        assert read_polygons(form).lonlat.shape == (5, 2)
    assert len(read_polygons([ring, (0, 0, 1, 1)])) == 2
    with pytest.raises(RegionError, match="the last the same as the first"):
        read_polygons(ring[:-1])
    with pytest.raises(RegionError, match="not valid"):
        read_polygons(BOW.exterior.coords[:])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        (".", "is a folder"),
        ("folder", "is a folder"),
        ("folder.geojson", "is a folder"),
        ("Californa", "did you mean 'California'"),
        ("atlantis", "neither a file nor the name of a region.*; regions are conus"),
        ('{"type": "Polygon"}', "not valid GeoJSON"),
        ('{"type": ', "cannot read GeoJSON polygons from the text"),
        ("POLYGON ((0 0, 1 1, 1 0, 0 0))", "neither a file .*shapely.from_wkt"),
        ("-105,39,-104", "a box is west,south,east,north in degrees"),
        ("-105,39,-104,north", "neither a file .*a box is four numbers"),
        ("x" * 5000, "neither a file"),
        ("a\0b", "neither a file"),
        ("https://example.org/a.geojson", "is an address"),
        ("list.json", "no object but a list"),
        ("table.csv", "holds no polygons|cannot read"),
    ],
)
def test_a_name_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    geopandas.GeoSeries([SQUARE], crs=4326).to_file(tmp_path / "any.shp")
    monkeypatch.chdir(tmp_path)
    for folder in ("folder", "folder.geojson"):
        Path(folder).mkdir()
    Path("list.json").write_text("[1]")
    Path("table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RegionError, match=said) as refused:
        read_polygons(name)
    assert len(str(refused.value)) < 400
    if name == "":
        with pytest.raises(RegionError, match="is a folder"):
            read_polygons(Path(name))


def test_files_of_any_encoding_of_json_are_read(tmp_path: Path) -> None:
    text = json.dumps(shapely.geometry.mapping(SQUARE))
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path = tmp_path / f"{encoding}.geojson"
        path.write_text(text, encoding=encoding)
        assert len(read_polygons(path)) == 1


def test_tables_are_read_by_what_they_are() -> None:
    frame = geopandas.GeoDataFrame(
        {"far": geopandas.GeoSeries([shapely.box(30, 30, 31, 31)])}, geometry=[SQUARE], crs=5070
    )
    assert read_polygons(frame.set_crs(4326, allow_override=True)).lonlat[0, 0] < 6
    other = frame.set_geometry("far")
    assert read_polygons(other.set_crs(4326, allow_override=True)).lonlat[0, 0] > 29
    none = geopandas.GeoDataFrame({"far": frame["far"], "a": 1})
    with pytest.raises(RegionError, match=r"no active geometry.*set_geometry\(name\).*far"):
        read_polygons(none)
    with pytest.raises(RegionError, match="one column 'geometry', and this one has 0, among a"):
        read_polygons(pd.DataFrame({"a": [1]}))
    twice = pd.concat([pd.DataFrame({"geometry": [SQUARE]})] * 2, axis=1)
    with pytest.raises(RegionError, match="this one has 2"):
        read_polygons(twice)
    named = pd.Series([SQUARE, SQUARE], index=["geom_type", "wkb"], dtype=object)
    assert read_polygons(named).index.tolist() == ["geom_type", "wkb"]
    dictionaries = pd.Series([shapely.geometry.mapping(SQUARE), None], index=["p", "q"])
    assert read_polygons(dictionaries).missing.tolist() == [False, True]
    with pytest.raises(RegionError, match="cannot read polygons from a Dataset"):
        read_polygons(pd.DataFrame({"a": [1]}).to_xarray())


def test_without_a_crs_numbers_are_degrees() -> None:
    assert read_polygons(geopandas.GeoSeries([SQUARE])).crs is None
    assert read_polygons(geopandas.GeoDataFrame(geometry=[SQUARE])).crs is None


def test_labels_are_named_plainly() -> None:
    for index, said in (
        (pd.Index([7]), "label 7"),
        (pd.Index(["01"]), "label '01'"),
        (pd.MultiIndex.from_tuples([("a", 1)]), r"label \('a', 1\)"),
    ):
        with pytest.raises(RegionError, match=rf"row 0 \({said}\)"):
            read_polygons(pd.Series([BOW], index=index))


def test_a_list_has_one_polygon_in_each_row() -> None:
    frame = geopandas.GeoDataFrame(geometry=[SQUARE, SQUARE], crs=4326)
    with pytest.raises(RegionError, match=r"row 1 \(label 1\): holds 2 polygons"):
        read_polygons([SQUARE, frame])
    assert len(read_polygons([SQUARE, frame.iloc[:1], "conus"])) == 3


@st.composite
def shape_lists(draw: st.DrawFn) -> list[shapely.Geometry | None]:
    """Valid polygons in and round the gulf; large, tiny, with holes and parts, or none."""
    side = st.floats(1e-9, 20)
    corner = st.tuples(st.floats(-24, 20), st.floats(-18, 14))

    def made(corner: tuple[float, float], width: float, height: float, kind: int) -> Any:
        west, south = corner
        outer = shapely.box(west, south, west + width, south + height)
        if kind == 0:
            return None
        if kind == 1:
            return outer.reverse()
        inner = shapely.affinity.scale(outer, 0.5, 0.25)
        if kind == 2:
            return shapely.Polygon(outer.exterior.coords, [inner.exterior.coords])
        ring = shapely.Polygon(outer.exterior.coords, [inner.exterior.coords])
        return shapely.MultiPolygon([ring, inner.buffer(-min(width, height) / 100)])

    drawn = draw(
        st.lists(st.builds(made, corner, side, side, st.integers(0, 3)), min_size=1, max_size=5)
    )
    return [s if s is None or s.is_valid else None for s in drawn]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape_lists(), st.sampled_from(FORMS), st.booleans())
def test_every_form_answers_alike(
    gulf: Path, tmp_path: Path, shapes: list[Any], form: str, projected: bool
) -> None:
    field, crs = client.open_field(gulf), None
    if projected:
        crs = 8857
        series = geopandas.GeoSeries(shapes, crs=4326).to_crs(crs)
        shapes = [s if s is None or s.is_valid else None for s in series]
    carried = form in ("frame", "series", "geometries", "geojson", "file", "text path")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", client.RegionWarning)
        expected = field.zonal(geopandas.GeoSeries(shapes, crs=crs), "aerial")
        given = form_of(form, shapes, tmp_path, crs)
        found = field.zonal(given, "aerial", crs=None if carried else crs)
        coverage = field.coverage(given, "aerial", crs=None if carried else crs)
    pd.testing.assert_frame_equal(found, expected)
    share = found["aerial_share"]
    assert share.between(0, 1).all()
    assert coverage.stack(future_stack=True).stack(future_stack=True).between(0, 1).all()
    np.testing.assert_allclose(coverage.sum(axis=1), 1)
    missing = np.array([s is None for s in shapes])
    assert (found["aerial_status"].eq("no polygon") == missing).all()
    assert (found["aerial_status"].eq("valid") == (share > 0)).all()
    assert (found["aerial_000"].notna() == (share > 0)).all()
