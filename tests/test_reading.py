"""Which pixels of a raster hold data: by its nodata value, by its mask."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from unigeo.producer.observations.raster_files.decimated_pixels import ReadWindow
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.raster_blocks import BlockReader


def write(path: Path, values: np.ndarray, **how: object) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", width=values.shape[2], height=values.shape[1],
        count=len(values), dtype=values.dtype, crs=32618,
        transform=from_origin(320_000, 4_300_000, 1, 1), **how,
    ) as raster:  # fmt: skip
        if len(values) == 4:
            raster.colorinterp = [
                ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha
            ]  # fmt: skip
        raster.write(values)
    return path


def read(path: Path, bands: tuple[int, ...], factor: int, side: int) -> ReadWindow:
    blocks = BlockReader(open_source(path, bands, None, "a file"))
    try:
        return blocks.window((factor, factor), (0, side // factor), (0, side // factor))
    finally:
        blocks.close()


@pytest.mark.parametrize("factor", [1, 4])
def test_a_nodata_value_rules_over_a_fourth_band_that_is_called_alpha(
    tmp_path: Path, factor: int
) -> None:
    """As in NAIP: near infrared of 0 is water, a pixel that is black in every band is no data."""
    values = np.random.default_rng(0).integers(1, 255, (4, 64, 64), np.uint8)
    values[0, :, :16] = 0  # no red is a colour
    values[3, :, 16:32] = 0  # no infrared is water
    values[:, :, 48:] = 0
    path = write(tmp_path / "naip.tif", values, nodata=0)
    window = read(path, (1, 2, 3), factor, 64)
    edge = 48 // factor
    assert window.data[:, :edge].all() and not window.data[:, edge:].any()
    assert (window.values[:, :, edge:] == 0).all()
    if factor == 1:
        np.testing.assert_array_equal(window.values[:, :, :48], values[:3, :, :48])


def test_an_alpha_band_is_a_mask_where_there_is_no_nodata_value(tmp_path: Path) -> None:
    values = np.full((4, 32, 32), 200, np.uint8)
    values[3], values[3, :, 16:] = 255, 0
    window = read(write(tmp_path / "rgba.tif", values), (1, 2, 3), 1, 32)
    assert window.data[:, :16].all() and not window.data[:, 16:].any()


def test_a_height_needs_every_band_and_a_finite_one(tmp_path: Path) -> None:
    values = np.full((2, 32, 32), 5, np.float32)
    values[0, :, :8], values[1, :, 8:16] = -9999, np.nan
    path = write(tmp_path / "heights.tif", values, nodata=-9999.0)
    for factor in (1, 2):
        window = read(path, (1, 2), factor, 32)
        edge = 16 // factor
        assert not window.data[:, :edge].any() and window.data[:, edge:].all()
        assert set(np.unique(window.values)) == {0, 5}
