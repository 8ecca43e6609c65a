import re
import warnings
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from support import stores

from unigeo import client
from unigeo.client.areas.zonal import OFF_THE_FIELD
from unigeo.schemas.errors import LayoutError, RegionError, StoreError
from unigeo.schemas.geo.projection import equal_earth_m

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


def same_means(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Equal numbers within rounding, equal statuses."""
    words = one.select_dtypes("category").columns
    assert one[words].astype(str).values.tolist() == other[words].astype(str).values.tolist()
    np.testing.assert_allclose(one.drop(columns=words), other.drop(columns=words), atol=1e-6)


def zonal_of(field: client.Field, *args: Any, **options: Any) -> pd.DataFrame:
    """Zonal means of polygons that may lie off the field."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", client.RegionWarning)
        return field.zonal(*args, **options)


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
    reasons = {"off": "outside region", "lake": "water", "edge": "outside region"}
    valid = dict.fromkeys(places.index, "valid")
    assert table["coordinate_status"].astype(str).to_dict() == valid | reasons | {"edge": "valid"}
    assert table["aerial_status"].astype(str).to_dict() == valid | reasons
    for name in ("off", "lake"):
        assert table.loc[name].filter(like="_0").isna().all()
        assert (table.loc[name].filter(regex="cells|share") == 0).all()
    assert table.loc["edge"].filter(like="aerial_0").isna().all()  # not observed
    assert table.drop(["off", "lake", "edge"]).notna().all(axis=None)


def test_columns_are_named_as_in_a_join(gulf: Path) -> None:
    table = client.open_field(gulf).zonal((0, 0, 3, 3), "aerial", prefix="ug_")
    bands = [f"ug_aerial_{band:03d}" for band in range(8)]
    own = ["ug_aerial_cells", "ug_aerial_share", "ug_aerial_status"]
    assert list(table) == [*bands, *own]
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
        alone = zonal_of(field, places.iloc[[number]])
        same_means(alone, together.iloc[[number]])


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(-25, 25), st.floats(-20, 20)), min_size=3, max_size=200))
def test_many_small_polygons_equal_few(gulf: Path, centres: list[tuple[float, float]]) -> None:
    field = client.open_field(gulf)
    shapes = shapely.box(*(np.array(centres) - 0.7).T, *(np.array(centres) + 0.7).T)
    together = zonal_of(field, shapes, "aerial")
    last = zonal_of(field, shapes[-1], "aerial")
    same_means(together.iloc[[-1]], last)


def test_means_across_the_antimeridian(fiji: Path) -> None:
    field = client.open_field(fiji)
    east, west = (178.0, -18.0, 180.0, -16.0), (-180.0, -18.0, -179.0, -16.0)
    split = shapely.MultiPolygon([shapely.box(*east), shapely.box(*west)])
    running_on = shapely.box(178, -18, 181, -16)
    crossing = (178.0, -18.0, -179.0, -16.0)
    table = field.zonal([split, running_on, crossing])
    assert (table["coordinate_share"] > 0.999).all()
    same_means(table.iloc[[1]], table.iloc[[2]])
    same_means(table.iloc[[0]], table.iloc[[2]])
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
    with pytest.warns(client.RegionWarning, match="They lie between longitudes 100 and 110"):
        assert field.zonal([SHAPES[7]]).isna().any(axis=None)
    assert counting.asked == []


def test_a_window_of_a_dataset_has_means_too(gulf: Path) -> None:
    whole = client.open_field(gulf)
    window = xr.open_zarr(gulf).isel(y=slice(20, 50), x=slice(10, 60)).unigeo
    box = (-8.0, -6.0, 6.0, 5.0)
    same_means(window.zonal(box), whole.zonal(box))


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
        assert list(shares)[-2:] == [OFF_THE_FIELD, "no polygon"]
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-9)
        np.testing.assert_allclose(shares["valid"], zonal[f"{modality}_share"], atol=1e-9)
        assert shares.loc["off", OFF_THE_FIELD] == 1
        assert shares.loc["lake", "water"] == pytest.approx(1)
        assert 0.5 < shares.loc["edge", OFF_THE_FIELD] < 1
        assert shares.loc["across", OFF_THE_FIELD] == 0
    assert table["aerial"].loc["edge", "no observation"] > 0
    assert list(field.coverage(places, "aerial").columns.levels[0]) == ["aerial"]
    assert field.coverage([]).shape == (0, 16)


def test_coverage_of_the_whole_field_agrees_with_its_counts(gulf: Path) -> None:
    field = client.open_field(gulf)
    box = geopandas.GeoSeries([shapely.box(*field.grid.bounds)], crs=field.grid.crs)
    shares = field.coverage(box)["aerial"].iloc[0]
    counts = field.coverage()["aerial"]
    for code, cells in counts.items():
        assert shares[code.label] * 64 * 64 == pytest.approx(cells, abs=1e-3)


