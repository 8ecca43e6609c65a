"""The page of a store in a real browser: tables as people have them, and unusual stores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import stores
from support.browser import browse, needs_browser

from unigeo import client
from unigeo.client.areas.subset import cut_field
from unigeo.client.field.preview import principal_colours
from unigeo.client.viewing.page_server import PageServer
from unigeo.producer.publishing.publish import publish

pytestmark = pytest.mark.slow
_PACKAGE = Path(__file__).parents[1] / "packages/unigeo-conus"
CONUS_1 = _PACKAGE / "unigeo_conus/fields/conus-1/field.zarr"

READ = """
const readFile = async (path) => {
  await page.click("#label-clear");
  await page.setInputFiles("#label-file", path);
  await page.waitForFunction(() => document.querySelector("#label-file").value === "");
  await idle();
  return { message: await text("message"), counts: await text("label-counts"),
    labels: await page.evaluate(() => window.unigeo.labels.labels.slice(0, 99)) };
};
"""


def served(store: Path, code: str, folder: Path, *, address: str = "") -> Any:
    """Serve a store as `unigeo view` does, and run JavaScript beside its page."""
    needs_browser()
    with PageServer(str(store)) as serving:
        return browse(serving.url + address, READ + code, folder)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    lonlat = rng.uniform(-8, 8, (30, 2)).round(4)
    label = (lonlat[:, 1] + rng.normal(size=30)).round(3) + 0.0005
    return pd.DataFrame({"lon": lonlat[:, 0], "lat": lonlat[:, 1], "label": label})


def test_tables_are_read_as_python_reads_them(
    table: pd.DataFrame, gulf: Path, tmp_path: Path
) -> None:
    """Separators, encodings, decimal commas, an index, whole turns, other columns, gaps."""
    texts = {
        "plain": table.to_csv(index=False),
        "semicolons": table.to_csv(index=False, sep=";", decimal=","),
        "tabs": table.to_csv(index=False, sep="\t"),
        "bars": table.to_csv(index=False, sep="|", lineterminator="\r\n"),
        "turns": table.assign(lon=table["lon"] % 360).to_csv(index=False),
        "indexed": table.rename(columns={"label": "height"}).to_csv(),
        "others": table.assign(x=0, y=0)[["x", "y", "lat", "lon", "label"]].to_csv(index=False),
        "gaps": "lat,lon,label\n\nNA,1,5\n2,,5\n" + table.to_csv(index=False, header=False),
        "german": table.rename(columns={"lon": "Längengrad", "lat": "Breitengrad"}).to_csv(
            index=False
        ),
    }
    texts["gaps"] = texts["gaps"].replace("lat,lon", "lon,lat", 1)
    codecs = dict.fromkeys(texts, "utf-8") | {"tabs": "utf-16", "bars": "utf-8-sig"}
    codecs["german"] = "cp1252"
    for name, written in texts.items():
        (tmp_path / f"{name}.csv").write_bytes(written.encode(codecs[name]))
    told = served(
        gulf,
        f"""
told = {{}};
for (const name of {json.dumps([*texts])})
  told[name] = await readFile({json.dumps(str(tmp_path))} + `/${{name}}.csv`);
