"""Patches of a catalogue: centre, north, seams, voids, and which image is chosen."""

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from support.catalogues import Services, add_item, colour

from unigeo.producer.sources.imagery import AerialSource, SurfaceSource
from unigeo.producer.sources.raster_catalogue import Catalogue
from unigeo.producer.sources.set_description import ImageryRules, SurfaceRules
from unigeo.producer.sources.stac_items import Item, rank_items
from unigeo.producer.sources.web_requests import WebClient
from unigeo.schemas.errors import ObservationsError, StoreError

GEOD = pyproj.Geod(ellps="WGS84")
CITIES = {"Seattle": (-122.33, 47.61), "Miami": (-80.19, 25.77), "Amsterdam": (4.90, 52.37)}
ZONES = {"Seattle": 10, "Miami": 17, "Amsterdam": 31}


def coordinates_raster(path: Path, epsg: int, lonlat: tuple[float, float], step: float) -> tuple:
    """Two bands: easting and northing of each pixel, from a corner."""
    x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(*lonlat)
    half = 220
    west, north = round(x / step) * step - half * step, round(y / step) * step + half * step
    east = (np.arange(2 * half) + 0.5) * step
    values = np.stack(np.broadcast_arrays(east[None, :], -east[:, None])).astype(np.float32)
    with rasterio.open(
        path, "w", driver="GTiff", width=2 * half, height=2 * half, count=2, dtype="float32",
        crs=epsg, transform=from_origin(west, north, step, step), tiled=True,
    ) as raster:  # fmt: skip
        raster.write(values)
    return west, north


@pytest.mark.parametrize("turn", [0, 1, -1, None])
@pytest.mark.parametrize("city", CITIES)
def test_a_patch_is_centred_and_north_up(tmp_path: Path, city: str, turn: int | None) -> None:
    """In the UTM zone of the city, in its neighbours (where grid north is off), in Web Mercator."""
    lonlat, step = CITIES[city], 0.6
    epsg = 3857 if turn is None else 32600 + ZONES[city] + turn
    path = tmp_path / "coordinates.tif"
    west, north = coordinates_raster(path, epsg, lonlat, step)
    about = ImageryRules(
        kind="files", files=(str(path),), bands=(1, 2), resolution_m=step, patch_px=64
    )
    cuts = Catalogue(about, WebClient()).cut(np.array([lonlat]), np.float32)
    assert cuts.reasons == [""] and cuts.origins[0].numbers["cover"] == 1
    east, south = cuts.cut.patches.values[0].astype(float)
    back = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
    lon, lat = back.transform(west + east, north + south)
    middle = lon[31:33, 31:33].mean(), lat[31:33, 31:33].mean()
    assert GEOD.inv(*lonlat, *middle)[2] < step / 2
    azimuth, _, length = GEOD.inv(lon[63, 31], lat[63, 31], lon[0, 31], lat[0, 31])
    assert abs(azimuth) < 0.1 and length == pytest.approx(63 * step, abs=0.02)
    across, _, width = GEOD.inv(lon[31, 0], lat[31, 0], lon[31, 63], lat[31, 63])
    assert abs(across - 90) < 0.1 and width == pytest.approx(63 * step, abs=0.02)
    # An independent reference: GDAL's warper into an azimuthal equidistant frame.
    frame = f"+proj=aeqd +lat_0={lonlat[1]} +lon_0={lonlat[0]} +ellps=WGS84"
    grid = from_origin(-32 * step, 32 * step, step, step)
    with (
        rasterio.open(path) as raster,
        WarpedVRT(
            raster, crs=frame, transform=grid, width=64, height=64, tolerance=0.01,
            resampling=rasterio.enums.Resampling.bilinear,
        ) as warped,
    ):  # fmt: skip
        reference = warped.read()
    np.testing.assert_allclose(cuts.cut.patches.values[0], reference, atol=0.05 * step * 2)


def painted(path: Path, west: float, cols: int, value: int, rows: int = 400) -> str:
    """A plain image in UTM 18, 1 m, its lower left part of it without data where value is 0."""
    with rasterio.open(
        path, "w", driver="GTiff", width=cols, height=rows, count=3, dtype="uint8", crs=32618,
        transform=from_origin(west, 4_300_200, 1, 1), nodata=0, tiled=True,
    ) as raster:  # fmt: skip
        raster.write(np.full((3, rows, cols), value, np.uint8))
    return str(path)


def utm(x: float, y: float) -> tuple[float, float]:
    lon, lat = pyproj.Transformer.from_crs(32618, 4326, always_xy=True).transform(x, y)
    return float(lon), float(lat)


