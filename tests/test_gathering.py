"""The engine that reads cells by their bytes, against plain Zarr."""

import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from support import stores
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from unigeo import client
from unigeo.client.reading.array_layout import stored_array
from unigeo.client.reading.byte_ranges import MOST_RUN_BYTES, coalesce
from unigeo.client.reading.cell_reader import StoredCells
from unigeo.client.reading.checked_root import source_of
from unigeo.client.reading.mapped_files import MappedFiles
from unigeo.client.reading.range_requests import Requests, Span
from unigeo.schemas.errors import StoreError

COMPRESSORS = {
    "none": (),
    "zstd": (ZstdCodec(level=1),),
    "blosc": (BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=1),),
    "gzip": (GzipCodec(level=1),),
}


@st.composite
def arrays(draw: st.DrawFn) -> dict[str, Any]:
    """A way to lay an array out."""
    chunk = draw(st.sampled_from([(4, 4), (2, 8), (8, 8)]))
    return {
        "chunk": chunk,
        "shard": draw(st.sampled_from([None, (1, 1), (2, 1), (2, 2)])),
        "objects": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "ragged": draw(st.booleans()),
        "bands": draw(st.integers(1, 5)),
        "order": draw(st.sampled_from([("y", "x", "band"), ("band", "y", "x")])),
        "compressor": draw(st.sampled_from(list(COMPRESSORS))),
        "bands_first": draw(st.booleans()),
        "empty_share": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def make(store: Store, layout: dict[str, Any]) -> zarr.Array[Any]:
    """An array of random numbers with whole chunks of no data."""
    rng = np.random.default_rng(layout["seed"])
    chunk, shard = layout["chunk"], layout["shard"]
    outer = chunk if shard is None else (chunk[0] * shard[0], chunk[1] * shard[1])
    shape = [outer[axis] * layout["objects"][axis] - layout["ragged"] for axis in (0, 1)]
    lengths = {"y": shape[0], "x": shape[1], "band": layout["bands"]}
    size = {"y": chunk[0], "x": chunk[1], "band": layout["bands"]}
    whole = {"y": outer[0], "x": outer[1], "band": layout["bands"]}
    order = layout["order"]
    filters = (TransposeCodec(order=(2, 0, 1)),) if layout["bands_first"] else None
    array = zarr.create_array(
        store,
        name="aerial",
        shape=tuple(lengths[name] for name in order),
        chunks=tuple(size[name] for name in order),
        shards=None if shard is None else tuple(whole[name] for name in order),
        dtype="int8",
        compressors=COMPRESSORS[layout["compressor"]] or None,
        filters=filters,
        fill_value=-128,
        dimension_names=order,
    )
    values = rng.integers(-127, 128, (*shape, layout["bands"])).astype(np.int8)
    for row in range(0, shape[0], chunk[0]):
        for col in range(0, shape[1], chunk[1]):
            if rng.random() < layout["empty_share"]:
                values[row : row + chunk[0], col : col + chunk[1]] = -128
    array[...] = np.moveaxis(values, (0, 1, 2), [order.index(name) for name in ("y", "x", "band")])
    return array


@settings(max_examples=50)
@given(arrays(), st.integers(0, 60), st.sampled_from(["files", "requests"]), st.booleans())
def test_cells_are_plain_zarr_bit_for_bit(
    layout: dict[str, Any], count: int, way: str, some_bands: bool
) -> None:
    rng = np.random.default_rng(layout["seed"])
    with tempfile.TemporaryDirectory() as folder:
        store: Store = LocalStore(folder) if way == "files" else MemoryStore()
        array = make(store, layout)
        stored = stored_array(array)
        assert stored is not None
        expected = np.moveaxis(
            np.asarray(array[...]),
            [layout["order"].index(name) for name in ("y", "x", "band")],
            (0, 1, 2),
        )
        rowcol = rng.integers(0, expected.shape[:2], (count, 2))
        bands = slice(1, 3) if some_bands and layout["bands"] > 2 else slice(None)
        cells = StoredCells(stored, source_of(store))
        for _ in range(2):  # again, with what is kept by now
            out = np.full((count, expected[:, :, bands].shape[2]), 99, np.int8)
            cells.gather(rowcol, out, bands=bands)
            assert np.array_equal(out, expected[rowcol[:, 0], rowcol[:, 1], bands])
        rows = rng.permutation(count + 3)[:count]
        out = np.full((count + 3, layout["bands"]), 99, np.float32)
        cells.gather(
            rowcol, out, out_rows=rows, transform=lambda cells: cells.astype(np.float32) / 2
        )
        assert np.array_equal(out[rows], expected[rowcol[:, 0], rowcol[:, 1]] / np.float32(2))
        assert (np.delete(out, rows, axis=0) == 99).all()


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 500)), min_size=1, max_size=60),
    st.integers(1, 40),
    st.integers(0, 100),
)
def test_runs_hold_every_piece_and_no_wide_gap(
    pieces: list[tuple[int, int]], length: int, gap: int
) -> None:
    which, start = np.array(sorted(pieces)).T
    runs = coalesce(which, start, np.full(len(start), length), gap)
    assert runs.first[0] == 0
    assert runs.first[-1] == len(start)
    for number in range(len(runs)):
        part = slice(runs.first[number], runs.first[number + 1])
        assert (which[part] == runs.object_number[number]).all()
        assert runs.start[number] == start[part].min()
        assert runs.stop[number] == start[part].max() + length
        assert (np.diff(start[part]) - length <= gap).all()
    for one, other in zip(range(len(runs) - 1), range(1, len(runs)), strict=True):
        apart = runs.start[other] - runs.stop[one]
        assert runs.object_number[one] != runs.object_number[other] or apart > gap


