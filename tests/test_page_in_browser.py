"""The page of a store in a real browser: what it shows and computes is what Python has."""

import json
import re
import subprocess
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from PIL import Image
from pyproj import Transformer
from shapely.geometry import box, mapping, shape
from support import stores
from support.browser import VIEWER, browse, needs_browser
from support.servers import RangeServer

from unigeo import client
from unigeo.client.areas.subset import cut_field
from unigeo.client.field.label_rows import read_label_rows
from unigeo.client.field.similarity import query_vector
from unigeo.client.viewing.exported_page import export_page
from unigeo.client.viewing.page_server import PageServer
from unigeo.producer.publishing.concepts import ConceptVectors
from unigeo.producer.publishing.publish import publish
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.geo.regions import region
from unigeo.schemas.store.concepts import LEAST_CENTRED
from unigeo.schemas.store.quantization import dequantize, quantize
from unigeo.schemas.store.search_levels import NUMBERS

pytestmark = pytest.mark.slow
CITIES = {"Seattle": (-122.33, 47.61), "Miami": (-80.30, 25.77), "Houston": (-95.37, 29.76)}
PHRASES = (
    "dense forest",
    "open forests by a lake",
    "dry desert",
    "a lake",
    "farmland near a town",
    "sand and desert shrubs",
)
FIRST_BYTES, CLICK_BYTES = 1_000_000, 8_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of CONUS, whose cells are 40 km wide, and its page."""
    folder = tmp_path_factory.mktemp("site")
    conus, layout = region("conus"), stores.layout_of()
    grid = conus.grid(40_000.0, layout.shard)
    attributes = stores.attributes_of(conus, grid, layout)
    group = create_field(folder / "conus.zarr", grid, layout, attributes)
    stores.fill(group, grid, layout, conus)
    vectors = np.random.default_rng(0).normal(size=(len(PHRASES), layout.bands))
    publish(group, concepts=ConceptVectors(PHRASES, quantize(vectors.astype(np.float32))))
    export_page(str(folder / "conus.zarr"), folder)
    return folder


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[RangeServer]:
    needs_browser()
    with RangeServer(site) as serving:
        yield serving


@pytest.fixture
def page(server: RangeServer) -> str:
    server.reset()
    return f"{server.url}/conus.html"


@pytest.fixture(scope="module")
def field(site: Path) -> client.Field:
    return client.open_field(site / "conus.zarr")


def test_the_shipped_page_is_what_its_sources_build(tmp_path: Path) -> None:
    needs_browser()
    built = ["node_modules/.bin/vite", "build", "--outDir", str(tmp_path), "--logLevel", "warn"]
    subprocess.run(["node_modules/.bin/tsc", "--noEmit"], cwd=VIEWER, check=True)
    subprocess.run(["node", *built], cwd=VIEWER, check=True)
    shipped = VIEWER.parent / "schemas/store/page.html"
    same = (tmp_path / "index.html").read_bytes() == shipped.read_bytes()
    assert same, "run `npm run build` in viewer/ and commit schemas/store/page.html"


def test_the_map_shows_the_pixels_of_the_preview(
    page: str, site: Path, field: client.Field, tmp_path: Path
) -> None:
    """In Equal Earth, one pixel of the picture and many of the screen to a cell."""
    told = browse(
        page,
        """
await page.uncheck("#outlines");
told = await page.evaluate(async () => {
  const { map } = window.unigeo.view;
  map.getView().setResolution(10000);
  await new Promise((done) => map.once("moveend", () => setTimeout(done)));
  map.render();
  await new Promise((done) => map.once("rendercomplete", done));
  const canvas = map.getViewport().querySelector("canvas");
  const context = canvas.getContext("2d");
  const grid = window.unigeo.field.levels[0].grid;
  const seen = [];
  for (let row = 0; row < grid.shape[0]; ++row) for (let col = 0; col < grid.shape[1]; ++col) {
    const xy = [grid.col0 + col + 0.5, -(grid.row0 + row + 0.5)].map((n) => n * grid.resolution_m);
    const [x, y] = map.getPixelFromCoordinate(xy).map(Math.round);
    if (x < 0 || y < 0 || x >= canvas.width || y >= canvas.height) continue;
    seen.push([row, col, ...context.getImageData(x, y, 1, 1).data]);
  }
  return seen;
});
""",
        tmp_path,
    )
    seen = np.array(told)
    row, col = seen[:, :2].T
    stored = xr.open_zarr(site / "conus.zarr", group="preview/1", chunks=None)["coordinate"].values
    assert len(seen) > 1000
    assert np.array_equal(seen[:, 5] > 0, stored.any(0)[row, col]), "clear where no vector is"
    shown = seen[:, 5] > 0
    assert np.array_equal(seen[shown, 2:5], stored[:, row, col].T[shown])


@pytest.mark.parametrize("crs", ["Equal Earth", "Web Mercator"])
def test_a_click_finds_the_cell_of_a_city(
    crs: str, page: str, field: client.Field, tmp_path: Path
) -> None:
    told = browse(
        page,
        f"""
if ({json.dumps(crs == "Web Mercator")}) await page.check("#mercator");
await idle();
told = {{}};
const box = await page.locator("#map").boundingBox();
for (const [city, lonlat] of Object.entries({json.dumps(CITIES)})) {{
  await page.evaluate((lonlat) => {{
    window.unigeo.view.setCamera({{ lonlat, resolution: 3000 }});
    window.unigeo.view.map.renderSync();
    window.unigeo.marks.delete("A");
  }}, lonlat);
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
  await page.waitForFunction(() => window.unigeo.marks.has("A"));
  await idle();
  told[city] = await page.evaluate(() => window.unigeo.marks.get("A"));
}}
""",
        tmp_path,
    )
    to_field = Transformer.from_crs("OGC:CRS84", field.grid.crs, always_xy=True)
    for city, lonlat in CITIES.items():
        clicked = np.array(to_field.transform(*told[city]["lonlat"]))
        expected = np.array(to_field.transform(*lonlat))
        assert np.abs(clicked - expected).max() <= field.grid.resolution_m / 2, city
        row, col = field.grid.cells(np.array([told[city]["lonlat"]]))[0]
        assert (told[city]["row"], told[city]["col"]) == (row, col)


def test_a_basemap_of_the_user_s_choice_shows_through_the_picture(
    page: str, server: RangeServer, site: Path, field: client.Field, tmp_path: Path
) -> None:
    tile, opacities = np.array([200, 30, 90]), (1.0, 0.5, 0.0)
    Image.new("RGB", (256, 256), tuple(tile.tolist())).save(site / "tile.png")
    told = browse(
        page,
        f"""
