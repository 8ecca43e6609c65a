"""Statistics over polygons beside the mean, and weights of cells, against shapely and numpy."""

import io
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.shutil
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from support.commands import done, refused

from unigeo import client
from unigeo.client.areas import cell_weights, quantiles, zonal_sums
from unigeo.client.areas.statistic_names import Statistic, parse_statistics, zonal_columns
from unigeo.client.reading.covariates import Selection
from unigeo.schemas.errors import LayoutError, RegionError, StoreError
from unigeo.schemas.store.layout import Layout

pytestmark = pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.RegionWarning")

STATS = ("mean", "std", "min", "max", "quantile:0.1", "quantile:0.5", "quantile:0.9")
MODALITY = "coordinate"


def polygons(count: int = 200) -> geopandas.GeoDataFrame:
    """Irregular polygons, from less than a cell to a quarter of the field, some of them off it."""
    random = np.random.default_rng(0)
    centre = random.uniform((-22, -16), (27, 20), (count, 2))
    size = 10 ** random.uniform(-1.5, 1, count)
    angle = np.sort(random.uniform(0, 2 * np.pi, (count, 9)), axis=1)
    radius = size[:, None] * random.uniform(0.4, 1, (count, 9))
    ring = centre[:, None] + radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    shapes = shapely.make_valid(shapely.polygons(ring))
    return geopandas.GeoDataFrame(geometry=shapes, crs="EPSG:4326")


@pytest.fixture(scope="module")
def population(gulf: Path) -> xr.DataArray:
    """A weight for every cell: skewed, 0 in places, and no data in the north."""
    with xr.open_zarr(gulf, chunks=None, decode_coords="all") as dataset:
        status = dataset[f"{MODALITY}_status"].load()
    random = np.random.default_rng(1)
    values = random.lognormal(0, 2, status.shape) * (random.uniform(size=status.shape) > 0.2)
    values[:12] = np.nan
    return status.copy(data=values).rename("population")


def reference(
    store: Path, frame: geopandas.GeoDataFrame, weights: xr.DataArray | None
) -> pd.DataFrame:
    """Every statistic by shapely and numpy in float64, from a plain xarray."""
    with xr.open_zarr(store, chunks=None) as dataset:
        x, y = np.meshgrid(dataset.x, dataset.y)
        stored = dataset[MODALITY].values.astype(np.float64)
        valid = dataset[f"{MODALITY}_status"].values == 1
    vectors = stored / np.linalg.norm(stored, axis=-1, keepdims=True)
    factor = np.ones(valid.shape) if weights is None else np.nan_to_num(weights.values)
    half = (x[0, 1] - x[0, 0]) / 2
    cells = shapely.box(x - half, y - half, x + half, y + half)
    tree = shapely.STRtree(cells.reshape(-1))
    rows = []
    for shape in frame.set_geometry(shapely.segmentize(frame.geometry, 0.1)).to_crs(8857).geometry:
        near = np.unravel_index(tree.query(shape), cells.shape)
        weight = shapely.area(shapely.intersection(cells[near], shape)) / (2 * half) ** 2
        weight = weight * factor[near] * valid[near]
        kept, used = weight > 1e-7, vectors[near]
        used, weight = used[kept], weight[kept]
        if not len(used):
            rows.append(np.full(len(STATS) * 8 + 1, np.nan))
            continue
        mean = np.average(used, axis=0, weights=weight)
        std = np.sqrt(np.average((used - mean) ** 2, axis=0, weights=weight))
        levels = [0.1, 0.5, 0.9]
        found = np.quantile(used, levels, axis=0, method="inverted_cdf", weights=weight)
        values = [mean, std, used.min(axis=0), used.max(axis=0), *found, [weight.sum()]]
        rows.append(np.concatenate(values))
    names = [n for one in parse_statistics(STATS) for n in one.columns(MODALITY, 8)]
    return pd.DataFrame(rows, columns=[*names, f"{MODALITY}_weight"])


@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_are_those_of_shapely_and_numpy(
    gulf: Path, population: xr.DataArray, weighted: bool
) -> None:
    frame = polygons()
    weights = population if weighted else None
    expected = reference(gulf, frame, weights)
    found = client.open_field(gulf).zonal(frame, MODALITY, stats=STATS, weights=weights)
    lacking = expected["coordinate_000"].isna()
    assert 0 < lacking.sum() < 100
    assert ((found["coordinate_status"] != "valid") == lacking).all()
    names = list(expected) if weighted else list(expected)[:-1]
    np.testing.assert_allclose(found[names[:-1]], expected[names[:-1]], atol=1e-6)
    if weighted:
        some = found[~lacking]
        weight = expected.loc[~lacking, "coordinate_weight"]
        # Edges are split elsewhere in the reference, by less than 10 m, and weights are skewed.
        np.testing.assert_allclose(some["coordinate_weight"], weight, rtol=1e-4)
        assert "no weight" in set(found["coordinate_status"])


