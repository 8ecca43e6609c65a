"""Surface models are read in metres or refused: scale, offset, unit, and impossible heights."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.raster_files.band_facts import MeaningError
from unigeo.producer.observations.raster_files.height_values import HeightDescription
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.raster_blocks import BlockReader
from unigeo.producer.sources.build_set import observe_set, prepare
from unigeo.producer.sources.set_description import (
    ImageryRules,
    LocationRules,
    SetDescription,
    SurfaceRules,
)
from unigeo.schemas.errors import ObservationsError

CORNER = (320_000, 4_300_000)
DSM = HeightDescription(table="dsm")


def write(
    path: Path,
    numbers: np.ndarray,
    *,
    scale: float = 1.0,
    offset: float = 0.0,
    unit: str = "",
    crs: Any = 32618,
    overviews: bool = False,
    **profile: Any,
) -> Path:
    """A surface model of pixels of 1 m."""
    numbers = numbers if numbers.ndim == 3 else numbers[None]
    with rasterio.open(
        path, "w", driver="GTiff", count=len(numbers), height=numbers.shape[1],
        width=numbers.shape[2], dtype=numbers.dtype, crs=crs, tiled=True, blockxsize=256,
        blockysize=256, transform=from_origin(*CORNER, 1, 1), **profile,
    ) as file:  # fmt: skip
        file.write(numbers)
        if (scale, offset) != (1, 0):
            file.scales, file.offsets = (scale,) * file.count, (offset,) * file.count
        if unit:
            file.units = (unit,) * file.count
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4, 8], Resampling.average)
    return path


def heights_of(path: Path, side: int = 64, factor: int = 1, **stated: Any) -> np.ndarray:
    """Heights of a file's corner, NaN where there are none."""
    nodata = stated.pop("nodata", None)
    terrain = HeightDescription(table="dsm", **stated)
    blocks = BlockReader(open_source(path, (1,), nodata, path.name, terrain))
    window = blocks.window((factor, factor), (0, side), (0, side))
    blocks.close()
    return np.where(window.data, window.values[0], np.nan)


def land(side: int = 64, dtype: str = "float32") -> np.ndarray:
    """Hills of 100 to 300 m."""
    row, col = np.indices((side, side))
    return (200 + 60 * np.sin(row / 9) + 40 * np.cos(col / 7)).astype(dtype)