await page.uncheck("#outlines");
await page.check("#mercator");
await page.fill("#basemap", "{server.url}/tile.png?{{z}}/{{x}}/{{y}}");
await page.press("#basemap", "Enter");
await page.evaluate(() => window.unigeo.view.setCamera({{ lonlat: [-105, 39], resolution: 2000 }}));
await idle();
const map = await page.locator("#map").boundingBox();
const clip = {{ x: map.x + map.width / 2, y: map.y + map.height / 2, width: 1, height: 1 }};
told = [];
for (const opacity of {list(opacities)}) {{
  await page.locator("#opacity").fill(String(opacity));
  await idle();
  told.push(`{tmp_path}/${{opacity}}.png`);
  await page.screenshot({{ path: told.at(-1), clip }});
}}
""",
        tmp_path,
    )
    picture = xr.open_zarr(site / "conus.zarr", group="preview/1", chunks=None)["coordinate"].values
    row, col = field.grid.cells(np.array([[-105.0, 39.0]]))[0]
    for opacity, path in zip(opacities, told, strict=True):
        seen = np.array(Image.open(path).convert("RGB"))[0, 0]
        expected = opacity * picture[:, row, col] + (1 - opacity) * tile
        assert np.abs(seen - expected).max() <= 2, opacity


SCORES = """
const scores = () => page.evaluate(() => {
  const { whole } = window.unigeo.scored;
  return { ...whole, values: Array.from(whole.values, (n) => (Number.isNaN(n) ? null : n)) };
});
"""


def values(scores: dict[str, Any]) -> np.ndarray:
    window = scores["window"]
    flat = np.array([np.nan if one is None else one for one in scores["values"]])
    assert (window["row"], window["col"]) == (0, 0)
    return flat.reshape(window["height"], window["width"])


@pytest.mark.parametrize("budget", ["10000000", "20000"])
def test_similarity_is_that_of_python(
    budget: str, page: str, site: Path, field: client.Field, tmp_path: Path
) -> None:
    """Of the whole field, by the finest level that fits the budget."""
    told = browse(
        page,
        SCORES
        + f"""
await page.evaluate(() => {{
  document.querySelector("#budget").append(new Option("little", "20000"));
  document.querySelector("#budget").value = "{budget}";
}});
await look([-100.2, 41.3]);
const one = await scores();
await look([-90.1, 35.2], "B");
told = {{ one, two: await scores(), said: await text("scored"), found: await text("found") }};
""",
        tmp_path,
    )
    factor = told["one"]["factor"]
    assert (factor == 1) == (budget == "10000000")
    level = field if factor == 1 else client.open_field(site / "conus.zarr", overview=factor)
    points = ((-100.2, 41.3), (-90.1, 35.2))
    vectors = [query_vector(field, [lonlat], "aerial") for lonlat in points]
    a, b = (level.similarity(vector, "aerial").values for vector in vectors)
    assert np.array_equal(np.isnan(values(told["one"])), np.isnan(a))
    np.testing.assert_allclose(values(told["one"]), a, atol=1e-6)
    np.testing.assert_allclose(values(told["two"]), a - b, atol=1e-6)
    assert "nearer to A" in told["said"]
    assert "valid" in told["found"]


def test_the_view_is_scored_in_finer_cells_than_the_whole(
    page: str, field: client.Field, tmp_path: Path
) -> None:
    told = browse(
        page,
        """
await page.evaluate(() => {
  document.querySelector("#budget").append(new Option("little", "30000"));
  document.querySelector("#budget").value = "30000";
  window.unigeo.view.setCamera({ lonlat: [-100.2, 41.3], resolution: 500 });
});
await look([-100.2, 41.3]);
told = await page.evaluate(() => {
  const { whole, detail } = window.unigeo.scored;
  const values = Array.from(detail.values, (n) => (Number.isNaN(n) ? null : n));
  return { whole: whole.factor, detail: { ...detail, values } };
});
""",
        tmp_path,
    )
    assert (told["detail"]["factor"], told["whole"] > 1) == (1, True)
    window = told["detail"]["window"]
    whole = field.similarity([(-100.2, 41.3)], "aerial").values
    rows = slice(window["row"], window["row"] + window["height"])
    cols = slice(window["col"], window["col"] + window["width"])
    flat = [np.nan if one is None else one for one in told["detail"]["values"]]
    np.testing.assert_allclose(
        np.reshape(flat, whole[rows, cols].shape), whole[rows, cols], atol=1e-6
    )


@pytest.mark.parametrize("words", ["forest", "dense forest", "the lakes", "desert forest"])
def test_words_are_searched_by_the_rule_of_python(
    words: str, page: str, field: client.Field, tmp_path: Path
) -> None:
    told = browse(
        page,
        SCORES
        + f"""
await search("{words}");
told = {{ scores: await scores(), phrases: await text("phrases"),
  best: await page.locator("#best li").allTextContents() }};
