"""Patches cut from rasters show what lies at each pixel's position on the ellipsoid, north up."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from unigeo.producer.observations.patches import Gap
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.patch_frames import Frame, local_lonlat
from unigeo.producer.observations.raster_files.raster_patches import cut
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.schemas.errors import ObservationsError

GEOD = pyproj.Geod(ellps="WGS84")
SEATTLE = (-122.33, 47.61)


def write(
    path: Path,
    values: np.ndarray,
    crs: str | None,
    corner: tuple[float, float],
    step: float,
    **profile: object,
) -> Path:
    """Write bands as a tiled GeoTIFF whose north-west corner and pixel size are given."""
    values = values if values.ndim == 3 else values[None]
    options = {"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64} | profile
    with rasterio.open(
        path,
        "w",
        count=len(values),
        height=values.shape[1],
        width=values.shape[2],
        dtype=values.dtype,
        crs=crs,
        transform=from_origin(*corner, step, step),
        **options,
    ) as file:
        file.write(values)
    return path


def centred(
    path: Path,
    crs: str,
    lonlat: tuple[float, float],
    step: float,
    size: int,
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    **profile: object,
) -> RasterSource:
    """Write a raster whose pixels are a function of easting and northing."""
    middle = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(*lonlat)
    corner = middle[0] - step * size / 2, middle[1] + step * size / 2
    offset = (np.arange(size) + 0.5) * step
    easting, northing = np.meshgrid(corner[0] + offset, corner[1] - offset)
    write(path, function(easting, northing), crs, corner, step, **profile)
    return open_source(path, (1,), None, path.name)


def reference(lonlat: tuple[float, float], crs: str, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Easting and northing of every pixel of a patch, one geodesic at a time."""
    to_plane = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
    count = frame.patch_px
    easting, northing = np.empty((2, count, count))
    for row in range(count):
        for col in range(count):
            east = (col + 0.5 - count / 2) * frame.patch_m / count
            north = (count / 2 - row - 0.5) * frame.patch_m / count
            azimuth = np.degrees(np.arctan2(east, north))
            lon, lat, _ = GEOD.fwd(*lonlat, azimuth, np.hypot(east, north))
            easting[row, col], northing[row, col] = to_plane.transform(lon, lat)
    return easting, northing


@pytest.mark.parametrize("decimation", [1, 4])
@pytest.mark.parametrize(
    ("crs", "metres"),
    [("EPSG:4326", 111_320.0), ("EPSG:3857", 1.0), ("EPSG:32612", 1.0), ("EPSG:5070", 1.0)],
)
def test_a_patch_of_a_linear_field_is_exact(
    crs: str, metres: float, decimation: int, tmp_path: Path
) -> None:
    # Seattle is 11 degrees west of UTM zone 12's central meridian: the grid is 8 degrees off north.
    frame = Frame(patch_m=3_000, patch_px=12)
    step = 250 / decimation * 0.6 / metres
    middle = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(*SEATTLE)

    def field(easting: np.ndarray, northing: np.ndarray) -> np.ndarray:
        return ((easting - middle[0]) * 2 - (northing - middle[1]) * 3) * metres

    source = centred(tmp_path / "field.tif", crs, SEATTLE, step, 256, field)
    patch = cut([source], np.array([SEATTLE]), frame).patches
    assert patch.valid.all()
    expected = field(*reference(SEATTLE, crs, frame))
    np.testing.assert_allclose(patch.values[0, 0], expected, atol=0.05)  # of 250 m a pixel


def test_the_first_row_is_north_and_the_last_column_east(tmp_path: Path) -> None:
    frame = Frame(patch_m=3_000, patch_px=8)
    for name, pick in (("north", 1), ("east", 0)):

        def field(*position: np.ndarray, pick: int = pick) -> np.ndarray:
            return position[pick]

        source = centred(tmp_path / f"{name}.tif", "EPSG:4326", SEATTLE, 0.001, 128, field)
        values = cut([source], np.array([SEATTLE]), frame).patches.values[0, 0]
        assert (np.diff(values, axis=1 - pick) * (1, -1)[pick] > 0).all()


@given(
    lon=st.floats(-180, 180),
    lat=st.floats(-80, 80),
    east=st.floats(-20_000, 20_000),
    north=st.floats(-20_000, 20_000),
)
def test_an_offset_is_at_its_distance_and_bearing(
    lon: float, lat: float, east: float, north: float
) -> None:
    result = local_lonlat(np.array([[lon, lat]]), np.array([east]), np.array([north]))[0, 0]
    azimuth, _, distance = GEOD.inv(lon, lat, *result)
    assert distance == pytest.approx(np.hypot(east, north), abs=1e-6)
    assert distance * np.sin(np.radians(azimuth)) == pytest.approx(east, abs=1e-3)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_a_patch_does_not_depend_on_the_others(seed: int, noise: RasterSource) -> None:
    rng = np.random.default_rng(seed)
    lonlat = np.array(SEATTLE) + rng.uniform(-0.3, 0.3, (6, 2))
    frame = Frame(patch_m=4_000, patch_px=16)
    together = cut([noise], lonlat, frame)
    alone = [cut([noise], lonlat[k, None], frame) for k in range(len(lonlat))]
    np.testing.assert_array_equal(together.gaps, [one.gaps[0] for one in alone])
    for k, one in enumerate(alone):
        np.testing.assert_array_equal(together.patches.values[k], one.patches.values[0])


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> RasterSource:
    """Random heights over half a degree round Seattle."""
    rng = np.random.default_rng(0)
    return centred(
        tmp_path_factory.mktemp("noise") / "noise.tif",
        "EPSG:4326",
        SEATTLE,
        0.001,
        512,
        lambda easting, _: rng.normal(size=easting.shape).astype(np.float32),
    )


