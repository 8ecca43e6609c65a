"""The same scene in every format and type of raster gives the same patches."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from support import scenes, servers
from support.children import child

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.patches import Gap
from unigeo.producer.observations.raster_files.band_facts import MeaningError, Stated
from unigeo.producer.observations.raster_files.height_values import HeightDescription
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.patch_frames import Frame
from unigeo.producer.observations.raster_files.raster_blocks import BlockReader
from unigeo.producer.observations.raster_files.raster_patches import CutPatches, cut
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.io.stores import open_obstore

NUMBERS: dict[str, scenes.Numbers] = {
    "uint8": {}, "uint16": {}, "int16": {"scale": 0.25, "offset": -5.0, "nodata": -999},
    "float32": {"nodata": -9999.0},
}  # fmt: skip
FRAMES = [Frame(160.0, 16), Frame(400.0, 13)]
"""Undecimated, and of three raster pixels a patch pixel."""


def scene(dtype: str, bands: int = 3) -> np.ndarray:
    """Random numbers; where the type has a nodata value, holes."""
    rng = np.random.default_rng(0)
    values = rng.integers(1, 250, (bands, 113, 131)).astype(dtype)
    if dtype == "float32":
        values = (values + rng.random(values.shape)).astype(dtype)
    if "nodata" in NUMBERS[dtype]:
        values[:, 20:40, 30:60] = NUMBERS[dtype]["nodata"]
        values[:, ::17, ::13] = NUMBERS[dtype]["nodata"]
    return values


def opened(path: Path | str, bands: int = 3, **stated: Any) -> RasterSource:
    numbers = tuple(range(1, bands + 1))
    return open_source(path, numbers, None, str(path).rsplit("/", 1)[-1], stated=Stated(**stated))


def patch_dtype(source: RasterSource) -> type[np.generic]:
    return np.uint8 if source.small else np.float32


def cut_all(source: RasterSource, lonlat: np.ndarray) -> list[CutPatches]:
    return [cut([source], lonlat, frame, patch_dtype(source)) for frame in FRAMES]


@pytest.mark.parametrize("name", scenes.LOSSLESS)
def test_a_scene_in_every_format_gives_the_same_patches(name: str, tmp_path: Path) -> None:
    write, dtypes = scenes.LOSSLESS[name]
    for dtype in dtypes.split():
        values, folder = scene(dtype), tmp_path / dtype
        folder.mkdir()
        numbers = NUMBERS[dtype] if name != "jpeg2000" else {}
        if name == "jpeg2000" and dtype == "int16":
            values = np.maximum(values, 0)
        lonlat = scenes.places(values, 40)
        reference = opened(scenes.tiff(folder / "reference.tif", values, numbers))
        source = opened(write(folder / "scene.tif", values, numbers))
        assert source.dtype == dtype and source.shape == values.shape[1:]
        for one, expected in zip(cut_all(source, lonlat), cut_all(reference, lonlat), strict=True):
            assert expected.patches.valid.sum() > 20
            np.testing.assert_array_equal(one.gaps, expected.gaps)
            np.testing.assert_array_equal(one.observed, expected.observed)
            np.testing.assert_allclose(
                one.patches.values, expected.patches.values, rtol=1e-6, atol=1e-4
            )
            assert one.patches.values.dtype == (np.uint8 if dtype == "uint8" else np.float32)
            if dtype == "uint8":
                np.testing.assert_array_equal(one.patches.values, expected.patches.values)


def test_a_jpeg_shows_the_scene_within_its_loss(tmp_path: Path) -> None:
    rows, cols = np.mgrid[0:113, 0:131]
    values = np.stack([rows * 2, cols, rows // 2 + cols // 2]).astype(np.uint8)
    lonlat = scenes.places(values, 20)
    reference = opened(scenes.tiff(tmp_path / "reference.tif", values, {}))
    source = opened(scenes.jpeg(tmp_path / "scene.jpg", values, {}))
    for one, expected in zip(cut_all(source, lonlat), cut_all(reference, lonlat), strict=True):
        np.testing.assert_array_equal(one.gaps, expected.gaps)
        error = one.patches.values.astype(int) - expected.patches.values
        assert np.abs(error).max() <= 12 and np.abs(error).mean() < 1.5


@pytest.mark.parametrize("form", ["tiff", "netcdf4"])
def test_scale_and_offset_of_the_file_or_of_the_description_give_the_unit(
    tmp_path: Path, form: str
) -> None:
    """Numbers of any type, converted, are the plain float32 raster of the same unit."""
    write = {"tiff": scenes.tiff, "netcdf4": scenes.netcdf4}[form]
    lonlat = scenes.places(scene("uint8"), 30)
    for dtype in ("uint8", "uint16", "int16", "int32"):
        values = scene("uint8").astype(dtype) * (1 if dtype == "uint8" else 7)
        plain = (values * 0.5 - 40).astype(np.float32)
        reference = opened(scenes.tiff(tmp_path / f"{dtype}_plain.tif", plain, {}))
        declared = opened(
            write(tmp_path / f"{dtype}_declared.tif", values, {"scale": 0.5, "offset": -40.0})
        )
        stated = opened(
            write(tmp_path / f"{dtype}_stated.tif", values, {}), scale=0.5, offset=-40.0
        )
        expected = cut([reference], lonlat, FRAMES[0]).patches
        for source in (declared, stated):
            assert patch_dtype(source) is np.float32 and not source.small
            patches = cut([source], lonlat, FRAMES[0]).patches
            np.testing.assert_array_equal(patches.valid, expected.valid)
            np.testing.assert_allclose(patches.values, expected.values, rtol=1e-5, atol=1e-3)
            # A mean of integers is rounded before it is scaled: half a step of the unit.
            coarse = cut([source], lonlat, FRAMES[1]).patches.values
            mean = cut([reference], lonlat, FRAMES[1]).patches.values
            assert np.abs(coarse - mean).max() <= 0.25 + 1e-3


def test_a_palette_becomes_its_colours_before_pixels_are_averaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 7, (1, 113, 131)).astype(np.uint8)
    colours = rng.integers(0, 256, (256, 4)).astype(np.uint8)
    colours[:, 3], colours[5, 3] = 255, 0  # as the nodata value is
    path = scenes.tiff(tmp_path / "codes.tif", codes, {"nodata": 5})
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {code: tuple(map(int, rgba)) for code, rgba in enumerate(colours)})
    shown = np.moveaxis(colours[codes[0]], -1, 0)
    reference = opened(
        scenes.tiff(tmp_path / "rgba.tif", shown, {}, photometric="RGB", alpha="YES")
    )
    source = opened(path)
    assert source.band_names == ("red", "green", "blue") and patch_dtype(source) is np.uint8
    lonlat = scenes.places(codes, 40)
    one, expected = (cut([each], lonlat, FRAMES[0], np.uint8) for each in (source, reference))
    np.testing.assert_array_equal(one.patches.values, expected.patches.values)
    np.testing.assert_array_equal(one.observed, expected.observed)
    known = shown[3, :111, :129].reshape(37, 3, 43, 3) > 0
    count = known.sum(axis=(1, 3))
    sums = (shown[:3, :111, :129].reshape(3, 37, 3, 43, 3) * known).sum(axis=(2, 4), dtype=float)
    means = np.floor(sums / np.maximum(count, 1) + 0.5) * (2 * count >= 9)
    with closing(BlockReader(source)) as blocks:
        block = blocks.block((3, 3), 0, 0)
    np.testing.assert_array_equal(block.values[:, :37, :43], means)
    with pytest.raises(
        ObservationsError, match=r"has a palette, so its bands are 1, 2 and 3.*class"
    ):
        opened(path, bands=1)
    codes_alone = opened(path, bands=1, encoder="classes")
    assert codes_alone.dtype == "uint8" and not codes_alone.palette


def test_bands_have_the_names_of_the_file(tmp_path: Path) -> None:
    values = scene("float32", bands=4)
    path = scenes.tiff(tmp_path / "named.tif", values, {})
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("blue", "green", "red", "nir")
        file.units = ("1",) * 4
    source = open_source(path, (4, 3), None, "named.tif")
    assert (source.band_names, source.band_units) == (("nir", "red"), ("1", "1"))
    months = open_source(scenes.netcdf4(tmp_path / "m.nc", values, {}), (3, 1), None, "m.nc")
    assert (months.band_names, months.band_units) == (("month=3", "month=1"), ("K", "K"))
    two = scenes.dataset(values, {}).expand_dims(time=np.array(["2020-07-01"], "datetime64[ns]"))
    two.to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    dated = open_source(tmp_path / "t.nc", (2,), None, "t.nc")
    assert dated.band_names == ("time=2020-07-01, month=2",)
    lonlat = scenes.places(values, 10)
    np.testing.assert_array_equal(
        cut([dated], lonlat, FRAMES[0]).patches.values,
        cut([open_source(path, (2,), None, "named.tif")], lonlat, FRAMES[0]).patches.values,
    )


def test_degrees_and_a_description_s_crs_place_an_array(tmp_path: Path) -> None:
    """Longitudes from 0 to 360 degrees, latitudes from the south, and no grid mapping."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(60, 120)).astype(np.float32)
    lat, lon = np.arange(-89.0, 90, 3), np.arange(1.5, 360, 3)
    array = xr.Dataset(
        {"t": (("lat", "lon"), values)},
        {"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon)},
    )
    array.to_netcdf(tmp_path / "world.nc", engine="h5netcdf")
    source = open_source(tmp_path / "world.nc", (1,), None, "world.nc")
    assert source.crs.to_epsg() == 4326
    point = np.array([[float(lon[80]) - 360, float(lat[40])]])
    patch = cut([source], point, Frame(30_000, 5)).patches
    np.testing.assert_allclose(patch.values[0, 0, 2, 2], values[40, 80], atol=1e-3)
    projected = scenes.dataset(values[None], {}).drop_vars("crs")
    projected.to_netcdf(tmp_path / "plane.nc", engine="h5netcdf")
    with pytest.raises(ObservationsError, match=r"plane.nc has no CRS.*declare `crs = "):
        open_source(tmp_path / "plane.nc", (1,), None, "plane.nc")
    stated = Stated(crs=scenes.CRS)
    assert (
        open_source(tmp_path / "plane.nc", (1,), None, "plane.nc", stated=stated).crs.to_epsg()
        == 32613
    )
    with pytest.raises(ObservationsError, match=r"world.nc declares the CRS WGS 84, table"):
        open_source(tmp_path / "world.nc", (1,), None, "world.nc", stated=stated)


def test_heights_in_arrays_are_those_of_a_tiff(tmp_path: Path) -> None:
    values = np.random.default_rng(6).integers(0, 900, (1, 113, 131)).astype(np.int16)
    values[0, 50:70, 50:70] = -32768
    described = HeightDescription(table="dsm", units="m")
    numbers = {"nodata": -32768, "scale": 0.1, "offset": 3.0}
    dsm = scenes.dataset(values, numbers)
    dsm["scene"].attrs["units"] = "m"
    dsm.to_netcdf(tmp_path / "dsm.nc", engine="h5netcdf")
    tiff = scenes.tiff(tmp_path / "dsm.tif", values, numbers)
    lonlat = scenes.places(values, 30)
    sources = [open_source(p, (1,), None, p.name, described) for p in (tmp_path / "dsm.nc", tiff)]
    one, two = (cut_all(source, lonlat) for source in sources)
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.gaps, second.gaps)
        np.testing.assert_allclose(first.patches.values, second.patches.values, atol=1e-3)
    bad = scenes.dataset(values, {})
    bad["scene"].attrs["units"] = "m"
    bad.to_netcdf(tmp_path / "bad.nc", engine="h5netcdf")
    with pytest.raises(MeaningError, match=r"bad.nc: .* -32768 .*declare `nodata = -32768`"):
        open_source(tmp_path / "bad.nc", (1,), None, "bad.nc", described)


