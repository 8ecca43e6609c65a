"""Where a map may be written: what is there stays, unless it is a map that is to be replaced."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from support.commands import point_table
from support.convention_rules import store_faults

from unigeo.client.field.opening import open_field
from unigeo.client.probing.probe import Probe
from unigeo.schemas.errors import StoreError

BOX, OTHER = (-8.0, -9.0, 6.0, 7.0), (-4.0, -4.0, 6.0, 7.0)


@pytest.fixture(scope="module")
def probe(gulf: Path) -> Probe:
    return open_field(str(gulf)).probe(
        point_table(), "height", "coordinate", block_km=500, folds=3, baselines=False
    )


def unfitted(probe: Probe) -> Probe:
    """The same, whose field cannot be read any more."""

    def unread(*args: object) -> object:
        raise AssertionError("the field was read")

    return replace(probe, field=replace(probe.field, read=unread), _models={})


def shape_of(path: Path) -> tuple[int, ...]:
    with xr.open_zarr(path) as stored:
        assert np.isfinite(stored["prediction"].values).any()
        return stored["prediction"].shape


def test_a_map_is_replaced_only_when_that_is_asked(probe: Probe, tmp_path: Path) -> None:
    tif, store = tmp_path / "map.tif", tmp_path / "map.zarr"
    probe.to_geotiff(tif, region=BOX)
    probe.to_zarr(store, region=BOX)
    assert store_faults(store) == [], "it keeps the public conventions"
    before = tif.read_bytes(), shape_of(store)
    for write, path in ((probe.to_geotiff, tif), (probe.to_zarr, store)):
        with pytest.raises(StoreError, match=r"there already.*overwrite=True, or --overwrite"):
            write(path, region=OTHER)
    assert (tif.read_bytes(), shape_of(store)) == before
    probe.to_geotiff(tif, region=OTHER, overwrite=True)
    probe.to_zarr(store, region=OTHER, overwrite=True)
    expected = probe.map(region=OTHER)["prediction"].shape
    assert expected != before[1]
    assert shape_of(store) == expected
    with rasterio.open(tif) as raster:
        assert raster.shape == expected
    assert {path.name for path in tmp_path.iterdir()} == {"map.tif", "map.zarr"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("taken", ["folder", "empty folder", "file", "link", "field"])
def test_what_is_no_map_is_never_replaced(
    probe: Probe, gulf: Path, tmp_path: Path, taken: str, overwrite: bool
) -> None:
    path = tmp_path / "map.zarr"
    if taken in ("folder", "empty folder"):
        path.mkdir()
    if taken == "folder":
        (path / "thesis.txt").write_text("years of work")
    elif taken == "file":
        path.write_text("years of work")
    elif taken == "link":
        path.symlink_to(gulf)
    elif taken == "field":
        zarr.create_group(path, attributes={"unigeo": {"layout_version": 2}})
    before = sorted(str(found) for found in tmp_path.rglob("*"))
    with pytest.raises(StoreError, match="cannot write the map"):
        unfitted(probe).to_zarr(path, overwrite=overwrite)
    assert sorted(str(found) for found in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [("map.png", "must end in .tif or .tiff"), ("", "must end in"), ("none/map.tif", "no folder")],
)
def test_a_geotiff_of_another_name_is_refused_before_anything_is_fitted(
    probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=words):
        unfitted(probe).to_geotiff(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "none/map.zarr", None, 5])
def test_a_store_that_cannot_be_written_is_refused(
    probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: object
) -> None:
    monkeypatch.chdir(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="cannot write the map"):
            unfitted(probe).to_zarr(name, overwrite=overwrite)
    assert list(tmp_path.iterdir()) == []


def test_a_file_url_is_a_local_path(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "map.zarr"
    probe.to_zarr(path.as_uri(), region=BOX)
    with pytest.raises(StoreError, match="there already"):
        unfitted(probe).to_zarr(path.as_uri())
    probe.to_zarr(path.as_uri(), region=OTHER, overwrite=True)
    assert shape_of(path) == probe.map(region=OTHER)["prediction"].shape


def test_a_map_that_fails_leaves_the_old_one(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "map.zarr"
    probe.to_zarr(path, region=BOX)
    before = shape_of(path)

    def torn(name: str, rows: slice, cols: slice) -> np.ndarray:
        raise StoreError("the connection broke")

    broken = replace(probe, field=replace(probe.field, read=torn))
    with pytest.raises(StoreError, match="connection broke"):
        broken.to_zarr(path, region=OTHER, overwrite=True)
    assert shape_of(path) == before
    assert [found.name for found in tmp_path.iterdir()] == ["map.zarr"]


def test_what_a_killed_run_left_is_swept_and_nothing_else(probe: Probe, tmp_path: Path) -> None:
    path, part = tmp_path / "map.zarr", tmp_path / "map.zarr.partial"
    zarr.create_group(part)
    probe.to_zarr(path, region=BOX)
    assert [found.name for found in tmp_path.iterdir()] == ["map.zarr"]
    part.mkdir()
    with pytest.raises(StoreError, match="is in the way"):
        probe.to_zarr(path, region=BOX, overwrite=True)
    assert part.is_dir()


def test_a_store_object_is_never_overwritten(probe: Probe) -> None:
    store = zarr.storage.MemoryStore()
    probe.to_zarr(store, region=BOX, overwrite=True)
    with pytest.raises(StoreError, match="there is a store already"):
        probe.to_zarr(store, region=BOX, overwrite=True)