""",
        tmp_path,
    )
    field = client.open_field(gulf)
    expected = field.label(table, "label", "coordinate")
    for name, found in told.items():
        assert found["message"] == "", name
        lonlat = np.array([one["lonlat"] for one in found["labels"]])
        np.testing.assert_allclose((lonlat[:, 0] + 180) % 360 - 180, table["lon"], atol=1e-9)
        np.testing.assert_allclose(lonlat[:, 1], table["lat"], atol=1e-9, err_msg=name)
        assert [float(one["label"]) for one in found["labels"]] == list(table["label"]), name
        column = "height" if name == "indexed" else "label"
        labelled = field.label(tmp_path / f"{name}.csv", column, "coordinate")
        assert labelled.used == expected.used, name
        np.testing.assert_allclose(labelled.ridge.weights, expected.ridge.weights, rtol=1e-9)


def test_labels_that_cannot_be_mapped_are_told_what_to_change(
    table: pd.DataFrame, gulf: Path, tmp_path: Path
) -> None:
    long = "a long name of a class, " * 200
    texts = table["label"].astype(str)
    cases = {
        "same": (table.assign(label="wood"), "are the same: label cells of two classes"),
        "equal": (table.assign(label=3.0), "are the same: label cells of two classes"),
        "off": (table.assign(lon=100.0), "None of the 30 labels lies on the field"),
        "lake": (table.assign(lon=5.0, lat=5.0), "0 of 30 labelled cells have a coordinate vector"),
        "one": (table.assign(lon=0.0, lat=0.0), "there is nothing to tell apart"),
        "infinite": (table.assign(label=texts.where(table.index > 0, "inf")), 'such as "inf"'),
        "beyond": (table.assign(label=texts.where(table.index > 0, "1e400")), 'such as "1e400"'),
        "huge": (table.assign(label=table["label"] * 1e200), "give labels in a larger unit"),
        "tiny": (table.assign(label=table["label"] * 1e-200), "give them in a smaller unit"),
        "dates": (
            table.assign(label=[f"2020-01-{day:02}" for day in range(1, 31)]),
            "The labels are dates, such as 2020-01-01",
        ),
        "many": (table.assign(label=[f"n{k}" for k in range(30)]), "and 20 can be told apart"),
        "mixed": (
            table.assign(label=np.where(table.index % 5, "1", "other")),
            "24 of 30 labels are numbers",
        ),
        "long": (table.assign(label=np.where(table["lat"] > 0, long, "<b>short</b>")), ""),
    }
    for name, (content, _) in cases.items():
        content.to_csv(tmp_path / f"{name}.csv", index=False)
    told = served(
        gulf,
        f"""
told = {{}};
await page.setViewportSize({{ width: 375, height: 667 }});
await page.selectOption("#compare", "coordinate");
const fitted = async () => {{
  await page.click("#label-fit");
  await idle();
  return text("message");
}};
for (const name of {json.dumps([*cases])}) {{
  const found = await readFile({json.dumps(str(tmp_path))} + `/${{name}}.csv`);
  told[name] = [found.message, await fitted(), found.counts];
  if (name === "same") {{
    const {{ y, height }} = await page.locator("#message").boundingBox();
    const panel = await page.evaluate(() => document.querySelector("#panel").scrollTop);
    told.message = {{ y, end: y + height, panel }};
  }}
  if (name === "mixed") {{
    await page.check("#label-as-classes");
    told.ticked = [await fitted(), await page.locator("#legend tr").allTextContents(),
      await text("label-python")];
    await page.uncheck("#label-as-classes");
  }}
}}
told.legend = await page.locator("#legend th").allTextContents();
const ring = [[0, 0], [0.01, 0], [0.01, 0.01], [0, 0]];
const geometry = {{ type: "Polygon", coordinates: [ring] }};
const features = [{{ type: "Feature", properties: {{ label: "wood" }}, geometry }}];
await readFile({{ name: "small.geojson", mimeType: "application/json",
  buffer: Buffer.from(JSON.stringify({{ type: "FeatureCollection", features }})) }});
told.small = await fitted();
told.wide = await page.evaluate(() => document.querySelector("#panel").scrollWidth);
""",
        tmp_path,
    )
    for name, (_, said) in cases.items():
        read, mapped, counts = told[name]
        assert read == "", name
        assert (said in mapped) if said else mapped == "", name
        assert len(counts) < 200, name
    assert "a polygon labels the cells whose centre it holds" in told["small"]
    assert told["ticked"][0] == "" and len(told["ticked"][1]) == 2
    assert 'task="classification"' in told["ticked"][2]
    assert told["wide"] <= 375
    where = told["message"]
    assert where["panel"] > 100 and 0 < where["y"] < where["end"] < 667, "seen where it is asked"
    assert told["legend"] == ["<b>short</b>", "a long name of a class, a long name o..."]


def test_a_table_of_many_rows_is_mapped_by_a_thousand_and_drawn_by_five_thousand(
    gulf: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-8, 8, (2, 50_000)).round(4)
    many = pd.DataFrame({"lon": lon, "lat": lat, "label": (lat + lon / 2).round(3)})
    many.to_csv(tmp_path / "many.csv", index=False)
    told = served(
        gulf,
        f"""
