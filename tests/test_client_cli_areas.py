"""zonal, coverage, region and geotiff through the whole command."""

import io
import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
import xarray as xr
from support.commands import done, refused, run

from unigeo.client.areas.polygon_tables import read_areas
from unigeo.client.field.opening import open_field
from unigeo.schemas.errors import RegionError

SHAPES = [shapely.box(-12, -9, 9, 11), shapely.box(3, 3, 14, 8), shapely.box(-60, 0, -50, 5)]
MEANS = [f"ug_aerial_{band:03d}" for band in range(8)]


@pytest.fixture
def frame() -> geopandas.GeoDataFrame:
    """One across the field, one on the lake's shore, one off the field."""
    return geopandas.GeoDataFrame({"name": ["a", "b", "c"]}, geometry=SHAPES, crs="EPSG:4326")


@pytest.fixture
def files(frame: geopandas.GeoDataFrame, tmp_path: Path) -> dict[str, Path]:
    """The same polygons in every kind of file, and in another CRS."""
    paths = {ending: tmp_path / f"shapes.{ending}" for ending in ("geojson", "parquet", "gpkg")}
    paths["geojson"].write_text(frame.to_json())
    frame.to_parquet(paths["parquet"])
    frame.to_crs("EPSG:4269").to_file(paths["gpkg"])
    return paths


@pytest.mark.parametrize("kind", ["geojson", "parquet", "gpkg"])
def test_means_come_beside_the_polygons_own_columns(
    gulf: Path, frame: geopandas.GeoDataFrame, files: dict[str, Path], kind: str
) -> None:
    expected = open_field(gulf).zonal(frame, "aerial")
    args = ("zonal", gulf, files[kind], "--modality", "aerial", "--quiet")
    found = pd.read_csv(io.StringIO(done(*args)))
    own = ["name"] if kind != "geojson" else ["id", "name"]
    counts = ["ug_aerial_cells", "ug_aerial_share", "ug_aerial_status"]
    assert list(found.columns) == [*own, *MEANS, *counts]
    assert list(found["name"]) == ["a", "b", "c"]
    np.testing.assert_allclose(found[MEANS], expected.iloc[:, :8], atol=1e-6)
    assert found["ug_aerial_cells"][2] == 0


def test_zonal_by_name_box_and_pipe(gulf: Path, frame: geopandas.GeoDataFrame) -> None:
    field = open_field(gulf)
    box = pd.read_csv(io.StringIO(done("zonal", gulf, "-12,-9,9,11", "--normalize")))
    expected = field.zonal((-12.0, -9.0, 9.0, 11.0), normalize=True, prefix="ug_")
    assert box["region"][0] == "-12,-9,9,11"
    np.testing.assert_allclose(box[MEANS], expected[MEANS], atol=1e-6)
    off = run("zonal", gulf, "amsterdam", "--quiet")
    assert "amsterdam" in off.stdout
    assert off.stderr.startswith("Warning: 1 of 1 polygons have no vector (1 outside region). They")
    assert off.stderr.count("\n") == 1
    piped = done("zonal", gulf, "-", "--quiet", stdin=frame.to_json())
    assert len(piped.splitlines()) == 4
    content = io.BytesIO()
    frame.to_parquet(content)
    ended = run("zonal", gulf, "-", "--format", "parquet", stdin=content.getvalue())
    same = geopandas.read_parquet(io.BytesIO(ended.stdout_bytes))
    assert same.geometry.geom_equals(frame.geometry).all()
    assert "geojson or parquet" in refused("zonal", gulf, "-", "--format", "csv", stdin="a\n")
    assert "standard input" in refused("zonal", gulf, "-", stdin="no json")


