from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import shapely
import stores
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from unigeo import client
from unigeo.client.areas.averaging import OFF_THE_FIELD
from unigeo.schemas.errors import LayoutError, RegionError, StoreError

SHAPES = [
    shapely.box(-12, -9, 9, 11),  # over all four shards
    shapely.box(-15, -12, 12, 12).difference(shapely.box(-10, -8, 6, 6)),  # with a hole
    shapely.MultiPolygon([shapely.box(-19, 0, -17, 2), shapely.box(14, -10, 20, -3)]),
    shapely.box(-7.31, 3.12, -7.30, 3.13),  # smaller than a cell
    shapely.Point(2, 3).buffer(7.3),
    shapely.box(0, 3, 5.5, 5.5),  # in the lake and out of it
    shapely.box(20, 10, 60, 40),  # mostly off the field
    shapely.box(100, 40, 110, 50),  # off the field
    shapely.box(4.5, 4.5, 5.5, 5.5),  # water
]
NAMES = ["across", "hole", "parts", "small", "disc", "shore", "edge", "off", "lake"]


@pytest.fixture
def places() -> geopandas.GeoDataFrame:
    index = pd.Index(NAMES, name="name")
    return geopandas.GeoDataFrame({"n": range(9)}, geometry=SHAPES, index=index, crs="EPSG:4326")


def by_hand(store: Path, shape: shapely.Geometry, modality: str) -> tuple[np.ndarray, float, float]:
    """Mean vector, valid cells and valid share, by shapely and plain xarray in float64."""
    dataset = xr.open_zarr(store, decode_coords="all", chunks=None)
    half = float(dataset.x[1] - dataset.x[0]) / 2
    x, y = np.meshgrid(dataset.x, dataset.y)
    cells = shapely.box(x - half, y - half, x + half, y + half)
    crs = dataset.rio.crs
    fine = geopandas.GeoSeries([shapely.segmentize(shape, 0.1)], crs="EPSG:4326").to_crs(crs)
    area = shapely.area(shapely.intersection(cells, fine.iloc[0]))
    stored = dataset[modality].values.astype(np.float64)
    weights = np.where(dataset[f"{modality}_status"] == 1, area, 0.0)
    vectors = stored / np.linalg.norm(stored, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        mean = (weights[..., None] * vectors).sum(axis=(0, 1)) / weights.sum()
    return mean, weights.sum() / (2 * half) ** 2, weights.sum() / fine.iloc[0].area


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_means_are_those_of_shapely_and_xarray(
    gulf: Path, places: geopandas.GeoDataFrame, number: int
) -> None:
    table = client.open_field(gulf).zonal(places)
    assert table.index.equals(places.index)
    for modality in ("coordinate", "aerial"):
        mean, cells, share = by_hand(gulf, SHAPES[number], modality)
        row = table.iloc[number]
        found = row[[f"{modality}_{band:03d}" for band in range(8)]]
        np.testing.assert_allclose(found.astype(float), mean, atol=2e-6)
        assert row[f"{modality}_cells"] == pytest.approx(cells, rel=1e-7)
        assert row[f"{modality}_share"] == pytest.approx(share, rel=1e-7)


def test_without_a_valid_cell_the_mean_is_empty(gulf: Path, places: geopandas.GeoDataFrame) -> None:
    table = client.open_field(gulf).zonal(places)
    for name in ("off", "lake"):
        assert table.loc[name].filter(like="_0").isna().all()
        assert (table.loc[name].filter(regex="cells|share") == 0).all()
    assert table.loc["edge"].filter(like="aerial_0").isna().all()  # not observed
    assert table.drop(["off", "lake", "edge"]).notna().all(axis=None)


def test_columns_are_named_as_in_a_join(gulf: Path) -> None:
    table = client.open_field(gulf).zonal((0, 0, 3, 3), "aerial", prefix="ug_")
    bands = [f"ug_aerial_{band:03d}" for band in range(8)]
    assert list(table) == [*bands, "ug_aerial_cells", "ug_aerial_share"]
    assert (table[bands].dtypes == np.float32).all()
    assert len(client.open_field(gulf).zonal([])) == 0


def test_whole_cells_have_their_plain_mean(gulf: Path) -> None:
    field = client.open_field(gulf)
    part = field.dataset().isel(y=slice(30, 42), x=slice(18, 34))  # across shards
    half = field.grid.resolution_m / 2
    x, y = part.x.values, part.y.values
    box = shapely.box(x.min() - half, y.min() - half, x.max() + half, y.max() + half)
    table = field.zonal([box], "coordinate", crs=field.grid.crs)
    vectors = part.unigeo.sample(part.unigeo.grid.centres().reshape(-1, 2)).filter(like="nate_0")
    np.testing.assert_allclose(table.filter(like="_0").iloc[0], vectors.mean(), atol=1e-6)
    assert table["coordinate_cells"].iloc[0] == pytest.approx(12 * 16)
    assert table["coordinate_share"].iloc[0] == pytest.approx(1)


def test_length_tells_how_alike_cells_are_and_can_be_made_1(
    gulf: Path, places: geopandas.GeoDataFrame
) -> None:
    field = client.open_field(gulf)
    means = field.zonal(places, "coordinate").filter(like="_0")
    unit = field.zonal(places, "coordinate", normalize=True).filter(like="_0")
    length = np.linalg.norm(means, axis=1)
    assert length[NAMES.index("small")] == pytest.approx(1, abs=1e-6)
    assert length[NAMES.index("across")] < 0.9
    np.testing.assert_allclose(unit, means.div(length, axis=0), atol=1e-6)


def test_each_polygon_has_the_mean_it_has_alone(gulf: Path, places: geopandas.GeoDataFrame) -> None:
    field = client.open_field(gulf)
    together = field.zonal(places)
    for number in range(len(places)):
        alone = field.zonal(places.iloc[[number]])
        np.testing.assert_allclose(alone, together.iloc[[number]], atol=1e-6)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(-25, 25), st.floats(-20, 20)), min_size=3, max_size=200))
