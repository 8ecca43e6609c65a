"""Hand-made numbers are the statistics of a raster's own pixels in windows on the ground."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rasterio.windows import Window

from unigeo.client.probing.suite_numbers import open_numbers
from unigeo.client.probing.suites import load_suite
from unigeo.producer.commands.cli import produce
from unigeo.producer.evaluation.handmade import default_recipe, load_recipe, write_numbers
from unigeo.producer.evaluation.handmade.number_recipe import Windows, WindowStatistic
from unigeo.producer.evaluation.handmade.window_numbers import WindowNumbers
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.forms import Form
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.raster_files.modality_rasters import ModalityRasters
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.patch_frames import Frame
from unigeo.schemas.errors import ObservationsError, ProbeError, StoreError, UnigeoError

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
GEOD = pyproj.Geod(ellps="WGS84")
STEP = 1 / 60
CORNER = (-100.0, 41.0)
ROWS, COLS = 90, 120


def statistic(text: str) -> WindowStatistic:
    name, _, threshold = text.partition(":")
    return WindowStatistic(name, float(threshold) if threshold else None)


def write(
    path: Path, values: np.ndarray, corner: tuple[float, float] = CORNER, **more: Any
) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", count=len(values), height=values.shape[1],
        width=values.shape[2], dtype=values.dtype, crs="EPSG:4326",
        transform=from_origin(*corner, STEP, STEP), **more,
    ) as file:  # fmt: skip
        file.write(values)
    return path


def rasters(*paths: Path, bands: tuple[int, ...] = (1,)) -> ModalityRasters:
    sources = [open_source(path, bands, None, path.name) for path in paths]
    return ModalityRasters(sources, [Frame(8_000, 8)], np.uint8, 0.5, lambda gaps: None)


def image(bands: int = 1, dtype: Any = "uint8") -> Form:
    return Form(encoder="image", shape=(bands, 8, 8), dtype=dtype)


def pixels_on_the_ground(lon: float, lat: float, side_m: float, step: float) -> tuple[float, float]:
    """Pixels of a geographic raster along rows and columns, from geodesic lengths of one degree."""
    _, _, north = GEOD.inv(lon, lat - step / 2, lon, lat + step / 2)
    _, _, east = GEOD.inv(lon - step / 2, lat, lon + step / 2, lat)
    return side_m / north, side_m / east


def pixels_of_file(
    file: Any, to_file: pyproj.Transformer, row: int, col: int, side_m: float
) -> tuple[float, float]:
    """Pixels along rows and columns, from the geodesic lengths of one pixel's sides."""
    x, y = file.xy(row, col)
    step = file.transform.a
    ends = ((x, y - step / 2), (x, y + step / 2), (x - step / 2, y), (x + step / 2, y))
    south, north, west, east = (to_file.transform(*end, direction="INVERSE") for end in ends)
    return side_m / GEOD.inv(*south, *north)[2], side_m / GEOD.inv(*west, *east)[2]


def is_clear(pixels: tuple[float, float]) -> bool:
    """Whether the nearest odd number is not a matter of rounding."""
    return all(abs(count / 2 - round(count / 2)) > 0.02 for count in pixels)


def reach(count: float) -> int:
    return int(np.rint((count - 1) / 2))


def plain(values: np.ndarray, text: str) -> float:
    """One statistic in float64, written out."""
    values = values.astype(np.float64).ravel()
    name, _, threshold = text.partition(":")
    return {
        "mean": lambda: sum(values) / len(values),
        "std": lambda: float(np.sqrt(((values - values.mean()) ** 2).sum() / len(values))),
        "min": lambda: sorted(values)[0],
        "max": lambda: sorted(values)[-1],
        "range": lambda: sorted(values)[-1] - sorted(values)[0],
        "log1p_mean": lambda: float(np.log(1 + values.mean())),
        "share_above": lambda: sum(values > float(threshold)) / len(values),
        "share_at_most": lambda: sum(values <= float(threshold)) / len(values),
    }[name]()


