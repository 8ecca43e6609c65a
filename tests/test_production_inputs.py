"""A raster that is damaged, mended or replaced: never a field of two files under one name."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import stores, tiled

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.observations.raster_files import raster_patches
from unigeo.producer.raster.shard_encoder import ObservedCells
from unigeo.schemas.errors import StoreError
from unigeo.schemas.store.status import Status


@pytest.mark.slow
def test_a_corrupt_raster_among_a_hundred_is_named_and_the_rerun_finishes_when_mended(
    tmp_path: Path,
) -> None:
    tiled.begin(tmp_path)
    tiled.write(tmp_path / "data")
    tiled.produce(tmp_path, str(tmp_path / "unbroken.zarr"))
    tiled.write(tmp_path / "data", damage=54)
    report = tiled.produce(tmp_path, str(tmp_path / "f.zarr"))
    assert list(report.failures) == ["aerial: cannot read tile_54.tif"]
    assert 0 < report.cells[Status.FAILED] < 0.2 * report.cells[Status.VALID]
    assert 0 < len(report.failed) < report.shards
    tiled.write(tmp_path / "data")
    again = tiled.produce(tmp_path, str(tmp_path / "f.zarr"))
    assert len(report.failed) <= again.shards < report.shards and not again.failures
    assert stores.tree(tmp_path / "f.zarr") == stores.tree(tmp_path / "unbroken.zarr")
    assert not (tmp_path / "f.zarr.run").exists()


def test_where_another_file_replaces_a_damaged_one_all_in_its_reach_is_made_again(
    tmp_path: Path,
) -> None:
    """A cell fails where pixels of its patch cannot be read, until the file is mended."""
    folder = tiled.begin(tmp_path)
    tiled.write(folder / "data", damage=54)
    report = tiled.produce(folder, str(tmp_path / "f.zarr"))
    tiled.write_tile(folder / "data", 54, seed=1000)
    again = tiled.produce(folder, str(tmp_path / "f.zarr"))
    assert 0 < len(report.failed) <= again.shards < report.shards
    tiled.produce(folder, str(tmp_path / "unbroken.zarr"))
    assert stores.tree(tmp_path / "f.zarr") == stores.tree(tmp_path / "unbroken.zarr")
    assert not (tmp_path / "f.zarr.run").exists()


def test_a_raster_replaced_between_two_runs_is_named_and_the_store_left_alone(
    tmp_path: Path,
) -> None:
    """Whether it looks like the old file by size and time or not; a copy is the same file."""
    folder, url = tiled.begin(tmp_path), str(tmp_path / "f.zarr")
    tiled.write(folder / "data")

    class KilledError(Exception):
        pass

    class Killed(tiled.Means):
        left = 3

        def codes(self, modality: str, seen: ObservedCells) -> Any:
            Killed.left -= 1
            if not Killed.left:
                raise KilledError
            return super().codes(modality, seen)

    with pytest.raises(KilledError):
        tiled.produce(folder, url, Killed)
    path = folder / "data/tile_54.tif"
    old, times = path.read_bytes(), path.stat()
    copy = tmp_path / "copy.tif"
    copy.write_bytes(old)
    copy.replace(path)
    tiled.write_tile(folder / "data", 54, seed=1000)
    path.write_bytes(path.read_bytes().ljust(len(old), b"\0"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    before = stores.tree(tmp_path / "f.zarr")
    with pytest.raises(StoreError, match=r"observations differ \(changed since: tile_54.tif\)"):
        tiled.produce(folder, url)
    assert stores.tree(tmp_path / "f.zarr") == before
    path.write_bytes(old)
    tiled.produce(folder, url)
    tiled.produce(folder, str(tmp_path / "unbroken.zarr"))
    assert stores.tree(tmp_path / "f.zarr") == stores.tree(tmp_path / "unbroken.zarr")


@pytest.mark.parametrize("moment", ["between shards", "within a shard"])
def test_a_raster_replaced_during_a_run_ends_it(moment: str, tmp_path: Path) -> None:
    folder, url = tiled.begin(tmp_path), str(tmp_path / "f.zarr")
    tiled.write(folder / "data")
    path = folder / "data/tile_54.tif"
    old = path.read_bytes()

    finish = raster_patches._Mosaic.finish

    def replaced(*arguments: Any) -> Any:
        tiled.write_tile(folder / "data", 54, seed=1000)
        return finish(*arguments)

    class Replacing(tiled.Means):
        """Replaces a file once it has read from it, or before."""

        def observe(self, modality: str, lonlat: np.ndarray) -> ObservedCells:
            if moment == "between shards":
                tiled.write_tile(folder / "data", 54, seed=1000)
                return super().observe(modality, lonlat)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(raster_patches._Mosaic, "finish", replaced)
                return super().observe(modality, lonlat)

    with pytest.raises(ReplacedError, match=r"tile_54\.tif was replaced while it was in use"):
        tiled.produce(folder, url, Replacing)
    path.write_bytes(old)
    tiled.produce(folder, url)
    tiled.produce(folder, str(tmp_path / "unbroken.zarr"))
    assert stores.tree(tmp_path / "f.zarr") == stores.tree(tmp_path / "unbroken.zarr")