ROWS = [SHAPES[0], None, shapely.Polygon(), SHAPES[8], SHAPES[7], SHAPES[1], SHAPES[3]]
"""Valid, two without a shape, in the lake, off the field, and two more that are valid."""


def test_rows_without_a_shape_or_a_vector_say_why(gulf: Path) -> None:
    field = client.open_field(gulf)
    frame = geopandas.GeoDataFrame(geometry=ROWS, index=list("abcdefg"), crs=4326)
    said = r"^2 of 7 rows have no polygon \(no shape, or an empty one\), the first in row 1 \(label"
    with pytest.warns(client.RegionWarning, match=said):
        table = field.zonal(frame, "aerial")
    expected = ["valid", "no polygon", "no polygon", "water", "outside region", "valid", "valid"]
    assert table["aerial_status"].tolist() == expected
    empty = table.iloc[1:5].drop(columns="aerial_status")
    assert empty.filter(like="_0").isna().all(axis=None)
    assert (empty[["aerial_cells", "aerial_share"]] == 0).all(axis=None)
    alone = field.zonal(ROWS[0], "aerial")
    same_means(table.iloc[[0]], alone)
    for rows, options in (([0, 5, 6], {"missing": "drop"}), (range(7), {"missing": "nan"})):
        found = zonal_of(field, frame, "aerial", **options)
        pd.testing.assert_frame_equal(found, table.iloc[rows])
    with pytest.raises(
        RegionError, match=r"4 of 7 .*row 1 \(label 'b'\) no polygon, row 2 .*row 3"
    ):
        field.zonal(frame, missing="raise")
    whole = zonal_of(field, [None, None], "aerial")
    assert whole["aerial_status"].tolist() == ["no polygon", "no polygon"]


def test_coverage_of_rows_without_a_shape(gulf: Path) -> None:
    field = client.open_field(gulf)
    with pytest.warns(client.RegionWarning, match="2 of 7 rows have no polygon"):
        table = field.coverage(ROWS)["aerial"]
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-9)
    assert table["no polygon"].tolist() == [0, 1, 1, 0, 0, 0, 0]
    with pytest.warns(client.RegionWarning):
        assert field.coverage(ROWS, missing="drop").index.tolist() == [0, 3, 4, 5, 6]
    with pytest.raises(RegionError, match=r"2 of 7 .*row 1 \(label 1\), has no shape"):
        field.coverage(ROWS, missing="raise")


@pytest.mark.parametrize(
    ("shapes", "crs", "said"),
    [
        ([shapely.box(20, -15, 22, -14)] * 2, None, None),
        (
            [shapely.box(-14, 20.5, -13, 24)] * 3,
            None,
            "Longitude and latitude look swapped.*comes first\\.$",
        ),
        ([shapely.box(165, 1, 166, 2)], None, "They lie between longitudes 165 and 166"),
        ([shapely.box(-5, -5, 5, 5)], 3857, None),
        ([shapely.box(2e6, 1e6, 2.5e6, 2e6)], 32633, "They lie|look like EPSG"),
    ],
)
def test_most_polygons_off_the_field_warn_once_with_the_cause(
    gulf: Path, shapes: list[Any], crs: Any, said: str | None
) -> None:
    field = client.open_field(gulf)
    for verb in (field.zonal, field.coverage):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            verb(shapes, "aerial", crs=crs)
        told = [str(warning.message) for warning in caught]
        assert len(told) == (said is not None)
        if said is not None:
            assert caught[0].category is client.RegionWarning
            assert re.search(said, told[0])
    if said is not None:
        with pytest.raises(RegionError, match=f"the region lies off the field. .*({said})"):
            field.region(shapes, crs=crs)


def test_a_region_has_only_rows_with_a_shape(gulf: Path, tmp_path: Path) -> None:
    field = client.open_field(gulf)
    readers: list[Any] = [
        field.region,
        lambda region: list(field.iter_region(region)),
        lambda region: field.to_geotiff(tmp_path / "a.tif", region, "aerial"),
        lambda region: field.similarity((0.0, 0.0), "aerial", region=region),
    ]
    for read in readers:
        with pytest.raises(RegionError, match=r"row 1 \(label 1\), has no shape"):
            read([SHAPES[0], None])
        for nothing in ([], geopandas.GeoSeries([], crs=4326)):
            with pytest.raises(RegionError, match="no polygon was given"):
                read(nothing)
        for name in ("", " ", "."):
            with pytest.raises(RegionError, match=r"is empty|is a folder"):
                read(name)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.floats(-22, 22),
            st.floats(-16, 16),
            st.floats(-16, -6),
            st.floats(-6, 1),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_tiny_polygon_answers_with_its_cell(gulf: Path, drawn: list[Any]) -> None:
    field = client.open_field(gulf)
    shapes = []
    for lon, lat, side, ratio, upright in drawn:
        wide, high = 10.0**side, 10.0 ** (side + ratio)
        wide, high = (high, wide) if upright else (wide, high)
        shapes.append(shapely.box(lon, lat, lon + wide, lat + high))
    shapes = [shape for shape in shapes if shape.is_valid]
    corners = np.array([shape.exterior.coords[0] for shape in shapes]).reshape(-1, 2)
    exact = field.grid.position_m(*equal_earth_m(corners, 0.0))
    inner = (np.abs(exact - np.rint(exact)) > 1e-4).all(axis=1)
    found = zonal_of(field, [*shapes, SHAPES[0]]).iloc[:-1][inner]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", client.PointsWarning)
        sampled = field.sample(corners[inner]) if inner.any() else found
    for modality in field.modalities:
        status = found[f"{modality}_status"].astype(str)
        assert status.tolist() == sampled[f"{modality}_status"].astype(str).tolist()
        share = found[f"{modality}_share"]
        np.testing.assert_allclose(share, status.eq("valid"), atol=1e-6)
        assert share.between(0, 1).all()
        names = [f"{modality}_{band:03d}" for band in range(8)]
        np.testing.assert_allclose(found[names], sampled[names], atol=1e-5)