TEXTS = ("mean", "std", "min", "max", "range", "log1p_mean", "share_above:100", "share_at_most:9")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bands of random bytes over a degree and a half."""
    rng = np.random.default_rng(3)
    values = rng.integers(0, 255, (2, ROWS, COLS), dtype=np.uint8)
    return write(tmp_path_factory.mktemp("scene") / "scene.tif", values)


@given(row=st.floats(0.1, ROWS - 0.1), col=st.floats(0.1, COLS - 0.1), side_km=st.floats(1.0, 40.0))
@settings(max_examples=40)
def test_a_window_is_the_pixels_round_the_point(
    scene: Path, row: float, col: float, side_km: float
) -> None:
    """Also beyond the edge, where pixels off the raster are left out."""
    lon, lat = CORNER[0] + col * STEP, CORNER[1] - row * STEP
    count = pixels_on_the_ground(lon, lat, 1000 * side_km, STEP)
    if not is_clear(count):
        return
    windows = Windows(
        modality="aerial", sides_km=(side_km,), statistics=tuple(map(statistic, TEXTS)), point=True
    )
    numbers = WindowNumbers(windows, image(2), rasters(scene, bands=(1, 2)))
    (found,) = numbers.at(np.array([[lon, lat]]))
    high, wide = reach(count[0]), reach(count[1])
    top, left = int(row) - high, int(col) - wide
    with rasterio.open(scene) as file:
        every = file.read()
    part = every[:, max(top, 0) : int(row) + high + 1, max(left, 0) : int(col) + wide + 1]
    expected = [plain(band, text) for text in TEXTS for band in part]
    expected += [float(band[int(row), int(col)]) for band in every]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert len(numbers.names) == len(set(numbers.names)) == len(found)


def test_pixels_without_data_are_left_out_and_a_window_of_none_has_no_number(
    tmp_path: Path,
) -> None:
    values = np.full((1, 40, 40), 7, np.int16)
    values[0, :, 20:] = -99
    values[0, :, 10:20] = 3
    path = write(tmp_path / "half.tif", values, nodata=-99)
    windows = Windows(
        modality="aerial", sides_km=(100.0,), statistics=(statistic("mean"),), point=True
    )
    numbers = WindowNumbers(windows, image(dtype="float32"), rasters(path))
    middle = [CORNER[0] + 20.5 * STEP, CORNER[1] - 20.5 * STEP]
    found = numbers.at(np.array([middle, [10.0, 50.0]]))
    assert 3 < found[0, 0] < 7  # of the pixels with data alone
    assert np.isnan(found[0, 1]) and np.isnan(found[1]).all()


def test_a_window_that_reaches_beyond_the_projection_has_no_number(tmp_path: Path) -> None:
    """Of a UTM zone, a third of the globe away: the point has a position, 750 km west has none."""
    path = tmp_path / "utm.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=9, width=9, dtype=np.uint8, crs="EPSG:32615",
        transform=from_origin(15_590_000, 11_190_000, 10_000, 10_000),
    ) as file:  # fmt: skip
        file.write(np.full((1, 9, 9), 7, np.uint8))
    windows = Windows(
        modality="aerial", sides_km=(4.0, 1500.0), statistics=(statistic("mean"),), point=True
    )
    (found,) = WindowNumbers(windows, image(), rasters(path)).at(np.array([[-1.0, 10.0]]))
    np.testing.assert_array_equal(found, [7, np.nan, 7])


def test_tiles_of_one_grid_are_one_raster_and_other_grids_are_refused(
    tmp_path: Path, scene: Path
) -> None:
    with rasterio.open(scene) as file:
        values = file.read()
    west = write(tmp_path / "west.tif", values[:, :, :47])
    east = write(tmp_path / "east.tif", values[:, :, 47:], (CORNER[0] + 47 * STEP, CORNER[1]))
    windows = Windows(
        modality="aerial", sides_km=(4.0, 30.0), statistics=tuple(map(statistic, TEXTS)), point=True
    )
    rng = np.random.default_rng(0)
    lonlat = np.array(CORNER) + rng.uniform((0.1, -1.4), (1.9, -0.1), (40, 2))
    whole = WindowNumbers(windows, image(2), rasters(scene, bands=(1, 2))).at(lonlat)
    tiles = WindowNumbers(windows, image(2), rasters(west, east, bands=(1, 2))).at(lonlat)
    np.testing.assert_allclose(tiles, whole, rtol=1e-12)

    off = write(tmp_path / "off.tif", values, (CORNER[0] + 0.4 * STEP, CORNER[1]))
    with pytest.raises(ObservationsError, match=r"off.tif lies on another grid than west.tif"):
        WindowNumbers(windows, image(2), rasters(west, off, bands=(1, 2))).at(lonlat)


def test_wide_windows_are_read_as_means(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unigeo.producer.evaluation.handmade.window_numbers.MOST_PIXELS", 8)
    windows = Windows(modality="aerial", sides_km=(60.0,), statistics=(statistic("mean"),))
    numbers = WindowNumbers(windows, image(), rasters(scene))
    (found,) = numbers.at(np.array([[CORNER[0] + 1.0, CORNER[1] - 0.75]]))
    assert 110 < found[0] < 145  # the mean of random bytes, whatever is averaged first


class Scenes(Observations):
    """Observations of which numbers need the rasters alone."""

    name = "scenes"
    modalities = ("coordinate", "aerial", "dsm", "cover")

    def __init__(self, of: dict[str, tuple[Form, ModalityRasters]]) -> None:
        self.of = of

    def form(self, modality: str) -> Form:
        return self.of[modality][0] if modality in self.of else Form(encoder="coordinate")

    def rasters_of(self, modality: str) -> ModalityRasters | None:
        return self.of[modality][1] if modality in self.of else None

    def provenance(self) -> dict[str, Any]:
        return {"name": self.name}


@pytest.fixture
def scenes(tmp_path: Path, scene: Path) -> Scenes:
    cover = np.tile(np.repeat([[1, 2]], COLS // 2, axis=1).astype(np.uint8), (1, ROWS, 1))
    path = write(tmp_path / "cover.tif", cover)
    of_classes = rasters(path)
    classes = replace(
        of_classes,
        sources=[replace(of_classes.sources[0], classes=(1, 2), class_names=("water", "town"))],
    )
    surface = Form(encoder="surface", shape=(1, 8, 8), dtype="float32")
    named = Form(encoder="classes", shape=(1, 8, 8), classes=("water", "town"))
    return Scenes(
        {
            "aerial": (image(2), rasters(scene, bands=(1, 2))),
            "dsm": (surface, rasters(scene)),
            "cover": (named, classes),
        }
    )


def test_without_a_recipe_every_raster_gives_numbers_in_its_views(scenes: Scenes) -> None:
    recipe = default_recipe(scenes)
    named = {each.modality: each for each in recipe.windows}
    assert list(named) == ["aerial", "dsm", "cover"]
    assert named["dsm"].point and named["cover"].shares
    numbers = WindowNumbers(named["cover"], *scenes.of["cover"])
    assert numbers.names == ("cover_8km_water", "cover_8km_town")
    west, border = CORNER[0] + 0.5, CORNER[0] + COLS // 2 * STEP + 0.5 * STEP
    found = numbers.at(np.array([[west, 40.3], [border, 40.3]]))
    assert found[0].tolist() == [1.0, 0.0]
    assert 0.2 < found[1, 0] < 0.5 and found[1].sum() == 1.0


SUITE = """
[[table]]
file = "points.csv"
targets = ["warmth"]
areas = false
[[table]]
file = "plots.csv"
targets = ["warmth"]
[areas]
file = "plots.geojson"
key = "plot"
places = 3
"""


def write_suite(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    lonlat = np.array(CORNER) + rng.uniform((0.1, -1.4), (1.9, -0.1), (30, 2))
    table = pd.DataFrame(lonlat, columns=["lon", "lat"])
    table["warmth"] = rng.standard_normal(30)
    table["plot"] = [f"p{number}" for number in range(30)]
    plots = []
    for lon, lat, _, name in table.itertuples(index=False):
        ring = [[lon + x, lat + y] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))]
        shape = {"type": "Polygon", "coordinates": [ring]}
        plots.append({"type": "Feature", "properties": {"plot": name}, "geometry": shape})
    document = {"type": "FeatureCollection", "features": plots}
    (folder / "plots.geojson").write_text(json.dumps(document))
    table.to_csv(folder / "plots.csv", index=False)
    table.loc[4, "lon"] = np.nan
    table.drop(columns="plot").to_csv(folder / "points.csv", index=False)
    suite = folder / "suite.toml"
    suite.write_text(SUITE)
    return suite


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_folder_of_numbers_is_read_by_the_suite(
    tmp_path: Path, scenes: Scenes, form: Any
) -> None:
    suite, recipe = write_suite(tmp_path), default_recipe(scenes)
    out = write_numbers(scenes, [suite], tmp_path, tmp_path / "numbers", recipe, table_format=form)
    numbers = open_numbers(out)
    assert numbers.facts["provenance"] == {"name": "scenes"}
    assert "of windows of the views, scenes" in numbers.title
    points, plots = load_suite(suite).tables(tmp_path)
    of_points, of_plots = numbers.sets_of(points), numbers.sets_of(plots)
    assert list(of_points) == ["numbers ridge"]
    assert list(of_plots) == ["numbers ridge", "numbers over areas ridge"]
    assert np.isnan(of_points["numbers ridge"][4]).all()  # a row without a position
    np.testing.assert_array_equal(
        np.delete(of_points["numbers ridge"], 4, 0), np.delete(of_plots["numbers ridge"], 4, 0)
    )
    windows = [WindowNumbers(each, *scenes.of[each.modality]) for each in recipe.windows]
    for row in (0, 7):
        at = np.concatenate([each.at(plots.lonlat[[row]]) for each in windows], axis=1)[0]
        np.testing.assert_allclose(of_plots["numbers ridge"][row], at, rtol=1e-6)
        over = np.concatenate([each.at(plots.sampled_lonlat[row]) for each in windows], axis=1)
        np.testing.assert_allclose(
            of_plots["numbers over areas ridge"][row], np.nanmean(over, axis=0), rtol=1e-6
        )
    with pytest.raises(StoreError, match="--overwrite"):
        write_numbers(scenes, [suite], tmp_path, out, recipe)
    with pytest.raises(StoreError, match="there is no folder"):
        write_numbers(scenes, [suite], tmp_path, tmp_path / "gone" / "numbers", recipe)
    with pytest.raises(StoreError, match="holds no numbers"):
        write_numbers(scenes, [suite], tmp_path, tmp_path, recipe, overwrite=True)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"more than numbers, such as mine.txt"):
        write_numbers(scenes, [suite], tmp_path, out, recipe, overwrite=True)

    changed = pd.read_csv(tmp_path / "plots.csv")
    changed.iloc[::-1].to_csv(tmp_path / "plots.csv", index=False)
    _, turned = load_suite(suite).tables(tmp_path)
    with pytest.raises(ProbeError, match="the table is another now"):
        numbers.sets_of(turned)


def test_points_of_a_polygon_are_weighed_by_a_number(tmp_path: Path, scenes: Scenes) -> None:
    suite, recipe = write_suite(tmp_path), default_recipe(scenes)
    _, plain = load_suite(suite).tables(tmp_path)
    windows = [WindowNumbers(each, *scenes.of[each.modality]) for each in recipe.windows]
    names = [name for each in windows for name in each.names]
    weight = next(name for name in names if name.startswith("aerial_") and name.endswith("mean"))
    suite.write_text(f"{SUITE}number_weights = '{weight}^2'\n")
    out = write_numbers(scenes, [suite], tmp_path, tmp_path / "numbers", recipe)
    _, plots = load_suite(suite).tables(tmp_path)
    found = open_numbers(out).sets_of(plots)["numbers over areas ridge"]
    for row in (0, 7):
        each = np.concatenate([one.at(plain.sampled_lonlat[row]) for one in windows], axis=1)
        weights = np.where(np.isfinite(each), each[:, [names.index(weight)]] ** 2, 0)
        expected = (np.nan_to_num(each) * weights).sum(axis=0) / weights.sum(axis=0)
        np.testing.assert_allclose(found[row], expected, rtol=1e-6)
    other = tmp_path / "other.toml"
    other.write_text(SUITE)
    with pytest.raises(ObservationsError, match="weigh the points of 'plots' differently"):
        write_numbers(scenes, [suite, other], tmp_path, tmp_path / "both", recipe)
    for name, words in (("light", "which is no number"), (f"{weight}^0", "above 0")):
        suite.write_text(f"{SUITE}number_weights = '{name}'\n")
        with pytest.raises(UnigeoError, match=words):
            write_numbers(scenes, [suite], tmp_path, tmp_path / "none", recipe)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("windows = []", "names no"),
        ("[[windows]]\nsides_km = [4]", "lacks the key 'modality'"),
        ("[[windows]]\nmodality = 'dsm'", "asks for no number"),
        ("[[windows]]\nmodality = 'dsm'\nsides_km = [4]", "need each other"),
        ("[[windows]]\nmodality = 'dsm'\nsides_km = [0]\nstatistics = ['mean']", "above 0"),
        ("[[windows]]\nmodality = 'dsm'\nsides_km = [4]\nstatistics = ['mode']", "no statistic"),
        ("[[windows]]\nmodality = 'dsm'\nsides_km = [4, 4]\nstatistics = ['std']", "twice"),
        ("[[windows]]\nmodality = 'dsm'\npoint = 1", "'point' cannot be 1"),
        ("[[windows]]\nmodality = 'sar'\npoint = true", "rasters of sar.*aerial, dsm, cover"),
        (
            "[[windows]]\nmodality = 'dsm'\nsides_km = [4]\nstatistics = ['shares']",
            "its numbers are no classes",
        ),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused(
    tmp_path: Path, scenes: Scenes, text: str, words: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ObservationsError, match=words):
        write_numbers(
            scenes, [write_suite(tmp_path)], tmp_path, tmp_path / "out", load_recipe(path)
        )
    assert not (tmp_path / "out").exists()


def test_a_raster_that_cannot_be_read_gives_no_numbers(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (1, 640, 640), dtype=np.uint8)
    path = write(tmp_path / "torn.tif", values, tiled=True, compress="deflate")
    of = rasters(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 60_000] = bytes(60_000)
    path.write_bytes(content)
    of = rasters(path)
    windows = Windows(modality="aerial", sides_km=(900.0,), statistics=(statistic("mean"),))
    centre = np.array([[CORNER[0] + 320 * STEP, CORNER[1] - 320 * STEP]])
    with pytest.raises(ObservationsError, match=r"a part of .*torn.tif cannot be read"):
        WindowNumbers(windows, image(), of).at(centre)


def test_the_command_writes_a_folder_that_it_replaces_only_when_told(
    shared_data: Path, tmp_path: Path
) -> None:
    lonlat = [(-105.0, 39.7), (-90.1, 30.0), (-87.6, 41.9)]
    table = pd.DataFrame(lonlat, columns=["lon", "lat"]).assign(warmth=[1.0, 2.0, 3.0])
    table.to_csv(tmp_path / "towns.csv", index=False)
    suite = tmp_path / "suite.toml"
    file = (tmp_path / "towns.csv").as_posix()
    suite.write_text(f'[[table]]\nfile = "{file}"\ntargets = ["warmth"]\n')
    out = tmp_path / "numbers"
    arguments = [
        "numbers", str(suite), "--observations", str(EXAMPLES / "conus_open.toml"), "--data",
        str(shared_data), "--recipe", str(EXAMPLES / "numbers43.toml"), "--format", "csv", "--out",
        str(out),
    ]  # fmt: skip
    ended = CliRunner().invoke(produce, arguments, catch_exceptions=False)
    assert ended.exit_code == 0 and ended.stdout.strip() == str(out)
    numbers = pd.read_csv(out / "points" / "towns.csv")
    assert numbers.shape == (3, 45)
    assert numbers["dsm_point"].between(-5, 2000).all()
    assert numbers["dsm_point"].idxmax() == 0  # Denver
    assert (numbers["nightlights_4km_mean"] > 150).all()
    facts = json.loads((out / "numbers.json").read_text())
    assert facts["provenance"]["modalities"]["aerial"]["inputs"][0]["sha256"]
    with pytest.raises(StoreError, match="--overwrite"):
        CliRunner().invoke(produce, arguments, catch_exceptions=False)
    again = CliRunner().invoke(produce, [*arguments, "--overwrite"], catch_exceptions=False)
    assert again.exit_code == 0


def test_the_43_numbers_of_real_rasters_are_those_of_plain_windows(shared_data: Path) -> None:
    """At random points: rasterio reads each window, and float64 sums it."""
    observations = open_observations(EXAMPLES / "conus_open.toml", shared_data)
    recipe = load_recipe(EXAMPLES / "numbers43.toml")
    lonlat = np.random.default_rng(5).uniform((-120, 30), (-80, 47), (25, 2))
    compared = total = 0
    for windows in recipe.windows:
        form, of = observations.form(windows.modality), observations.rasters_of(windows.modality)
        assert of is not None
        numbers = WindowNumbers(windows, form, of)
        total += len(numbers.names)
        found = numbers.at(lonlat)
        with rasterio.open(of.sources[0].path) as file:
            to_file = pyproj.Transformer.from_crs(4326, file.crs, always_xy=True)
            for (lon, lat), row_of_numbers in zip(lonlat, found, strict=True):
                row, col = file.index(*to_file.transform(lon, lat))
                values = iter(row_of_numbers)
                for side in windows.sides_km:
                    count = pixels_of_file(file, to_file, row, col, 1000 * side)
                    high, wide = reach(count[0]), reach(count[1])
                    part = file.read(
                        window=Window(col - wide, row - high, 2 * wide + 1, 2 * high + 1),
                        boundless=True, fill_value=-9999 if file.count == 1 else 0,
                    )  # fmt: skip
                    for one in windows.statistics:
                        for band in part:
                            value = next(values)
                            if is_clear(count):
                                expected = plain(band, str(one))
                                assert value == pytest.approx(expected, rel=1e-6, abs=1e-9)
                                compared += 1
                if windows.point:
                    assert next(values) == file.read(1)[row, col]
    assert total == 43 and compared > 800