def refusals(folder: Path) -> Iterator[tuple[Path, dict[str, Any], str]]:
    """Files that are refused, what is stated of them, and a part of the sentence."""
    values = scene("uint8")
    tiff = scenes.tiff(folder / "a.tif", values, {})
    yield folder / "none.tif", {}, "no such file"
    (folder / "text.tif").write_text("not a picture")
    yield folder / "text.tif", {}, "is none of GeoTIFF, VRT, JPEG 2000, PNG, JPEG, NetCDF and Zarr"
    (folder / "empty").mkdir()
    yield folder / "empty", {}, "is a folder and no Zarr store"
    lonely = scenes.png(folder / "lonely.png", values, {})
    lonely.with_suffix(".prj").unlink()
    yield lonely, {}, "has no CRS"
    adrift = scenes.png(folder / "adrift.png", values, {})
    adrift.with_suffix(".pgw").unlink()
    yield adrift, {}, "no transform and no world file"
    words = scenes.png(folder / "words.png", values, {})
    words.with_suffix(".prj").write_text("north of here")
    yield words, {}, "words.prj holds no CRS"
    scaled = scenes.tiff(folder / "scaled.tif", values, {"scale": 0.5, "offset": 0.0})
    yield scaled, {"scale": 0.1}, "declares scale 0.5 and offset 0, table .* scale 0.1"
    yield scaled, {"encoder": "classes"}, "codes of classes have none"
    floats = scenes.tiff(folder / "floats.tif", scene("float32"), {})
    yield floats, {"encoder": "classes"}, "codes of classes are integers"
    complex_ = scenes.tiff(folder / "complex.tif", values.astype(np.complex64), {})
    yield complex_, {}, "holds complex64; real numbers are read"
    several = scenes.dataset(values, {})
    several["other"] = several["scene"]
    several.to_netcdf(folder / "several.nc", engine="h5netcdf")
    yield folder / "several.nc", {}, "has the variables scene, other .* key `variable`"
    yield folder / "several.nc", {"variable": "third"}, "no variable 'third' .* it has scene, other"
    curved = scenes.dataset(values, {})
    curved["y"] = np.sort(np.random.default_rng(0).normal(size=113))[::-1]
    curved.to_netcdf(folder / "uneven.nc", engine="h5netcdf")
    yield folder / "uneven.nc", {}, "along 'y' are not evenly spaced"
    short = folder / "short.nc"
    short.write_bytes(scenes.netcdf4(folder / "whole.tif", values, {}).read_bytes()[:3000])
    yield short, {}, "cannot be read as NetCDF-4"
    torn = folder / "torn.jp2"
    torn.write_bytes(scenes.jpeg2000(folder / "whole.tif", values, {}).read_bytes()[:60])
    yield torn, {}, "torn.jp2 cannot be read as a raster"
    assert tiff.exists()