def test_the_mean_alone_is_what_it_was(gulf: Path) -> None:
    field, frame = client.open_field(gulf), polygons(20)
    plain = field.zonal(frame)
    several = field.zonal(frame, stats=STATS)
    assert set(plain) < set(several)
    pd.testing.assert_frame_equal(several[list(plain)], plain, rtol=0, atol=1e-6)
    pd.testing.assert_frame_equal(field.zonal(frame, stats="mean"), plain)
    assert list(field.zonal(frame, "aerial", stats="max", prefix="a_")) == [
        *(f"a_aerial_max_{band:03d}" for band in range(8)),
        *("a_aerial_cells", "a_aerial_share", "a_aerial_status"),
    ]


def test_pieces_of_any_size_give_the_same_statistics(
    gulf: Path, population: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, frame = client.open_field(gulf), polygons(30)
    once = field.zonal(frame, MODALITY, stats=STATS, weights=population)
    monkeypatch.setattr(zonal_sums, "_BLOCK_CELLS", 3)
    monkeypatch.setattr(quantiles, "_BANDS", 3)
    monkeypatch.setattr(cell_weights, "SHARD", 5)
    found = field.zonal(frame, MODALITY, stats=STATS, weights=population)
    pd.testing.assert_frame_equal(found, once, rtol=0, atol=1e-6)


def test_large_polygons_are_sketched_within_the_stated_error(
    gulf: Path, population: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, frame = client.open_field(gulf), polygons(60)
    stats = [f"quantile:{level}" for level in (0, 0.05, 0.5, 0.9, 1)]
    exact = field.zonal(frame, MODALITY, stats=[*stats, "min", "max"], weights=population)
    monkeypatch.setattr(quantiles, "_MOST_CELLS", 8)
    monkeypatch.setattr(quantiles, "_MOST_SKETCHED", 3)
    sketched = field.zonal(frame, MODALITY, stats=stats, weights=population)
    low, high = (exact.filter(like=f"_{end}_").to_numpy() for end in ("min", "max"))
    assert (exact["coordinate_cells"] > 20).sum() > 10
    for level in (0, 0.05, 0.5, 0.9, 1):
        apart = np.abs(
            sketched.filter(like=f"_q{level:g}_").to_numpy()
            - exact.filter(like=f"_q{level:g}_").to_numpy()
        )
        assert (apart <= (high - low) / 8192 + 1e-7)[~np.isnan(low)].all()


@settings(max_examples=8)
@given(scale=st.floats(-60, 60))
def test_the_unit_of_weights_does_not_matter(
    gulf: Path, population: xr.DataArray, scale: float
) -> None:
    field, frame = client.open_field(gulf), polygons(5)
    once = field.zonal(frame, MODALITY, stats=STATS, weights=population)
    found = field.zonal(frame, MODALITY, stats=STATS, weights=population * 10**scale)
    columns = list(once.filter(regex="_[0-9]{3}$"))
    np.testing.assert_allclose(found[columns], once[columns], atol=1e-6)


def write(path: Path, values: np.ndarray, crs: Any, transform: Any, **options: Any) -> Path:
    bands = values.reshape(-1, *values.shape[-2:])
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[-2],
        width=values.shape[-1],
        count=len(bands),
        dtype=values.dtype,
        crs=crs,
        transform=transform,
        **options,
    ) as raster:
        raster.write(bands)
    return path


def test_rasters_weigh_as_arrays_do(gulf: Path, population: xr.DataArray, tmp_path: Path) -> None:
    field, frame = client.open_field(gulf), polygons(40)
    options: dict[str, Any] = {"modalities": MODALITY, "stats": ("mean", "std")}
    expected = field.zonal(frame, weights=population, **options)
    affine = rasterio.Affine(*field.grid.affine)
    path = write(tmp_path / "same.tif", population.values, field.grid.crs, affine, nodata=np.nan)
    found = field.zonal(frame, weights=path, **options)
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-7)
    # Four by four pixels to a cell, whose mean is the cell's weight.
    finer = np.repeat(np.repeat(population.values, 4, axis=0), 4, axis=1)
    finer = finer * np.tile(np.random.default_rng(0).uniform(0, 2, (4, 4)), population.shape)
    mean = finer.reshape(*population.shape[:1], 4, -1, 4).mean(axis=(1, 3))
    path = write(
        tmp_path / "fine.tif", finer, field.grid.crs, affine @ affine.scale(0.25), nodata=np.nan
    )
    found = field.zonal(frame, weights=str(path), **options)
    expected = field.zonal(frame, weights=population.copy(data=mean), **options)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6, atol=1e-6)


