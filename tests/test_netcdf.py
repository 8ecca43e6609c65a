"""What the client hands out goes to netCDF and back; a cut store too."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401  (adds the `rio` accessor)
import xarray as xr
from support.commands import point_table

from unigeo import client
from unigeo.client.areas.subset import cut_field

pytest.importorskip("h5netcdf", reason="xarray writes netCDF by h5netcdf")

BOX = (-5.0, -5.0, 5.0, 5.0)
POINTS = [[-3.0, 3.0], [2.0, -4.0], [0.5, 0.5], [4.5, 4.5]]


def cut(gulf: Path, folder: Path) -> Path:
    return cut_field(client.open_field(gulf), folder / "part.zarr", BOX)


MADE: dict[str, Callable[[Path, Path], xr.Dataset]] = {
    "field": lambda gulf, _: client.open_field(gulf).dataset(),
    "overview": lambda gulf, _: client.open_field(gulf, overview=2).dataset(),
    "region": lambda gulf, _: client.open_field(gulf).region(BOX),
    "masked region": lambda gulf, _: client.open_field(gulf).region(BOX, mask=True),
    "accessor": lambda gulf, _: xr.open_zarr(gulf, chunks=None).unigeo.dataset(),
    "accessor, dask": lambda gulf, _: xr.open_zarr(gulf).unigeo.region(BOX),
    "accessor of a region": lambda gulf, _: client.open_field(gulf).region(BOX).unigeo.region(BOX),
    "cut store": lambda gulf, folder: client.open_field(cut(gulf, folder)).dataset(),
}


@pytest.mark.parametrize("made", MADE)
def test_a_field_goes_to_netcdf_and_is_one_when_it_is_back(
    made: str, gulf: Path, tmp_path: Path
) -> None:
    dataset = MADE[made](gulf, tmp_path)
    dataset.to_netcdf(tmp_path / "field.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "field.nc", engine="h5netcdf", decode_coords="all") as back:
        for name in ("coordinate", "aerial", "coordinate_status", "aerial_status"):
            assert back[name].dtype == dataset[name].dtype, "nothing is decoded to floats"
            assert np.array_equal(back[name], dataset[name])
        assert back["coordinate"].attrs["nodata"] == -128
        assert back["spatial_ref"].attrs["long_name"] == "coordinate reference system"
        assert back.rio.crs == dataset.rio.crs
        assert back.unigeo.sample(POINTS).equals(dataset.unigeo.sample(POINTS))
        assert back.unigeo.attributes == dataset.unigeo.attributes


def test_what_a_user_wrote_into_a_dataset_goes_too(gulf: Path, tmp_path: Path) -> None:
    own = {
        "none": None, "yes": True, "both": [1, "a"], "flags": [True], "empty": [], "t": "x",
        "deep": {"a": [1]}, "day": {"of": np.datetime64("2026-11-27")}, "n": np.int64(3),
        "m": [np.float32(0.5)],
    }  # fmt: skip
    dataset = xr.open_zarr(gulf, chunks=None).assign_attrs(own).unigeo.dataset()
    dataset.to_netcdf(tmp_path / "field.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "field.nc", engine="h5netcdf") as back:
        assert back.attrs["both"] == '[1, "a"]' and back.attrs["none"] == "null"
        assert back.attrs["n"] == 3 and back.attrs["m"] == 0.5 and back.attrs["t"] == "x"


def test_answers_go_to_netcdf(gulf: Path, tmp_path: Path) -> None:
    field = client.open_field(gulf)
    options = {"block_km": 500, "folds": 3, "baselines": False}
    probe = field.probe(point_table(), "height", "coordinate", **options)
    answers = {
        "points": field.sample(POINTS, as_="xarray"),
        "likeness": field.similarity(POINTS[:2], "coordinate").to_dataset(),
        "map": probe.map(region=BOX),
    }
    for name, dataset in answers.items():
        dataset.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
        with xr.open_dataset(
            tmp_path / f"{name}.nc", engine="h5netcdf", decode_coords="all"
        ) as back:
            for variable in dataset:
                np.testing.assert_array_equal(back[variable], dataset[variable])


def test_a_region_goes_to_zarr_and_is_a_field_when_it_is_back(gulf: Path, tmp_path: Path) -> None:
    region = client.open_field(gulf).region(BOX).load()
    region.drop_encoding().to_zarr(tmp_path / "region.zarr", zarr_format=3, consolidated=False)
    back = xr.open_zarr(tmp_path / "region.zarr", consolidated=False, chunks=None)
    assert back.load().unigeo.sample(POINTS).equals(region.unigeo.sample(POINTS))
    with warnings.catch_warnings():  # zarr's, of consolidating in format 3
        warnings.simplefilter("ignore", UserWarning)
        region.drop_encoding().to_zarr(tmp_path / "whole.zarr", zarr_format=3, consolidated=True)
    lazy = xr.open_zarr(tmp_path / "whole.zarr", chunks=None)
    assert lazy.unigeo.sample(POINTS).equals(region.unigeo.sample(POINTS))


def test_a_cut_store_keeps_its_attributes_whole(gulf: Path, tmp_path: Path) -> None:
    plain = xr.open_zarr(cut(gulf, tmp_path))
    assert plain.attrs["unigeo"]["region"] == "gulf"
    assert isinstance(plain.attrs["proj:projjson"], dict)
    assert isinstance(plain["coordinate"].attrs["zarr_conventions"], list)