""",
        tmp_path,
    )
    expected = field.search(words, as_="map").values
    np.testing.assert_allclose(values(told["scores"]), expected, atol=1e-6)
    found = field.concepts.find(words).phrases
    assert told["phrases"].startswith(f"Phrases: {'; '.join(found)}")
    best = field.search(words, count=1)
    assert told["best"][0] == f"{best.similarity[0]:.4f} at {best.lon[0]:.3f}, {best.lat[0]:.3f}"


def test_words_are_added_and_subtracted(page: str, field: client.Field, tmp_path: Path) -> None:
    told = browse(page, SCORES + 'await search("forest -desert"); told = await scores();', tmp_path)
    plus, minus = (field.concepts.find(words).vector for words in ("forest", "desert"))
    expected = field.similarity(plus.astype(float) - minus, "aerial").values
    np.testing.assert_allclose(values(told), expected, atol=1e-6)


def test_pictures_and_clicks_are_frugal_and_a_threshold_reads_nothing(
    page: str, server: RangeServer, tmp_path: Path
) -> None:
    steps = """
const steps = { first: await counts() };
await look([-100.2, 41.3]); steps.click = await counts();
await page.locator("#threshold").fill("0.5"); await idle(); steps.threshold = await counts();
told = steps;
"""
    told = browse(page, steps, tmp_path)
    given = [one.size_bytes for one in server.log if one.path.startswith("conus.zarr")]
    assert told["click"] == {"requests": len(given), "bytes": sum(given)}
    assert told["first"]["bytes"] <= FIRST_BYTES
    assert told["click"]["bytes"] - told["first"]["bytes"] <= CLICK_BYTES
    assert told["threshold"] == told["click"], "from the scores that are there"
    assert server.not_found == []
    again = browse(page, "await look([-100.2, 41.3]);" + steps, tmp_path)
    assert again["click"]["bytes"] - again["first"]["bytes"] == 2, "one byte of each status"


def test_every_action_counts_what_it_reads(page: str, server: RangeServer, tmp_path: Path) -> None:
    """Whatever is done, the page's own account is that of the server."""
    (tmp_path / "labels.csv").write_text(HEIGHTS)
    told = browse(
        page,
        FITTED
        + f"""
told = {{}};
const note = async (action) => {{ told[action] = await counts(); }};
await note("first");
await page.evaluate(() => window.unigeo.view.setCamera({{ lonlat: [-105, 40], resolution: 2500 }}));
await idle(); await note("pan and zoom");
await page.selectOption("#beside", "aerial"); await idle(); await note("swipe");
await look([-100.2, 41.3]); await look([-90.1, 35.2], "B"); await note("clicks");
await search("forest"); await note("words");
await readLabels({json.dumps(str(tmp_path / "labels.csv"))}); await note("table");
await fit(); await note("labels");
for (const id of ["save-tiff", "save-png", "label-csv", "label-geojson"])
  await saved(id, {json.dumps(str(tmp_path))} + "/" + id);
await page.selectOption("#label-show", "uncertainty"); await idle(); await note("files");
await page.check("#mercator"); await idle(); await note("last");
told.said = await text("counts");
""",
        tmp_path,
    )
    asked = [one for one in server.log if one.path.startswith("conus.zarr")]
    given = [one.size_bytes if one.status < 400 else 0 for one in asked]  # what an error says
    assert told["last"] == {"requests": len(given), "bytes": sum(given)}
    assert told["files"] == told["labels"], "saved from what is there"
    assert told["said"].startswith(f"{len(given)} requests, {sum(given) / 1e6:.2f} MB")
    assert told["table"] == told["words"] and told["swipe"]["bytes"] > told["pan and zoom"]["bytes"]
    reads = [told[one]["bytes"] for one in ("first", "pan and zoom", "clicks", "words", "labels")]
    assert reads == sorted(reads)


def test_the_address_brings_a_view_back(page: str, tmp_path: Path) -> None:
    told = browse(
        page,
        """
await page.evaluate(() => window.unigeo.view.setCamera({ lonlat: [-101, 42], resolution: 2000 }));
await page.selectOption("#show", "aerial");
await look([-100.2, 41.3]);
const sent = page.url(), before = await text("found");
await page.goto("about:blank");
await page.goto(sent);
await idle();
const camera = await page.evaluate(() => window.unigeo.view.camera());
told = { before, after: await text("found"), camera, show: await page.inputValue("#show") };
""",
        tmp_path,
    )
    assert told["after"] == told["before"] and told["show"] == "aerial"
    assert told["camera"]["lonlat"] == pytest.approx([-101, 42], abs=1e-4)
    assert told["camera"]["resolution"] == pytest.approx(2000, rel=1e-4)


def test_every_control_has_a_name_and_a_phone_has_room_for_all(page: str, tmp_path: Path) -> None:
    told = browse(
        page,
        """
await look([-100.2, 41.3]);
const controls = "input, select, button, canvas#histogram";
const named = (one) => one.labels?.length || one.ariaLabel || one.title || one.textContent.trim();
const names = await page.evaluate(
  `[...document.querySelectorAll("${controls}")].filter((one) => !(${named})(one))` +
    ".map((one) => one.outerHTML)",
);
await page.setViewportSize({ width: 360, height: 740 });
await page.waitForTimeout(300);
const { scrollWidth: wide, scrollHeight: high } = await page.evaluate(() => {
  const { scrollWidth, scrollHeight } = document.documentElement;
  return { scrollWidth, scrollHeight };
});
await page.focus("#map");
const before = page.url();
await page.keyboard.press("ArrowRight");
await page.waitForFunction((before) => location.href !== before, before);
told = { names, wide, high, moved: page.url() !== before };
""",
        tmp_path,
    )
    assert told == {"names": [], "wide": 360, "high": 740, "moved": True}


def message(address: str, folder: Path) -> str:
    told: str = browse(address, 'told = await text("message");', folder)
    return told


def test_a_server_without_ranges_is_named_as_such(
    page: str, server: RangeServer, tmp_path: Path
) -> None:
    server.fault("conus.zarr/*", ignore_range=True)
    told = browse(page, 'await look([-100.2, 41.3]); told = await text("message");', tmp_path)
    assert "ignores byte ranges" in told and "unigeo view STORE" in told


