"""Observations of a folder are those of its files, and errors name what is missing."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.transform import from_origin

from unigeo.producer.observations.folder.folder_observations import FolderObservations
from unigeo.producer.observations.folder.land import Land
from unigeo.producer.observations.folder.location_tables import LocationTable
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.observations.wrapping import ObservationsWrapper, only
from unigeo.schemas.errors import ObservationsError, PointsError

GEOD = pyproj.Geod(ellps="WGS84")
EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "conus_open.toml"
PARIS = (2.35, 48.85)
DESCRIPTION = """
name = "small"
licence = "CC0-1.0"
data = "data"
[land]
file = "land.parquet"
[locations]
file = "words.csv"
uniform = 0.5
[aerial]
kind = "raster"
files = ["aerial_*.tif"]
bands = [1, 2, 3]
patch_m = 2000
patch_px = 8
acquired = "2020"
[dsm]
kind = "raster"
files = ["dsm.tif"]
bands = [1]
patch_m = 2000
patch_px = 8
units = "m"
[street]
kind = "images"
file = "photographs.csv"
folder = "street"
radius_m = 500
patch_px = 16
[text]
kind = "table"
file = "words.csv"
radius_m = 1000
"""


def raster(path: Path, values: np.ndarray, **profile: object) -> None:
    """Write bands over a degree square round Paris."""
    transform = from_origin(PARIS[0] - 0.5, PARIS[1] + 0.5, 1 / 256, 1 / 256)
    given_profile = {"crs": "EPSG:4326", "transform": transform} | profile
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(values),
        height=256,
        width=256,
        dtype=values.dtype,
        **given_profile,
    ) as file:
        file.write(values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A description beside a folder of everything it names."""
    data = tmp_path / "data"
    (data / "street").mkdir(parents=True)
    rng = np.random.default_rng(0)
    raster(data / "aerial_1.tif", rng.integers(0, 255, (3, 256, 256)).astype(np.uint8))
    heights = np.full((1, 256, 256), 35, np.int16)
    heights[..., :64] = -99  # unknown in the west
    raster(data / "dsm.tif", heights, nodata=-99)
    square = shapely.box(PARIS[0] - 0.4, PARIS[1] - 0.4, PARIS[0] + 0.4, PARIS[1] + 0.4)
    geopandas.GeoDataFrame(geometry=[square], crs=4326).to_parquet(data / "land.parquet")
    for name, colour in (("red.png", (255, 0, 0)), ("blue.jpg", (0, 0, 255))):
        Image.new("RGB", (60, 40), colour).save(data / "street" / name)
    at = pd.DataFrame({"lon": [2.35, 2.40], "lat": [48.85, 48.85]})
    at.assign(file=["red.png", "blue.jpg"]).to_csv(data / "photographs.csv", index=False)
    at.assign(text=["The city.", ""]).to_csv(data / "words.csv", index=False)
    (tmp_path / "observations.toml").write_text(DESCRIPTION)
    return tmp_path


@pytest.fixture(scope="module")
def conus(shared_data: Path) -> FolderObservations:
    """The example of the documentation, on real data."""
    return open_observations(EXAMPLE, shared_data)


def test_several_sides_are_views_side_by_side(folder: Path) -> None:
    path = folder / "observations.toml"
    at = np.array([PARIS, [2.30, 48.80], [1.90, 48.85]])  # the last beside the known heights
    single = {}
    for side in (2000, 9000):
        path.write_text(DESCRIPTION.replace("patch_m = 2000", f"patch_m = {side}"))
        one = open_observations(path)
        single[side] = {name: one.patches(name, at) for name in ("aerial", "dsm")}  # type: ignore[arg-type]
    path.write_text(DESCRIPTION.replace("patch_m = 2000", "patch_m = [2000, 9000]"))
    both = open_observations(path)
    assert both.shape("aerial") == (6, 8, 8) and both.shape("dsm") == (2, 8, 8)
    for name in ("aerial", "dsm"):
        views = both.patches(name, at)  # type: ignore[arg-type]
        near, wide = single[2000][name], single[9000][name]
        assert np.array_equal(views.valid, near.valid & wide.valid)
        expected = np.concatenate([near.values, wide.values], axis=1)
        assert np.array_equal(views.values[views.valid], expected[views.valid])


@pytest.mark.parametrize("wrong", ["[]", "0", "[2000, -1]", "'wide'", "2e6"])
def test_a_side_is_metres(folder: Path, wrong: str) -> None:
    path = folder / "observations.toml"
    path.write_text(DESCRIPTION.replace("patch_m = 2000", f"patch_m = {wrong}", 1))
    with pytest.raises(ObservationsError, match=r"table \[aerial\].*patch_m"):
        open_observations(path)


