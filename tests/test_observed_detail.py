"""The cells that rasters support: pixels on the ground beside pyproj, and what is said of them."""

import doctest
from pathlib import Path

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support import small_rasters, stores

from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.raster.observed_detail import observed_detail
from unigeo.schemas.geo.regions import region_of_bbox
from unigeo.schemas.store import supported_cells
from unigeo.schemas.store.attributes import read_attributes
from unigeo.schemas.store.supported_cells import (
    ObservedDetail,
    describe_support,
    resolution_warning,
)

GEOD = pyproj.Geod(ellps="WGS84")


def test_pixels_of_degrees_are_as_long_as_geodesics_say(small_folder: Path) -> None:
    observations = small_rasters.observe(small_folder)
    middle = small_rasters.WHERE.middle
    assert middle == pytest.approx((2.25, 48.775))
    details = observed_detail(observations, small_rasters.MODALITIES, middle)
    assert set(details) == {"aerial", "dsm", "landcover"}, "no rasters of coordinate and fused"
    lon, lat = middle
    half = small_rasters.PIXEL / 2
    _, _, height_m = GEOD.inv(lon, lat - half, lon, lat + half)
    _, _, width_m = GEOD.inv(lon - half, lat, lon + half, lat)
    assert height_m > width_m
    assert details["aerial"].pixel_m == pytest.approx((height_m, height_m), rel=0.003)
    assert details["aerial"].patch_pixel_m == 31.2, "the narrowest view"
    assert details["aerial"].supports_m == details["aerial"].pixel_m[0]
    assert details["dsm"].pixel_m == pytest.approx((height_m / 3, height_m), rel=0.003)
    assert details["dsm"].supports_m == 2000 / 8
    assert details["landcover"].patch_pixel_m == 93.8
    assert observed_detail(World(), ("coordinate", "aerial"), middle) == {}


@settings(max_examples=30, deadline=None)
@given(
    zone=st.integers(1, 60),
    side=st.floats(0.3, 3000),
    turn=st.floats(-180, 180),
    lon=st.floats(-180, 180),
    lat=st.floats(-89, 89),
)
def test_pixels_of_metres_are_as_long_as_their_side(
    zone: int, side: float, turn: float, lon: float, lat: float
) -> None:
    """Wherever the point is: UTM scales by 0.9996 to 1.001 within its zone, where the raster is."""
    crs = pyproj.CRS.from_epsg(32600 + zone)
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    affine = (side * cos, side / 2 * sin, 5e5, side * sin, -side / 2 * cos, 5e6)
    source = RasterSource(Path("a.tif"), (1,), None, (40, 60), crs.to_wkt(), affine, "uint8")
    measured = source.pixel_m(np.array([lon, lat]))
    assert measured == pytest.approx(side, rel=0.015)


def test_a_raster_far_away_is_measured_where_it_lies_nearest() -> None:
    wkt = pyproj.CRS.from_epsg(4326).to_wkt()
    source = RasterSource(
        Path("a.tif"), (1,), None, (10, 10), wkt, (0.1, 0, 10, 0, -0.01, 61), "uint8"
    )
    _, _, south = GEOD.inv(10.0, 60.905, 10.1, 60.905)
    assert source.pixel_m(np.array([10.5, 0.0])) == pytest.approx(south, rel=1e-6)


def test_the_middle_of_a_region_beyond_the_antimeridian() -> None:
    fiji = region_of_bbox((176, -20, -178, -16), "fiji")
    assert fiji.middle == pytest.approx((179, -18))


def test_what_is_said_and_when_it_warns() -> None:
    fine = ObservedDetail(pixel_m=(940, 940), patch_pixel_m=1000)
    coarse = ObservedDetail(pixel_m=(300, 18_500), patch_pixel_m=2000)
    details = {"dsm": coarse, "aerial": fine, "lights": fine}
    assert describe_support(details) == (
        "cells of 1,000 m by aerial and lights (pixels of 940 m, patch pixels of 1,000 m), "
        "2,000 m by dsm (pixels of 300 to 18,500 m, patch pixels of 2,000 m); finer cells add "
        "little"
    )
    for silent in (1000.0, 995.0, 2000.0, 4000.0):
        assert resolution_warning(details, silent) is None
    finer = resolution_warning(details, 500.0)
    assert finer is not None and "finer than any raster" in finer and "4.0 times" in finer
    coarser = resolution_warning(details, 4100.0)
    assert coarser is not None and "4.1 times as wide as aerial" in coarser
    for pixel_m in ((0, 1), (1, float("inf"))):
        with pytest.raises(ValidationError):
            ObservedDetail(pixel_m=pixel_m, patch_pixel_m=1)
    assert doctest.testmod(supported_cells).failed == 0


def test_stores_of_before_are_read_and_say_nothing() -> None:
    layout = stores.layout_of(("coordinate",), bands=32)
    told = stores.attributes_of(stores.GULF, stores.grid_of(stores.GULF, layout), layout)
    assert "observed_detail" not in told["unigeo"]
    assert read_attributes(told, "").observed_detail == {}