def test_each_form_that_is_not_read_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for path, stated, message in refusals(tmp_path):
        with pytest.raises(ObservationsError, match=message) as refused:
            opened(path, **stated)
        text = str(refused.value)
        assert path.name in text and "\n" not in text and text.endswith("."), text


@pytest.mark.parametrize("write", [scenes.png, scenes.jpeg, scenes.jpeg2000, scenes.netcdf4])
def test_a_file_that_is_cut_short_is_a_gap_and_no_picture(write: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(8).integers(0, 255, (3, 600, 600)).astype(np.uint8)
    path = write(tmp_path / "scene.tif", values, {})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    try:
        source = opened(path)
    except ObservationsError as refused:  # the damage shows when it is opened
        assert "cannot be read" in str(refused)
        return
    lonlat = scenes.places(values, 60)
    gaps = cut([source], lonlat, Frame(160.0, 16)).gaps
    assert (gaps == Gap.UNREADABLE).any()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A web server as a process of its own: GDAL holds the interpreter while it reads a header."""
    command = [sys.executable, str(Path(servers.__file__)), str(folder)]
    with child(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


def same(address: str, local: RasterSource, **stated: Any) -> None:
    """Compare the patches of a file and of the same behind an address."""
    far, lonlat = opened(address, **stated), scenes.places(scene("int16"), 20)
    for one, two in zip(cut_all(far, lonlat), cut_all(local, lonlat), strict=True):
        np.testing.assert_array_equal(one.gaps, two.gaps)
        np.testing.assert_array_equal(one.patches.values, two.patches.values)


def test_a_file_behind_an_address_gives_the_same_patches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, numbers = scene("int16"), NUMBERS["int16"]
    tiff = scenes.tiff(tmp_path / "scene.tif", values, numbers)
    png = scenes.png(tmp_path / "p.tif", scene("uint8"), {})
    png.with_suffix(".prj").unlink()
    store = scenes.zarr_store(version=2)(tmp_path / "z.tif", values, numbers)
    with serving(tmp_path) as web:
        same(f"{web}/{tiff.name}", opened(tiff))
        same(f"{web}/{png.name}", opened(png, crs=scenes.CRS), crs=scenes.CRS)
        same(f"{web}/{store.name}", opened(store))
        for name, message in (
            ("a.vrt", "a.vrt is read from the data folder"),
            ("a.nc", "a.nc is read from the data folder"),
            ("none.tif", "none.tif cannot be read"),
            ("none.zarr", "none.zarr cannot be read"),
        ):
            with pytest.raises(ObservationsError, match=message):
                open_source(f"{web}/{name}", (1, 2, 3), None, name)
    with servers.object_store(monkeypatch) as s3:
        bucket = open_obstore(s3)
        for file in (one for one in tmp_path.rglob("*") if one.is_file()):
            bucket.put(file.relative_to(tmp_path).as_posix(), file.read_bytes())
        same(f"{s3}/{tiff.name}", opened(tiff))
        same(f"{s3}/{store.name}", opened(store))
        with pytest.raises(ObservationsError, match=r"none.tif cannot be read"):
            open_source(f"{s3}/none.tif", (1,), None, "none.tif")


TOML = """
name = "formats"
licence = "CC0-1.0"
[land]
file = "land.geojson"
[radar]
encoder = "image"
kind = "raster"
files = ["ADDRESS"]
bands = [2, 1]
band_names = ["hh", "hv"]
patch_m = [160, 400]
patch_px = 16
[months]
encoder = "image"
kind = "raster"
files = ["scene.nc"]
variable = "scene"
bands = [1, 2, 3]
patch_m = 160
patch_px = 16
[mosaic]
encoder = "image"
kind = "raster"
files = ["scene.vrt"]
bands = [1]
patch_m = 160
patch_px = 16
"""


def test_a_description_names_addresses_arrays_and_vrts(tmp_path: Path) -> None:
    values, numbers = scene("int16"), NUMBERS["int16"]
    scenes.netcdf4(tmp_path / "scene.tif", values, numbers)
    scenes.vrt(tmp_path / "scene.tif", values, numbers)
    west, south = scenes.places(values, 1)[0] - 0.1
    ring = [[west, south], [west + 0.2, south], [west + 0.2, south + 0.2], [west, south]]
    land = {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    (tmp_path / "land.geojson").write_text(json.dumps(land))
    far = scenes.tiff(tmp_path / "far.tif", values, numbers)
    lonlat = scenes.places(values, 20)
    content = {"far.tif": far.read_bytes()}
    with servers.RangeServer(content) as web:
        path = tmp_path / "observations.toml"
        path.write_text(TOML.replace("ADDRESS", f"{web.url}/far.tif"))
        observations = open_observations(path)
        assert observations.form("radar").dtype == "float32"
        assert observations.rasters["radar"][0].band_names == ("hh", "hv")
        seen = observations.patches("radar", lonlat)
        local = open_source(far, (2, 1), None, "far.tif")
        for k, frame in enumerate((Frame(160.0, 16), Frame(400.0, 16))):
            expected = cut([local], lonlat, frame).patches.values
            valid = seen.valid & cut([local], lonlat, frame).patches.valid
            np.testing.assert_array_equal(seen.values[:, 2 * k : 2 * k + 2][valid], expected[valid])
        np.testing.assert_array_equal(
            observations.patches("months", lonlat).values[:, :1],
            observations.patches("mosaic", lonlat).values,
        )
        about = observations.provenance()["modalities"]
        (state,) = about["radar"]["inputs"]
        assert state["address"] == f"{web.url}/far.tif" and state["state"]
        files = [one["file"] for one in about["mosaic"]["inputs"]]
        assert files == ["scene.vrt", "left.tif", "inner.vrt", "right.tif"]
        before = observations.identity()["rasters"]
        assert before == open_observations(path).identity()["rasters"]
        web.content = {"far.tif": scenes.tiff(far, values + 1, numbers).read_bytes()}
        with pytest.raises(ReplacedError, match=r"far\.tif was replaced while it was in use"):
            observations.patches("radar", lonlat)
        assert open_observations(path).identity()["rasters"] != before
    left = tmp_path / "left.tif"
    scenes.tiff(left, scene("int16")[:, :, :50] + 1, numbers)
    with pytest.raises(ReplacedError, match=r"left\.tif was replaced"):
        observations.patches("mosaic", lonlat)


@pytest.mark.parametrize("name", ["vrt", "netcdf4", "zarr2", "ascending"])
def test_classes_are_the_commonest_in_every_format(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    codes = rng.choice(np.array([2, 7, 11, 40], np.uint8), (1, 113, 131))
    codes[:, 30:60, 40:80] = 255
    numbers = {"nodata": 255}
    lonlat = scenes.places(codes, 30)
    tiff = scenes.tiff(tmp_path / "reference.tif", codes, numbers)
    other = scenes.LOSSLESS[name][0](tmp_path / "scene.tif", codes, numbers)
    one, two = (
        replace(opened(path, bands=1, encoder="classes"), classes=(2, 7, 11))
        for path in (tiff, other)
    )
    for frame in FRAMES:
        first, second = (
            cut([source], lonlat, frame, np.uint8, nearest=True) for source in (one, two)
        )
        np.testing.assert_array_equal(first.patches.values, second.patches.values)
        assert set(np.unique(first.patches.values)) == {0, 1, 2, 3}
    with closing(BlockReader(one)) as blocks:
        read = blocks.block((3, 3), 0, 0)
    cells = codes[0, :111, :129].reshape(37, 3, 43, 3).swapaxes(1, 2).reshape(37, 43, 9)
    for row, col in ((0, 0), (5, 7), (36, 42), (12, 20)):
        values, counts = np.unique(cells[row, col], return_counts=True)
        known = values != 255
        expected = values[known][counts[known].argmax()] if known.any() else 255
        number = {2: 1, 7: 2, 11: 3}.get(int(expected), 0)
        assert read.values[0, row, col] == (number if 2 * counts[known].sum() >= 9 else 0)


def test_real_rasters_of_scaled_integers_are_read_in_their_unit(shared_data: Path) -> None:
    """Greenness and climate by month, at the centres of their pixels."""
    for name, bands in (
        ("ndvi_monthly_conus_10arcmin.tif", (1, 7)),
        ("climate_monthly_conus_15arcmin.tif", (7, 13)),
    ):
        path = shared_data / "rasters" / name
        source = open_source(path, bands, None, name)
        with rasterio.open(path) as file:
            numbers, scale = file.read(list(bands)), file.scales[0]
            rows, cols = np.nonzero((numbers != file.nodata).all(axis=0))
            pick = np.random.default_rng(0).choice(len(rows), 40)
            rows, cols = rows[pick], cols[pick]
            lonlat = np.stack(file.xy(rows, cols), axis=1)
        patches = cut([source], lonlat, Frame(50.0, 5)).patches
        assert patches.valid.all() and source.scales and all(source.band_names)
        np.testing.assert_allclose(
            patches.values[:, :, 2, 2], numbers[:, rows, cols].T * scale, atol=1e-3
        )


def test_a_world_file_that_is_replaced_is_noticed(tmp_path: Path) -> None:
    png = scenes.png(tmp_path / "p.tif", scene("uint8"), {})
    source = opened(png)
    assert {path.name for path in source.files if isinstance(path, Path)} >= {"p.pgw", "p.prj"}
    world = png.with_suffix(".pgw")
    world.write_text(world.read_text().replace("10.0", "20.0"))
    with pytest.raises(ReplacedError, match=r"p\.pgw was replaced"):
        source.check()
    assert opened(png).sample != source.sample


def test_a_nodata_value_is_stated_of_a_file_without_a_crs_of_its_own(tmp_path: Path) -> None:
    values = scene("uint8")
    values[:, :50] = 0
    png = scenes.png(tmp_path / "p.tif", values, {})
    png.with_suffix(".prj").unlink()
    tiff = scenes.tiff(tmp_path / "t.tif", values, {"nodata": 0})
    stated = open_source(png, (1, 2, 3), 0.0, "p.png", stated=Stated(crs=scenes.CRS))
    lonlat = scenes.places(values, 30)
    for one, two in zip(cut_all(stated, lonlat), cut_all(opened(tiff), lonlat), strict=True):
        np.testing.assert_array_equal(one.gaps, two.gaps)
        np.testing.assert_array_equal(one.patches.values, two.patches.values)
