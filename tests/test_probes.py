from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rioxarray  # noqa: F401
import shapely
import xarray as xr
from support.probe_tables import linear_table

from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.client.probing.probe import Probe
from unigeo.schemas.errors import PointsWarning, ProbeError, RegionError, StoreError
from unigeo.schemas.geo.regions import region_of_bbox

ROUNDING = {"rtol": 1e-5, "atol": 1e-5}
"""Of float32 products of the same cells in windows of other shapes: BLAS takes other kernels."""


@pytest.fixture(scope="module")
def field(gulf: Path) -> Field:
    return open_field(str(gulf))


@pytest.fixture(scope="module")
def probe(field: Field) -> Probe:
    return field.probe(
        linear_table(field), ["height", "north"], block_km=350, groups="county", baselines=["mean"]
    )


def test_a_probe_holds_scores_and_prints_them(probe: Probe) -> None:
    scores = probe.scores.set_index(["target", "features", "split"])["score"]
    assert set(probe.scores["split"]) == {"random", "blocked", "grouped"}
    assert scores["height", "coordinate", "blocked"] > 0.95
    assert scores["north", "coordinate", "blocked"] > 0.85
    assert len(probe.intervals) == 3 * 3
    assert set(probe.intervals["level"]) == {0.9}
    assert probe.intervals["coverage"].between(0.8, 0.98).all()
    assert set(probe.fold_scores["fold"]) == set(range(5))
    for text in (repr(probe), probe._repr_html_()):
        for part in ("height", "grouped", "coordinate", "joined", "points of", "blocks"):
            assert part in text


def test_new_points_are_predicted_with_intervals_that_hold_the_truth(
    field: Field, probe: Probe
) -> None:
    new = linear_table(field, 400, seed=1)
    found = probe.predict(new, features="coordinate")
    assert found.index.equals(new.index)
    inside = new["height"].between(found["height_lower"], found["height_upper"])
    assert 0.85 < inside.mean() < 0.99
    np.testing.assert_allclose(found["height"], new["height"], atol=0.3)
    assert (found["north"] == new["north"]).mean() > 0.9
    assert found["north_probability"].between(0.5, 1).all()
    assert set(found["coordinate_status"]) == {"valid"}


def test_a_point_without_a_vector_is_not_predicted_and_says_why(probe: Probe) -> None:
    lake, land, far, nowhere = (5.0, 5.0), (0.0, 0.0), (100.0, 0.0), (np.nan, 0.0)
    with pytest.warns(PointsWarning, match="1 of 5 points have no position"):
        found = probe.predict([lake, land, far, nowhere, land])
    without = [True, False, True, True, False]
    for name in ("height", "height_lower", "height_upper", "north", "north_probability"):
        assert found[name].isna().tolist() == without
    assert found["coordinate_status"].tolist() == [
        "water", "valid", "outside region", "no position", "valid",
    ]  # fmt: skip


def test_a_map_holds_at_each_cell_what_is_predicted_at_its_centre(
    field: Field, probe: Probe
) -> None:
    drawn = probe.map("height")
    assert drawn.sizes == dict(zip(("y", "x"), field.grid.shape, strict=True))
    centres = field.grid.centres().reshape(-1, 2)
    on_globe = np.isfinite(centres).all(axis=1)
    expected = probe.predict(centres[on_globe])
    for layer, column in (
        ("prediction", "height"), ("lower", "height_lower"), ("upper", "height_upper"),
    ):  # fmt: skip
        assert drawn[layer].dtype == np.float32
        cells = drawn[layer].values.ravel()
        np.testing.assert_allclose(cells[on_globe], expected[column], rtol=1e-5, atol=1e-5)
        assert np.isnan(cells[~on_globe]).all()
    width = (drawn["upper"] - drawn["lower"]) / 2
    np.testing.assert_allclose(width, drawn["uncertainty"], atol=1e-6)


