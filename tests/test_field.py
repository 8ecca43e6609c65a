import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import stores
from test_points import FORMS

from unigeo import client
from unigeo.schemas.errors import LayoutError, PointsError, PointsWarning, StoreError

LONLAT = np.array([[-10.0, 3.0], [10.0, -4.0]])
MIXED = np.array([[-10.0, 3.0], [5.0, 5.0], [24.0, 17.0], [100.0, 0.0], [10.0, -4.0]])
"""A vector, water, no aerial observation, off the grid, a vector."""


def forms(folder: Path) -> dict[str, Any]:
    table = pd.DataFrame({"lon": LONLAT[:, 0], "lat": LONLAT[:, 1]})
    frame = geopandas.GeoDataFrame(
        geometry=geopandas.points_from_xy(*LONLAT.T), crs="EPSG:4326"
    ).to_crs("EPSG:3857")
    geojson = {"type": "MultiPoint", "coordinates": LONLAT.tolist()}
    path = folder / "points.geojson"
    path.write_text(json.dumps(geojson))
    return {
        "numpy": LONLAT,
        "list": LONLAT.tolist(),
        "pandas": table,
        "geopandas": frame,
        "geojson": geojson,
        "path": path,
        "text path": str(path),
        "arrow": pa.table({"x": LONLAT[:, 0], "y": LONLAT[:, 1]}),
        "xarray": xr.Dataset(coords={"lon": ("p", LONLAT[:, 0]), "lat": ("p", LONLAT[:, 1])}),
    }


@pytest.mark.parametrize(
    "form",
    ["numpy", "list", "pandas", "geopandas", "geojson", "path", "text path", "arrow", "xarray"],
)
def test_points_in_every_form_give_the_same_vectors(gulf: Path, tmp_path: Path, form: str) -> None:
    field = client.open_field(gulf)
    expected = field.sample(LONLAT, as_="numpy")
    sampled = field.sample(forms(tmp_path)[form], as_="numpy")
    for name in ("coordinate", "aerial"):
        assert np.array_equal(sampled[name], expected[name])
        assert np.allclose(np.linalg.norm(sampled[name], axis=1), 1, atol=1e-6)


@pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.PointsWarning")
@settings(max_examples=60)
@given(st.sampled_from(sorted(FORMS)), st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_rows_without_a_position_are_alike_in_every_form(
    gulf: Path, form: str, rows: list[int]
) -> None:
    field = client.open_field(gulf)
    places = np.concatenate([MIXED, [[np.nan, np.nan]]])[rows]
    expected = field.sample(places)
    sampled = field.sample(FORMS[form](places))
    pd.testing.assert_frame_equal(sampled.reset_index(drop=True), expected)
    nowhere = [row == 5 for row in rows]
    assert (sampled["aerial_status"] == "no position").tolist() == nowhere


def test_the_ways_to_a_field_give_the_same(gulf: Path) -> None:
    expected = client.open_field(gulf).sample(MIXED)
    assert client.sample(MIXED, gulf).equals(expected)
    assert client.sample(MIXED, str(gulf)).equals(expected)
    assert client.sample(MIXED, gulf.as_uri()).equals(expected)
    for options in ({}, {"chunks": None}, {"consolidated": True, "decode_coords": "all"}):
        assert xr.open_zarr(gulf, **options).unigeo.sample(MIXED).equals(expected)
    assert client.open_field(gulf).dataset().unigeo.sample(MIXED).equals(expected)


def test_a_window_of_a_dataset_is_a_field_of_its_own(gulf: Path) -> None:
    field = client.open_field(gulf)
    window = xr.open_zarr(gulf).isel(y=slice(20, 50), x=slice(10, 60)).unigeo
    assert window.grid.shape == (30, 50)
    centres = window.grid.centres().reshape(-1, 2)
    assert window.sample(centres).equals(field.sample(centres))
    with pytest.warns(client.PointsWarning, match="1 outside region"):
        assert window.sample([(24.9, 17.9)])["coordinate_status"].tolist() == ["outside region"]
    for thinned in ({"y": slice(0, 64, 2)}, {"x": slice(None, None, -1)}):
        with pytest.raises(LayoutError, match="thinned or reordered"):
            xr.open_zarr(gulf).isel(thinned).unigeo.sample(LONLAT)


def test_an_empty_window_or_no_field_is_refused(gulf: Path) -> None:
    with pytest.raises(LayoutError, match="no cells: 0 rows, 64 columns"):
        xr.open_zarr(gulf).isel(y=slice(0, 0)).unigeo.sample(LONLAT)
    with pytest.raises(LayoutError, match="not a unigeo field"):
        xr.Dataset().unigeo.sample(LONLAT)
    with pytest.raises(LayoutError, match="lacks the field's arrays"):
        xr.open_zarr(gulf)[["coordinate"]].unigeo.sample(LONLAT)
    with pytest.raises(LayoutError, match="lacks the field's arrays"):
        xr.open_zarr(gulf).drop_vars("x").unigeo.sample(LONLAT)


def test_a_dataset_of_some_modalities_is_a_field_of_these(gulf: Path) -> None:
    part = xr.open_zarr(gulf)[["aerial", "aerial_status"]]
    assert part.unigeo.sample(MIXED).equals(client.sample(MIXED, gulf, modalities="aerial"))


def test_missing_vectors_are_kept_refused_or_dropped(gulf: Path) -> None:
    field = client.open_field(gulf)
    kept = field.sample(MIXED)
    assert len(kept) == 5
    assert kept["aerial_status"].tolist() == [
        "valid", "water", "no observation", "outside region", "valid",
    ]  # fmt: skip
    empty = kept.filter(like="aerial_0").isna()
    assert empty.all(axis=1).tolist() == [False, True, True, True, False]
    assert empty.any(axis=1).tolist() == [False, True, True, True, False]
    dropped = field.sample(MIXED, missing="drop")
    assert dropped.notna().all(axis=None)
    values = [name for name in kept if not name.endswith("status")]
    assert np.array_equal(dropped[values], kept[values].iloc[[0, 4]])
    assert len(field.sample(MIXED, "coordinate", missing="drop")) == 3
    with pytest.raises(
        PointsError,
        match=r"2 of 5 points have no coordinate vector \(1 outside region, 1 water\): row 1 "
        r"water, row 3 outside region\. Pass missing='nan'",
    ):
        field.sample(MIXED, missing="raise")
    assert len(field.sample(LONLAT, missing="raise")) == 2


def test_dropped_rows_keep_their_labels(gulf: Path) -> None:
    table = pd.DataFrame({"lon": MIXED[:, 0], "lat": MIXED[:, 1]}, index=list("abcde"))
    assert client.sample(table, gulf, missing="drop").index.tolist() == ["a", "e"]
    assert client.sample(table, gulf).index.tolist() == list("abcde")


def test_vectors_come_as_table_arrays_or_dataset(gulf: Path) -> None:
    field = client.open_field(gulf)
    table = field.sample(MIXED, prefix="ug_")
    arrays = field.sample(MIXED, as_="numpy")
    dataset = field.sample(MIXED, as_="xarray")
    assert list(table.columns[:2]) == ["ug_coordinate_000", "ug_coordinate_001"]
    assert list(table.columns[-2:]) == ["ug_coordinate_status", "ug_aerial_status"]
    assert (table.dtypes.iloc[:-2] == np.float32).all()
    for name in field.modalities:
        columns = [f"ug_{name}_{band:03d}" for band in range(8)]
        assert np.array_equal(table[columns], arrays[name], equal_nan=True)
        assert np.array_equal(dataset[name], arrays[name], equal_nan=True)
    assert np.array_equal(dataset["lon"], MIXED[:, 0])


def test_no_points_give_an_empty_table(gulf: Path) -> None:
    empty = client.sample([], gulf)
    assert empty.shape == (0, 18)
    assert client.sample([], gulf, as_="numpy", method="bilinear")["aerial"].shape == (0, 8)
    table = pd.DataFrame({"lon": pd.Series(dtype=float), "lat": pd.Series(dtype=float)})
    assert client.join(table, gulf).shape == (0, 20)


@settings(max_examples=20)
@given(st.permutations(range(5)))
def test_join_keeps_index_order_dtypes_and_columns(gulf: Path, order: list[int]) -> None:
    table = pd.DataFrame(
        {
            "name": pd.Series(list("pqrst"), dtype="string"),
            "lon": MIXED[:, 0],
            "count": pd.Series([1, None, 3, 4, 5], dtype="Int64"),
            "lat": MIXED[:, 1],
            "kind": pd.Categorical(list("xyxyx")),
            "when": pd.date_range("2026-01-01", periods=5),
        },
        index=pd.Index([7, 7, -1, 3, 3], name="place"),
    ).iloc[order]
    before = table.copy(deep=True)
    joined = client.join(table, gulf)
    pd.testing.assert_frame_equal(joined[table.columns], before)
    pd.testing.assert_frame_equal(table, before)  # the user's own is untouched
    assert list(joined.columns[:6]) == list(table.columns)
    new = joined.iloc[:, 6:]
    assert all(str(name).startswith("ug_") for name in new)
    expected = client.sample(MIXED[order], gulf, prefix="ug_")
    pd.testing.assert_frame_equal(new.reset_index(drop=True), expected)


def test_a_geodataframe_stays_one(gulf: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {"name": ["a", "b"]}, geometry=geopandas.points_from_xy(*LONLAT.T), crs="EPSG:4326"
    ).to_crs("EPSG:8857")
    joined = client.join(frame, gulf, modalities="aerial")
    assert isinstance(joined, geopandas.GeoDataFrame)
    assert joined.crs == frame.crs
    assert joined.geometry.equals(frame.geometry)
    assert joined.shape == (2, 2 + 9)


def test_a_column_that_is_there_already_is_not_doubled(gulf: Path) -> None:
    table = pd.DataFrame({"lon": LONLAT[:, 0], "lat": LONLAT[:, 1]})
    once = client.join(table, gulf)
    with pytest.raises(PointsError, match=r"already has 18 .*'ug_coordinate_000'.*another prefix"):
        client.join(once, gulf)
    assert client.join(once, gulf, prefix="again_").shape == (2, 2 + 36)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"modalities": "dsm"}, LayoutError, "no modality 'dsm'; it has coordinate, aerial"),
        ({"modalities": ()}, LayoutError, "no modality named"),
        ({"columns": ("a", "b")}, PointsError, "no column 'a'"),
    ],
)
def test_what_the_field_lacks_is_named(
    gulf: Path, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    table = pd.DataFrame({"lon": LONLAT[:, 0], "lat": LONLAT[:, 1]})
    with pytest.raises(error, match=said):
        client.sample(table, gulf, **options)


def test_wrong_options_are_refused_before_anything_is_read(gulf: Path) -> None:
    """As a user meets them: without the checks of annotations that this test run adds."""
    code = f"""
from unigeo import client
for wrong in ({{"method": "cubic"}}, {{"missing": "zero"}}, {{"as_": "list"}}):
    try:
        client.sample([(0.0, 0.0)], {str(gulf)!r}, **wrong)
    except ValueError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["method", "missing", "as_"]


def test_a_store_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no Zarr v3 store"):
        client.open_field(tmp_path / "absent.zarr")
    with pytest.raises(StoreError, match="unknown scheme 'carrier'"):
        client.open_field("carrier://host/field.zarr")
    (tmp_path / "file.zarr").write_text("text")
    with pytest.raises(StoreError):
        client.open_field(tmp_path / "file.zarr")


def test_a_torn_shard_is_an_error_and_not_a_vector(tmp_path: Path) -> None:
    stores.build(tmp_path / "f")
    shard = tmp_path / "f/coordinate/c/1/1/0"
    content = bytearray(shard.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    shard.write_bytes(content)
    with pytest.raises(StoreError, match="have the status valid"):
        client.sample([(10.0, -4.0)], tmp_path / "f")


def test_a_lost_shard_is_an_error_and_not_an_empty_vector(tmp_path: Path) -> None:
    """Zarr reads an object that is not there as no data; the status knows better."""
    stores.build(tmp_path / "f")
    (tmp_path / "f/coordinate/c/1/1/0").unlink()
    for method in ("nearest", "bilinear"):
        with pytest.raises(StoreError, match=r"coordinate/c/1/1/0 is not there.*lost a shard"):
            client.sample([(10.0, -4.0)], tmp_path / "f", method=method)
    assert len(client.sample([(-10.0, 3.0)], tmp_path / "f", missing="raise")) == 1


def test_info_says_what_the_field_is(gulf: Path) -> None:
    field = client.open_field(gulf)
    info = json.loads(json.dumps(field.info()))
    assert info["region"] == "gulf"
    assert info["cells"]["coordinate"] == {"valid": 2759, "outside region": 1244, "water": 93}
    assert sum(info["cells"]["aerial"].values()) == 64 * 64
    assert "Nobody (2026)" in field.cite()
    assert "CC0-1.0" in field.cite()
    assert "gulf: coordinate, aerial; 64 x 64 cells of 80000 m in EPSG:8857" in repr(field)


def test_previews_show_every_cell_that_has_a_vector(gulf: Path, tmp_path: Path) -> None:
    from unigeo.client.field.preview import principal_colours

    field = client.open_field(gulf)
    paths = field.preview(tmp_path / "maps")
    assert [path.name for path in paths] == ["coordinate.png", "aerial.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    panels, (west, east, south, north) = principal_colours(field, "coordinate")
    assert panels.min() >= 0
    assert panels.max() <= 1
    for rgb in panels:
        coloured = (rgb != np.array((0.93, 0.93, 0.93))).any(axis=-1)
        assert coloured.sum() == pytest.approx(2759, abs=3)
        assert (east - west, north - south) == (rgb.shape[1] * 80.0, rgb.shape[0] * 80.0)


def test_a_notebook_shows_a_plot(gulf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Axes of matplotlib, or a PNG of the same colours where it is not installed."""
    from matplotlib import pyplot

    field = client.open_field(gulf)
    drawn = field.plot()
    assert drawn.get_title().startswith("gulf: coordinate vectors")
    own = pyplot.figure().add_subplot()
    assert field.plot("aerial", ax=own) is own
    rgb = np.asarray(drawn.images[0].get_array())
    pyplot.close("all")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    picture = field.plot()
    assert repr(picture).endswith("pixels; axes need matplotlib)")
    shown = np.asarray(Image.open(BytesIO(picture._repr_png_())))
    repeats = shown.shape[0] // rgb.shape[0]
    assert shown.shape == (repeats * rgb.shape[0], repeats * rgb.shape[1], 3) and repeats > 1
    assert np.abs(shown[::repeats, ::repeats] - 255 * rgb).max() <= 0.5
    with pytest.raises(LayoutError, match="street"):
        field.plot("street")


def test_features_are_each_modality_and_all_joined(gulf: Path) -> None:
    field = client.open_field(gulf)
    features = field.features(LONLAT)
    assert {name: v.shape for name, v in features.items()} == {
        "coordinate": (2, 8), "aerial": (2, 8), "joined": (2, 16),
    }  # fmt: skip
    assert list(field.features(LONLAT, "aerial")) == ["aerial"]


def test_a_dataset_cut_in_bands_is_refused_and_a_transposed_one_read(gulf: Path) -> None:
    expected = client.sample(MIXED, gulf)
    for options in ({}, {"chunks": None}):
        dataset = xr.open_zarr(gulf, **options)
        for order in (("band", "x", "y"), ("x", "band", "y"), ("y", "band", "x")):
            assert dataset.transpose(*order).unigeo.sample(MIXED).equals(expected)
        for cut in (slice(0, 3), slice(None, None, -1), [1, 0, 2, 3, 4, 5, 6, 7]):
            with pytest.raises(LayoutError, match="of the field's 8 bands"):
                dataset.isel(band=cut).unigeo.sample(MIXED)
        with pytest.raises(LayoutError, match="is float32, not int8"):
            dataset.astype(np.float32).unigeo.sample(MIXED)
        with pytest.raises(LayoutError, match="has the dimensions x, band"):
            dataset.isel(y=3).unigeo.sample(MIXED)
        with pytest.raises(LayoutError, match="has the dimensions year, y, x, band"):
            dataset.expand_dims(year=[2026]).unigeo.sample(MIXED)


@pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.PointsWarning")
def test_points_without_a_position_are_one_thing_to_every_verb(gulf: Path) -> None:
    field = client.open_field(gulf)
    places = MIXED.copy()
    places[2] = np.nan
    for method in ("nearest", "bilinear", "bicubic"):
        sampled = field.sample(places, "aerial", method=method)
        assert sampled["aerial_status"].tolist() == [
            "valid", "water", "no position", "outside region", "valid",
        ]  # fmt: skip
        assert sampled.iloc[:, 0].isna().tolist() == [False, True, True, True, False]
        lazy = field.sample(places, method=method, as_="xarray", lazy=True)
        xr.testing.assert_allclose(
            lazy.compute(), field.sample(places, method=method, as_="xarray")
        )
    stored = field.sample(places, "aerial", dtype="int8", as_="numpy")["aerial"]
    assert (stored[2] == -128).all()
    assert field.plan(places).points == 5
    assert field.plan(places).inside == 3
    batches = list(field.sample_batches(places, batch=2))
    assert pd.concat(batches, ignore_index=True).equals(field.sample(places))
    with pytest.raises(PointsError, match="row 1 water, row 2 no position, row 3 outside region"):
        field.sample(places, "aerial", missing="raise")
    assert len(field.sample(places, "aerial", missing="drop")) == 2
    many = np.concatenate([places] * 3)
    with pytest.raises(PointsError, match=r"row 7 no position and 4 more\. Pass"):
        field.sample(many, "aerial", missing="raise")


@pytest.mark.parametrize("options", [{}, {"chunks": None}])
def test_a_lost_shard_is_an_error_to_a_transposed_dataset_too(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    stores.build(tmp_path / "f")
    (tmp_path / "f/coordinate/c/1/1/0").unlink()
    dataset = xr.open_zarr(tmp_path / "f", **options).transpose("band", "x", "y")
    with pytest.raises(StoreError, match="coordinate/c/1/1/0"):
        dataset.unigeo.sample([(10.0, -4.0)], "coordinate")


def test_rows_that_are_dropped_of_an_array_leave_the_others_their_numbers(gulf: Path) -> None:
    field = client.open_field(gulf)
    centres = field.grid.centres().reshape(-1, 2)
    on_land = field.sample(centres, "coordinate", missing="drop").index[:2]
    points = np.concatenate([[[170.0, -60.0]], centres[on_land], [[np.nan, 1.0]]])
    with pytest.warns(PointsWarning):
        kept = field.sample(points, "coordinate", missing="drop")
    assert kept.index.tolist() == [1, 2]