def test_a_server_that_lets_no_other_page_read_is_named_as_such(
    page: str, site: Path, tmp_path: Path
) -> None:
    with RangeServer(site / "conus.zarr") as other:
        told = message(f"{page}?store={other.url}", tmp_path)
    assert "Access-Control-Allow-Origin" in told


@pytest.mark.parametrize("lost", ["aerial/c/*", "concepts/vectors/c/*", "preview/*/coordinate/c/*"])
def test_a_lost_object_is_an_error_and_not_an_empty_area(
    lost: str, page: str, server: RangeServer, tmp_path: Path
) -> None:
    server.fault(f"conus.zarr/{lost}", status=404)
    shown = 'told = await text("message");'
    if not lost.startswith("preview"):
        shown = f"await look([-100.2, 41.3]); {shown}"
    told = browse(page, shown, tmp_path)
    assert "is in the store's manifest" in told and "copy the store anew" in told


def test_objects_that_came_to_harm_are_named(
    page: str, server: RangeServer, site: Path, tmp_path: Path
) -> None:
    """Cut off, changed, broken off while they are sent, or a web page in the place of a store."""
    server.fault("conus.zarr/aerial/c/*", truncate_to=3000)
    server.fault("conus.zarr/coordinate/c/*", corrupt=True)
    server.fault("conus.zarr/concepts/vectors/c/*", cut_after=10)
    server.fault("conus.zarr/preview/*/aerial/c/*", status=500)
    (site / "soft.zarr").mkdir(exist_ok=True)
    (site / "soft.zarr/zarr.json").write_text("<!doctype html><title>Not found</title>")
    told = browse(
        page,
        f"""
told = {{}};
const say = () => text("message");
await page.selectOption("#compare", "coordinate"); await idle();
await look([-100.2, 41.3]); told.corrupt = await say();
await page.selectOption("#compare", "aerial"); await idle();
await look([-100.2, 41.3]); told.cut = await say();
await search("forest"); told.broken = await say();
await page.selectOption("#show", "aerial"); await idle(); told.failing = await say();
await page.goto({json.dumps(page + "?store=soft.zarr")});
await page.waitForFunction(() => document.body.dataset.ready);
told.soft = await say();
""",
        tmp_path,
    )
    assert "conus.zarr/coordinate/c/" in told["corrupt"] and "it is damaged" in told["corrupt"]
    assert "conus.zarr/aerial/c/" in told["cut"]
    assert "it is damaged" in told["cut"] or "it is cut off" in told["cut"]
    assert "concepts/vectors/c/0/0 broke off while it was sent" in told["broken"]
    assert "preview/1/aerial/c/" in told["failing"] and "answered with 500" in told["failing"]
    assert "soft.zarr/zarr.json is no JSON" in told["soft"]


def test_a_store_that_is_being_built_says_so(tmp_path: Path) -> None:
    stores.begin(tmp_path / "conus.zarr")
    export_page(str(tmp_path / "conus.zarr"), tmp_path)
    with RangeServer(tmp_path) as server:
        told = message(f"{server.url}/conus.html", tmp_path)
        lost = message(f"{server.url}/conus.html?store=nothing.zarr", tmp_path)
    assert "is still being built: run unigeo-produce again" in told
    assert "There is no zarr.json" in lost


def test_a_store_of_vectors_alone_is_shown(tmp_path: Path) -> None:
    """Without preview, overviews and concepts, as `unigeo region` cuts it."""
    stores.build(tmp_path / "whole.zarr")
    cut_field(client.open_field(tmp_path / "whole.zarr"), tmp_path / "part.zarr", (-5, -5, 5, 5))
    export_page(str(tmp_path / "part.zarr"), tmp_path)
    with RangeServer(tmp_path) as server:
        told = browse(
            f"{server.url}/part.html",
            SCORES
            + """
await look([1, 1]);
told = {
  scores: await scores(), message: await text("message"), phrases: await text("phrases"),
  compared: await page.$eval("#compare", (control) => control.value),
};
""",
            tmp_path,
        )
    part = client.open_field(tmp_path / "part.zarr")
    assert told["compared"] == "aerial"
    expected = part.similarity([(1, 1)], "aerial").values
    np.testing.assert_allclose(values(told["scores"]), expected, atol=1e-6)
    assert told["message"] == "" and "no concepts" in told["phrases"]


LABELS = """lon,lat,label
-100.2,41.3,wood
-101.5,42.0,wood
-99.0,40.2,wood
-90.1,35.2,"town, large"
-91.0,34.0,"town, large"
-89.2,36.1,"town, large"
10,50,only off the grid
"""
HEIGHTS = "lon,lat,label\n" + "".join(
    f"{lon},{lat},{np.sin(lon / 5) + lat / 10:.4f}\n"
    for lon in range(-118, -84, 3)
    for lat in range(34, 43, 4)
)
CODES = """lon,lat,label
-100.2,41.3,10
-101.5,42.0,10
-99.0,40.2,9
-90.1,35.2,9
-91.0,34.0,2
-89.2,36.1,NA
-89.9,36.4,2
"""
AREAS = json.dumps(
    {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {"area": "north"},
                "geometry": mapping(box(-110, 40, -95, 47) - box(-105, 42, -100, 45)),
            },
            {
                "type": "Feature",
                "properties": {"area": "south"},
                "geometry": mapping(box(-100, 33, -97, 36).union(box(-92, 32, -89.5, 35))),
            },
            {
                "type": "Feature",
                "properties": {"area": "south"},
                "geometry": {"type": "Point", "coordinates": [-85.2, 33.1]},
            },
        ],
    }
)
FITTED = """
const plain = (scores) =>
  scores && ({ ...scores, values: Array.from(scores.values, (n) => (Number.isNaN(n) ? null : n)) });
const fitted = () => page.evaluate(`(() => {
  const plain = ${plain};
  const { values, uncertainty, shares, weights, ...rest } = window.unigeo.labels.fitted;
  return { ...rest, weights: weights.map((row) => Array.from(row)), shares: plain(shares?.whole),
    values: plain(values.whole), uncertainty: plain(uncertainty.whole) };
})()`);
const readLabels = async (path) => {
  await page.setInputFiles("#label-file", path);
  await page.waitForFunction(() => window.unigeo.labels.labels.length > 0);
};
const fit = async () => { await page.click("#label-fit"); await idle(); };
const saved = async (id, path) => {
  const download = page.waitForEvent("download");
  await page.click("#" + id);
  await (await download).saveAs(path);
};
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.csv", LABELS),
        ("numbers.csv", HEIGHTS),
        ("areas.geojson", AREAS),
        ("codes.csv", CODES),
    ],
    ids=["classes", "numbers", "areas", "codes"],
)
def test_labels_are_mapped_as_by_python(
    name: str, text: str, page: str, field: client.Field, tmp_path: Path
) -> None:
    """Weights, penalty, score, all maps and the suggestions equal those of `Field.label`."""
    (tmp_path / name).write_text(text)
    told = browse(
        page,
        FITTED
        + f"""