def test_a_window_of_a_map_reads_the_shards_it_touches_only(field: Field, probe: Probe) -> None:
    read: list[tuple[str, slice, slice]] = []

    def watched(name: str, rows: slice, cols: slice) -> np.ndarray:
        read.append((name, rows, cols))
        return field.read(name, rows, cols)

    watching = replace(probe, field=replace(field, read=watched))
    drawn = watching.map("height")
    assert read == []
    corner = drawn["upper"].isel(y=slice(36, 40), x=slice(20, 26))
    assert read == []
    values = corner.values
    assert {name for name, *_ in read} == {
        "coordinate",
        "coordinate_status",
        "aerial",
        "aerial_status",
    }
    assert {(rows.start, rows.stop, cols.start, cols.stop) for _, rows, cols in read} == {
        (36, 40, 20, 26)
    }
    before = len(read)
    drawn["lower"].isel(y=slice(36, 40), x=slice(20, 26)).load()
    assert len(read) == before  # the layers of one window share their work
    whole = probe.map("height")["upper"].values
    np.testing.assert_allclose(values, whole[36:40, 20:26], **ROUNDING)


@pytest.mark.parametrize(
    "key",
    [
        {"y": 40, "x": 7},
        {"y": slice(None, None, 5), "x": slice(60, 2, -7)},
        {"y": [50, 3, 30], "x": slice(10, 40)},
        {"y": xr.DataArray([3, 50], dims="p"), "x": xr.DataArray([60, 2], dims="p")},
        {"y": slice(5, 5)},
    ],
)
def test_any_part_of_a_map_is_that_part_of_the_whole(probe: Probe, key: dict) -> None:
    lazy, whole = probe.map("height")["prediction"], probe.map("height")["prediction"].load()
    np.testing.assert_allclose(lazy.isel(key).values, whole.isel(key).values, **ROUNDING)


def test_a_map_of_a_region_is_the_map_cut_there(field: Field, probe: Probe) -> None:
    box = (-8.0, -9.0, 6.0, 7.0)
    cut, whole = probe.map("height", region=box), probe.map("height")
    assert cut.sizes["x"] < whole.sizes["x"] / 2
    same = whole.sel(x=cut["x"], y=cut["y"])["prediction"]
    centres = field.grid.centres().reshape(*field.grid.shape, 2)
    rows, cols = np.isin(field.grid.y, cut["y"]), np.isin(field.grid.x, cut["x"])
    inside = region_of_bbox(box).contains(centres[np.ix_(rows, cols)])
    np.testing.assert_allclose(cut["prediction"].values, same.where(inside).values, **ROUNDING)
    assert np.isfinite(cut["prediction"].values).any()
    assert ((~inside).any()) and np.isnan(cut["prediction"].values[~inside]).all()


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ((100.0, 0.0, 110.0, 10.0), "lies off the field"),
        ("atlantis", "neither a file nor the name of a region"),
        (3, "cannot read polygons from a int"),
        ((0.0, 0.0, 1e-3, 1e-3), "holds no centre"),
    ],
)
def test_a_region_that_cannot_be_mapped_is_refused(
    probe: Probe, region: object, words: str
) -> None:
    with pytest.raises(RegionError, match=words):
        probe.map("height", region=region)


@pytest.mark.parametrize(
    "form", ["geojson", "feature", "shapely", "geodataframe", "path", "region"]
)
def test_a_map_takes_every_form_of_a_region(probe: Probe, tmp_path: Path, form: str) -> None:
    box = (-8.0, -9.0, 6.0, 7.0)
    geometry = shapely.box(*box)
    path = tmp_path / "box.geojson"
    path.write_text(shapely.to_geojson(geometry))
    region = {
        "geojson": geometry.__geo_interface__,
        "feature": {"type": "Feature", "properties": {}, "geometry": geometry.__geo_interface__},
        "shapely": geometry,
        "geodataframe": gpd.GeoDataFrame(geometry=[geometry], crs="EPSG:4326"),
        "path": str(path),
        "region": region_of_bbox(box),
    }[form]
    layer = "uncertainty"
    expected = probe.map("north", box, "coordinate")[layer]
    xr.testing.assert_allclose(probe.map("north", region, "coordinate")[layer], expected)


def test_a_map_knows_its_crs_and_becomes_dask_arrays(field: Field, probe: Probe) -> None:
    drawn = probe.map("height", region=(-8.0, -9.0, 6.0, 7.0))
    assert drawn.rio.crs.to_epsg() == 8857
    assert drawn["prediction"].attrs["proj:code"] == field.grid.crs
    chunked = drawn.chunk({"y": 7, "x": 9})
    np.testing.assert_allclose(chunked["upper"].compute().values, drawn["upper"].values, **ROUNDING)