@settings(max_examples=25)
@given(
    dtype=st.sampled_from(["int16", "uint16", "int32", "float32", "uint8"]),
    scale=st.sampled_from([0.01, 0.1, 0.5, 2.0]),
    offset=st.floats(-90, 90).map(lambda value: round(value, 1)),
    factor=st.sampled_from([1, 2, 4]),
    where=st.sampled_from(["file", "table"]),
)
def test_scaled_numbers_are_metres(
    dtype: str, scale: float, offset: float, factor: int, where: str, tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("scaled") / "a.tif"
    numbers = np.random.default_rng(0).integers(0, 200, (64, 64)).astype(dtype)
    metres = numbers * scale + offset
    stated = {"scale": scale, "offset": offset}
    write(path, numbers, **(stated if where == "file" else {}))
    heights = heights_of(path, 64 // factor, factor, **({} if where == "file" else stated))
    means = metres.reshape(64 // factor, factor, 64 // factor, factor).mean(axis=(1, 3))
    np.testing.assert_allclose(heights, means, atol=1e-3)


def test_what_file_and_table_declare_of_scale_must_agree(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", land(dtype="int16"), scale=0.1)
    np.testing.assert_allclose(heights_of(path, scale=0.1), heights_of(path))
    with pytest.raises(MeaningError, match=r"declares scale 0.1 .* table \[dsm\] scale 0.5"):
        heights_of(path, scale=0.5)


@pytest.mark.parametrize(
    ("unit", "declared", "metres"),
    [
        ("", None, 1.0),
        ("metre", None, 1.0),
        ("unknown", None, 1.0),
        ("", "ft", 0.3048),
        ("ft", "ft", 0.3048),
        ("US survey foot", "us-ft", 1200 / 3937),
        ("metres above sea", "m", 1.0),
    ],
)
def test_a_unit_that_is_declared_is_converted(
    unit: str, declared: str | None, metres: float, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.tif", land(), unit=unit)
    heights = heights_of(path, units=declared)
    np.testing.assert_allclose(heights, land() * metres, rtol=1e-6)


@pytest.mark.parametrize(
    ("how", "declared", "message"),
    [
        ({"unit": "ft"}, None, r"in ft, table \[dsm\] in m. Declare `units = 'ft'`"),
        ({"unit": "ft"}, "m", "in ft"),
        ({"unit": "m"}, "ft", "in m, .* in ft"),
        ({"unit": "degC"}, None, "declares the unit 'degc'"),
        ({"crs": "EPSG:2248+6360"}, None, "in us-ft"),
    ],
)
def test_a_unit_that_is_not_the_one_declared_is_refused(
    how: Any, declared: str | None, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.tif", land(), **how)
    with pytest.raises(MeaningError, match=message):
        heights_of(path, units=declared)


FLOAT_MINIMUM = float(np.finfo(np.float32).min)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize(
    ("void", "dtype"),
    [
        (-9999, "int16"), (-9999, "float32"), (-32768, "int16"), (-32767, "float32"),
        (FLOAT_MINIMUM, "float32"), (65535, "uint16"), (1e20, "float32"), (-501, "int16"),
    ],
)  # fmt: skip
def test_a_void_that_nothing_declares_is_refused_and_declared_it_is_one(
    void: float, dtype: str, factor: int, tmp_path: Path
) -> None:
    numbers = land(dtype=dtype)
    numbers[5:8, 5:8] = void
    path = write(tmp_path / "a.tif", numbers, overviews=True)
    written = np.asarray(void, dtype).item()
    key = int(written) if abs(written) < 1e15 else written
    with pytest.raises(MeaningError) as error:
        open_source(path, (1,), None, "a.tif", DSM)
    for words in ("a.tif: 9 of 4,096 pixels", "(0.22 %)", f"`nodata = {key}` in table [dsm]"):
        assert words in str(error.value)
    heights = heights_of(path, 64 // factor, factor, nodata=void)
    plain = land(dtype=dtype).astype(float)
    plain[5:8, 5:8] = np.nan
    parts = plain.reshape(64 // factor, factor, 64 // factor, factor)
    enough = 2 * np.isfinite(parts).sum(axis=(1, 3)) >= factor**2
    observations = np.maximum(np.isfinite(parts).sum(axis=(1, 3)), 1)
    expected = np.where(enough, np.nansum(parts, axis=(1, 3)) / observations, np.nan)
    np.testing.assert_allclose(heights, expected, atol=1e-3)


@pytest.mark.parametrize("declared", [True, False])
def test_nan_is_a_void_of_its_own_and_spoils_no_mean(declared: bool, tmp_path: Path) -> None:
    numbers = land()
    numbers[::4, ::4] = np.nan
    path = write(tmp_path / "a.tif", numbers, nodata=np.nan if declared else None)
    assert np.isnan(heights_of(path)).sum() == np.isnan(numbers).sum()
    heights = heights_of(path, 16, 4)
    means = np.nanmean(numbers.astype(float).reshape(16, 4, 16, 4), axis=(1, 3))
    np.testing.assert_allclose(heights, means, rtol=1e-5)


def test_a_few_voids_of_a_large_raster_are_found_where_they_are_read(tmp_path: Path) -> None:
    """They are too few to be met at opening, or to bring a mean below what terrain has."""
    numbers = land(3000)
    numbers[600, 600] = -9999
    path = write(tmp_path / "a.tif", numbers, overviews=True)
    blocks = BlockReader(open_source(path, (1,), None, "a.tif", DSM))
    assert blocks.window((2, 2), (0, 20), (0, 20)).data.all()
    with pytest.raises(MeaningError, match=r"a.tif: 1 of .* -9999"):
        blocks.window((2, 2), (300, 310), (300, 310))
    blocks.close()


def test_a_second_number_for_voids_is_refused(tmp_path: Path) -> None:
    numbers = land()
    numbers[:8], numbers[8:16] = -9999, -32767
    path = write(tmp_path / "a.tif", numbers, nodata=-9999)
    with pytest.raises(MeaningError, match=r"stands for that already, -9999, or .*-32767"):
        open_source(path, (1,), None, "a.tif", DSM)
    assert np.isnan(heights_of(path, nodata=-32767.0)).sum() == 16 * 64


def test_the_bottom_of_the_sea_is_read_where_the_limits_allow_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", (land() - 4000).astype(np.int16))
    with pytest.raises(MeaningError, match="widen `lowest_m`"):
        heights_of(path)
    assert heights_of(path, lowest_m=-11_000.0).max() < -3000


def test_numbers_of_another_scale_are_recognized_by_their_variety(tmp_path: Path) -> None:
    numbers = (land() * 1000 + np.arange(64)).astype(np.int32)  # millimetres
    path = write(tmp_path / "a.tif", numbers)
    with pytest.raises(MeaningError, match="another scale or unit, declare `scale`"):
        heights_of(path)
    np.testing.assert_allclose(heights_of(path, scale=0.001), numbers / 1000, rtol=1e-6)


DESCRIPTION = """
name = "small"
licence = "CC0-1.0"
[land]
file = "land.geojson"
[dsm]
kind = "raster"
files = ["dsm.tif"]
bands = [1]
patch_m = 32
patch_px = 8
"""


def folder(path: Path, more: str = "") -> Path:
    box = geopandas.GeoDataFrame(geometry=[shapely.box(-78, 38, -76, 40)], crs=4326)
    box.to_file(path / "land.geojson")
    (path / "observations.toml").write_text(DESCRIPTION + more)
    return path / "observations.toml"


def place_in(path: Path) -> np.ndarray:
    source = open_source(path, (1,), None, "x", HeightDescription(table="", lowest_m=-np.inf))
    west, south, east, north = source.reach
    return np.array([[(west + east) / 2, (south + north) / 2]])


def test_heights_of_a_folder_are_metres_and_its_provenance_records_how(tmp_path: Path) -> None:
    plain = write(tmp_path / "dsm.tif", land())
    lonlat = place_in(plain)
    expected = open_observations(folder(tmp_path)).patches("dsm", lonlat).values
    before = open_observations(folder(tmp_path)).provenance()
    assert "metres" not in before["modalities"]["dsm"]
    assert not {"scale", "lowest_m"} & set(before["modalities"]["dsm"]), "as ever"
    write(tmp_path / "dsm.tif", np.rint(land() * 100).astype(np.int32), scale=0.01)
    observations = open_observations(folder(tmp_path))
    np.testing.assert_allclose(observations.patches("dsm", lonlat).values, expected, atol=0.02)
    assert observations.provenance()["modalities"]["dsm"]["metres"] == [[0.01, 0.0]]
    write(tmp_path / "dsm.tif", (land() / 0.3048).astype(np.float32))
    feet = open_observations(folder(tmp_path, 'units = "ft"\n'))
    np.testing.assert_allclose(feet.patches("dsm", lonlat).values, expected, rtol=1e-5)


def test_voids_and_images_of_a_folder_are_checked_in_the_same_way(tmp_path: Path) -> None:
    numbers = land()
    numbers[:5] = -9999
    write(tmp_path / "dsm.tif", numbers)
    with pytest.raises(ObservationsError, match=r"\[dsm\]: dsm.tif: .* `nodata = -9999`"):
        open_observations(folder(tmp_path))
    open_observations(folder(tmp_path, "nodata = -9999\n"))
    with pytest.raises(ObservationsError, match="a scale of 0"):
        open_observations(folder(tmp_path, "scale = 0\n"))
    write(tmp_path / "dsm.tif", np.zeros((3, 64, 64), np.uint8), scale=0.5)
    path = folder(tmp_path)
    path.write_text(path.read_text().replace("[dsm]", "[aerial]"))
    assert open_observations(path).form("aerial").dtype == "float32"  # an image in its unit
    path.write_text(path.read_text() + "scale = 0.1\n")
    with pytest.raises(ObservationsError, match=r"\[aerial\]: dsm.tif declares scale 0.5"):
        open_observations(path)


def table(path: Path, **how: Any) -> SetDescription:
    lon, lat = place_in(path)[0]
    box = (lon - 0.0002, lat - 0.0002, lon + 0.0002, lat + 0.0002)
    where = LocationRules(bbox=box, count=3, cell_level=20, balance_level=14)
    return SetDescription(name="set", licence="CC0-1.0", where=where, **how)


def surface(path: Path, **how: Any) -> SurfaceRules:
    return SurfaceRules(
        kind="files", files=(str(path),), patch_px=16, resolution_m=1, ground="none", **how
    )


def test_heights_of_a_set_are_metres(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.rint(land() * 10).astype(np.int16), scale=0.1)
    observations = observe_set(prepare(table(path, dsm=surface(path))), str(tmp_path / "set"))
    metres = observations.heights(observations.lonlat)
    assert metres.min() > 95 and metres.max() < 305
    numbers = land()
    numbers[20:30] = FLOAT_MINIMUM
    path = write(tmp_path / "b.tif", numbers)
    with pytest.raises(ObservationsError, match=r"b.tif.*`nodata = -3.4028234663852886e\+38`"):
        observe_set(prepare(table(path, dsm=surface(path))), str(tmp_path / "voids"))
    dsm = surface(path, nodata=-3.4028234663852886e38)
    observations = observe_set(prepare(table(path, dsm=dsm)), str(tmp_path / "declared"))
    assert np.nanmin(observations.heights(observations.lonlat)) > 95


def test_images_of_sixteen_bits_are_refused_and_not_wrapped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.full((3, 64, 64), 300, np.uint16))
    about = ImageryRules(kind="files", files=(str(path),), patch_px=16, resolution_m=1)
    with pytest.raises(ObservationsError, match="holds uint16; pictures are uint8"):
        observe_set(prepare(table(path, aerial=about)), str(tmp_path / "set"))


def test_real_surface_models_are_read(shared_data: Path) -> None:
    for name in ("rasters/elevation_conus_1arcmin.tif", "samples/lidar_dsm_alexandria_va.tif"):
        source = open_source(shared_data / name, (1,), None, name, DSM)
        assert source.heights is not None and source.heights.is_identity