await page.selectOption("#budget", "10000000");
await readLabels({json.dumps(str(tmp_path / name))});
const codes = {json.dumps(name == "codes.csv")};
if (codes) await page.check("#label-as-classes");
await fit();
told = await fitted();
told.offered = await page.locator("#label-classes").isVisible();
told.next = await page.locator("#label-next li").allTextContents();
told.said = await text("label-score");
await saved("save-tiff", {json.dumps(str(tmp_path / "map.tif"))});
await page.selectOption("#compare", "coordinate");
await idle();
told.again = await fitted();
""",
        tmp_path,
    )
    column = "area" if name.startswith("areas") else "label"
    task: Any = "classification" if name == "codes.csv" else None
    labelled = field.label(tmp_path / name, column, "aerial", task=task)
    assert told["offered"] == (name == "codes.csv"), "for whole numbers alone"
    layers = labelled.map()
    ridge = labelled.ridge
    # Codes beside a missing one are floats in Python.
    classes_as_text = tuple(f"{one:g}" if task else one for one in labelled.classes)
    assert tuple(told["classes"]) == classes_as_text
    assert len(told["used"]) == labelled.used
    assert told["penalty"] == pytest.approx(ridge.penalty, rel=1e-9)
    np.testing.assert_allclose(told["weights"], ridge.weights, rtol=1e-5, atol=1e-9)
    found = {"value": values(told["values"]), "uncertainty": values(told["uncertainty"])}
    if labelled.classes:
        found["share"] = values(told["shares"])
        assert np.array_equal(found["value"], layers["value"], equal_nan=True)
    for layer, numbers in found.items():
        np.testing.assert_allclose(numbers, layers[layer], rtol=1e-5, atol=1e-6)
    assert (told["score"] is None) == (labelled.score is None)
    if labelled.score is None:
        assert "too few to judge" in told["said"]
    else:
        assert told["score"]["value"] == pytest.approx(labelled.score.value, rel=1e-5)
        assert "in unseen blocks" in told["said"]
    again = field.label(tmp_path / name, column, "coordinate", task=task)
    assert told["again"]["penalty"] == pytest.approx(again.ridge.penalty, rel=1e-9)
    suggested = field.suggest(labelled, 8)
    places = [f"{one.lon:.3f}, {one.lat:.3f}" for one in suggested.itertuples()]
    assert [one.partition(" at ")[2] for one in told["next"]] == places
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert raster.crs.to_epsg() == int(field.grid.crs.removeprefix("EPSG:"))
        assert raster.transform == rasterio.Affine(*field.grid.affine)
        assert np.isnan(raster.nodata)
        assert raster.tags()["TIFFTAG_COPYRIGHT"] == field.licence
        assert raster.descriptions[1:] == tuple(found)[1:]
        for number, numbers in enumerate(found.values(), start=1):
            assert np.array_equal(raster.read(number), numbers.astype("f4"), equal_nan=True)
        classes = [raster.tags()[f"CLASS_{one}"] for one in range(len(labelled.classes))]
        assert tuple(classes) == classes_as_text


def test_the_view_is_saved_where_it_is_seen_in_finer_cells(
    page: str, field: client.Field, tmp_path: Path
) -> None:
    factor = browse(
        page,
        FITTED
        + f"""
await page.evaluate(() => {{
  document.querySelector("#budget").append(new Option("little", "30000"));
  document.querySelector("#budget").value = "30000";
  window.unigeo.view.setCamera({{ lonlat: [-100.2, 41.3], resolution: 500 }});
}});
await look([-100.2, 41.3]);
await saved("save-tiff", {json.dumps(str(tmp_path / "map.tif"))});
told = await page.evaluate(() => window.unigeo.scored.detail.factor);
""",
        tmp_path,
    )
    assert factor == 1
    whole = field.similarity([(-100.2, 41.3)], "aerial")
    with rasterio.open(tmp_path / "map.tif") as raster:
        west, _, _, north = raster.bounds
        row, col = (
            round((field.grid.bounds[3] - north) / 4e4),
            round((west - field.grid.bounds[0]) / 4e4),
        )
        part = whole.values[row : row + raster.height, col : col + raster.width]
        np.testing.assert_allclose(raster.read(1), part, atol=1e-6)


def test_columns_of_a_table_are_coloured_and_their_residuals_drawn(
    page: str, tmp_path: Path
) -> None:
    table = pd.read_csv(StringIO(HEIGHTS)).rename(columns={"label": "height"})
    table["code"] = [f"0{row % 3}" for row in range(len(table))]
    table["flat"] = np.where(table.index % 4, np.round(table["height"] * 2, 3), np.nan)
    (tmp_path / "table.csv").write_text(table.to_csv(index=False))
    told = browse(
        page,
        FITTED
        + f"""
