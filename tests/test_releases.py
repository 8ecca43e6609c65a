"""A new release takes over what stays the same, and the old one never changes."""

from pathlib import Path

import numpy as np
import pytest
import stores

from unigeo import client
from unigeo.producer.publishing.announcing import announce
from unigeo.producer.publishing.releases import NextRelease, next_release, take_over
from unigeo.producer.raster.publication import publish
from unigeo.producer.raster.store import create_field
from unigeo.schemas.errors import StoreError
from unigeo.schemas.regions import Region, region_of_bbox
from unigeo.schemas.stores import open_group

WIDER = region_of_bbox((-20.0, -15.0, 40.0, 18.0), "gulf", "EPSG:8857")
"""The region `gulf`, grown to the east."""


def release(base: Path, region: Region, inputs: str = "one") -> tuple[NextRelease, int]:
    """The next release of a field, of a region and inputs that may have changed."""
    following = next_release(str(base), "gulf")
    layout = stores.layout_of()
    grid = stores.grid_of(region, layout)
    attributes = stores.attributes_of(region, grid, layout)
    attributes["unigeo"]["observations"]["modalities"] = {
        "aerial": {"inputs": [{"sha256": inputs}]}
    }
    group = create_field(following.url, grid, layout, following.mark(attributes))
    taken = take_over(following.previous_url, group, region, stores.land)
    stores.fill(group, grid, layout, region)
    publish(group, previous=following.previous_url)
    announce(following.url)
    return following, taken


@pytest.fixture
def first(tmp_path: Path) -> Path:
    path = tmp_path / "gulf.zarr"
    layout = stores.layout_of()
    grid = stores.grid_of(stores.GULF, layout)
    attributes = stores.attributes_of(stores.GULF, grid, layout)
    attributes["unigeo"]["observations"]["modalities"] = {"aerial": {"inputs": [{"sha256": "one"}]}}
    group = create_field(path, grid, layout, attributes)
    stores.fill(group, grid, layout)
    publish(group)
    announce(str(path))
    return path


def test_a_grown_region_takes_over_the_shards_that_stay(first: Path) -> None:
    before = stores.tree(first)
    following, taken = release(first, WIDER)
    assert Path(following.url).name == "gulf-r2.zarr"
    assert stores.tree(first) == before, "a release never changes"
    old, new = client.open_field(first), client.open_field(first.parent, region="gulf")
    assert new.url == following.url and new.attributes.model_extra["release"] == "2"
    assert 0 < taken < np.prod(new.layout.shards(new.grid)) * 2
    assert new.verify().ok
    down, right = (np.array(old.grid.bounds) - new.grid.bounds)[[3, 0]] / old.grid.resolution_m
    rows, cols = old.grid.shape
    window = np.s_[-round(down) : -round(down) + rows, round(right) : round(right) + cols]
    for name in ("coordinate", "aerial"):
        stayed = old.dataset()[f"{name}_status"].values == 1
        assert np.array_equal(
            new.dataset()[name].values[window][stayed], old.dataset()[name].values[stayed]
        )
    runs = open_group(following.url)["manifest"].attrs["runs"]
    assert [run["release"] for run in runs] == ["1", "2"]
    made = np.asarray(open_group(following.url)["manifest/aerial_run"][...])
    assert (made == 0).sum() * 2 == taken
    # The same release made from nothing has the same vectors: what was taken over is what it is.
    scratch = first.parent / "scratch.zarr"
    stores.build(scratch, WIDER)
    fresh = client.open_field(scratch).dataset()
    for name in ("coordinate", "aerial"):
        assert np.array_equal(fresh[name].values, new.dataset()[name].values)


def test_changed_inputs_are_encoded_again_and_others_are_not(first: Path) -> None:
    following, taken = release(first, stores.GULF, inputs="two")
    assert taken == 4, "the four shards of coordinates, and none of aerial"
    aerial = np.asarray(open_group(following.url)["manifest/coordinate_run"][...])
    assert not aerial.any()
    assert next_release(str(first), "gulf").release == "3"


def test_a_damaged_shard_is_not_taken_over(first: Path) -> None:
    place = first / "coordinate/c/0/0/0"
    content = bytearray(place.read_bytes())
    content[7] ^= 1
    place.write_bytes(content)
    following, taken = release(first, stores.GULF)
    assert taken == 7
    assert client.open_field(following.url).verify().ok


def test_without_a_first_release_there_is_nothing_to_update(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="without --update first"):
        next_release(str(tmp_path / "gulf.zarr"), "gulf")
