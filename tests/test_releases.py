"""A new release takes over what stays the same, and the old one never changes."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import stores
from zarr.storage import MemoryStore

from unigeo import client
from unigeo.producer.publishing import task_digests
from unigeo.producer.publishing.announce import announce, gather
from unigeo.producer.publishing.publish import publish
from unigeo.producer.publishing.releases import NextRelease, next_release, take_over
from unigeo.producer.publishing.updates import is_unchanged, refuse_losses
from unigeo.producer.storage.field_store import check_begun, create_field
from unigeo.producer.storage.object_io import delete
from unigeo.producer.storage.objects import read_object
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region, region_of_bbox
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.manifest import shard_key

WIDER = region_of_bbox((-20.0, -15.0, 40.0, 18.0), "gulf", "EPSG:8857")
"""The region `gulf`, grown to the east."""


MODELS = {"old": "ab" * 32, "new": "cd" * 32}


def seen_by(model: str, inputs: str) -> Any:
    """The encoder of a model and its inputs; what is observed where is the same for all."""

    def encode(modality: str, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        vectors, observed = stores.encoder()(modality, lonlat)
        turns = (model == "new") + 2 * (modality == "aerial" and inputs == "two")
        return np.roll(vectors, turns, axis=1), observed

    return encode


def attributes_of(region: Region, model: str, inputs: str) -> dict[str, Any]:
    layout = stores.layout_of()
    attributes = stores.attributes_of(region, stores.grid_of(region, layout), layout, MODELS[model])
    attributes["unigeo"]["observations"]["modalities"] = {
        "aerial": {"inputs": [{"sha256": inputs}]}
    }
    return attributes


def field_of(region: str, model: str, inputs: str) -> tuple[MemoryStore, Grid, Layout]:
    """An empty field, to be filled by `seen_by`."""
    store, layout = MemoryStore(), stores.layout_of()
    grid = stores.grid_of(REGIONS[region], layout)
    create_field(store, grid, layout, attributes_of(REGIONS[region], model, inputs))
    return store, grid, layout


def stored(store: MemoryStore, key: str) -> bytes:
    """SHA-256 of an object; zeros where there is none."""
    body = read_object(store, key)
    return bytes(32) if body is None else hashlib.sha256(body).digest()


@cache
def made_from_nothing(region: str, model: str, inputs: str) -> dict[tuple[str, int, int], bytes]:
    """SHA-256 of every shard's vectors, by modality and place on the lattice."""
    store, grid, layout = field_of(region, model, inputs)
    group = open_group(store, read_only=False, consolidated=False)
    stores.fill(group, grid, layout, REGIONS[region], seen_by(model, inputs))
    return {
        (modality, *on_lattice(grid, row, col)): stored(store, shard_key(modality, row, col, 3))
        for modality in layout.modalities
        for row, col in np.ndindex(*layout.shards(grid))
    }


def on_lattice(grid: Grid, row: int, col: int) -> tuple[int, int]:
    return grid.row0 // stores.SHARD + row, grid.col0 // stores.SHARD + col


REGIONS = {"gulf": stores.GULF, "wider": WIDER}