def test_many_small_polygons_equal_few(gulf: Path, centres: list[tuple[float, float]]) -> None:
    field = client.open_field(gulf)
    shapes = shapely.box(*(np.array(centres) - 0.7).T, *(np.array(centres) + 0.7).T)
    together = field.zonal(shapes, "aerial")
    last = field.zonal(shapes[-1], "aerial")
    np.testing.assert_allclose(together.iloc[[-1]], last, atol=1e-6)


def test_means_across_the_antimeridian(fiji: Path) -> None:
    field = client.open_field(fiji)
    east, west = (178.0, -18.0, 180.0, -16.0), (-180.0, -18.0, -179.0, -16.0)
    split = shapely.MultiPolygon([shapely.box(*east), shapely.box(*west)])
    running_on = shapely.box(178, -18, 181, -16)
    crossing = (178.0, -18.0, -179.0, -16.0)
    table = field.zonal([split, running_on, crossing])
    assert (table["coordinate_share"] > 0.999).all()
    np.testing.assert_allclose(table.iloc[1], table.iloc[2], rtol=1e-6)
    np.testing.assert_allclose(table.iloc[0], table.iloc[2], atol=1e-6)
    parts = field.zonal([east, west])
    weights = parts["coordinate_cells"]
    mean = parts.filter(like="_0").mul(weights, axis=0).sum() / weights.sum()
    np.testing.assert_allclose(mean, table.filter(like="_0").iloc[2], atol=1e-6)


class Counting:
    """Reads, and notes which windows of which array were asked for."""

    def __init__(self, field: client.Field) -> None:
        self.field, self.asked = field, []

    def __call__(self, name: str, rows: slice, cols: slice) -> np.ndarray:
        self.asked.append((name, rows, cols))
        return self.field.read(name, rows, cols)


def watched(path: Path) -> tuple[client.Field, Counting]:
    import dataclasses

    field = client.open_field(path)
    counting = Counting(field)
    return dataclasses.replace(field, read=counting), counting


def test_a_shard_is_read_once_and_only_if_wanted(
    gulf: Path, places: geopandas.GeoDataFrame
) -> None:
    field, counting = watched(gulf)
    field.zonal(pd.concat([places] * 50))
    names = [(name, rows.start // 32, cols.start // 32) for name, rows, cols in counting.asked]
    assert len(names) == len(set(names)) == 4 * 4  # two arrays and two statuses, four shards
    field, counting = watched(gulf)
    field.zonal([SHAPES[3]], "aerial")
    assert [name for name, _, _ in counting.asked] == ["aerial_status", "aerial"]
    _, rows, cols = counting.asked[1]
    assert (rows.stop - rows.start) * (cols.stop - cols.start) <= 4
    field, counting = watched(gulf)
    assert field.zonal([SHAPES[7]]).isna().any(axis=None)
    assert counting.asked == []


def test_a_window_of_a_dataset_has_means_too(gulf: Path) -> None:
    whole = client.open_field(gulf)
    window = xr.open_zarr(gulf).isel(y=slice(20, 50), x=slice(10, 60)).unigeo
    box = (-8.0, -6.0, 6.0, 5.0)
    np.testing.assert_allclose(window.zonal(box), whole.zonal(box), atol=1e-6)


def test_a_lost_shard_is_an_error_and_not_a_mean(tmp_path: Path) -> None:
    stores.build(tmp_path / "f")
    (tmp_path / "f/coordinate/c/1/1/0").unlink()
    with pytest.raises(StoreError, match=r"lost a shard"):
        client.open_field(tmp_path / "f").zonal((1, -10, 8, -2))


@pytest.mark.parametrize(
    ("polygons", "options", "error"),
    [
        ("atlantis", {}, RegionError),
        ([shapely.Point(0, 0)], {}, RegionError),
        ((0, 0, 1, 1), {"modalities": "dsm"}, LayoutError),
    ],
)
def test_what_cannot_be_averaged_is_refused(
    gulf: Path, polygons: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        client.open_field(gulf).zonal(polygons, **options)


def test_coverage_shares_out_each_polygon_s_area(
    gulf: Path, places: geopandas.GeoDataFrame
) -> None:
    field = client.open_field(gulf)
    table, zonal = field.coverage(places), field.zonal(places)
    assert table.index.equals(places.index)
    for modality in field.modalities:
        shares = table[modality]
        assert list(shares)[-1] == OFF_THE_FIELD
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-9)
        np.testing.assert_allclose(shares["valid"], zonal[f"{modality}_share"], atol=1e-9)
        assert shares.loc["off", OFF_THE_FIELD] == 1
        assert shares.loc["lake", "water"] == pytest.approx(1)
        assert 0.5 < shares.loc["edge", OFF_THE_FIELD] < 1
        assert shares.loc["across", OFF_THE_FIELD] == 0
    assert table["aerial"].loc["edge", "no observation"] > 0
    assert list(field.coverage(places, "aerial").columns.levels[0]) == ["aerial"]
    assert field.coverage([]).shape == (0, 14)


def test_coverage_of_the_whole_field_agrees_with_its_counts(gulf: Path) -> None:
    field = client.open_field(gulf)
    box = geopandas.GeoSeries([shapely.box(*field.grid.bounds)], crs=field.grid.crs)
    shares = field.coverage(box)["aerial"].iloc[0]
    counts = field.coverage()["aerial"]
    for code, cells in counts.items():
        assert shares[code.words] * 64 * 64 == pytest.approx(cells, abs=1e-3)