@pytest.mark.parametrize("ending", ["geojson", "parquet"])
def test_shapes_stay_where_the_output_can_hold_them(
    gulf: Path, files: dict[str, Path], tmp_path: Path, ending: str
) -> None:
    for source in files.values():
        out = tmp_path / f"out.{ending}"
        done("zonal", gulf, source, "-o", out, "--quiet")
        read = geopandas.read_parquet if ending == "parquet" else geopandas.read_file
        found = read(out)
        assert shapely.equals_exact(shapely.normalize(found.geometry.values),
                                    shapely.normalize(SHAPES), tolerance=1e-9).all()  # fmt: skip
        assert {"name", *MEANS} <= set(found.columns)


def test_records_as_json(gulf: Path, files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    rows = json.loads(done("zonal", gulf, files["gpkg"], "--json", "-o", out, "--quiet"))
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    assert rows[2]["ug_aerial_000"] is None
    assert "geometry" not in rows[0]
    assert rows[0]["ug_aerial_000"] == pytest.approx(pd.read_csv(out)["ug_aerial_000"][0])


def test_columns_that_are_there_already_are_refused(
    gulf: Path, frame: geopandas.GeoDataFrame
) -> None:
    clash = frame.rename(columns={"name": "aerial_cells"}).to_json()
    assert "already has" in refused("zonal", gulf, "-", "--prefix", "", stdin=clash)
    clash = frame.rename(columns={"name": "aerial_water"}).to_json()
    assert "already has" in refused("coverage", gulf, "-", stdin=clash)


def test_coverage_counts_the_cells_of_the_field(gulf: Path, tmp_path: Path) -> None:
    counts = open_field(gulf).coverage()
    expected = {
        (modality, code.label): count
        for modality, found in counts.items()
        for code, count in found.items()
    }
    rows = json.loads(done("coverage", gulf, "--json"))
    assert {(row["modality"], row["reason"]): row["cells"] for row in rows} == expected
    assert sum(row["share"] for row in rows) == pytest.approx(2)
    words = done("coverage", gulf, "--modality", "aerial").splitlines()
    assert all(line.startswith("aerial ") for line in words)
    assert any("no observation" in line and line.endswith("%") for line in words)
    done("coverage", gulf, "-o", tmp_path / "c.parquet")
    assert len(pd.read_parquet(tmp_path / "c.parquet")) == len(expected)


def test_coverage_of_polygons_shares_out_their_area(gulf: Path, files: dict[str, Path]) -> None:
    found = pd.read_csv(io.StringIO(done("coverage", gulf, files["parquet"])))
    shares = found.filter(like="aerial_")
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert found["aerial_off_the_field"][2] == 1
    assert 0 < found["aerial_water"][1] < 1
    (row,) = json.loads(done("coverage", gulf, "-12,-9,9,11", "--json"))
    assert row["aerial_valid"] == pytest.approx(found["aerial_valid"][0])


def test_a_region_as_zarr_is_a_field(gulf: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.zarr"
    assert done("region", gulf, "-8,-6,6,5", "-o", out) == f"{out}\n"
    assert "no problem" in done("verify", out)
    assert "keeps the layout" in done("validate", out)
    lonlat = [(-7.5, -5.5), (5.0, 5.0), (-5.9, 4.9)]
    assert open_field(out).sample(lonlat).equals(open_field(gulf).sample(lonlat))
    assert [path.name for path in tmp_path.iterdir()] == ["part.zarr"]
    done("region", gulf, "-8,-6,6,5", "-o", tmp_path / "one.zarr", "--modality", "aerial")
    assert open_field(tmp_path / "one.zarr").modalities == ("aerial",)


def test_a_region_as_geotiff_is_the_window(gulf: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.tif"
    done("region", gulf, "-8,-6,6,5", "-o", out, "--modality", "aerial", "--bands", "1,3-4")
    part = open_field(gulf).region((-8.0, -6.0, 6.0, 5.0))["aerial"].values
    with rasterio.open(out) as tif:
        assert tif.descriptions == ("aerial_001", "aerial_003", "aerial_004")
        np.testing.assert_array_equal(np.moveaxis(tif.read(), 0, -1), part[..., [1, 3, 4]])


def test_a_field_as_geotiff(gulf: Path, files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "all.tif"
    args = ("geotiff", gulf, "-o", out, "--modality", "aerial", "--bands", 0)
    assert done(*args, "--dtype", "float32") == f"{out}\n"
    with rasterio.open(out) as tif:
        assert tif.shape == open_field(gulf).grid.shape
        assert tif.dtypes == ("float32",)
    assert "it is there already" in refused(*args)
    done(*args, "--region", files["geojson"], "--mask", "--overwrite")
    with rasterio.open(out) as tif:
        assert (tif.read() == -128).any()
    assert "no band 99" in refused(*args[:-1], 99, "--overwrite")


def test_a_region_is_never_written_over_a_store(gulf: Path, tmp_path: Path) -> None:
    args = ("region", gulf, "-8,-6,6,5", "--modality", "aerial", "-o")
    for name in ("part.zarr", "part.tif"):
        done(*args, tmp_path / name)
        assert "it is there already" in refused(*args, tmp_path / name)
    done(*args, tmp_path / "part.tif", "--overwrite")
    assert "go with a GeoTIFF" in refused(*args, tmp_path / "new.zarr", "--overwrite")
    assert not (tmp_path / "new.zarr").exists()


def test_polygons_keep_their_ids_and_properties(tmp_path: Path) -> None:
    box = shapely.box(0, 0, 1, 1).__geo_interface__
    features = [
        {"type": "Feature", "id": "p", "properties": {"n": 1}, "geometry": box},
        {"type": "Feature", "id": "q", "properties": None, "geometry": box},
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    areas = read_areas(str(path))
    assert areas.own["id"].tolist() == ["p", "q"]
    assert list(read_areas(str(path), geometry=True).own.columns) == ["id", "n", "geometry"]
    path.write_text(json.dumps(box))
    for shapes in (True, False):
        assert len(read_areas(str(path), geometry=shapes).own) == 1
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(RegionError, match=r"plain\.parquet"):
        read_areas(str(tmp_path / "plain.parquet"))


def test_the_antimeridian_is_no_edge(fiji: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.zarr"
    done("region", fiji, "179,-18,-179,-16", "-o", out, "--mask")
    assert "no problem" in done("verify", out)
    found = open_field(out).sample([(179.5, -17.0), (-179.5, -17.0), (178.0, -19.0)])
    assert found["coordinate_status"].astype(str).tolist()[:2] == ["valid", "valid"]
    assert found["coordinate_status"][2] == "outside region"
    assert xr.open_zarr(out).unigeo.sample([(179.5, -17.0)]).equals(found.head(1))


def test_similar_lists_the_best_cells(gulf: Path, tmp_path: Path) -> None:
    options = ("--modality", "aerial", "--count", "3", "--apart-km", "300")
    expected = open_field(gulf).similar((-10.0, 3.0), "aerial", count=3, apart_km=300)
    table = pd.read_csv(io.StringIO(done("similar", gulf, "-10.0", "3.0", *options)))
    assert np.allclose(table, expected)
    listed = json.loads(done("similar", gulf, "-10.0", "3.0", *options, "--json"))
    assert np.allclose([one["similarity"] for one in listed], expected["similarity"])
    assert "name one modality of coordinate, aerial" in refused("similar", gulf, "1.0", "2.0")


SQUARE = shapely.geometry.mapping(SHAPES[0])
LAKE = shapely.geometry.mapping(shapely.box(4.5, 4.5, 5.5, 5.5))


def features(*rows: tuple[dict | None, dict]) -> str:
    """A collection of geometries with their properties."""
    listed = [{"type": "Feature", "geometry": g, "properties": own} for g, own in rows]
    return json.dumps({"type": "FeatureCollection", "features": listed})


def test_polygons_without_a_vector_are_summed_up(gulf: Path) -> None:
    rows = [(SQUARE, {"k": "a"}), (None, {"k": "b"}), (LAKE, {"k": "c"}), (SQUARE, {"k": "d"})]
    args = ("zonal", gulf, "-", "--modality", "aerial", "--prefix", "")
    lake = features(rows[0], rows[2], rows[3])
    ended = run(*args, stdin=lake)
    assert ended.stderr == "1 of 3 polygons have no aerial vector (1 water)\n"
    assert pd.read_csv(io.StringIO(ended.stdout))["aerial_status"].tolist() == [
        "valid", "water", "valid",
    ]  # fmt: skip
    ended = run(*args, "--missing", "drop", stdin=lake)
    assert ended.stderr == "1 of 3 polygons have no aerial vector (1 water); left out\n"
    assert pd.read_csv(io.StringIO(ended.stdout))["k"].tolist() == ["a", "d"]
    whole = features(*rows)
    ended = run(*args, stdin=whole)
    warning = (
        "1 of 4 rows have no polygon (no shape, or an empty one), the first in row 1 (label 1)."
    )
    assert ended.stderr == f"Warning: {warning}\n"
    assert pd.read_csv(io.StringIO(ended.stdout))["aerial_status"][1] == "no polygon"
    message = refused(*args, "--missing", "raise", stdin=whole)
    assert "row 1 (label 1) no polygon" in message
    assert "--missing drop" in message
    there = ("--crs", "EPSG:5070", "--modality", "aerial")
    wrong = run("zonal", gulf, "-", *there, stdin=features(rows[0])).stderr
    assert "Leave out --crs" in wrong
    args = ("coverage", gulf, "-", "--modality", "aerial")
    ended = run(*args, stdin=whole)
    assert ended.stderr == f"Warning: {warning}\n"
    assert pd.read_csv(io.StringIO(ended.stdout))["aerial_no_polygon"].tolist() == [0, 1, 0, 0]
    dropped = run(*args, "--missing", "drop", stdin=whole).stdout
    assert pd.read_csv(io.StringIO(dropped))["k"].tolist() == ["a", "c", "d"]
    assert "has no shape" in refused(*args, "--missing", "raise", stdin=whole)


@pytest.mark.parametrize("ending", ["csv", "parquet", "geojson"])
def test_own_columns_come_out_as_they_went_in(gulf: Path, tmp_path: Path, ending: str) -> None:
    own = [
        {"fips": "01001", "big": 2**53 + 1, "n": None, "yes": True, "x": 1.5, "na": "NA", "o": [1]},
        {"fips": "00007", "big": None, "n": None, "yes": None, "x": None, "na": "", "o": None},
        {"fips": "00007", "big": 7, "n": None, "yes": False, "x": 0.1, "na": "null", "o": {"a": 1}},
    ]
    if ending == "parquet":
        for row in own:
            del row["o"]  # a list and an object are no column there
    out = tmp_path / f"out.{ending}"
    text = features(*((SQUARE, row) for row in own))
    done("zonal", gulf, "-", "--modality", "aerial", "-o", out, stdin=text)
    if ending == "csv":
        found = pd.read_csv(out, dtype=str, keep_default_na=False)
        assert found["fips"].tolist() == ["01001", "00007", "00007"]
        assert found["big"].tolist() == [str(2**53 + 1), "", "7"]
        assert found["na"].tolist() == ["NA", "", "null"]
        assert found["o"].tolist() == ["[1]", "", '{"a": 1}']
    elif ending == "parquet":
        found = pq.read_table(out)
        for name in own[0]:
            assert found.column(name).to_pylist() == [row[name] for row in own]
        assert str(found.schema.field("big").type) == "int64"
    else:
        listed = [f["properties"] for f in json.loads(out.read_text())["features"]]
        assert [{name: row[name] for name in own[0]} for row in listed] == own


@pytest.mark.parametrize("ending", ["gpkg", "shp", "parquet"])
def test_whole_numbers_of_a_file_stay_whole(gulf: Path, tmp_path: Path, ending: str) -> None:
    source, out = tmp_path / f"in.{ending}", tmp_path / "out.parquet"
    frame = geopandas.GeoDataFrame(
        {
            "id": pd.array([2**53 + 1, None], "Int64"),
            "n": pd.array([1, 2], "int32"),
            "x": [0.5, None],
        },
        geometry=SHAPES[:2],
        index=pd.Index(["01", "02"], name="fips"),
        crs=4326,
    )
    if ending == "parquet":  # as another program writes it, without what pandas says of it
        frame.to_parquet(source)
        table = pq.read_table(source)
        kept = {k: v for k, v in table.schema.metadata.items() if k != b"pandas"}
        pq.write_table(table.replace_schema_metadata(kept), source)
    else:
        frame.to_file(source, index=True)
    done("zonal", gulf, source, "--modality", "aerial", "-o", out)
    found = pq.read_table(out)
    assert found.column("id").to_pylist() == [2**53 + 1, None]
    assert found.column("x").to_pylist() == [0.5, None]
    assert found.column("fips").to_pylist() == ["01", "02"]
    assert str(found.schema.field("n").type) == "int32"


def test_a_named_index_is_a_column(gulf: Path, tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {"n": [1, 1]}, geometry=SHAPES[:2], index=pd.Index(["01", "01"], name="fips"), crs=4326
    )
    frame.to_parquet(tmp_path / "in.parquet")
    found = done("zonal", gulf, tmp_path / "in.parquet", "--modality", "aerial")
    assert pd.read_csv(io.StringIO(found), dtype=str)["fips"].tolist() == ["01", "01"]


@pytest.mark.parametrize("named", [True, False])
def test_polygons_in_another_crs_keep_their_shapes(gulf: Path, tmp_path: Path, named: bool) -> None:
    there = geopandas.GeoSeries(SHAPES[:1], crs=4326).segmentize(0.5).to_crs(8857)
    document = json.loads(there.to_json())
    if named:
        del document["crs"]
    args = ["zonal", gulf, "-", "--modality", "aerial", "--crs" if named else "--quiet"]
    args += ["EPSG:8857"] if named else []
    done(*args, "-o", tmp_path / "a.geojson", stdin=json.dumps(document))
    done(*args, "-o", tmp_path / "a.parquet", stdin=json.dumps(document))
    found = geopandas.read_file(tmp_path / "a.geojson")
    assert found.total_bounds == pytest.approx(SHAPES[0].bounds, abs=1e-6)
    kept = geopandas.read_parquet(tmp_path / "a.parquet")
    assert kept.crs.to_epsg() == 8857
    assert kept.total_bounds == pytest.approx(there.total_bounds)
    expected = open_field(gulf).zonal(there, "aerial", prefix="ug_")
    np.testing.assert_allclose(kept[MEANS], expected[MEANS], atol=1e-6)


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ("", "the name of the region is empty"),
        (" ", "the name of the region is empty"),
        (".", "is a folder"),
        ("1,2,3", "a box is west,south,east,north"),
        ("-99,40,-100,41", "exchange the two"),
    ],
)
def test_a_region_that_is_none_is_refused(
    gulf: Path, tmp_path: Path, polygons: str, message: str
) -> None:
    assert message in refused("zonal", gulf, polygons)
    assert message in refused("coverage", gulf, polygons)
    assert message in refused("region", gulf, polygons, "-o", tmp_path / "a.zarr")
    assert message in refused(
        "geotiff", gulf, f"--region={polygons}", "-o", tmp_path / "a.tif", "--modality", "aerial"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "no object but a list"),
        ('{"type": "FeatureCollection", "features": [1]}', "found None"),
        ('{"type": "Feature", "geometry": null, "properties": [1]}', "properties of a feature"),
        (features(({"type": "Point", "coordinates": [0, 0]}, {})), "row 0 (label 0)"),
        (features(({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, {})), "4 or more"),
    ],
)
def test_geojson_that_holds_no_polygons_is_refused(gulf: Path, text: str, message: str) -> None:
    for form in ("csv", "geojson"):
        assert message in refused("zonal", gulf, "-", "-o", f"a.{form}", stdin=text)