def test_a_folder_is_observations(folder: Path) -> None:
    small: Observations = open_observations(folder / "observations.toml")
    assert small.name == "small"
    assert small.modalities == ("coordinate", "aerial", "street", "dsm", "text")
    for modality in ("aerial", "street", "dsm"):
        patches = small.patches(modality, np.array([PARIS]))
        assert patches.values.shape[1:] == small.shape(modality)
        assert patches.values.dtype == (np.float32 if modality == "dsm" else np.uint8)
        assert patches.valid.all()
    again = pickle.loads(pickle.dumps(small))  # workers get a copy
    assert again.provenance() == small.provenance()


def test_a_wrapper_passes_every_member_on(folder: Path) -> None:
    members = {name for name in vars(Observations) if not name.startswith("_")}
    assert members <= set(vars(ObservationsWrapper))
    inner = open_observations(folder / "observations.toml")
    some = only(inner, ("coordinate", "aerial"))
    rasters = some.rasters_of("aerial")
    assert rasters is not None and list(rasters.sources) == list(inner.rasters["aerial"])
    assert some.rasters_of("street") is None
    assert some.identity() == inner.identity() != inner.provenance()
    assert some.data_folder == inner.root
    assert World().identity() == World().provenance() and World().data_folder is None
    assert some.panoramas(np.empty((0, 2))) is None and some.target_table(1, 0) is None


def test_the_description_may_omit_modalities(folder: Path) -> None:
    path = folder / "observations.toml"
    path.write_text(DESCRIPTION[: DESCRIPTION.index("[dsm]")])
    small = open_observations(path)
    assert small.modalities == ("coordinate", "aerial")
    with pytest.raises(ObservationsError, match="no dsm; it has coordinate, aerial"):
        small.patches("dsm", np.array([PARIS]))
    with pytest.raises(ObservationsError, match="no text"):
        small.texts(np.array([PARIS]))


def test_what_is_not_observed_is_invalid_and_counted(folder: Path) -> None:
    small = open_observations(folder / "observations.toml")
    lonlat = np.array([PARIS, (1.95, 48.85), (10.0, 10.0)])
    dsm = small.patches("dsm", lonlat)
    assert dsm.valid.tolist() == [True, False, False]
    np.testing.assert_allclose(dsm.values[0], 35, rtol=1e-6)
    street = small.patches("street", lonlat)
    assert street.valid.tolist() == [True, False, False]
    small.texts(lonlat)
    assert small.gaps() == {
        "dsm": {"nodata": 1, "outside raster": 1},
        "street": {"nothing in reach": 2},
        "text": {"nothing in reach": 2},
    }


def test_the_nearest_street_image_within_the_radius_is_used(folder: Path) -> None:
    small = open_observations(folder / "observations.toml")
    lonlat = np.array([[2.351, 48.85], [2.399, 48.851], [2.375, 48.85]])
    patches = small.patches("street", lonlat)
    assert patches.valid.tolist() == [True, True, False]
    np.testing.assert_allclose(patches.values[0, :, 8, 8], (255, 0, 0), atol=2)
    np.testing.assert_allclose(patches.values[1, :, 8, 8], (0, 0, 255), atol=2)


def test_an_image_that_is_damaged_later_is_a_gap(folder: Path) -> None:
    image = folder / "data" / "street" / "red.png"
    small = open_observations(folder / "observations.toml")
    image.write_bytes(image.read_bytes()[:60])
    assert not small.patches("street", np.array([PARIS])).valid.any()
    assert small.gaps() == {"street": {"unreadable": 1}}


def test_an_empty_text_is_none(folder: Path) -> None:
    small = open_observations(folder / "observations.toml")
    assert small.texts(np.array([PARIS, (2.40, 48.85)])) == ["The city.", None]


@settings(max_examples=30)
@given(seed=st.integers(0, 1_000_000), radius_m=st.floats(10, 200_000))
def test_the_nearest_row_is_the_nearest_by_geodesic(seed: int, radius_m: float) -> None:
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.uniform(-180, 180, 20), rng.uniform(-90, 90, 20)], 1)
    lonlat = rows[rng.integers(0, 20, 10)] + rng.normal(size=(10, 2))
    lonlat[:, 1] = np.clip(lonlat[:, 1], -90, 90)
    table = LocationTable(pd.DataFrame({"row": range(20)}), rows)
    for point, nearest in zip(lonlat, table.nearest(lonlat, radius_m), strict=True):
        _, _, distance = GEOD.inv(*np.broadcast_to(point, (20, 2)).T.copy(), *rows.T.copy())
        if distance.min() < 0.995 * radius_m:
            assert nearest == distance.argmin()
        elif distance.min() > 1.005 * radius_m:
            assert nearest == -1