@settings(max_examples=8)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["gulf", "wider"]),
            st.sampled_from(["old", "new"]),
            st.sampled_from(["one", "two"]),
            st.sets(st.tuples(st.sampled_from(["coordinate", "aerial"]), st.integers(0, 3))),
        ),
        min_size=2,
        max_size=4,
    )
)
@pytest.mark.slow
def test_the_run_reported_is_the_one_whose_model_made_the_vectors(
    releases: list[tuple[str, str, str, set[tuple[str, int]]]],
) -> None:
    """Over updates: another model, other inputs, a grown region, and shards redone at random."""
    before: MemoryStore | None = None
    for number, (region, model, inputs, redone) in enumerate(releases, 1):
        area = REGIONS[region]
        layout = stores.layout_of()
        grid, attributes = stores.grid_of(area, layout), attributes_of(area, model, inputs)
        store = MemoryStore()
        marked = NextRelease("", str(number), "", str(number - 1)).mark(attributes)
        group = create_field(store, grid, layout, marked)
        if before is not None:
            take_over(before, group, area, stores.land)
        for modality, shard in redone:  # as where the copy of a shard was damaged
            delete(store, shard_key(modality, *divmod(shard, 2), 3))
            delete(store, shard_key(f"{modality}_status", *divmod(shard, 2), 2))
        stores.fill(group, grid, layout, area, seen_by(model, inputs))
        publish(group, previous=before, allow_loss=True)
        before = store
        manifest = open_group(store)["manifest"]
        runs: Any = manifest.attrs["runs"]
        for modality in layout.modalities:
            told = np.asarray(manifest[f"{modality}_run"][...])
            for row, col in np.ndindex(*told.shape):
                run = runs[told[row, col]]
                of_run = releases[int(run["release"]) - 1][:3]
                assert run["model_sha256"] == MODELS[of_run[1]] == MODELS[model]
                assert modality == "coordinate" or of_run[2] == inputs
                there = made_from_nothing(*of_run)[modality, *on_lattice(grid, row, col)]
                assert stored(store, shard_key(modality, row, col, 3)) == there