def test_long_runs_are_cut() -> None:
    start = np.arange(0, 5 * MOST_RUN_BYTES, MOST_RUN_BYTES // 8)
    runs = coalesce(np.zeros(len(start), int), start, np.full(len(start), 10), 2**40)
    assert len(runs) == 5
    assert (runs.stop - runs.start <= MOST_RUN_BYTES).all()


class Counting(WrapperStore[MemoryStore]):
    """A store that counts what is asked of it, whoever asks."""

    def __init__(self, store: MemoryStore, asked: list[tuple[str, Any]] | None = None) -> None:
        super().__init__(store)
        self.asked: list[tuple[str, Any]] = [] if asked is None else asked

    def _with_store(self, store: MemoryStore) -> "Counting":
        return Counting(store, self.asked)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        self.asked.append((key, byte_range))
        return await super().get(key, prototype, byte_range)


def built(store: Store, codec: str = "none") -> client.Field:
    stores.build(store, layout=stores.layout_of(("aerial",), codec=codec))
    return client.open_field(store)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_no_byte_is_asked_for_twice(codec: str) -> None:
    """One request for each shard's index, ever; then runs of vectors, or each chunk once."""
    store = Counting(MemoryStore())
    field = built(store, codec)
    rng = np.random.default_rng(0)
    places = rng.uniform((-18, -13), (14, 16), (300, 2))
    store.asked.clear()
    field.sample(places, "aerial", as_="numpy")
    indexes = [key for key, wanted in store.asked if type(wanted).__name__ == "SuffixByteRequest"]
    assert len(indexes) == len(set(indexes)) == 4
    ranges = [
        (key, wanted.start, wanted.end)
        for key, wanted in store.asked
        if type(wanted).__name__ == "RangeByteRequest" and key.startswith("aerial/c")
    ]
    for key in set(indexes):
        runs = sorted((low, high) for one, low, high in ranges if one == key)
        assert all(high <= low for (_, high), (low, _) in pairwise(runs))
    store.asked.clear()
    field.sample(places, "aerial", as_="numpy")
    assert not [key for key, wanted in store.asked if "Suffix" in type(wanted).__name__]


def test_a_shard_the_manifest_does_not_list_is_never_asked_for() -> None:
    store = Counting(MemoryStore())
    field = built(store)
    sizes = np.asarray(zarr.open_group(store, mode="r")["manifest/aerial_bytes"][...])
    store.asked.clear()
    everywhere = field.grid.centres().reshape(-1, 2)
    field.sample(everywhere, "aerial", as_="numpy")
    asked = {key for key, _ in store.asked if key.startswith("aerial/c/")}
    assert asked == {f"aerial/c/{row}/{col}/0" for row, col in np.argwhere(sizes > 0)}


def test_few_bytes_are_read_of_a_vector_alone() -> None:
    """Of int8 and of some bands no others are asked for."""
    store = Counting(MemoryStore())
    field = built(store)
    store.asked.clear()
    lazy = field.sample([(-10.0, 3.0)], "aerial", as_="xarray", dtype="int8", lazy=True)
    assert store.asked == []
    whole = field.sample([(-10.0, 3.0)], "aerial", as_="numpy", dtype="int8")["aerial"]
    store.asked.clear()
    part = lazy["aerial"].isel(band=slice(2, 5)).values
    assert np.array_equal(part, whole[:, 2:5])
    (wanted,) = [
        wanted for key, wanted in store.asked if key.startswith("aerial/c/") and wanted is not None
    ]
    assert wanted.end - wanted.start == 3


@pytest.mark.parametrize(
    ("dtype", "method"), [("float32", "nearest"), ("int8", "nearest"), ("float32", "bicubic")]
)
def test_a_lazy_sample_is_the_sample(gulf: Path, dtype: Any, method: Any) -> None:
    field = client.open_field(gulf)
    places = np.random.default_rng(0).uniform((-22, -17), (27, 20), (200, 2))
    eager = field.sample(places, as_="xarray", dtype=dtype, method=method)
    lazy = field.sample(places, as_="xarray", dtype=dtype, method=method, lazy=True)
    assert lazy.chunks
    alike = xr.testing.assert_identical
    if method != "nearest":  # sums of products, of other shapes
        alike = partial(xr.testing.assert_allclose, rtol=0, atol=1e-6)
    alike(lazy.compute(), eager)
    for cut in ({"point": slice(3, 90, 4)}, {"band": [5, 1]}, {"point": 7, "band": 2}):
        alike(lazy.isel(cut).compute(), eager.isel(cut))


def test_without_dask_lazy_samples_read_by_xarray_alone(
    gulf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dask", None)
    field = client.open_field(gulf)
    places = [(-10.0, 3.0), (5.0, 5.0), (60.0, 60.0)]
    lazy = field.sample(places, as_="xarray", lazy=True)
    assert not lazy.chunks
    eager = field.sample(places, as_="xarray")
    xr.testing.assert_identical(lazy.isel(point=[2, 0]).load(), eager.isel(point=[2, 0]))


def test_an_object_that_ends_too_early_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    for source in (MappedFiles(tmp_path), Requests(LocalStore(tmp_path))):
        with pytest.raises(StoreError, match="cut off"):
            source.fetch([Span("a", 90, 110)], lambda number, body: None)
        with pytest.raises(StoreError, match="cut off"):
            source.fetch([Span("a", -200)], lambda number, body: None)
        assert fetched(source, [Span("a", 90, 95), Span("b"), Span("a", -3), Span("a")]) == {
            0: bytes(5), 1: None, 2: bytes(3), 3: bytes(100),
        }  # fmt: skip


def fetched(source: Any, spans: list[Span]) -> dict[int, bytes | None]:
    got: dict[int, bytes | None] = {}
    source.fetch(
        spans, lambda number, body: got.update({number: None if body is None else body.tobytes()})
    )
    return got


def test_a_failure_in_one_thread_ends_all() -> None:
    store = MemoryStore()
    make(
        store,
        {
            "chunk": (4, 4), "shard": (2, 2), "objects": (3, 3), "ragged": False, "bands": 3,
            "order": ("y", "x", "band"), "compressor": "zstd", "bands_first": False,
            "empty_share": 0.0, "seed": 0,
        },
    )  # fmt: skip
    array = zarr.open_array(store, path="aerial", mode="r")
    stored = stored_array(array)
    assert stored is not None

    def fail(cells: np.ndarray) -> np.ndarray:
        raise StoreError("no more")

    rowcol = np.stack(np.meshgrid(range(24), range(24)), -1).reshape(-1, 2)
    with pytest.raises(StoreError, match="no more"):
        StoredCells(stored, source_of(store)).gather(rowcol, np.empty((576, 3)), transform=fail)


def test_what_only_zarr_can_read_is_read_by_zarr(tmp_path: Path) -> None:
    """Bands cut into chunks: no vector's bytes lie together."""
    array = zarr.create_array(
        tmp_path / "a", shape=(8, 8, 6), chunks=(4, 4, 3), dtype="int8", fill_value=-128
    )
    assert stored_array(array) is None
