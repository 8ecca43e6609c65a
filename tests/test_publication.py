"""What publication adds to a field: pictures, overviews, the manifest of everything."""

import hashlib
import json
import shutil
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import stores

from unigeo import client
from unigeo.producer.publishing import derive
from unigeo.producer.publishing.cell_means import coarse_status, overviews_of
from unigeo.producer.publishing.preview import halved
from unigeo.producer.publishing.principal_directions import fit_axes, fit_colours, spread
from unigeo.producer.publishing.publish import publish
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.geo.bounds import grid_bounds, shard_bounds
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.manifest import manifest_digest
from unigeo.schemas.store.overviews import overview_factors
from unigeo.schemas.store.quantization import FILL, dequantize
from unigeo.schemas.store.status import Status
from unigeo.schemas.store.text_arrays import texts_of_bytes, texts_to_bytes
from unigeo.schemas.store.validation import field_problems

MODALITIES = ("coordinate", "aerial")


def preview_of(path: Path, factor: int, modality: str) -> np.ndarray:
    return np.asarray(zarr.open_array(path, path=f"preview/{factor}/{modality}", mode="r")[...])


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("factor", [1, 2])
def test_gdal_shows_every_level_of_the_preview(gulf: Path, modality: str, factor: int) -> None:
    field = client.open_field(gulf)
    with rasterio.open(f'ZARR:"{gulf}":/preview/{factor}/{modality}') as picture:
        assert picture.crs.to_string() == field.grid.crs
        assert picture.res == (field.grid.resolution_m * factor,) * 2
        assert tuple(picture.bounds) == field.grid.bounds
        assert (picture.count, picture.nodata) == (3, 0.0)
        assert set(picture.dtypes) == {"uint8"}
        assert np.array_equal(picture.read(), preview_of(gulf, factor, modality))


def test_the_preview_shows_the_cells_that_have_a_vector(gulf: Path) -> None:
    stored = xr.open_zarr(gulf, chunks=None)
    for modality in MODALITIES:
        shown = preview_of(gulf, 1, modality).all(axis=0)
        assert np.array_equal(shown, stored[f"{modality}_status"] == Status.VALID)
    level = xr.open_zarr(gulf, group="preview/2", consolidated=False, chunks=None)
    assert level.rio.crs == stored.rio.crs
    assert level["coordinate"].dims == ("rgb", "y", "x")


def test_colours_follow_from_the_axes_and_stretch_stored_beside_the_preview(gulf: Path) -> None:
    """Anybody can colour a vector of their own by the stored axes and stretch."""
    root = open_group(gulf)
    vectors = dequantize(np.asarray(root["aerial"][...])).astype(np.float64)
    axes = np.asarray(root["preview/aerial_axes"][...]).astype(np.float64)
    low, high = np.asarray(root["preview/aerial_stretch"][...]).T
    scores = vectors @ axes.T
    expected = 1 + 254 * np.clip((scores - low) / (high - low), 0, 1)
    shown = np.moveaxis(preview_of(gulf, 1, "aerial"), 0, 2)
    valid = shown.all(axis=2)
    assert np.abs(shown[valid] - expected[valid]).max() < 0.51
    assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-3)


def test_colours_do_not_depend_on_the_order_of_the_sample() -> None:
    rng = np.random.default_rng(0)
    sample = rng.integers(-127, 128, (5000, 24), dtype=np.int8)
    sample[:, 0] = 127
    colours = [fit_colours(one, fit_axes(one, 3)) for one in (sample, rng.permutation(sample))]
    assert colours[0].digest() == colours[1].digest()
    none = sample[:0]
    assert fit_colours(none, fit_axes(none, 3)).paint(np.full((4, 4, 24), FILL, np.int8)).max() == 0


@given(
    hnp.arrays(np.uint8, (3, 4, 6), elements=st.sampled_from([0, 1, 2, 100, 254, 255])),
)
def test_a_coarser_pixel_is_the_mean_of_those_that_show_something(rgb: np.ndarray) -> None:
    seen = halved(rgb)
    for band, row, col in np.ndindex(*seen.shape):
        block = rgb[band, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2].astype(float)
        shown = block[block > 0]
        assert abs(seen[band, row, col] - (shown.mean() if shown.size else 0)) <= 0.5


