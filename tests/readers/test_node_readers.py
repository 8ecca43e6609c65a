"""Readers of browsers, run under node by their snippets of docs/readers.md."""

import json
import os
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
import xarray as xr
from pyproj import Transformer
from truth import LAYOUT_2, Truth, snippet

from unigeo.schemas.store.quantization import dequantize
from unigeo.schemas.store.status import Status

pytestmark = pytest.mark.readers
PACKAGES = Path(os.environ.get("UNIGEO_READERS_NODE", "")).resolve() / "node_modules"
SECONDS = 300


def node(code: str, folder: Path) -> Any:
    """What a module of JavaScript prints, as JSON."""
    if which("node") is None or not (PACKAGES / "zarrita").is_dir():
        pytest.skip("node, or its packages, are not there: `make readers` installs them by npm")
    (folder / "node_modules").symlink_to(PACKAGES)
    (folder / "reader.mjs").write_text(code)
    done = subprocess.run(
        ["node", "reader.mjs"], cwd=folder, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_zarrita(server: str, tmp_path: Path, truth: Truth) -> None:
    told = """
const { attrs, shape } = vectors;
console.log(JSON.stringify({
  shape, nodata: attrs.nodata, code: attrs["proj:code"], data: Array.from(window.data),
}));
"""
    found = node(snippet("zarrita", server) + told, tmp_path)
    assert found["shape"] == [*truth.grid.shape, truth.field.bands]
    whole = np.array(found["data"], np.int8).reshape(found["shape"])
    stored = whole[truth.rows, truth.cols]
    assert np.array_equal(dequantize(stored), truth.vectors, equal_nan=True)
    assert np.array_equal((whole == found["nodata"]).all(2), truth.status != Status.VALID)
    assert found["code"] == truth.grid.crs


@LAYOUT_2
def test_zarrita_reads_every_array(server: str, tmp_path: Path) -> None:
    told = """
const read = [];
for (const { path, kind } of store.contents()) {
  if (kind !== "array") continue;
  await zarr.get(await zarr.open(root.resolve(path), { kind: "array" }));
  read.push(path);
}
console.log(JSON.stringify(read));
"""
    read = node(snippet("zarrita", server) + told, tmp_path)
    assert {"/coordinate", "/encoder/matrix", "/preview/1/rgb", "/concepts/vectors"} <= set(read)
    assert "/encoder/registers" not in read, "zarrita breaks on an array of no rows"


def test_openlayers_reads_each_level_of_the_preview(
    server: str, tmp_path: Path, truth: Truth, store: Path
) -> None:
    told = """
import { fromLonLat } from "ol/proj.js";
await source.ready();
const grid = source.getTileGrid(), projection = source.getProjection();
const tiles = [];
for (let z = 0; z < grid.getResolutions().length; ++z) {
  const tile = source.getTile(z, 0, 0, 1, projection);
  tile.load();
  while (tile.getState() < 2) await new Promise((done) => setTimeout(done, 10));
  const data = Array.from(tile.getData());
  tiles.push({ state: tile.getState(), size: grid.getTileSize(z), data });
}
const told = JSON.stringify({
  code: projection.getCode(), extent: grid.getExtent(), levels: grid.getMatrixIds(),
  resolutions: grid.getResolutions(), bands: source.bandCount, tiles,
  corner: fromLonLat([20, -10], projection), dimensions: await source.getDimensions(),
});
process.stdout.write(told, () => process.exit(0));  // a source keeps node waiting
"""
    found = node(snippet("OpenLayers", server) + told, tmp_path)
    assert found["code"] == truth.grid.crs
    assert found["extent"] == list(truth.grid.bounds)
    assert found["levels"] == ["2", "1"], "no level is dropped"
    size = truth.grid.resolution_m
    assert found["resolutions"] == [2 * size, size]
    to_field = Transformer.from_crs("OGC:CRS84", truth.grid.crs, always_xy=True)
    assert found["corner"] == pytest.approx(to_field.transform(20, -10), abs=0.01)
    assert found["dimensions"]["rgb"]["attributes"]["flag_meanings"] == "red green blue"
    for level, tile in zip(found["levels"], found["tiles"], strict=True):
        assert tile["state"] == 2, "loaded"
        picture = xr.open_zarr(store, group=f"preview/{level}", chunks=None)["coordinate"].values
        _, rows, cols = picture.shape
        data = np.array(tile["data"]).reshape(tile["size"], tile["size"], found["bands"])
        assert np.array_equal(np.moveaxis(picture, 0, 2), data[:rows, :cols, :3])
        assert np.array_equal(data[:rows, :cols, 3] > 0, picture.any(0)), "its alpha is the mask"
    assert np.array_equal(data[:rows, :cols, 3] > 0, truth.status == Status.VALID)
