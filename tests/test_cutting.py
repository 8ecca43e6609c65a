"""A part of a field is the field, cell for cell, in a store of its own."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import stores

from unigeo.client.areas.subset import cut_field
from unigeo.client.field.opening import open_field
from unigeo.client.verifying.verify import verify_store
from unigeo.producer.publishing.concepts import ConceptVectors
from unigeo.producer.publishing.publish import publish
from unigeo.schemas.errors import RegionError, StoreError
from unigeo.schemas.store.quantization import quantize
from unigeo.schemas.store.status import Status


@settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(west=st.floats(-19, 15), south=st.floats(-14, 10), side=st.floats(1, 15))
def test_every_cell_is_the_field_s(
    gulf: Path, tmp_path_factory: pytest.TempPathFactory, west: float, south: float, side: float
) -> None:
    field = open_field(gulf)
    box = (west, south, west + side, south + side)
    path = cut_field(field, tmp_path_factory.mktemp("cut") / "part.zarr", box)
    part = open_field(path)
    assert verify_store(path).problems == ()
    row, col = part.grid.row0 - field.grid.row0, part.grid.col0 - field.grid.col0
    rows, cols = slice(row, row + part.grid.shape[0]), slice(col, col + part.grid.shape[1])
    same, whole = part.dataset(), field.dataset().isel(y=rows, x=cols)
    for name in ("coordinate", "aerial", "coordinate_status", "aerial_status", "x", "y"):
        np.testing.assert_array_equal(same[name].values, whole[name].values)
    asked = field.region(box)
    assert set(asked.x.values) <= set(same.x.values)
    assert set(asked.y.values) <= set(same.y.values)


def test_cells_outside_the_polygons_can_be_left_out(gulf: Path, tmp_path: Path) -> None:
    disc = shapely.Point(2, 3).buffer(7.3)
    field = open_field(gulf)
    part = open_field(cut_field(field, tmp_path / "disc.zarr", disc, mask=True))
    assert verify_store(part.url).ok
    masked = field.region(disc, mask=True)
    inner = part.dataset().sel(x=masked.x, y=masked.y)
    np.testing.assert_array_equal(inner["aerial"].values, masked["aerial"].values)
    valid = part.coverage()["aerial"][Status.VALID]
    assert valid == (masked["aerial_status"] == Status.VALID).sum()


def test_phrases_are_cut_along_and_what_is_left_out_is_listed(tmp_path: Path) -> None:
    group, grid, layout = stores.begin(tmp_path / "whole.zarr")
    stores.fill(group, grid, layout)
    vectors, _ = stores.encoder()("aerial", np.array([(-3.0, -5.0)]))
    publish(group, concepts=ConceptVectors(("marsh",), quantize(vectors)))
    whole = open_field(tmp_path / "whole.zarr")
    part = open_field(cut_field(whole, tmp_path / "part.zarr", (-12.0, -9.0, 9.0, 11.0)))
    assert part.attributes.model_extra is not None
    assert part.attributes.model_extra["part_of"]["left_out"] == ["preview", "overviews"]
    # How far a cell stands out is counted among the cells that there are.
    of_part, of_whole = (
        one.search("marsh", count=1).drop(columns="deviations") for one in (part, whole)
    )
    pd.testing.assert_frame_equal(of_part, of_whole)


def test_a_part_of_a_part_is_the_same_part(gulf: Path, tmp_path: Path) -> None:
    box, inner = (-12.0, -9.0, 9.0, 11.0), (-8.0, -6.0, 2.0, 1.0)
    outer = open_field(cut_field(open_field(gulf), tmp_path / "outer.zarr", box))
    one = cut_field(outer, tmp_path / "one.zarr", inner)
    other = cut_field(open_field(gulf), tmp_path / "other.zarr", inner)
    first, second = stores.tree(one), stores.tree(other)
    for says_what_it_is_a_part_of in ("zarr.json", "manifest/root_attributes/c/0"):
        assert first.pop(says_what_it_is_a_part_of) != second.pop(says_what_it_is_a_part_of)
    for its_length in ("manifest/root_attributes/zarr.json",):
        first.pop(its_length), second.pop(its_length)
    assert first == second


def test_what_cannot_be_cut_leaves_nothing(gulf: Path, tmp_path: Path) -> None:
    field = open_field(gulf)
    with pytest.raises(RegionError, match="lies off the field"):
        cut_field(field, tmp_path / "a.zarr", (100.0, 0.0, 110.0, 5.0))
    with pytest.raises(StoreError, match="cannot write"):
        cut_field(field, Path("/proc/none/a.zarr"), (0.0, 0.0, 1.0, 1.0))
    (tmp_path / "there.zarr").mkdir()
    with pytest.raises(StoreError, match="there already"):
        cut_field(field, tmp_path / "there.zarr", (0.0, 0.0, 1.0, 1.0))
    assert [path.name for path in tmp_path.iterdir()] == ["there.zarr"]


def test_a_shard_that_is_another_is_never_vouched_for(tmp_path: Path) -> None:
    """Its size and its index are right: only the manifest's hash tells it from the other."""
    whole = tmp_path / "whole.zarr"
    stores.build(whole)
    shards = [p for p in sorted((whole / "aerial" / "c").rglob("*")) if p.is_file()]
    content = bytearray(shards[0].read_bytes())
    content[0] ^= 1
    shards[0].write_bytes(content)
    with pytest.raises(StoreError, match=r"aerial/c/.* is not the object that the manifest lists"):
        cut_field(open_field(whole), tmp_path / "part.zarr", (-18.0, -13.0, 14.0, 16.0))
    assert [path.name for path in tmp_path.iterdir()] == ["whole.zarr"]


def test_a_store_without_its_manifest_is_not_cut(tmp_path: Path) -> None:
    whole = tmp_path / "whole.zarr"
    stores.build(whole)
    shutil.rmtree(whole / "manifest")
    with pytest.raises(StoreError, match="manifest"):
        cut_field(open_field(whole), tmp_path / "part.zarr", (-18.0, -13.0, 14.0, 16.0))
    assert [path.name for path in tmp_path.iterdir()] == ["whole.zarr"]