def test_every_level_is_half_of_the_one_below(gulf: Path) -> None:
    for modality in MODALITIES:
        assert np.array_equal(preview_of(gulf, 2, modality), halved(preview_of(gulf, 1, modality)))
    attributes = open_group(gulf)["preview"].attrs
    assert [level["asset"] for level in attributes["multiscales"]["layout"]] == ["1", "2"]
    assert all("/" not in codec for codec in attributes["zarr_conventions"][0]["name"])


@pytest.mark.parametrize("factor", [2, 4])
def test_an_overview_is_a_field_of_mean_directions(gulf: Path, factor: int) -> None:
    """As computed in float64 from the whole field at once."""
    field, coarse = client.open_field(gulf), client.open_field(gulf, overview=factor)
    assert coarse.grid.resolution_m == field.grid.resolution_m * factor
    assert coarse.grid.bounds == field.grid.bounds
    assert field_problems(open_group(gulf, path=f"overviews/{factor}")) == []
    stored, thin = field.dataset(), coarse.dataset()
    for modality in MODALITIES:
        vectors = dequantize(stored[modality].values).astype(np.float64)
        valid = stored[f"{modality}_status"].values == Status.VALID
        vectors[~valid] = 0
        rows, cols = coarse.grid.shape
        sums = vectors.reshape(rows, factor, cols, factor, -1).sum(axis=(1, 3))
        any_valid = valid.reshape(rows, factor, cols, factor).any(axis=(1, 3))
        codes = thin[f"{modality}_status"].values
        assert np.array_equal(codes == Status.VALID, any_valid)
        means = sums[any_valid] / np.linalg.norm(sums[any_valid], axis=-1, keepdims=True)
        cosine = (dequantize(thin[modality].values)[any_valid] * means).sum(axis=-1)
        assert cosine.min() > 0.9998
        assert (thin[modality].values[~any_valid] == FILL).all()


def test_a_zonal_mean_of_an_overview_points_where_the_field_s_does(gulf: Path) -> None:
    box = (-12.0, -9.0, -2.0, 2.0)
    fine = client.open_field(gulf).zonal([box], "coordinate")
    coarse = client.open_field(gulf, overview=2).zonal([box], "coordinate")
    names = [f"coordinate_{band:03d}" for band in range(8)]
    if not set(names) <= set(fine.columns):
        names = [name for name in fine.columns if name.rsplit("_", 1)[-1].isdigit()]
    one, two = fine[names].to_numpy(float)[0], coarse[names].to_numpy(float)[0]
    assert one @ two / np.linalg.norm(one) / np.linalg.norm(two) > 0.99


def test_an_overview_is_sampled_opened_elsewhere_and_named(gulf: Path) -> None:
    import pickle

    field = client.open_field(gulf, overview=4)
    again = pickle.loads(pickle.dumps(field))
    points = [[-10.0, 3.0], [5.0, 5.0]]
    assert again.sample(points).equals(field.sample(points))
    assert field.sample(points)["coordinate_status"].tolist()[0] == "valid"
    with pytest.raises(LayoutError, match="no overview of factor 3; it has 2, 4"):
        client.open_field(gulf, overview=3)