def test_neighbouring_images_join_without_a_seam_and_partial_cover_is_recorded(
    tmp_path: Path,
) -> None:
    files = (painted(tmp_path / "a_20200101.tif", 320_000, 200, 100),
             painted(tmp_path / "b_20200101.tif", 320_200, 200, 100))  # fmt: skip
    about = ImageryRules(kind="files", files=files, resolution_m=1, patch_px=32, min_valid=0.4,
                    licence="CC0-1.0")  # fmt: skip
    lonlat = np.array([utm(320_200, 4_300_000), utm(320_400, 4_300_000), utm(330_000, 4_300_000)])
    result = AerialSource(Catalogue(about, WebClient())).observe(lonlat)
    joined, half, nothing = result.findings
    assert (joined.value == 100).all() and joined.origin.numbers["cover"] == 1
    assert joined.origin.item.count("+") == 1 and joined.origin.date == "2020-01-01"
    assert joined.origin.licence == "CC0-1.0"
    assert half.origin.numbers["cover"] == pytest.approx(0.5, abs=0.04) and half.reason == ""
    assert nothing.value is None and nothing.reason == "no item"


def test_a_finding_does_not_depend_on_the_other_locations(tmp_path: Path) -> None:
    path = tmp_path / "noise_20210601.tif"
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", width=400, height=400, count=3, dtype="uint8", crs=32618,
        transform=from_origin(320_000, 4_300_200, 1, 1), tiled=True,
    ) as raster:  # fmt: skip
        raster.write(rng.integers(0, 255, (3, 400, 400), np.uint8))
    source = AerialSource(
        Catalogue(
            ImageryRules(kind="files", files=(str(path),), resolution_m=0.7, patch_px=32),
            WebClient(),
        )
    )
    lonlat = np.array([utm(320_000 + x, 4_300_000 + y) for x, y in rng.uniform(50, 150, (9, 2))])
    together = [one.value for one in source.observe(lonlat).findings]
    for k in range(9):
        assert (source.observe(lonlat[k : k + 1]).findings[0].value == together[k]).all()


def heights(path: Path, values: np.ndarray) -> str:
    with rasterio.open(
        path, "w", driver="GTiff", width=values.shape[1], height=values.shape[0], count=1,
        dtype="float32", crs=32618, transform=from_origin(320_000, 4_300_200, 1, 1), nodata=-9999,
        tiled=True,
    ) as raster:  # fmt: skip
        raster.write(values.astype(np.float32), 1)
    return str(path)


def test_heights_are_above_the_ground_that_the_rule_names(tmp_path: Path) -> None:
    ground = np.full((400, 400), 100.0)
    surface = ground.copy()
    surface[190:200, 90:110] += 25  # a building of the patch
    surface[205:208, 95:105] = -9999  # a void
    files, below = (heights(tmp_path / "dsm.tif", surface),), (heights(tmp_path / "d.tif", ground),)
    lonlat = np.array([utm(320_100, 4_300_000)])

    def observe(**changes: object) -> tuple[np.ndarray, float]:
        about = SurfaceRules(kind="files", files=files, resolution_m=1, patch_px=32, **changes)  # type: ignore[arg-type]
        terrain = Catalogue(about.model_copy(update={"files": below}), WebClient())
        use = terrain if about.ground == "terrain" else None
        finding = (
            SurfaceSource(about, Catalogue(about, WebClient()), use).observe(lonlat).findings[0]
        )
        return finding.value, finding.origin.numbers["ground_m"]

    low, level = observe()
    assert (
        level == 100
        and np.nanmin(low) == pytest.approx(0, abs=1e-4)
        and np.nanmax(low) == pytest.approx(25)
    )
    assert 20 <= np.isnan(low).sum() <= 40  # the void stays one
    above, level = observe(ground="terrain")
    np.testing.assert_allclose(above, low, atol=1e-4)
    plain, level = observe(ground="none")
    assert level == 0 and np.nanmax(plain) == pytest.approx(125)
    feet, level = observe(units="ft")
    assert np.nanmax(feet) == pytest.approx(25 * 0.3048, abs=1e-3) and level == 30.48


def item(name: str, date: str, west: float, east: float, cloud: float = 0) -> Item:
    return Item(name, date, cloud, 0.6, shapely.box(west, 0, east, 1), name)


def test_the_best_item_is_chosen_by_the_named_rule() -> None:
    old, new = item("old", "2018-07-01", 0, 1), item("new", "2022-07-01", 0, 1, cloud=30)
    part, mid = item("part", "2023-07-01", 0, 0.45), item("mid", "2020-03-01", 0, 1, cloud=5)
    items, footprint = [old, new, part, mid], shapely.box(0.4, 0.4, 0.5, 0.5)
    best = {rule: rank_items(items, footprint, rule, "2019-12-01")[0].name
            for rule in ("newest", "oldest", "nearest", "clearest", "fullest")}  # fmt: skip
    assert best == {"newest": "new", "oldest": "old", "nearest": "mid", "clearest": "old",
                    "fullest": "old"}  # fmt: skip
    assert rank_items(items, shapely.box(5, 5, 6, 6), "newest", "") == ()


@given(st.lists(st.tuples(st.floats(-1, 0.9), st.floats(0.1, 2), st.integers(2015, 2024)),
                min_size=1, max_size=8))  # fmt: skip