@pytest.mark.parametrize("side", [2e-5, 2e-7, 2e-9, 1e-12, 3e-15])
def test_a_polygon_of_any_size_has_a_share(gulf: Path, side: float) -> None:
    field = client.open_field(gulf)
    shape = shapely.box(-7.3, 3.1, -7.3 + side, 3.1 + side)
    table = field.zonal(shape, "aerial")
    assert table["aerial_share"].item() == pytest.approx(1, abs=1e-6)
    assert table["aerial_status"].item() == "valid"
    vector = field.sample([(-7.3, 3.1)], "aerial").filter(like="_0")
    np.testing.assert_allclose(table.filter(like="_0"), vector, atol=1e-6)
    assert field.region(shape).sizes["x"] == field.region(shape).sizes["y"] == 1
    assert field.coverage(shape)["aerial"]["valid"].item() == pytest.approx(1, abs=1e-6)


def test_polygons_on_the_edges_of_cells_have_whole_cells(gulf: Path) -> None:
    field = client.open_field(gulf)
    size = field.grid.resolution_m
    boxes = [shapely.box(x * size, y * size, (x + 1) * size, (y + 2) * size)
             for x in range(-9, 9, 3) for y in range(-9, 9, 3)]  # fmt: skip
    table = field.zonal(boxes, "coordinate", crs=field.grid.crs)
    whole = table[table["coordinate_status"] == "valid"]
    np.testing.assert_allclose(whole["coordinate_cells"] % 1, 0, atol=1e-9)
    on_edge = [shapely.box(x, -1e-7, x + 1e-6, 1e-7) for x in (0.0, size, -size)]
    dots = field.zonal(on_edge, "coordinate", crs=field.grid.crs)
    assert dots["coordinate_share"].tolist() == pytest.approx([1, 1, 1], abs=1e-6)


def test_slivers_have_the_mean_of_the_cells_they_cross(gulf: Path) -> None:
    field = client.open_field(gulf)
    for thin in (1e-2, 1e-4, 1e-6):
        wide = field.zonal(shapely.box(-15, -10, 3, -10 + thin), "coordinate")
        high = field.zonal(shapely.box(-15, -10, -15 + thin, 3), "coordinate")
        for table in (wide, high):
            assert table["coordinate_share"].item() == pytest.approx(1, abs=1e-6)
        line = np.stack([np.linspace(-15, 3, 4001), np.full(4001, -10.0)], axis=-1)
        mean = field.sample(line, "coordinate").filter(like="_0").mean()
        np.testing.assert_allclose(wide.filter(like="_0").iloc[0], mean, atol=2e-2)


@settings(max_examples=25)
@given(
    st.floats(177.5, 179.9),
    st.floats(180.1, 181.5),
    st.floats(-19.5, -17.5),
    st.floats(0.1, 2),
)
def test_forms_of_a_box_across_the_antimeridian_answer_alike(
    fiji: Path, west: float, east: float, south: float, height: float
) -> None:
    field, north = client.open_field(fiji), south + height
    seam = shapely.MultiPolygon(
        [shapely.box(west, south, 180, north), shapely.box(-180, south, east - 360, north)]
    )
    forms = [
        (west, south, east - 360, north),
        (west, south, east, north),
        (west - 360, south, east - 360, north),
        shapely.box(west, south, east, north),
        shapely.box(west, south, east, north).reverse(),
        shapely.geometry.mapping(shapely.box(west - 360, south, east - 360, north)),
        seam,
        shapely.geometry.mapping(seam),
    ]
    table = zonal_of(field, forms, "coordinate")
    assert table["coordinate_share"].between(0, 1).all()
    for number in range(1, len(forms)):
        same_means(table.iloc[[number]], table.iloc[[0]])