@given(
    hnp.arrays(np.uint8, (4, 4), elements=st.integers(0, 5)),
    hnp.arrays(np.int8, (4, 4, 3), elements=st.integers(-127, 127)),
)
def test_a_coarse_cell_is_valid_if_one_it_covers_is(status: np.ndarray, stored: np.ndarray) -> None:
    stored[..., 0] = 127  # a direction
    stored[status != Status.VALID] = FILL
    for factor, vectors, codes in overviews_of(stored, status, (2, 4)):
        blocks = status.reshape(4 // factor, factor, 4 // factor, factor)
        valid = (blocks == Status.VALID).any(axis=(1, 3))
        assert np.array_equal(codes == Status.VALID, valid)
        assert np.array_equal(vectors[..., 0] != FILL, valid)
        others = coarse_status(np.where(status == 1, 0, status).astype(np.uint8), factor)
        assert set(np.unique(others)) <= set(np.unique(np.where(status == 1, 0, status)))


def test_vectors_that_cancel_out_have_no_mean() -> None:
    stored = np.array([[[127, 0], [-127, 0]], [[0, 127], [0, -127]]], np.int8)
    ((_, vectors, codes),) = overviews_of(stored, np.ones((2, 2), np.uint8), (2,))
    assert codes.tolist() == [[Status.FAILED]]
    assert (vectors == FILL).all()


def test_a_publication_cut_off_anywhere_ends_with_the_same_bytes(
    gulf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "field.zarr"
    group, grid, layout = stores.begin(path)
    stores.fill(group, grid, layout)
    weights = {"matrix": np.eye(2, dtype=np.float32)}
    writing, done, one_by_one = derive._ShardDeriver._write, [], threading.Lock()

    def cut_off(*arguments: Any) -> Any:
        with one_by_one:
            if len(done) >= most:
                raise KeyboardInterrupt
            done.append(arguments)
            return writing(*arguments)

    monkeypatch.setattr(derive._ShardDeriver, "_write", cut_off)
    for most in (5, 100):
        with pytest.raises(KeyboardInterrupt) if most == 5 else nullcontext():
            publish(group, encoder=weights, encoder_settings={"kind": "waves"})
    assert len(done) == 8, "the five shards done before are not done again"
    assert stores.tree(path) == stores.tree(gulf)


def test_a_publication_that_other_code_goes_on_with_begins_anew(
    gulf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overviews of one field are never made by two versions."""
    group, grid, layout = stores.begin(tmp_path / "field.zarr")
    stores.fill(group, grid, layout)
    writing, done, one_by_one = derive._ShardDeriver._write, [], threading.Lock()

    def counted(*arguments: Any) -> Any:
        with one_by_one:  # the shard after the one that is interrupted may have begun already
            done.append(code)
            if code == "1" and len(done) >= 5:
                raise KeyboardInterrupt
            return writing(*arguments)

    monkeypatch.setattr(derive._ShardDeriver, "_write", counted)
    monkeypatch.setattr(derive, "MOST_TASKS", 1)
    for code in "12":
        monkeypatch.setattr(derive, "code_sha256", lambda _, code=code: code * 64)
        with pytest.raises(KeyboardInterrupt) if code == "1" else nullcontext():
            publish(group, encoder=stores.WEIGHTS, encoder_settings=stores.ENCODER)
    assert done.count("2") == 8, "every shard is done anew"
    assert stores.tree(tmp_path / "field.zarr") == stores.tree(gulf)


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize(
    ("key", "bits", "told"),
    [
        ("aerial/c/0/0/0", 1, "aerial/c/0/0/0: .* CRC-32C"),
        ("aerial_status/c/0/0", 2, "aerial/c/0/0/0: 1 cells have a vector and another status"),
        ("aerial_status/c/0/0", 128, "aerial_status/c/0/0: 129 is no status of a finished shard"),
    ],
)
def test_a_damaged_shard_is_named_and_not_published(
    tmp_path: Path, key: str, bits: int, told: str, codec: str
) -> None:
    group, grid, layout = stores.begin(tmp_path / "f", layout=stores.layout_of(codec=codec))
    stores.fill(group, grid, layout)
    content = bytearray((tmp_path / "f" / key).read_bytes())
    place = content.index(1) if "status" in key else 7  # of a valid cell
    content[place] ^= bits
    (tmp_path / "f" / key).write_bytes(content)
    with pytest.raises(LayoutError, match=f"{told}.*Remove the shard's vectors"):
        publish(group)
    for name in ("aerial/c/0/0/0", "aerial_status/c/0/0"):
        (tmp_path / "f" / name).unlink()
    stores.fill(group, grid, layout)
    publish(group)


def test_the_manifest_has_the_hash_of_every_object(gulf: Path) -> None:
    root = open_group(gulf)
    manifest = root["manifest"]
    listed = {}
    for name in ("coordinate", "aerial"):
        for array, end in ((name, "/0"), (f"{name}_status", "")):
            for row, col in np.ndindex(2, 2):
                if manifest[f"{array}_bytes"][row, col]:
                    sha256 = manifest[f"{array}_sha256"][row, col]
                    listed[f"{array}/c/{row}/{col}{end}"] = bytes(sha256)
    keys = texts_of_bytes(np.asarray(manifest["objects_keys"][...]), "keys")
    assert keys == sorted(keys)
    hashes = np.asarray(manifest["objects_sha256"][...])
    listed |= {key: bytes(sha256) for key, sha256 in zip(keys, hashes, strict=True)}
    tree = stores.tree(gulf)
    rest = {key for key in tree if key not in listed}
    assert {key for key in rest if not key.startswith("manifest/")} == {"zarr.json"}
    assert all(hashlib.sha256(tree[key]).digest() == value for key, value in listed.items())
    own = json.loads(tree["zarr.json"])["attributes"]["unigeo"]
    bodies = {key: tree[key] for key in rest if key.startswith("manifest/")}
    assert own["manifest_sha256"] == manifest_digest(bodies)


def test_each_shard_has_bounds_and_a_run(gulf: Path, fiji: Path) -> None:
    for path in (gulf, fiji):
        field, root = client.open_field(path), open_group(path)
        bounds = np.asarray(root["manifest/shard_bounds"][...])
        side = field.layout.shard
        for row, col in np.ndindex(*bounds.shape[:2]):
            west, south, east, north = bounds[row, col]
            lonlat = field.grid.centres(Window(row * side, col * side, side, side)).reshape(-1, 2)
            lon, lat = lonlat[~np.isnan(lonlat[:, 0])].T
            assert ((lat > south) & (lat < north)).all()
            assert ((lon - west) % 360 <= (east - west) % 360).all()
        run = root["manifest"].attrs["runs"][0]
        assert len(run["id"]) == 16 and run["release"] == "1"
        assert not np.asarray(root["manifest/coordinate_run"][...]).any()


def test_bounds_are_tight_and_reach_round_the_globe() -> None:
    globe = Grid("EPSG:8857", 100_000, -128, -192, (256, 384))
    west, south, east, north = grid_bounds(globe)
    assert (west, east) == (-180, 180)
    assert (south, north) == pytest.approx((-90, 90), abs=1e-4)
    small = Grid("EPSG:8857", 1000, 0, 0, (32, 32))
    centres = small.centres()
    west, south, east, north = shard_bounds(small, 32)[0, 0]
    step = 2 * np.abs(np.diff(centres[:, :, 0], axis=1)).max()
    assert abs(west - centres[..., 0].min()) < step > abs(east - centres[..., 0].max())
    assert abs(south - centres[..., 1].min()) < step > abs(north - centres[..., 1].max())
    corner = Grid("EPSG:8857", 100_000, -96, 160, (32, 32))
    assert np.isnan(shard_bounds(corner, 32)).all(), "off the globe"


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))))
def test_lists_of_texts_come_back(texts: list[str]) -> None:
    assert texts_of_bytes(texts_to_bytes(texts), "x") == texts


def test_samples_are_spread() -> None:
    assert spread(5, 64).tolist() == [0, 1, 2, 3, 4]
    assert spread(128, 4).tolist() == [0, 32, 64, 96]
    assert spread(0, 4).tolist() == []
    assert overview_factors(stores.layout_of(shard=24)) == ()


def test_the_preview_command_draws_what_is_stored(gulf: Path, tmp_path: Path) -> None:
    from unigeo.client.field.preview import principal_colours, stored_colours

    field = client.open_field(gulf)
    found = stored_colours(field, "aerial")
    assert found is not None
    panels, extent = found
    own, own_extent = principal_colours(field, "aerial")
    assert panels.shape[1:] == own.shape[1:]
    assert extent == pytest.approx(own_extent)
    assert np.abs(panels[0] - own[0]).max() < 0.1, "the same directions, to rounding"
    copy = Path(shutil.copytree(gulf, tmp_path / "bare.zarr"))
    document = json.loads((copy / "zarr.json").read_text())
    nodes = document["consolidated_metadata"]["metadata"]
    for name in [name for name in nodes if name.split("/")[0] == "preview"]:
        del nodes[name]
    (copy / "zarr.json").write_text(json.dumps(document))
    assert stored_colours(client.open_field(copy), "aerial") is None
    assert [p.name for p in client.open_field(copy).preview(tmp_path, "aerial")] == ["aerial.png"]
