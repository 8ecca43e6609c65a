"""Covariates: plain numbers of each cell, stored beside the vectors and read with them."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from support import stores
from support.commands import done, refused
from test_discs import polygon_of

from unigeo import client
from unigeo.client.areas.subset import cut_field
from unigeo.client.commands import store as store_commands
from unigeo.client.probing.controls import beside_ranks
from unigeo.client.reading.covariates import chosen_covariates
from unigeo.producer.storage.field_store import create_field
from unigeo.producer.storage.shard_codec import VectorObject, rows_of_vectors
from unigeo.schemas.errors import LayoutError, PointsError, ProbeError, StoreError
from unigeo.schemas.store.covariates import Covariate, covariate_attributes, read_covariates
from unigeo.schemas.store.layout import Layout, check_covariates
from unigeo.schemas.store.status import Status
from unigeo.schemas.store.validation import field_problems

NAMES = [one.name for one in stores.COVARIATES]
NORTH = (-15.0, 2.0, 20.0, 17.0)


@pytest.fixture(scope="module")
def field(wide: Path) -> client.Field:
    return client.open_field(wide)


def cell_numbers(field: client.Field, lonlat: np.ndarray) -> np.ndarray:
    """The numbers of the cells that hold points, by the formula that made the store."""
    row, col = field.grid.cells(lonlat).T
    return stores.covariates_at(row, col)


def shares_in(field: client.Field, shape: shapely.Polygon) -> np.ndarray:
    """Area of each cell that lies in a shape of the map, in cells, by shapely."""
    x, y = np.meshgrid(field.grid.x, field.grid.y)
    half = field.grid.resolution_m / 2
    cells = shapely.box(x - half, y - half, x + half, y + half)
    return np.asarray(shapely.area(shapely.intersection(cells, shape)) / (2 * half) ** 2)


@settings(max_examples=12, deadline=None)
@given(
    count=st.integers(1, 40),
    seed=st.integers(0, 1000),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
    method=st.sampled_from(["nearest", "bilinear", "bicubic"]),
)
def test_a_point_gets_the_numbers_of_its_cell(
    wide: Path, count: int, seed: int, names: list[str], method: Any
) -> None:
    field = client.open_field(wide)
    lonlat = np.random.default_rng(seed).uniform((-19, -14), (24, 17), (count, 2))
    expected = cell_numbers(field, lonlat)
    table = field.sample(lonlat, [], covariates=names, method=method)
    assert list(table.columns) == [*names, "covariates_status"]
    columns = [NAMES.index(name) for name in names]
    assert np.array_equal(table[names].to_numpy(), expected[:, columns], equal_nan=True)
    valid = ~np.isnan(expected).all(axis=1)
    assert np.array_equal(table["covariates_status"] == "valid", valid)
    for lazy in (False, True):
        there = field.sample(lonlat, [], covariates=names, as_="xarray", lazy=lazy).compute()
        assert list(there["name"].values) == names
        assert np.array_equal(there["covariates"].values, expected[:, columns], equal_nan=True)


def test_vectors_and_numbers_stand_side_by_side(field: client.Field) -> None:
    lonlat = np.random.default_rng(2).uniform((-19, -14), (24, 17), (60, 2))
    both = field.sample(lonlat, ["coordinate", "sar"], covariates=True)
    assert list(both.columns[-3:]) == ["coordinate_status", "sar_status", "covariates_status"]
    assert list(both.columns[-6:-3]) == NAMES
    vectors = field.sample(lonlat, ["coordinate", "sar"])
    assert both[vectors.columns].equals(vectors)
    stored = field.sample(lonlat, "coordinate", covariates="height", dtype="int8")
    assert stored["coordinate_000"].dtype == np.int8 and stored["height"].dtype == np.float32
    arrays = field.sample(lonlat, "coordinate", covariates=True, as_="numpy")
    assert np.array_equal(arrays["covariates"], both[NAMES].to_numpy(), equal_nan=True)
    parts = pd.concat(field.sample_batches(lonlat, [], covariates=True, batch=7))
    assert np.array_equal(parts[NAMES].to_numpy(), both[NAMES].to_numpy(), equal_nan=True)
    assert "height" not in field.sample(lonlat)


def test_a_table_is_joined_to_numbers(field: client.Field) -> None:
    lonlat = np.random.default_rng(4).uniform((-19, -14), (24, 17), (30, 2))
    table = pd.DataFrame({"lon": lonlat[:, 0], "lat": lonlat[:, 1], "own": range(30)})
    joined = field.join(table, [], covariates=["rain"])
    assert list(joined.columns) == [*table.columns, "ug_rain", "ug_covariates_status"]
    assert joined[table.columns].equals(table)
    kept = field.join(table, [], covariates=True, missing="drop")
    assert (kept["ug_covariates_status"] == "valid").all() and 0 < len(kept) < 30
    with pytest.raises(PointsError, match="points have no covariates"):
        field.join(table, [], covariates=True, missing="raise")
    with pytest.raises(PointsError, match="'ug_rain'"):
        field.join(table.assign(ug_rain=1), [], covariates=True)
    plan = field.plan(lonlat, [], covariates=True)
    assert plan.output_bytes == 30 * 3 * 4 and plan.bytes > 0


def test_names_units_and_sources_are_told(field: client.Field) -> None:
    assert list(field.covariates.columns) == ["name", "unit", "source"]
    assert field.covariates["unit"].tolist() == ["m", "mm", "class"]
    assert field.info()["covariates"][1] == {"name": "rain", "unit": "mm", "source": "gauges"}
    counts = field.coverage()["covariates"]
    assert counts == {Status.VALID: 32 * 64, Status.NO_OBSERVATION: 32 * 64}
    with pytest.raises(LayoutError, match="no covariate 'snow'; it has height, rain, crop_point"):
        field.sample([(0.0, 5.0)], covariates=["snow"])
    assert chosen_covariates(field, True, numbers_only=True) == ("height", "rain")
    with pytest.raises(LayoutError, match="'crop_point' is the number of a class"):
        chosen_covariates(field, "crop_point", numbers_only=True)


def test_a_field_without_covariates_says_so(gulf: Path) -> None:
    plain = client.open_field(gulf)
    assert plain.covariates.empty and plain.info()["covariates"] == []
    with pytest.raises(LayoutError, match="stores no covariates"):
        plain.sample([(0.0, 5.0)], covariates=True)


def test_plain_xarray_selects_by_name(wide: Path, field: client.Field, tmp_path: Path) -> None:
    opened = xr.open_zarr(wide, chunks=None)
    rain = opened["covariates"].sel(name="rain")
    assert np.array_equal(
        rain.values, stores.covariates_at(*np.indices(rain.shape))[..., 1], equal_nan=True
    )
    lonlat = np.array([(3.0, 12.0), (10.0, -5.0)])
    expected = field.sample(lonlat, "coordinate", covariates=True)
    assert opened.unigeo.sample(lonlat, "coordinate", covariates=True).equals(expected)
    field.region(NORTH).to_netcdf(tmp_path / "north.nc")
    with xr.open_dataset(tmp_path / "north.nc", decode_coords="all") as part:
        again = part.unigeo.sample(lonlat[:1], "coordinate", covariates=True)
        assert again.equals(expected[:1])
        assert part.unigeo.covariates.equals(field.covariates)
    masked = field.region(NORTH, mask=True)
    inside = masked["covariates_status"].values != Status.OUTSIDE_REGION
    assert not inside.all() and np.isnan(masked["covariates"].values[~inside]).all()


def test_a_shard_is_what_zarr_writes(wide: Path, tmp_path: Path) -> None:
    """In either codec, the object has the numbers, chunks and checksums of Zarr's own writer."""
    for codec in ("none", "zstd"):
        layout = stores.layout_of(("coordinate",), covariates=tuple(NAMES), codec=codec)
        grid = stores.grid_of(stores.GULF, layout)
        attributes = stores.attributes_of(stores.GULF, grid, layout)
        path = tmp_path / codec
        group: Any = create_field(path, grid, layout, attributes, covariates=stores.COVARIATES)
        stores.write_covariates(group, grid, layout)
        numbers = stores.covariates_at(*np.indices(grid.shape))
        assert np.array_equal(group["covariates"][...], numbers, equal_nan=True)
        ours = (path / "covariates/c/0/1/0").read_bytes()
        group["covariates"][:32, 32:] = numbers[:32, 32:]
        assert (path / "covariates/c/0/1/0").read_bytes() == ours
        (rows,) = rows_of_vectors(ours, layout, 3, 32, dtype=layout.dtype("covariates"))
        assert np.array_equal(rows, numbers[:32, 32:], equal_nan=True)
    empty = VectorObject(layout, 3, dtype=layout.dtype("covariates"))
    assert empty.finish() is None