const file = {{ name: "table.csv", text: {json.dumps((tmp_path / "table.csv").read_text())} }};
await page.evaluate(({{ name, text }}) => {{
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([text], name));
  document.body.dispatchEvent(new DragEvent("drop", {{ dataTransfer, bubbles: true }}));
}}, file);
await page.waitForFunction(() => window.unigeo.labels.labels.length > 0);
const colours = () => page.evaluate(() => window.unigeo.labels.labels.map((_, label) =>
  window.unigeo.view.labels.getSource().getFeatureById(label).getStyle().getImage().getFill().getColor()));
const drawn = () => page.evaluate(() => document.querySelector("#scatter").getContext("2d")
  .getImageData(0, 0, 280, 170).data.filter((one, at) => at % 4 === 3 && one > 0).length);
told = {{}};
for (const column of ["height", "code", "flat"]) {{
  await page.selectOption("#label-column", column);
  const before = await colours();
  await fit();
  await page.selectOption("#label-colour", "residual");
  const {{ residuals, score, used, classes, directions }} = await fitted();
  const first = await drawn();
  await page.selectOption("#scatter-y", "residual");
  told[column] = {{ before, after: await colours(), residuals, score, used, classes, directions,
    counts: await text("label-counts"), drawn: [first, await drawn()] }};
}}
""",
        tmp_path,
    )
    for column, found in told.items():
        known = table[column].dropna()
        assert len(found["used"]) <= len(known) == len(found["before"])
        if column == "code":
            assert found["classes"] == ["00", "01", "02"] and found["counts"].startswith("00 12")
            continue
        truth = known.to_numpy()[found["used"]]
        left = 1 - np.sum(np.square(found["residuals"])) / np.sum((truth - truth.mean()) ** 2)
        if found["score"]:
            assert found["score"]["value"] == pytest.approx(left, rel=1e-6)
        assert np.shape(found["directions"]) == (len(found["used"]), 3)
        lowest, highest = np.argmin(known), np.argmax(known)
        assert (found["before"][lowest], found["before"][highest]) == ("#440154", "#fde725")
        worst = found["used"][int(np.argmax(np.abs(found["residuals"])))]
        assert found["after"][worst] in ("#2166ac", "#b2182b")
        assert min(found["drawn"]) > 100


def features(*geometries: Any, **members: Any) -> str:
    listed = [one and {"type": "Feature", "properties": {"a": 1}, **one} for one in geometries]
    return json.dumps({"type": "FeatureCollection", **members, "features": listed})


POINT = {"geometry": {"type": "Point", "coordinates": [-100, 40]}}
OPEN_RING = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
NO_LISTS = "no lists of numbers"
FILES = {
    "names.csv": ("where,label\n40 N,wood\n", "no columns lon and lat in its first line"),
    "swapped.csv": ("lon,lat,label\n40,-100,wood\n", "look swapped: longitude comes first"),
    "metres.csv": ("lon,lat,label\n1e6,40,wood\n", "row 0 is no longitude and latitude"),
    "text.csv": ("lon,lat,label\n,,\nabc,40,wood\n", 'row 1: "abc" is no number'),
    "quote.csv": ('lon,lat,label\n-100,40,"wood\n', "a quoted cell does not end"),
    "rows.csv": ("lon,lat,label\nNA,40,wood\n", "no row with a location"),
    "empty.csv": ("", "no columns lon and lat"),
    "bare.csv": ("lon,lat\n-100,40\n", "no column of labels"),
    "null.geojson": ("null", "no GeoJSON FeatureCollection"),
    "cut.geojson": (features(POINT)[:-9], "cannot be read as JSON"),
    "odd.geojson": (features(POINT, None), "feature 1 is no object"),
    "line.geojson": (
        features({"geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}}),
        "is a LineString: points and polygons can be labels",
    ),
    "short.geojson": (features({"geometry": {"type": "Point", "coordinates": []}}), NO_LISTS),
    "text.geojson": (
        features({"geometry": {"type": "Polygon", "coordinates": "x"}}),
        "no lists of",
    ),
    "open.geojson": (
        features({"geometry": {"type": "Polygon", "coordinates": OPEN_RING}}),
        "the last of which is the first",
    ),
    "metres.geojson": (
        features(POINT, crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::5070"}}),
        "save it in longitude and latitude",
    ),
}


def test_files_that_are_no_labels_are_told_so(page: str, tmp_path: Path) -> None:
    for name, (content, _) in FILES.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "good.csv").write_text('\ufeffLongitude,Latitude,Label\r\n-100,40,"a, b"\r\n')
    told = browse(
        page,
        f"""
told = {{}};
const say = () => text("message");
await page.click("#label-fit"); await idle(); told.none = await say();
for (const name of {json.dumps([*FILES, "good.csv"])}) {{
  await page.setInputFiles("#label-file", {json.dumps(str(tmp_path))} + "/" + name);
  await page.waitForFunction(() => document.querySelector("#label-file").value === "");
  await idle();
  told[name] = [await say(), await text("label-counts")];
}}
""",
        tmp_path,
    )
    assert "There are no labels yet" in told["none"]
    for name, (_, said) in FILES.items():
        assert said in told[name][0] and name in told[name][0], name
        assert told[name][1] == "no labels yet", name
    assert told["good.csv"] == ["", "a, b 1"]


def test_a_polygon_is_drawn_by_clicks(page: str, field: client.Field, tmp_path: Path) -> None:
    told = browse(
        page,
        FITTED
        + f"""