def test_locations_are_on_land_and_the_same_for_a_seed(folder: Path) -> None:
    small = open_observations(folder / "observations.toml")
    lonlat = small.locations(50, seed=3)
    assert lonlat.shape == (50, 2)
    assert small.land(lonlat).all()
    np.testing.assert_array_equal(lonlat, small.locations(50, seed=3))
    assert (lonlat != small.locations(50, seed=4)).any()
    rows = {(2.35, 48.85), (2.40, 48.85)}
    assert rows <= {(float(lon), float(lat)) for lon, lat in lonlat}
    assert len(np.unique(lonlat, axis=0)) == 50  # no location twice


def test_land_is_drawn_by_area() -> None:
    south, north = shapely.box(0, 0, 20, 10), shapely.box(0, 55, 20, 75)
    drawn = Land(shapely.union_all([south, north])).draw(20_000, np.random.default_rng(0))
    areas = [
        abs(GEOD.geometry_area_perimeter(shapely.segmentize(box, 0.5))[0]) for box in (south, north)
    ]
    share = (drawn[:, 1] < 10).mean()
    assert share == pytest.approx(areas[0] / sum(areas), abs=4 * 0.5 / np.sqrt(len(drawn)))


def test_land_may_come_in_another_crs_or_as_geojson(folder: Path) -> None:
    path, data = folder / "observations.toml", folder / "data"
    land = geopandas.read_parquet(data / "land.parquet")
    rng = np.random.default_rng(0)
    lonlat = np.array(PARIS) + rng.uniform(-0.6, 0.6, (200, 2))
    expected = open_observations(path).land(lonlat)
    land.to_file(data / "land.geojson", driver="GeoJSON")
    fine = geopandas.GeoDataFrame(geometry=land.segmentize(0.01))
    fine.to_crs(3035).to_parquet(data / "projected.parquet")
    for name in ("land.geojson", "projected.parquet"):
        path.write_text(DESCRIPTION.replace("land.parquet", name))
        np.testing.assert_array_equal(open_observations(path).land(lonlat), expected)


def test_points_that_are_not_on_earth_are_refused(folder: Path) -> None:
    small = open_observations(folder / "observations.toml")
    with pytest.raises(PointsError, match="NaN"):
        small.patches("aerial", np.array([[2.0, np.nan]]))
    with pytest.raises(PointsError, match="swapped"):
        small.texts(np.array([[47.0, -122.0]]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("patch_px = 8\nunits", "patch_pix = 8\nunits", "unknown key 'patch_pix'.*'patch_px'"),
        ("radius_m = 1000", "", r"\[text\] lacks the key 'radius_m'"),
        ('kind = "images"', 'kind = "photos"', r"\[street\], key 'kind'.*not 'photos'"),
        ('"dsm.tif"', '"../dsm.tif"', "inside the data folder"),
        ('"dsm.tif"', '"/etc/dsm.tif"', "inside the data folder"),
        ('"dsm.tif"', '"ftp://example.org/dsm.tif"', "is no address of a file"),
        ('"dsm.tif"', '"https://example.org/a.tif?key=1"', "without user name, query and"),
        ("bands = [1]", "bands = [1]\nband_names = ['a', 'b']", "1 bands .* 2 are named"),
        ('"dsm.tif"', '"dem.tif"', r"\[dsm\]: dem.tif: no such file"),
        ("aerial_*", "photo_*", "no file matches 'photo_"),
        ("bands = [1, 2, 3]", "bands = [1, 2, 3, 4]", "bands 1 to 3, no band 4"),
        ('"land.parquet"', '"nowhere.parquet"', r"\[land\]: nowhere.parquet: no such file"),
        ('"land.parquet"', '"words.csv"', r"\[land\]: words.csv (cannot be read|has no)"),
        ('folder = "street"', 'folder = "."', "row 0: there is no photograph 'red.png'"),
        ('folder = "street"', 'folder = "street"\nimage = "path"', "no column 'path'.*'file'"),
        ('folder = "street"', 'folder = "street"\nlon = "x"', "no column 'x'"),
        ('units = "m"', 'units = "feet"', "heights are in metres, not 'feet'"),
        ('data = "data"', 'data = "date"', "no data folder"),
        ("[land]", "[land", "is not TOML"),
        ("[text]", "[table]", "top level has an unknown key 'table'"),
        ("[text]", "[txt]", "top level has an unknown key 'txt' .did you mean 'text'"),
        ("[land]", "[locations2]", "top level lacks the key 'land'"),
        ("patch_px = 16", "patch_px = 1.5", r"\[street\], key 'patch_px'"),
        ("bands = [1]", "bands = [1, 'x']", r"\[dsm\], key 'bands.1'"),
        ("bands = [1]", "bands = [1, 1]", r"\[dsm\], key 'bands': one band"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_refused_with_its_reason(
    old: str, new: str, message: str, folder: Path
) -> None:
    assert old in DESCRIPTION
    path = folder / "observations.toml"
    path.write_text(DESCRIPTION.replace(old, new))
    with pytest.raises(ObservationsError, match=message):
        open_observations(path)


def _cut_short(data: Path) -> None:
    path = data / "dsm.tif"
    path.write_bytes(path.read_bytes()[:40_000])


def _without_crs(data: Path) -> None:
    raster(data / "dsm.tif", np.ones((1, 256, 256), np.int16), crs=None)


def _of_complex_numbers(data: Path) -> None:
    raster(data / "aerial_1.tif", np.ones((3, 256, 256), np.complex64))


def _damaged_image(data: Path) -> None:
    (data / "street" / "blue.jpg").write_bytes(b"not an image")


def _leading_out(data: Path) -> None:
    (data / "dsm.tif").rename(data.parent / "dsm.tif")
    (data / "dsm.tif").symlink_to(data.parent / "dsm.tif")


def _swapped(data: Path) -> None:
    pd.DataFrame({"lon": [40.0], "lat": [-120.0], "text": ["?"]}).to_csv(data / "words.csv")


def _land_without_crs(data: Path) -> None:
    land = geopandas.read_parquet(data / "land.parquet")
    geopandas.GeoDataFrame(geometry=land.geometry.to_numpy()).to_parquet(data / "land.parquet")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut_short, r"\[dsm\]: dsm.tif is cut short"),
        (_without_crs, r"\[dsm\]: dsm.tif has no CRS"),
        (_of_complex_numbers, "holds complex64; real numbers are read"),
        (_damaged_image, "'blue.jpg' is not a readable image"),
        (_leading_out, "leads out of the data folder"),
        (_swapped, "look swapped"),
        (_land_without_crs, r"\[land\]: land.parquet has no CRS"),
    ],
)
def test_damaged_data_are_refused_with_their_reason(
    spoil: Callable[[Path], None], message: str, folder: Path
) -> None:
    spoil(folder / "data")
    with pytest.raises(ObservationsError, match=message):
        open_observations(folder / "observations.toml")


