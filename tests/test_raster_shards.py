"""Shards as bytes, extents and plans, each against a plain reference."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from support import stores
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from unigeo.producer.raster.planning import Task, Tasks, plan
from unigeo.producer.raster.shard_extent import ShardExtent, shard_extent
from unigeo.producer.storage.field_store import create_field
from unigeo.producer.storage.shard_codec import Buffers, VectorObject, shard_order, status_object
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import named_regions, region, region_of_bbox
from unigeo.schemas.store.layout import Codec, Layout
from unigeo.schemas.store.quantization import FILL


def stored(store: MemoryStore, key: str) -> bytes | None:
    body = sync(store.get(key, default_buffer_prototype()))
    return None if body is None else body.to_bytes()


@settings(max_examples=60)
@given(
    side=st.integers(1, 5),
    chunk=st.sampled_from([1, 3, 4]),
    bands=st.integers(1, 5),
    codec=st.sampled_from(["none", "zstd"]),
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_a_shard_has_the_bytes_that_zarr_writes(
    side: int, chunk: int, bands: int, codec: Codec, seed: int, share: float
) -> None:
    layout = Layout(
        modalities=("aerial",), bands=bands, shard=side * chunk, chunk=chunk, codec=codec
    )
    grid = Grid("EPSG:8857", 1000.0, 0, 0, (layout.shard, layout.shard))
    store = MemoryStore()
    attributes = stores.attributes_of(stores.GULF, grid, layout)
    group = create_field(store, grid, layout, attributes)
    rng = np.random.default_rng(seed)
    cells = np.flatnonzero(rng.random(layout.shard**2) < share)
    codes = rng.integers(-127, 128, (len(cells), bands)).astype(np.int8)
    values = np.full((layout.shard**2, bands), FILL, np.int8)
    values[cells] = codes
    status = rng.integers(1, 6, (layout.shard, layout.shard)).astype(np.uint8)
    group["aerial"][...] = values.reshape(layout.shard, layout.shard, bands)
    group["aerial_status"][...] = status
    inner = shard_order(layout.shard, chunk).offset[cells]
    buffers = Buffers()
    for order in (rng.permutation(len(cells)), np.argsort(inner)):  # the second in used memory
        own = VectorObject(layout, bands, buffers)
        for part in np.array_split(order, 3):
            own.put(cells[part], codes[part])
        body = own.finish()
        assert (None if body is None else bytes(body)) == stored(store, "aerial/c/0/0/0")
        del body
        own.release()
    assert bytes(status_object(status, layout)) == stored(store, "aerial_status/c/0/0")


@given(side=st.integers(1, 6), chunk=st.integers(1, 5))
def test_every_cell_has_one_offset(side: int, chunk: int) -> None:
    order = shard_order(side * chunk, chunk)
    assert np.array_equal(order.offset[order.order], np.arange((side * chunk) ** 2))


BOXES = st.tuples(
    st.floats(-170, 150), st.floats(-80, 70), st.floats(0.5, 29), st.floats(0.5, 10)
).map(lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3]))


@settings(max_examples=30)
@given(
    chosen=st.sampled_from(named_regions()) | BOXES,
    shards=st.integers(2, 12),
    shard=st.sampled_from([4, 7]),
)
def test_extents_are_what_the_cells_say(
    chosen: str | tuple[float, float, float, float], shards: int, shard: int
) -> None:
    where = region(chosen) if isinstance(chosen, str) else region_of_bbox(chosen)
    west, south, east, north = where.grid(1000.0).bounds
    grid = where.grid(max(east - west, north - south) / shards / shard, shard)
    if grid.shape[0] * grid.shape[1] > 30_000:
        return
    extent = shard_extent(where, grid, shard)
    inside = where.contains(grid.centres())
    rows, cols = extent.shape
    each = inside.reshape(rows, shard, cols, shard).swapaxes(1, 2).reshape(rows, cols, -1)
    assert not each[extent == ShardExtent.OUTSIDE].any()
    assert each[extent == ShardExtent.INSIDE].all()


def test_a_large_region_is_mostly_inside_or_outside() -> None:
    """Else asking each cell would be the rule, and the extent of no use."""
    conus = region("conus")
    extent = shard_extent(conus, conus.grid(100.0), 256)
    assert (extent == ShardExtent.PARTLY).mean() < 0.15


@given(
    missing=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_tasks_are_what_is_missing_from_north_to_south(missing: list[bool]) -> None:
    mask = np.array(missing).reshape(2, 2, 3)
    tasks = Tasks(("coordinate", "aerial"), mask)
    expected = [
        Task(("coordinate", "aerial")[m], row, col)
        for row in range(2)
        for col in range(3)
        for m in range(2)
        if mask[m, row, col]
    ]
    assert list(tasks) == expected == tasks[:] and len(tasks) == len(expected)
    assert [tasks[number] for number in range(len(tasks))] == expected
    with pytest.raises(IndexError):
        tasks[len(tasks)]


def test_the_plan_is_a_function_of_what_the_store_holds() -> None:
    store = MemoryStore()
    group, grid, layout = stores.begin(store)
    before = list(plan(group, grid, layout))
    assert before == list(plan(zarr.open_group(store), grid, layout)) and len(before) == 8
    group["aerial_status"][:32, 32:] = np.ones((32, 32), np.uint8)
    assert set(before) - set(plan(group, grid, layout)) == {Task("aerial", 0, 1)}