const box = await page.locator("#map").boundingBox();
await page.evaluate(() => {{
  window.unigeo.view.setCamera({{ lonlat: [-97, 39], resolution: 4000 }});
  window.unigeo.view.map.renderSync();
}});
await page.fill("#label-name", "wood");
await page.check("#label-polygons");
const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
for (const [across, down] of [[-60, -60], [60, -60], [60, 60]]) {{
  await page.mouse.click(x + across, y + down);
  await page.waitForTimeout(400);
}}
await page.mouse.dblclick(x - 60, y + 60);
await page.waitForFunction(() => window.unigeo.labels.labels.length > 0);
await page.uncheck("#label-polygons");
await page.check("#mercator");
await idle();
const drawn = await page.evaluate(() => window.unigeo.view.labels.getSource().getFeatures()
  .map((one) => one.getGeometry().getExtent()));
await saved("label-geojson", {json.dumps(str(tmp_path / "labels.geojson"))});
await saved("label-csv", {json.dumps(str(tmp_path / "labels.csv"))});
told = {{ drawn, marks: await page.evaluate(() => window.unigeo.marks.size) }};
""",
        tmp_path,
    )
    assert told["marks"] == 0, "a corner is no click"
    document = json.loads((tmp_path / "labels.geojson").read_text())
    (feature,) = document["features"]
    assert feature["properties"] == {"label": "wood"}
    to_field = Transformer.from_crs("OGC:CRS84", field.grid.crs, always_xy=True)
    drawn = shape(feature["geometry"])
    outline = shapely.transform(drawn, to_field.transform, interleaved=False)
    assert np.sqrt(outline.area) == pytest.approx(120 * 4000, rel=0.03)
    rows = read_label_rows(document, "label", field.grid, None, None)
    table = pd.read_csv(tmp_path / "labels.csv")
    assert len(table) == len(rows.points) > 50, "one row for each cell"
    np.testing.assert_allclose(table[["lon", "lat"]], rows.points.lonlat, atol=1e-9)
    west, south, east, north = told["drawn"][0]
    to_mercator = Transformer.from_crs("OGC:CRS84", "EPSG:3857", always_xy=True)
    laid = shapely.transform(drawn, to_mercator.transform, interleaved=False).bounds
    np.testing.assert_allclose((west, south, east, north), laid, atol=1)


def test_the_last_question_is_the_one_that_is_answered(page: str, tmp_path: Path) -> None:
    """However long the answers take: words read the concepts first, a second click nothing."""
    told = browse(
        page,
        """
await look([-100.2, 41.3]);
told = await page.evaluate(async () => {
  const page = window.unigeo;
  const asked = [page.search("forest"), page.look("A", [-90.1, 35.2])];
  await Promise.all([...asked, page.look("A", [-100.2, 41.3])]);
  return [document.querySelector("#scored").textContent, page.marks.get("A").lonlat];
});
told.push(await text("message"), await text("found"));
""",
        tmp_path,
    )
    said, lonlat, message, found = told
    assert said.startswith("Cosine with the cell") and lonlat == [-100.2, 41.3]
    assert message == "" and "-100.20000, 41.30000" in found


def test_labels_leave_the_page_as_they_came(
    page: str, field: client.Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six made by hand, saved as CSV and GeoJSON, which Python reads; the map as PNG."""
    told = browse(
        page,
        FITTED
        + f"""
const box = await page.locator("#map").boundingBox();
await page.evaluate(() => {{
  window.unigeo.view.setCamera({{ lonlat: [-97, 39], resolution: 4000 }});
  window.unigeo.view.map.renderSync();
}});
await page.check("#label-clicks");
for (const [name, offsets] of [["wood", [-200, -180, -160]], ['"town", 2', [100, 120, 140]]]) {{
  await page.fill("#label-name", name);
  for (const offset of offsets) {{
    const before = await page.evaluate(() => window.unigeo.labels.labels.length);
    await page.mouse.click(box.x + box.width / 2 + offset, box.y + box.height / 2 + offset / 4);
    await page.waitForFunction((n) => window.unigeo.labels.labels.length > n, before);
  }}
}}
await fit();
for (const id of ["label-csv", "label-geojson", "save-png"]) {{
  await saved(id, {json.dumps(str(tmp_path))} + "/" + id);
}}
await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
await page.waitForFunction(() => window.unigeo.labels.labels.length > 6);
const further = await page.locator("#label-next li").count();
await page.click("#label-undo");
told = {{ labels: await page.evaluate(() => window.unigeo.labels.labels), further,
  python: await text("label-python"),
  hidden: await page.locator("#label-result").isHidden(),
  message: await text("message"), counts: await text("label-counts") }};
""",
        tmp_path,
    )
    assert told["further"] == 8 and told["hidden"], "what to label next, until labels go"
    assert told["message"] == "" and told["counts"] == 'wood 3, "town", 2 3'
    expected = [(*one["lonlat"], one["label"]) for one in told["labels"]]
    table = pd.read_csv(tmp_path / "label-csv")
    assert list(table.itertuples(index=False, name=None)) == expected
    features = json.loads((tmp_path / "label-geojson").read_text())["features"]
    assert [one["properties"]["label"] for one in features] == list(table["label"])
    assert field.label(table, "label", "aerial").used == 6
    (tmp_path / "label-csv").rename(tmp_path / "labels.csv")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(told["python"], names)  # as the page shows it, on the field that its server has
    assert names["labels"].classes == ('"town", 2', "wood")
    assert (tmp_path / "save-png").read_bytes().startswith(b"\x89PNG")


def test_words_are_searched_from_centres_where_the_store_has_them(tmp_path: Path) -> None:
    needs_browser()
    group, grid, layout = stores.begin(tmp_path / "gulf.zarr")
    stores.fill(group, grid, layout)
    told = np.random.default_rng(0).normal(size=(LEAST_CENTRED, layout.bands)) + 2.0
    phrases = tuple(f"phrase number {k}" for k in range(LEAST_CENTRED))
    publish(group, concepts=ConceptVectors(phrases, quantize(told.astype(np.float32))))
    export_page(str(tmp_path / "gulf.zarr"), tmp_path)
    field = client.open_field(tmp_path / "gulf.zarr")
    with RangeServer(tmp_path) as serving:
        search = 'await search("phrase number 7"); told = await scores();'
        found = values(browse(f"{serving.url}/gulf.html", SCORES + search, tmp_path))
    expected = field.search("phrase number 7", as_="map").values
    plain = field.similarity(field.concepts.vectors[7], "aerial").values
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.nanmax(np.abs(expected - plain)) > 0.1