def test_damage_is_found_and_never_read(wide: Path, tmp_path: Path) -> None:
    for key in ("covariates/c/0/1/0", "covariates_status/c/0/1", "name/c/0"):
        broken = tmp_path / key.replace("/", "-")
        shutil.copytree(wide, broken)
        content = bytearray((broken / key).read_bytes())
        content[7] ^= 1
        (broken / key).write_bytes(content)
        assert any(key in problem for problem in client.open_field(broken).verify().problems)
        (broken / key).unlink()
        damaged = client.open_field(broken)
        assert any(f"{key} is missing" in problem for problem in damaged.verify().problems)
        with pytest.raises(StoreError, match=key.split("/")[0]):
            damaged.region(NORTH).load()
    with pytest.raises(StoreError, match="covariates/c/0/1/0"):
        client.open_field(tmp_path / "covariates-c-0-1-0").sample(
            [(10.0, 12.0)], [], covariates=True
        )


def test_a_part_keeps_numbers_names_and_units(field: client.Field, tmp_path: Path) -> None:
    part = client.open_field(
        cut_field(field, tmp_path / "part.zarr", NORTH, "coordinate", mask=True)
    )
    assert part.verify().ok and part.covariates.equals(field.covariates)
    lonlat = np.random.default_rng(1).uniform((-14, 3), (19, 16), (40, 2))
    assert part.sample(lonlat, covariates=True).equals(
        field.sample(lonlat, "coordinate", covariates=True)
    )