def test_provenance_names_and_hashes_every_input(folder: Path) -> None:
    path, data = folder / "observations.toml", folder / "data"
    before = open_observations(path).provenance()
    text = json.dumps(before)
    for name in ("aerial_1.tif", "dsm.tif", "street/red.png", "words.csv", "land.parquet"):
        assert name in text
    assert str(folder) not in text  # the same data elsewhere are the same observations
    assert before["modalities"]["aerial"]["acquired"] == "2020"
    assert before["modalities"]["dsm"]["patch_m"] == [2000]
    Image.new("RGB", (60, 40), (0, 255, 0)).save(data / "street" / "red.png")
    assert open_observations(path).provenance() != before


def test_all_of_conus_has_images_and_a_surface(conus: FolderObservations) -> None:
    lonlat = conus.locations(1_000, seed=1)
    corners = [(-66.96, 44.81), (-124.70, 48.37), (-81.8, 24.56), (-97.4, 25.9), (-95.15, 49.36)]
    for modality in ("aerial", "nightlights", "dsm"):
        patches = conus.patches(modality, np.concatenate([lonlat, corners]))
        assert patches.valid.all()
    assert 0.2 < np.mean([text is not None for text in conus.texts(lonlat)]) < 0.9
    assert conus.land(lonlat).all()


def test_known_locations_are_observed_as_they_are(conus: FolderObservations) -> None:
    gulf, denver = (-90.0, 26.0), (-104.99, 39.74)
    new_york, olympic = (-73.98, 40.75), (-123.6, 47.8)
    red, green, blue = conus.patches("aerial", np.array([gulf])).values[0, :3].mean(axis=(1, 2))
    assert blue > 1.5 * green > 1.5 * red
    height = conus.patches("dsm", np.array([denver])).values[0, 0, 14:18, 14:18].mean()
    assert height == pytest.approx(1_600, abs=40)
    front_range = conus.patches("dsm", np.array([[-105.25, 39.74]])).values[0, 0]
    assert front_range[:, :8].mean() > front_range[:, -8:].mean() + 300  # the mountains are west
    city, forest = conus.patches("nightlights", np.array([new_york, olympic])).values.mean(
        axis=(1, 2, 3)
    )
    assert city > 5 * forest
    assert "Denver" in str(conus.texts(np.array([denver]))[0])
    known = conus.land(np.array([gulf, denver, new_york, olympic]))
    assert known.tolist() == [False, True, True, True]