def release(
    base: Path, region: Region, inputs: str = "one", **told: str
) -> tuple[NextRelease, int]:
    """The next release of a field, of a region and inputs that may have changed."""
    following = next_release(str(base), "gulf")
    layout = stores.layout_of()
    grid = stores.grid_of(region, layout)
    attributes = stores.attributes_of(region, grid, layout)
    attributes["unigeo"]["observations"]["modalities"] = {
        "aerial": {"inputs": [{"sha256": inputs}], **told}
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
    publish(stores.filled(path))
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


def test_what_is_only_told_of_inputs_encodes_nothing_again(
    first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after releases of earlier versions, whose digests held what is told."""
    with monkeypatch.context() as earlier:
        earlier.setattr(task_digests, "deciding", lambda provenance: provenance)
        assert release(first, stores.GULF, credit="Sombody", acquired="2020")[1] == 4
    for credit in ("Somebody", "Somebody Else"):
        following, taken = release(first, stores.GULF, credit=credit, acquired="2021")
        assert taken == 8
        manifest = open_group(following.url)["manifest"]
        assert (np.asarray(manifest["aerial_run"][...]) == 1).all(), "the second release made them"
        assert not np.asarray(manifest["coordinate_run"][...]).any()
    assert release(first, stores.GULF, inputs="two", credit="Somebody", acquired="2021")[1] == 4


def test_a_store_that_is_begun_goes_on_where_only_what_is_told_has_changed() -> None:
    def attributes_with(**source: str) -> dict[str, Any]:
        attributes = attributes_of(stores.GULF, "old", "one")
        attributes["unigeo"]["observations"]["modalities"]["aerial"] |= source
        return attributes

    store, layout = MemoryStore(), stores.layout_of()
    grid = stores.grid_of(stores.GULF, layout)
    create_field(store, grid, layout, attributes_with(credit="Sombody"))
    corrected = attributes_with(credit="Somebody")
    group = create_field(store, grid, layout, corrected)
    unigeo: Any = group.attrs["unigeo"]
    assert unigeo["observations"]["modalities"]["aerial"]["credit"] == "Somebody"
    with pytest.raises(StoreError, match=r"observations differ\. Name another --out, or remove"):
        create_field(store, grid, layout, attributes_with(kind="other"))
    stores.fill(group, grid, layout)
    publish(group)
    check_begun(store, corrected, lacks_shards=True)
    with pytest.raises(StoreError, match=r"observations differ\. .*--update"):
        check_begun(store, attributes_with(credit="Nobody"), lacks_shards=False)
    with pytest.raises(StoreError, match="its model, observations differ"):
        check_begun(store, attributes_of(stores.GULF, "new", "one"), lacks_shards=False)
    later, marked = MemoryStore(), NextRelease("", "2", "", "1").mark(corrected)
    begun = create_field(later, grid, layout, marked)
    with pytest.raises(StoreError, match=r"differ\. Remove that unfinished release first"):
        create_field(later, grid, layout, attributes_with(kind="other"))
    stores.fill(begun, grid, layout)
    publish(begun)
    with pytest.raises(StoreError, match=r"differ\. Name another --out, make its next release"):
        check_begun(later, attributes_with(kind="other"), lacks_shards=False)


def test_a_damaged_shard_is_not_taken_over(first: Path) -> None:
    place = first / "coordinate/c/0/0/0"
    content = bytearray(place.read_bytes())
    content[7] ^= 1
    place.write_bytes(content)
    following, taken = release(first, stores.GULF)
    assert taken == 7
    assert client.open_field(following.url).verify().ok


def test_a_release_with_fewer_vectors_needs_a_word_of_consent(first: Path) -> None:
    following = next_release(str(first), "gulf")
    layout = stores.layout_of()
    grid = stores.grid_of(stores.GULF, layout)
    attributes = following.mark(attributes_of(stores.GULF, "old", "two"))
    group = create_field(following.url, grid, layout, attributes)

    def seen_less(modality: str, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        vectors, observed = stores.encoder()(modality, lonlat)
        observed &= (modality == "coordinate") | (lonlat[:, 1] > 0)
        vectors[~observed] = np.nan
        return vectors, observed

    stores.fill(group, grid, layout, stores.GULF, seen_less)
    with pytest.raises(StoreError, match=r"has lost \d+\.\d % of aerial of .* --allow-loss"):
        publish(group, previous=following.previous_url)
    assert next_release(str(first), "gulf") == following, "it is not published"
    publish(group, previous=following.previous_url, allow_loss=True)
    assert client.open_field(following.url).verify().ok


@pytest.mark.parametrize(
    ("modalities", "resolution_m", "words"),
    [
        (("coordinate",), 80_000, "would lack aerial"),
        (("coordinate", "aerial"), 90_000, "cells of 90000 m instead of 80000 m"),
        (("coordinate", "aerial"), 40_000, None),
    ],
)
def test_fewer_modalities_and_coarser_cells_are_refused_before_work(
    first: Path, modalities: tuple[str, ...], resolution_m: float, words: str | None
) -> None:
    layout = Layout(modalities=modalities, bands=8, shard=stores.SHARD, chunk=4)
    grid = stores.GULF.grid(resolution_m, stores.SHARD)
    following = next_release(str(first), "gulf")
    if words is None:
        refuse_losses(following, grid, layout)
        return
    with pytest.raises(StoreError, match=words):
        refuse_losses(following, grid, layout)
    refuse_losses(next_release(str(first), "gulf", allow_loss=True), grid, layout)


@given(
    region=st.sampled_from(["gulf", "wider"]),
    model=st.sampled_from(["old", "new"]),
    inputs=st.sampled_from(["one", "two"]),
    licence=st.sampled_from([None, "MIT"]),
)
@settings(max_examples=16, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_release_is_unchanged_if_and_only_if_nothing_of_it_is_another(
    first: Path, region: str, model: str, inputs: str, licence: str | None
) -> None:
    attributes = attributes_of(REGIONS[region], model, inputs)
    following = next_release(str(first), "gulf")
    marked = following.mark(attributes) | ({} if licence is None else {"license": licence})
    same = (region, model, inputs, licence) == ("gulf", "old", "one", None)
    assert is_unchanged(following, marked, REGIONS[region], stores.land) == same


def test_without_a_first_release_there_is_nothing_to_update(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="without --update first"):
        next_release(str(tmp_path / "gulf.zarr"), "gulf")


def test_a_lost_catalogue_is_told_with_the_command_that_makes_it(first: Path) -> None:
    catalogue = first.parent / "catalog.json"
    catalogue.unlink()
    with pytest.raises(StoreError, match="unigeo-produce catalog") as lost:
        next_release(str(first), "gulf")
    _, arguments = str(lost.value).split("unigeo-produce catalog ")
    gather(arguments.split()[0], arguments.split()[1:])
    assert next_release(str(first), "gulf").release == "2"