def test_part_of_the_field_weighs_and_the_rest_does_not(
    gulf: Path, population: xr.DataArray
) -> None:
    field, frame = client.open_field(gulf), polygons(40)
    inside = population.isel(y=slice(20, 50), x=slice(5, 31))
    padded = inside.reindex_like(population).fillna(0)
    expected = field.zonal(frame, MODALITY, weights=padded)
    for weights in (
        inside,
        inside[::-1],
        inside.transpose("x", "y"),
        inside.drop_vars("spatial_ref"),
        inside.expand_dims("time"),
        inside.chunk({"y": 7}),
    ):
        found = field.zonal(frame, MODALITY, weights=weights)
        pd.testing.assert_frame_equal(found, expected)


def test_an_even_weight_in_degrees_changes_nothing(gulf: Path, tmp_path: Path) -> None:
    field, frame = client.open_field(gulf), polygons(40)
    lon, lat = np.arange(-40, 45, 0.25), np.arange(-35, 40, 0.25)
    even = xr.DataArray(np.full((len(lat), len(lon)), 3.0), {"lat": lat, "lon": lon})
    plain = field.zonal(frame, MODALITY)
    found = field.zonal(frame, MODALITY, weights=even)
    np.testing.assert_allclose(found["coordinate_weight"], 3 * plain["coordinate_cells"], atol=1e-9)
    pd.testing.assert_frame_equal(found[list(plain)[:-1]], plain.iloc[:, :-1], rtol=0, atol=1e-6)
    # From 0 to 360 degrees too, as an array and as a file.
    turned = even.assign_coords(lon=even.lon % 360).sortby("lon")
    turned = turned.reindex(lon=np.arange(0, 360, 0.25), fill_value=3.0)
    affine = rasterio.Affine(0.25, 0, -0.125, 0, -0.25, lat[-1] + 0.125)
    path = write(tmp_path / "turned.tif", turned.values, "EPSG:4326", affine)
    for weights in (turned, path):
        again = field.zonal(frame, MODALITY, weights=weights)
        pd.testing.assert_frame_equal(again, found, rtol=0, atol=1e-6)
    # A raster that rises northward gives each cell the latitude of its middle, plus 90.
    north = even.copy(data=np.broadcast_to(lat[:, None] + 90, even.shape))
    weights = field.zonal([(4.0, 1.0, 4.4, 1.4)], MODALITY, weights=north)
    weight = weights["coordinate_weight"] / weights["coordinate_cells"]
    assert weight.iloc[0] == pytest.approx(91.2, abs=0.5)


def test_a_covariate_weighs(wide: Path) -> None:
    field = client.open_field(wide)
    with xr.open_zarr(wide, chunks=None) as dataset:
        heights = dataset["covariates"].isel(name=0, drop=True).load()
    found = field.zonal(polygons(30), MODALITY, weights="height")
    expected = field.zonal(polygons(30), MODALITY, weights=heights)
    pd.testing.assert_frame_equal(found, expected)
    assert "no weight" in set(found["coordinate_status"])
    squared = field.zonal(polygons(30), MODALITY, weights="height^2")
    pd.testing.assert_frame_equal(squared, field.zonal(polygons(30), MODALITY, weights=heights**2))
    for power in ("0", "-1", "inf"):
        with pytest.raises(RegionError, match="power of weights is a number above 0"):
            field.zonal(polygons(1), MODALITY, weights=f"height^{power}")
    with pytest.raises(RegionError, match="to the power of 1000 is not finite"):
        field.zonal(polygons(30), MODALITY, weights="height^1000")