def test_commands_take_covariates(wide: Path, tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text("lon,lat,own\n3.0,12.0,a\n10.0,-5.0,b\n")
    sampled = done("sample", wide, points, "--modality", "sar", "--covariates")
    head, first = sampled.splitlines()[:2]
    assert head.endswith("height,rain,crop_point,sar_status,covariates_status")
    assert first.endswith("valid,valid")
    joined = done("join", wide, points, "--modality", "sar", "--covariate", "rain", "--quiet")
    assert joined.splitlines()[0].split(",")[-3:] == [
        "ug_rain",
        "ug_sar_status",
        "ug_covariates_status",
    ]
    told = done("info", wide)
    assert "covariates   3: height (m), rain (mm), crop_point (class)\n" in told
    assert "no covariate 'snow'" in refused("sample", wide, points, "--covariate", "snow")


def test_info_names_the_first_of_many_covariates(
    wide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_commands, "SHOWN_COVARIATES", 2)
    few, whole = done("info", wide), done("info", wide, "--all")
    assert "3: height (m), rain (mm) and 1 more (--all lists them" in few
    assert "crop_point" not in few and "3: height (m), rain (mm), crop_point (class)\n" in whole
    names = [one["name"] for one in json.loads(done("info", wide, "--json"))["covariates"]]
    assert names == ["height", "rain", "crop_point"]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("rain", "Rain"), "two of that name"),
        (("x",), "something else"),
        (("rain_status",), "something else"),
        (("a b",), "a name is a letter"),
        (("",), "a name is a letter"),
    ],
)
def test_names_that_conflict_are_refused(names: tuple[str, ...], why: str) -> None:
    with pytest.raises(LayoutError, match=why):
        check_covariates(names)
    with pytest.raises(LayoutError, match=why):
        Layout(modalities=("aerial",), bands=8, covariates=names)