def test_a_raster_cut_in_two_is_the_same_raster(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 255, (3, 256, 256)).astype(np.uint8)
    corner, step = (-122.5, 47.8), 0.001
    raster = write(tmp_path / "whole.tif", values, "EPSG:4326", corner, step)
    west = write(tmp_path / "west.tif", values[..., :128], "EPSG:4326", corner, step)
    east_corner = (corner[0] + 128 * step, corner[1])
    east = write(tmp_path / "east.tif", values[..., 128:], "EPSG:4326", east_corner, step)
    lonlat = np.array([[-122.372, 47.67], [-122.41, 47.67], [-122.33, 47.7]])
    frame = Frame(patch_m=2_000, patch_px=16)
    one, two = (
        cut([open_source(path, (1, 2, 3), None, path.name) for path in paths], lonlat, frame)
        for paths in ([raster], [west, east])
    )
    assert one.patches.valid.all() and two.patches.valid.all()
    inner = abs(lonlat[:, 0] - east_corner[0]) > 0.02
    np.testing.assert_array_equal(one.patches.values[inner], two.patches.values[inner])
    # On the seam each half knows only its own side of it, so the pixels that straddle it differ.
    differing = (one.patches.values[~inner] != two.patches.values[~inner]).any(axis=(0, 1, 2))
    assert differing.sum() <= 2


def test_a_raster_from_0_to_360_degrees_is_the_same_world(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(size=(90, 180)).astype(np.float32)
    west = write(tmp_path / "west.tif", values, "EPSG:4326", (-180, 45), 1.0)
    east = write(tmp_path / "east.tif", values, "EPSG:4326", (180, 45), 1.0)
    lonlat = np.array([[-100.0, 20.0], [-50.0, -20.0]])
    frame = Frame(patch_m=1_000_000, patch_px=8)
    one, two = (
        cut([open_source(path, (1,), None, path.name)], lonlat, frame).patches
        for path in (west, east)
    )
    assert one.valid.all()
    np.testing.assert_allclose(one.values, two.values, atol=1e-4)


@pytest.mark.parametrize("in_file", [True, False])
def test_pixels_without_data_count_against_a_patch(in_file: bool, tmp_path: Path) -> None:
    values = np.full((200, 200), 7, np.int16)
    values[:, 100:] = -99  # the eastern half is unknown
    path = write(
        tmp_path / "half.tif",
        values,
        "EPSG:32610",
        (500_000, 5_300_000),
        100,
        nodata=-99 if in_file else None,
    )
    source = open_source(path, (1,), None if in_file else -99.0, "half.tif")
    to_lonlat = pyproj.Transformer.from_crs("EPSG:32610", 4326, always_xy=True)
    eastings = np.array([503_000, 509_200, 510_800, 516_000, 560_000])
    lonlat = np.stack(to_lonlat.transform(eastings, np.full(5, 5_290_000)), axis=1)
    result = cut([source], lonlat, Frame(patch_m=4_000, patch_px=16), min_valid=0.5)
    assert result.gaps.tolist() == [Gap.NONE, Gap.NONE, Gap.NODATA, Gap.NODATA, Gap.OUTSIDE]
    np.testing.assert_allclose(result.patches.values[:2], 7, rtol=1e-6)  # holes take the mean
    lenient = cut([source], lonlat, Frame(patch_m=4_000, patch_px=16), min_valid=0.2)
    assert lenient.patches.valid.tolist() == [True, True, True, False, False]


def test_a_damaged_block_is_a_gap_of_its_own_kind(tmp_path: Path) -> None:
    values = np.random.default_rng(3).normal(size=(512, 512)).astype(np.float32)
    path = write(
        tmp_path / "bad.tif",
        values,
        "EPSG:32610",
        (500_000, 5_300_000),
        10,
        blockxsize=256,
        blockysize=256,
        compress="deflate",
    )
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(bytes(2_000))
    source = open_source(path, (1,), None, "bad.tif")
    to_lonlat = pyproj.Transformer.from_crs("EPSG:32610", 4326, always_xy=True)
    lonlat = np.stack(to_lonlat.transform([501_000, 504_000], [5_299_000, 5_296_000]), axis=1)
    result = cut([source], lonlat, Frame(patch_m=160, patch_px=16))
    assert result.gaps.tolist() == [Gap.UNREADABLE, Gap.NONE]


def test_what_cannot_be_a_source_is_refused_with_its_reason(tmp_path: Path) -> None:
    values = np.random.default_rng(4).integers(0, 255, (256, 256)).astype(np.uint8)
    corner = (500_000.0, 5_300_000.0)
    good = write(tmp_path / "good.tif", values, "EPSG:32610", corner, 10)
    short = tmp_path / "short.tif"
    short.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    text = tmp_path / "words.tif"
    text.write_text("not a picture")
    nowhere = write(tmp_path / "nowhere.tif", values, None, corner, 10)
    for path, bands, message in (
        (tmp_path / "none.tif", (1,), "no such file"),
        (good, (1, 2), "has bands 1 to 1, no band 2"),
        (short, (1,), "cut short"),
        (text, (1,), "cannot be read as a raster"),
        (nowhere, (1,), "has no CRS"),
    ):
        with pytest.raises(ObservationsError, match=message):
            open_source(path, bands, None, "table [dsm]: a file")