def test_a_mosaic_is_of_one_year_and_starts_with_an_item_that_covers_all(spans: list) -> None:
    items = [
        item(f"{k}", f"{year}-06-01", round(west, 2), round(west, 2) + wide)
        for k, (west, wide, year) in enumerate(spans)
    ]
    footprint = shapely.box(0, 0, 0.5, 1)
    chosen = rank_items(items, footprint, "newest", "")
    assert len({one.year for one in chosen}) <= 1
    covering = [one for one in items if one.outline.covers(footprint)]
    if covering:
        assert chosen[0].year == max(one.year for one in covering)


def test_items_that_cannot_be_used_are_counted_with_their_reason(tmp_path: Path) -> None:
    box, lonlat = (5.0, 52.0, 5.01, 52.01), np.array([(5.005, 52.005)])
    with Services(tmp_path) as services:

        def item(name: str, year: int) -> dict:
            add_item(services, name, "naip", "image", 32631, box, 5.0, year, colour)
            return services.items[-1]

        good = item("good", 2015)
        item("gone", 2023)["assets"]["image"]["href"] = f"{services.url}/cogs/none.tif"
        item("bare", 2023)["assets"] = {}
        item("coarse", 2022)["properties"]["gsd"] = 30
        item("undated", 2022)["properties"].pop("datetime")
        item("torn", 2021)
        (tmp_path / "cogs" / "torn.tif").write_bytes(b"II*\0 and no more")
        about = ImageryRules(kind="stac", url=f"{services.url}/stac", collections=("naip",),
                        resolution_m=6, patch_px=16, coarsest_m=10)  # fmt: skip
        result = AerialSource(Catalogue(about, WebClient(1000, first_wait_s=0.001))).observe(lonlat)
        assert result.unusable["gone"] == "HTTP 404" and result.unusable["bare"] == "no asset"
        assert result.unusable["undated"] == "malformed item"
        assert result.unusable["coarse"] == "too coarse"
        assert result.unusable["torn"] == "not a usable raster"
        assert result.findings[0].reason == "" and result.findings[0].origin.item == "good"
        services.items = [one for one in services.items if one["id"] in ("torn",)]
        result = AerialSource(Catalogue(about, WebClient(1000, first_wait_s=0.001))).observe(lonlat)
        assert result.findings[0].reason == "not a usable raster"
        services.items = [good]
        services.faults.append(["cogs/*", 429, 3])
        web = WebClient(1000, first_wait_s=0.001)
        result = AerialSource(Catalogue(about, web)).observe(lonlat)
        assert result.findings[0].reason == "" and result.findings[0].value.std() > 0
        services.faults.append(["stac/*", 503, 99])
        with pytest.raises(StoreError, match="HTTP 503"):
            AerialSource(Catalogue(about, web)).observe(lonlat)
        other = about.model_copy(update={"url": f"{services.url}/nothing"})
        with pytest.raises(ObservationsError, match="no STAC search"):
            AerialSource(Catalogue(other, web)).observe(lonlat)


def test_addresses_are_signed_and_signed_again_before_they_expire(tmp_path: Path) -> None:
    box, lonlat = (5.0, 52.0, 5.01, 52.01), np.array([(5.005, 52.005)])
    with Services(tmp_path) as services:
        add_item(services, "one", "naip", "image", 32631, box, 5.0, 2020, colour)
        asset = services.items[-1]["assets"]["image"]
        asset["href"] = asset["href"].replace("/cogs/", "/private/cogs/")
        plain = ImageryRules(kind="stac", url=f"{services.url}/stac", collections=("naip",),
                        resolution_m=6, patch_px=16)  # fmt: skip
        with pytest.raises(ObservationsError, match="HTTP 403"):
            AerialSource(Catalogue(plain, WebClient(1000, first_wait_s=0.001))).observe(lonlat)
        about = plain.model_copy(
            update={"sign": "planetary-computer", "sign_url": f"{services.url}/sign"}
        )
        services.faults.append(["sign", 429, 2])
        source = AerialSource(Catalogue(about, WebClient(1000, first_wait_s=0.001)))
        first = source.observe(lonlat).findings[0]
        assert first.reason == "" and services.counts["sign"] == 3
        source.observe(lonlat)
        assert services.counts["sign"] == 3  # it is still good
        services.signed_for_s = 60.0  # good for less than `AHEAD_S`: always about to expire
        other = AerialSource(Catalogue(about, WebClient(1000, first_wait_s=0.001)))
        assert (other.observe(lonlat).findings[0].value == first.value).all()
        services.signatures.clear()  # what was signed before is worth nothing
        assert (other.observe(lonlat).findings[0].value == first.value).all()
        assert first.origin.item == "one"
        services.faults.append(["sign", 404, 1])
        lost = AerialSource(Catalogue(about, WebClient(1000, first_wait_s=0.001))).observe(lonlat)
        assert lost.unusable == {"one": "HTTP 404"} and lost.findings[0].reason == "HTTP 404"