await page.selectOption("#compare", "coordinate");
const {{ counts }} = await readFile({json.dumps(str(tmp_path / "many.csv"))});
await page.click("#label-fit"); await idle();
told = {{ counts, said: await text("label-score"), message: await text("message"),
  drawn: await page.evaluate(() => window.unigeo.view.labels.getSource().getFeatures().length),
  weights: await page.evaluate(() => window.unigeo.labels.fitted.weights.map((row) => row[0])),
  deviations: await page.evaluate(() =>
    Array.from(window.unigeo.labels.fitted.uncertainty.whole.values).filter((n) => n > 0)) }};
""",
        tmp_path,
    )
    assert told["message"] == "" and told["drawn"] == 5000
    assert told["counts"].startswith("50000 numbers from") and "5000 of them" in told["counts"]
    assert "fitted are 1000 of 50000 cells" in told["said"]
    even = many.iloc[np.arange(1000) * 50]
    labelled = client.open_field(gulf).label(even, "label", "coordinate")
    np.testing.assert_allclose(told["weights"], labelled.ridge.weights[:, 0], rtol=1e-5)
    deviations = labelled.map()["uncertainty"].values
    known = deviations[~np.isnan(deviations)]
    np.testing.assert_allclose(told["deviations"], known, rtol=1e-5)


def test_a_store_without_pictures_has_them_computed(gulf: Path, tmp_path: Path) -> None:
    """As `Field.plot` draws them, where the store is on this machine; elsewhere by choice alone."""
    part = tmp_path / "part.zarr"
    cut_field(client.open_field(gulf), part, (-12, -12, 12, 12))
    told = served(
        part,
        """
const seen = () => page.evaluate(() => {
  const [image] = window.unigeo.view.computed.canvases;
  if (image === undefined) return null;
  const { width, height } = image.canvas;
  const { data } = image.canvas.getContext("2d").getImageData(0, 0, width, height);
  return { width, height, data: Array.from(data) };
});
told = { first: await seen(), show: await page.inputValue("#show"), counts: await counts(),
  beside: await page.locator("#beside-label").isVisible(), hint: await text("no-picture") };
await look([1, 1]);
told.click = await counts();
await readFile({ name: "two.csv", mimeType: "text/csv",
  buffer: Buffer.from("lon,lat,label\\n1,1,wood\\n-9,-9,town") });
await page.click("#label-fit"); await idle();
told.mapped = { counts: await counts(), python: await text("label-python"),
  scatter: await page.locator("#scatter-box").isVisible() };