def test_a_polygon_without_weight_is_missing(gulf: Path, population: xr.DataArray) -> None:
    field = client.open_field(gulf)
    boxes = [(-5.0, -5.0, 5.0, 0.0), (-5.0, 12.0, 5.0, 13.0)]
    with pytest.warns(client.RegionWarning, match="2 of 2 polygons hold no cell with a weight"):
        found = field.zonal(boxes, MODALITY, stats=STATS, weights=population * 0)
    assert (found["coordinate_status"] == "no weight").all()
    assert (found["coordinate_share"] == 1).all() and (found["coordinate_weight"] == 0).all()
    assert found.filter(regex="_[0-9]{3}$").isna().all(axis=None)
    assert len(field.zonal(boxes, weights=population * 0, missing="drop")) == 0
    with pytest.raises(RegionError, match=r"2 no weight"):
        field.zonal(boxes, weights=population * 0, missing="raise")


@pytest.mark.parametrize("stats", [[], "median", ["mean", "quantile:1.5"], "quantile:"])
def test_unknown_statistics_are_refused(gulf: Path, stats: Any) -> None:
    with pytest.raises(ValueError, match=r"mean, std, min, max and quantile:Q"):
        client.open_field(gulf).zonal((0, 0, 1, 1), stats=stats)


def test_statistics_are_read_once_each() -> None:
    named = parse_statistics(("std", "quantile:0.50", "std", "quantile:0.5"))
    assert named == (Statistic("std"), Statistic("quantile", 0.5))


def test_weights_that_cannot_be_used_are_refused(
    gulf: Path, population: xr.DataArray, tmp_path: Path
) -> None:
    field = client.open_field(gulf)
    affine = rasterio.Affine(*field.grid.affine)
    two = write(tmp_path / "two.tif", np.ones((2, 8, 8), "float32"), field.grid.crs, affine)
    nowhere = write(tmp_path / "nowhere.tif", np.ones((8, 8), "float32"), None, affine)
    shifted = population.assign_coords(x=population.x + 10.0).drop_vars("spatial_ref")
    text = tmp_path / "notes.tif"
    text.write_text("no raster")
    elsewhere = tmp_path / "elsewhere.vrt"
    rasterio.shutil.copy(two, elsewhere, driver="VRT")
    uneven = population.assign_coords(x=population.x**3)
    cases: list[tuple[Any, type[Exception], str]] = [
        (population - 5, RegionError, "'population' has .* at the cell in row"),
        (population * np.inf, RegionError, "a weight is a number from 0 up"),
        (two, RegionError, "one band, and .* has 2"),
        (nowhere, RegionError, "no CRS or no georef"),
        (shifted, RegionError, "carries no CRS"),
        (uneven, RegionError, "not evenly spaced"),
        (population.rename(y="row"), RegionError, "weights run along y and x"),
        (population.drop_vars("x"), RegionError, "with coordinates of both"),
        ([1.0, 2.0], RegionError, "cannot read weights from a list"),
        ("population", StoreError, "no GeoTIFF that can be opened .* no covariate of the field"),
        (text, StoreError, "no GeoTIFF that can be opened"),
        (elsewhere, StoreError, "no GeoTIFF that can be opened"),
    ]
    for weights, error, said in cases:
        with pytest.raises(error, match=said):
            field.zonal((-5, -5, 5, 5), weights=weights)


def test_columns_of_one_name_are_refused() -> None:
    layout = Layout(modalities=("a", "a_std"), bands=2)
    chosen = Selection(layout.modalities)
    with pytest.raises(LayoutError, match=r"'a_std_000'.*one modality at a time"):
        zonal_columns(layout, chosen, parse_statistics(["mean", "std"]))
    assert len(zonal_columns(layout, chosen, parse_statistics("std"))) == 10


def test_the_command_computes_statistics(
    gulf: Path, population: xr.DataArray, tmp_path: Path
) -> None:
    frame, source, raster = polygons(10), tmp_path / "in.geojson", tmp_path / "population.tif"
    frame.to_file(source)
    field = client.open_field(gulf)
    write(raster, population.values, field.grid.crs, rasterio.Affine(*field.grid.affine),
          nodata=np.nan)  # fmt: skip
    output = done(
        *("zonal", gulf, source, "--modality", MODALITY, "--weights", raster, "--quiet"),
        *("--stat", "mean", "--stat", "quantile:0.9"),
    )
    found = pd.read_csv(io.StringIO(output))
    expected = field.zonal(
        frame, MODALITY, stats=("mean", "quantile:0.9"), weights=raster, prefix="ug_"
    )
    numbers = expected.select_dtypes("number").columns
    np.testing.assert_allclose(found[numbers], expected[numbers], rtol=1e-5, atol=1e-6)
    assert found["ug_coordinate_status"].tolist() == expected["ug_coordinate_status"].tolist()
    assert "--stat: there is no statistic 'mode'" in refused(
        "zonal", gulf, source, "--stat", "mode"
    )