def test_attributes_that_contradict_the_layout_are_refused(wide: Path, tmp_path: Path) -> None:
    told = covariate_attributes((Covariate("rain", "mm", "gauges"),))
    assert read_covariates(told, ("rain",)) == (Covariate("rain", "mm", "gauges"),)
    for changed in ({"names": ["snow"]}, {"units": []}, {"sources": 3}):
        with pytest.raises(LayoutError, match="name other numbers"):
            read_covariates(told | changed, ("rain",))
    shutil.copytree(wide, tmp_path / "wide.zarr")
    group: Any = zarr.open_group(tmp_path / "wide.zarr", mode="r+", use_consolidated=False)
    group["covariates"].attrs["units"] = ["m"]
    assert any("units or sources" in problem for problem in field_problems(group))


def test_numbers_are_averaged_over_discs(field: client.Field) -> None:
    """Each number over the cells that have it, by exact shares; a small disc has its cell's."""
    lonlat = np.random.default_rng(5).uniform((-16, 2), (20, 15), (12, 2))
    options: Any = {"covariates": True, "radius_m": 300_000.0}
    means = field.sample(lonlat, [], **options)
    assert list(means.columns) == ["height", "rain", "covariates_share", "covariates_status"]
    numbers = stores.covariates_at(*np.indices(field.grid.shape))[..., :2].astype(np.float64)
    for row, point in enumerate(lonlat):
        share = shares_in(field, polygon_of(point, 300_000.0, field.grid.crs))
        for column, name in enumerate(("height", "rain")):
            weights = np.where(np.isnan(numbers[..., column]), 0.0, share)
            total = (weights * np.nan_to_num(numbers[..., column])).sum()
            expected = total / weights.sum() if weights.any() else np.nan
            assert means[name][row] == pytest.approx(expected, rel=1e-5, nan_ok=True), name
    small = field.sample(lonlat, [], covariates="height", radius_m=1.0)
    assert np.allclose(small["height"], cell_numbers(field, lonlat)[:, 0], equal_nan=True)
    with pytest.raises(LayoutError, match="number of a class"):
        field.sample(lonlat, [], covariates="crop_point", radius_m=1.0)


def table_of(field: client.Field, count: int = 160) -> pd.DataFrame:
    """Points in the north, with a target that numbers and vectors each tell in part."""
    lonlat = np.random.default_rng(7).uniform((-18, 2), (10, 15), (count, 2))
    sampled = field.sample(lonlat, "coordinate", covariates="height")
    target = sampled["height"] / 1000 + 3 * sampled["coordinate_002"]
    return pd.DataFrame({"lon": lonlat[:, 0], "lat": lonlat[:, 1], "target": target}).dropna()


def test_a_probe_says_what_vectors_add_to_numbers(field: client.Field, tmp_path: Path) -> None:
    table = table_of(field)
    options: Any = {"baselines": False, "block_km": 300, "folds": 3}
    probe = field.probe(table, "target", "coordinate", covariates=True, **options)
    assert list(dict.fromkeys(probe.scores["features"])) == [
        "coordinate", "covariates", "coordinate + covariates"
    ]  # fmt: skip
    random = probe.scores[probe.scores["split"] == "random"].set_index("features")["score"]
    assert random["coordinate + covariates"] > max(random["coordinate"], random["covariates"])
    (gain,) = probe.gains.query("split == 'random'")["gain"]
    assert gain == pytest.approx(random["coordinate + covariates"] - random["covariates"])
    assert probe.controls == ("height", "rain") and "height, rain" in probe.text()
    # The same numbers and their ranks as columns of the table score the same.
    own = field.join(table, [], covariates=["height", "rain"], prefix="").drop(
        columns="covariates_status"
    )
    names = ["height", "rain", "height_rank", "rain_rank"]
    own[names] = beside_ranks(own[["height", "rain"]].to_numpy())
    as_columns = field.probe(own, "target", "coordinate", controls=names, **options)
    np.testing.assert_allclose(as_columns.scores["score"], probe.scores["score"], rtol=1e-6)
    assert set(probe.intervals["features"]) == set(probe.scores["features"])
    with pytest.raises(ProbeError, match="no model of them is kept; predict by coordinate"):
        probe.predict(table, "coordinate + covariates")
    complete = table[own["rain"].notna()]  # rows that lack a number take no part
    plain = field.probe(complete, "target", "coordinate", **options)
    assert probe.predict(table).equals(plain.predict(table))
    probe.save(tmp_path / "kept")
    assert client.Probe.load(tmp_path / "kept", field).controls == ("height", "rain")
    both = field.probe(
        table.assign(own=range(len(table))), "target", "coordinate", controls="own",
        covariates="height", **options
    )  # fmt: skip
    assert "controls and covariates" in set(both.scores["features"])
    with pytest.raises(LayoutError, match="number of a class"):
        field.probe(table, "target", covariates="crop_point", **options)
    with pytest.raises(ProbeError, match="control and a covariate"):
        field.probe(own, "target", "coordinate", controls="rain", covariates="rain", **options)