await page.selectOption("#show", ""); await idle();
told.none = await seen();
""",
        tmp_path,
    )
    field = client.open_field(part)
    assert (told["show"], told["beside"], told["none"]) == ("aerial", False, None)
    assert "The store holds no picture" in told["hint"]
    shown = np.reshape(told["first"]["data"], (told["first"]["height"], told["first"]["width"], 4))
    rows, cols = np.nonzero(shown[..., 3])
    assert np.array_equal(shown[..., 3] > 0, ~np.isnan(field.similarity([(1, 1)], "aerial").values))
    panels, _ = principal_colours(field, "aerial")
    expected = panels[0][rows - rows.min(), cols - cols.min()]
    np.testing.assert_allclose(shown[rows, cols, :3] / 255, expected, atol=0.02)
    assert told["click"]["bytes"] - told["counts"]["bytes"] == 2, "one byte of each status"
    assert told["mapped"]["counts"] == told["click"], "all vectors are there"
    assert told["mapped"]["scatter"]
    assert f'client.open_field("{part}")' in told["mapped"]["python"]


def test_the_installed_field_is_shown_as_python_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A location, words, labels of three classes and what to label next: equal within 1e-5."""
    field = client.open_field(CONUS_1)
    rng = np.random.default_rng(0)
    lonlat = rng.uniform((-118, 31), (-78, 46), (60, 2)).round(3)
    west, north = (lonlat > (-100, 39)).T
    labels = np.where(west, np.where(north, "north", "south"), "west")
    table = pd.DataFrame({"lon": lonlat[:, 0], "lat": lonlat[:, 1], "label": labels})
    table.to_csv(tmp_path / "labels.csv", index=False)
    told = served(
        CONUS_1,
        f"""
const plain = (scores) => page.evaluate((name) => {{
  const found = name === "scores" ? window.unigeo.scored : window.unigeo.labels.fitted[name];
  return Array.from(found.whole.values, (n) => (Number.isNaN(n) ? null : n));
}}, scores);
told = {{ show: await page.inputValue("#show") }};
await look([-122.33, 47.61]); told.similarity = await plain("scores");
await search("desert"); told.search = await plain("scores");
await readFile({json.dumps(str(tmp_path / "labels.csv"))});
await page.click("#label-fit"); await idle();
for (const name of ["values", "uncertainty", "shares"]) told[name] = await plain(name);
told.next = await page.locator("#label-next li").allTextContents();
told.python = await text("label-python");
told.message = await text("message");
""",
        tmp_path,
    )
    assert told["message"] == "" and told["show"] == "fused"
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(told["python"], names)  # as the page shows it
    labelled = names["labels"]
    layers = labelled.map()
    expected = {
        "similarity": field.similarity([(-122.33, 47.61)]),
        "search": field.search("desert", as_="map"),
        "values": layers["value"],
        "uncertainty": layers["uncertainty"],
        "shares": layers["share"],
    }
    for name, numbers in expected.items():
        found = np.array([np.nan if one is None else one for one in told[name]])
        np.testing.assert_allclose(found, numbers.values.ravel(), atol=1e-5, err_msg=name)
    suggested = field.suggest(labelled, 8)
    places = [f"{one.lon:.3f}, {one.lat:.3f}" for one in suggested.itertuples()]
    assert [one.partition(" at ")[2] for one in told["next"]] == places


@pytest.mark.parametrize("width", [1, 2])
def test_vectors_of_one_or_two_numbers_are_shown(width: int, tmp_path: Path) -> None:
    """Of a store of one modality, without concepts."""
    needs_browser()
    layout = stores.layout_of(("coordinate",), bands=width)
    group, grid, layout = stores.begin(tmp_path / "thin.zarr", layout=layout)
    stores.fill(group, grid, layout)
    publish(group)
    told = served(
        tmp_path / "thin.zarr",
        """
await look([-5, -5]);
told = { found: await text("found"), message: await text("message"),
  values: await page.evaluate(() => Array.from(window.unigeo.scored.whole.values,
    (n) => (Number.isNaN(n) ? null : n))) };
await readFile({ name: "some.csv", mimeType: "text/csv", buffer: Buffer.from(
  "lon,lat,label\\n-5,-5,1.5\\n-9,-9,2\\n9,-9,3.5\\n0,0,2") });
await page.click("#label-fit"); await idle();
told.mapped = await text("message");
""",
        tmp_path,
    )
    assert "valid" in told["found"] and told["message"] == ""
    scores = client.open_field(tmp_path / "thin.zarr").similarity([(-5, -5)]).values.ravel()
    found = np.array([np.nan if one is None else one for one in told["values"]])
    np.testing.assert_allclose(found, scores, atol=1e-6)
    assert told["mapped"] == "" or "nothing to tell apart" in told["mapped"]


def test_the_page_goes_over_the_antimeridian(fiji: Path, tmp_path: Path) -> None:
    """By a location in either turn, without scores of another one where there is no cell."""
    told = served(
        fiji,
        """
told = [];
for (const lonlat of [[-179.5, -17], [180.5, -17], [0, 0]]) {
  await look(lonlat);
  told.push([await page.evaluate(() => {
    const { row, col } = window.unigeo.marks.get("A") ?? {};
    return [row ?? null, col ?? null];
  }), await text("found"), await page.locator("#similarity").isVisible(), await text("message")]);
}
""",
        tmp_path,
    )
    cell = client.open_field(fiji).grid.cells(np.array([[-179.5, -17.0]]))[0].tolist()
    west, east, off = told
    assert west[0] == east[0] == cell and west[2:] == east[2:] == [True, ""]
    assert off[0] == [None, None] and "outside the grid" in off[1]
    assert off[2:] == [False, ""], "no scores of a place that is marked no more"