def test_classes_are_mapped_by_number_and_named(probe: Probe) -> None:
    drawn = probe.map("north", features="coordinate")
    assert set(drawn) == {"prediction", "uncertainty"}
    values = drawn["prediction"].values
    assert set(np.unique(values[np.isfinite(values)])) == {0, 1}
    assert drawn["prediction"].attrs["flag_meanings"] == "high low"
    assert 0 <= float(drawn["uncertainty"].max()) <= 0.5


@pytest.mark.parametrize("region", [None, (-8.0, -9.0, 6.0, 7.0)])
def test_a_geotiff_and_a_store_hold_the_map(probe: Probe, tmp_path: Path, region: object) -> None:
    drawn = probe.map("height", region).load()
    path = probe.to_geotiff(tmp_path / "height.tif", "height", region)
    with rasterio.open(path) as raster:
        assert raster.descriptions == ("prediction", "lower", "upper", "uncertainty")
        assert raster.profile["tiled"]
        assert raster.profile["compress"] == "deflate"
        assert np.isnan(raster.nodata)
        assert raster.crs.to_epsg() == 8857
        for band, layer in zip(raster.read(), drawn.values(), strict=True):
            np.testing.assert_allclose(band, layer.values, **ROUNDING)
        x, y = raster.xy(0, 0)
        assert (x, y) == (float(drawn["x"][0]), float(drawn["y"][0]))

    probe.to_zarr(tmp_path / "height.zarr", "height", region)
    with xr.open_zarr(tmp_path / "height.zarr", consolidated=True, decode_coords="all") as stored:
        assert stored.rio.crs.to_epsg() == 8857
        for layer in drawn:
            np.testing.assert_allclose(stored[layer].values, drawn[layer].values, **ROUNDING)
        np.testing.assert_array_equal(stored["y"], drawn["y"])
    assert {p.name for p in tmp_path.iterdir()} == {"height.tif", "height.zarr"}
    with pytest.raises(StoreError, match="there already"):
        probe.to_zarr(tmp_path / "height.zarr", "height")


def test_a_map_that_fails_leaves_nothing(field: Field, probe: Probe, tmp_path: Path) -> None:
    def torn(name: str, rows: slice, cols: slice) -> np.ndarray:
        if rows.start >= 32:
            raise StoreError("the connection broke")
        return field.read(name, rows, cols)

    broken = replace(probe, field=replace(field, read=torn))
    with pytest.raises(StoreError, match="connection broke"):
        broken.to_geotiff(tmp_path / "map.tif", "height")
    with pytest.raises(StoreError, match="connection broke"):
        broken.to_zarr(tmp_path / "map.zarr", "height")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="there is no folder"):
        probe.to_geotiff(tmp_path / "nowhere" / "map.tif", "height")


def test_what_the_probe_does_not_have_is_named(field: Field, probe: Probe) -> None:
    with pytest.raises(ProbeError, match="name one: the probe has height, north"):
        probe.map()
    with pytest.raises(ProbeError, match="no target 'depth'"):
        probe.map("depth")
    with pytest.raises(ProbeError, match="no features 'radar'; it has coordinate, aerial, joined"):
        probe.predict([(0.0, 0.0)], "radar")
    with pytest.raises(ProbeError, match="no column 'state'"):
        field.probe(linear_table(field), "height", groups="state")


def test_a_probe_says_what_it_does_and_about_how_long(
    field: Field, capfd: pytest.CaptureFixture[str]
) -> None:
    table = linear_table(field, 200)
    for progress, expected in ((True, True), (False, False)):
        field.probe(table, "height", block_km=350, baselines=["mean"], progress=progress)
        said = capfd.readouterr().err.replace("\r", "\n").splitlines()
        if not expected:
            assert said == []
            continue
        assert said[0].startswith(f"probe: 1 target at {len(table)} points by 3 sets of bands")
        assert "coordinate 8, aerial 8, joined 16" in said[0]
        assert "random and blocked splits of 5 folds; about " in said[0]
        assert "100%" in said[-1]


def test_labels_may_be_tuples(field: Field) -> None:
    table = linear_table(field)
    high = table["height"] > table["height"].median()
    kinds = [("wet", 1) if one else ("dry", 2) for one in high]
    table["kind"] = pd.Categorical(kinds)
    probe = field.probe(table, "kind", "coordinate", block_km=350, baselines=False)
    assert set(probe.predict(table)["kind"].dropna()) == {("wet", 1), ("dry", 2)}