def test_wide_vectors_are_compared_by_few_numbers_and_the_best_cells_by_all(tmp_path: Path) -> None:
    needs_browser()
    stores.build_searched(tmp_path / "gulf.zarr")
    export_page(str(tmp_path / "gulf.zarr"), tmp_path)
    look = """
await page.evaluate(() => {
  document.querySelector("#budget").append(new Option("little", "400000"));
  document.querySelector("#budget").value = "400000";
});
const first = await counts();
await look([-5.0, -5.0]);
const before = await counts();
await look([5.0, -8.0], "B");
const both = await counts();
const found = async () => ({ scores: await scores(), said: await text("scored"),
  best: await page.locator("#best li").allTextContents() });
told = { near: await found(), bytes: [before.bytes - first.bytes, both.bytes - before.bytes] };
await search("phrase number 7");
told.words = await found();
await page.selectOption("#budget", "100000000"); await idle();
told.all = await found();
"""
    with RangeServer(tmp_path) as serving:
        told = browse(f"{serving.url}/gulf.html", SCORES + look, tmp_path)
        serving.fault("gulf.zarr/search/aerial_axes/c/*", status=404)
        little = look.partition("const first")[0]
        lost = f'{little} await look([-5.0, -5.0]); told = await text("message");'
        said = browse(f"{serving.url}/gulf.html", lost, tmp_path)
    assert "search/aerial_axes/c/0/0 is in the store's manifest" in said
    field = client.open_field(tmp_path / "gulf.zarr")
    level = xr.open_zarr(tmp_path / "gulf.zarr", group="search/1", chunks=None)
    directions = xr.open_zarr(tmp_path / "gulf.zarr", group="search", chunks=None)["aerial_axes"]
    numbers, axes = dequantize(level["aerial"].values), directions.values.astype(float)

    def along(vector: np.ndarray) -> np.ndarray:
        projected = axes @ vector
        return np.asarray(projected / np.linalg.norm(projected))

    a, b = (query_vector(field, [one], "aerial") for one in ((-5.0, -5.0), (5.0, -8.0)))
    text, centre = field.concepts.query(field.concepts.find("phrase number 7"), "aerial")
    assert centre is not None
    away = numbers - axes @ centre
    expected = {
        "near": numbers @ (along(a) - along(b)),
        "words": away @ along(text) / np.linalg.norm(away, axis=-1),
    }
    truth = {
        "near": field.similarity(a, "aerial").values - field.similarity(b, "aerial").values,
        "words": field.search("phrase number 7", "aerial", as_="map").values,
    }
    found = told["all"]
    assert found["scores"]["directions"] is None, "where the budget allows all numbers"
    np.testing.assert_allclose(values(found["scores"]), truth["words"], atol=1e-5)
    for name, few in expected.items():
        found = told[name]
        assert (found["scores"]["factor"], found["scores"]["directions"]) == (1, NUMBERS)
        np.testing.assert_allclose(values(found["scores"]), few, atol=1e-6)
        assert "by 64 main directions of the vectors" in found["said"]
        best = [re.fullmatch(r"(.+) at (.+), (.+)", one) for one in found["best"]]
        score, *lonlat = np.array([one.groups() for one in best if one], float).T
        rows, cols = field.grid.cells(np.stack(lonlat, axis=1)).T
        np.testing.assert_allclose(score, truth[name][rows, cols], atol=6e-5)
        assert len(score) == 10 and (np.diff(score) <= 0).all()
        assert score[0] > np.nanquantile(truth[name], 0.99)
    assert told["bytes"][0] < 500_000, "numbers, directions and concepts"
    assert told["bytes"][1] < 200_000, "single vectors"


def test_unigeo_view_shows_compressed_fused_vectors_and_searches_them_by_words(
    tmp_path: Path,
) -> None:
    """By the server's own policy, which lets the page run no code but its own."""
    layout = stores.layout_of(("coordinate", "fused"), widths={"fused": 5}, codec="zstd")
    group, grid, layout = stores.begin(tmp_path / "gulf.zarr", layout=layout)

    def encode(modality: str, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return stores.encoder(layout.width(modality))(modality, lonlat)

    stores.fill(group, grid, layout, encode=encode)
    rng = np.random.default_rng(0)
    phrases = tuple(f"phrase number {k}" for k in range(LEAST_CENTRED))
    told, fused = (quantize(rng.normal(size=(len(phrases), width))) for width in (8, 5))
    publish(group, concepts=ConceptVectors(phrases, told, fused))
    field = client.open_field(tmp_path / "gulf.zarr")
    with PageServer(field.url) as serving:
        found = browse(
            serving.url,
            SCORES
            + """
await look([-5.0, -5.0]);
told = { near: await scores(), found: await text("found") };
await search("phrase number 7 -number 9");
told = { ...told, words: await scores(), message: await text("message") };
""",
            tmp_path,
        )
    near = field.similarity([(-5.0, -5.0)], "fused")
    np.testing.assert_allclose(values(found["near"]), near.values, atol=1e-6)
    plus, minus = (field.concepts.find(words).fused for words in ("phrase number 7", "number 9"))
    assert plus is not None and minus is not None
    expected = field.similarity(plus.astype(float) - minus, "fused").values
    np.testing.assert_allclose(values(found["words"]), expected, atol=1e-6)
    assert found["message"] == ""
    vector = query_vector(field, [(-5.0, -5.0)], "fused")
    assert field.concepts.fused is not None
    nearest = phrases[int(np.argmax(field.concepts.fused @ vector))]
    assert f"in words{nearest};" in found["found"]
