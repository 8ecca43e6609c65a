"""zonal, coverage, region and geotiff through the whole command."""

import io
import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from commands import done, refused, run

from unigeo.client.areas.named import read_areas
from unigeo.client.opening import open_field
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
    found = pd.read_csv(io.StringIO(done("zonal", gulf, files[kind], "--modality", "aerial")))
    own = ["name"] if kind != "geojson" else ["id", "name"]
    assert list(found.columns) == [*own, *MEANS, "ug_aerial_cells", "ug_aerial_share"]
    assert list(found["name"]) == ["a", "b", "c"]
    np.testing.assert_allclose(found[MEANS], expected.iloc[:, :8], atol=1e-6)
    assert found["ug_aerial_cells"][2] == 0


def test_zonal_by_name_box_and_pipe(gulf: Path, frame: geopandas.GeoDataFrame) -> None:
    field = open_field(gulf)
    box = pd.read_csv(io.StringIO(done("zonal", gulf, "-12,-9,9,11", "--normalize")))
    expected = field.zonal((-12.0, -9.0, 9.0, 11.0), normalize=True, prefix="ug_")
    assert box["region"][0] == "-12,-9,9,11"
    np.testing.assert_allclose(box[MEANS], expected[MEANS], atol=1e-6)
    assert "amsterdam" in done("zonal", gulf, "amsterdam")
    piped = done("zonal", gulf, "-", stdin=frame.to_json())
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
        done("zonal", gulf, source, "-o", out)
        read = geopandas.read_parquet if ending == "parquet" else geopandas.read_file
        found = read(out)
        assert shapely.equals_exact(shapely.normalize(found.geometry.values),
                                    shapely.normalize(SHAPES), tolerance=1e-9).all()  # fmt: skip
        assert {"name", *MEANS} <= set(found.columns)


def test_records_as_json(gulf: Path, files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    rows = json.loads(done("zonal", gulf, files["gpkg"], "--json", "-o", out))
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
        (modality, code.words): count
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
    places = [(-7.5, -5.5), (5.0, 5.0), (5.9, 4.9)]
    assert open_field(out).sample(places).equals(open_field(gulf).sample(places))
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