def test_the_command_probes_covariates(field: client.Field, wide: Path, tmp_path: Path) -> None:
    table_of(field).to_csv(tmp_path / "table.csv", index=False)
    told = done(
        "probe", wide, tmp_path / "table.csv", "--target", "target", "--modality", "coordinate",
        "--covariates", "--folds", 3, "--json", "--quiet",
    )  # fmt: skip
    scored = {score["features"] for score in json.loads(told)["scores"]}
    assert {"coordinate", "covariates", "coordinate + covariates"} <= scored


def test_numbers_over_polygons_are_those_of_shapely_and_numpy(
    field: client.Field, wide: Path
) -> None:
    boxes = [(-15.0, 3.0, -4.0, 14.0), (2.0, 1.0, 20.0, 9.0), (-18.0, -12.0, 22.0, -8.0)]
    shapes = geopandas.GeoSeries([shapely.box(*box).segmentize(0.1) for box in boxes], crs=4326)
    frame = geopandas.GeoDataFrame(geometry=shapes.to_crs(field.grid.crs))
    stats = ["mean", "std", "min", "max"]
    table = field.zonal(frame, [], covariates=True, stats=stats)
    assert list(table.columns)[:4] == ["height", "rain", "height_std", "rain_std"]
    assert table["covariates_status"].tolist() == ["valid", "valid", "no observation"]
    numbers = stores.covariates_at(*np.indices(field.grid.shape))[..., :2].astype(np.float64)
    for row, shape in enumerate(frame.geometry):
        share = shares_in(field, shape)
        for column, name in enumerate(("height", "rain")):
            inside = ~np.isnan(numbers[..., column]) & (share > 0)
            values, weights = numbers[..., column][inside], share[inside]
            if not len(values):
                assert table.loc[row, [name, f"{name}_std", f"{name}_min"]].isna().all()
                continue
            mean = np.average(values, weights=weights)
            expected = [mean, np.sqrt(np.average((values - mean) ** 2, weights=weights)),
                        values.min(), values.max()]  # fmt: skip
            found = table.loc[row, [name, *(f"{name}_{stat}" for stat in stats[1:])]]
            np.testing.assert_allclose(found.to_numpy(float), expected, rtol=1e-5, atol=1e-6)
    both = field.zonal(frame, "coordinate", covariates="height", weights="rain", missing="drop")
    assert len(both) == 2 and {"coordinate_000", "height", "covariates_weight"} <= set(both)
    vectors = field.zonal(frame, "coordinate", weights="rain")
    assert both["coordinate_000"].equals(vectors["coordinate_000"][:2])
    with pytest.raises(LayoutError, match="number of a class"):
        field.zonal(frame, [], covariates="crop_point")
    with pytest.raises(ValueError, match="quantiles are computed of vectors"):
        field.zonal(frame, [], covariates=True, stats="quantile:0.5")
    told = done("zonal", wide, "-15,3,-4,14", "--modality", "sar", "--covariates", "--quiet")
    head, row = told.splitlines()
    mean = dict(zip(head.split(","), next(csv.reader([row])), strict=False))["ug_height"]
    assert float(mean) == pytest.approx(field.zonal(boxes[0], [], covariates=True)["height"][0])
