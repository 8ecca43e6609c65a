"""Readers of vectors at points: one function per way of reading.

Each opens the store and returns a function without arguments that reads once. As a command,
`-m benchmarks.client.readers NAME STORE POINTS.npz` reads commands from its input, one per line:
`run`, `measure` (with the peak of memory) or `check` (against the true vectors); it answers each
with a line of JSON. Imports are inside the functions: some readers have their own environments.
"""

import inspect
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

Read = Callable[[], np.ndarray]
MODALITY = "aerial"
CHUNK, SHARD = 16, 256
_INDEX_ENTRY_BYTES = 16
_CHECKSUM_BYTES = 4


def unigeo_int8(store: str, points: Any) -> Read:
    return _unigeo(store, points, "int8")


def unigeo_float32(store: str, points: Any) -> Read:
    return _unigeo(store, points, "float32")


def unigeo_opened_anew(store: str, points: Any) -> Read:
    """Open the field and sample it, as a first use does."""
    return lambda: _unigeo(store, points, "int8")()


def _unigeo(store: str, points: Any, dtype: str) -> Read:
    from unigeo import client

    field, lonlat = client.open_field(store), points["lonlat"]
    field.grid.cells(lonlat[:1])  # loads PROJ, reads nothing: others are given rows and columns
    options: dict[str, Any] = {"modalities": [MODALITY], "as_": "numpy"}
    if "dtype" in inspect.signature(field.sample).parameters:
        options["dtype"] = dtype
    return lambda: field.sample(lonlat, **options)[MODALITY]


def memory_map(store: str, points: Any) -> Read:
    """Gather known cells from a flat memory map that stays open: the limit of any reader."""
    raw, (row, col) = np.load(store, mmap_mode="r"), points["rowcol"].T
    return lambda: np.asarray(raw[row, col])


def memory_map_anew(store: str, points: Any) -> Read:
    """Gather known cells, mapping the file each time."""
    return lambda: memory_map(store, points)()


def projection(store: str, points: Any) -> Read:
    """Find the cells of the points, and read nothing."""
    from unigeo import client

    grid, lonlat = client.open_field(store).grid, points["lonlat"]
    return lambda: grid.cells(lonlat)


def zarr_vindex(store: str, points: Any) -> Read:
    import zarr

    array, (row, col) = zarr.open_group(store, mode="r")[MODALITY], points["rowcol"].T
    band = np.arange(array.shape[2])
    return lambda: array.vindex[row[:, None], col[:, None], band[None, :]]


def xarray_sel(store: str, points: Any) -> Read:
    return _sel(store, points)


def xarray_fsspec_sel(store: str, points: Any) -> Read:
    """Open and read over HTTP with aiohttp."""
    from zarr.storage import FsspecStore

    return lambda: _sel(FsspecStore.from_url(store, read_only=True), points)()


def _sel(store: Any, points: Any) -> Read:
    import xarray as xr

    array = xr.open_zarr(store, zarr_format=3, consolidated=True, chunks=None)[MODALITY]
    x, y = (xr.DataArray(values, dims="point") for values in points["xy"].T)
    return lambda: array.sel(x=x, y=y, method="nearest").values


def tensorstore_vindex(store: str, points: Any) -> Read:
    array, (row, col) = open_tensorstore(f"{store}/{MODALITY}"), points["rowcol"].T
    return lambda: array.vindex[row, col].read().result()


def tensorstore_chunks(store: str, points: Any) -> Read:
    """Read every needed chunk whole, all at once, then pick the cells."""
    return read_whole_chunks(open_tensorstore(f"{store}/{MODALITY}"), points["rowcol"])


def read_whole_chunks(array: Any, rowcol: np.ndarray) -> Read:
    """Read cells of a tensorstore array by its inner chunks."""
    side = array.chunk_layout.read_chunk.shape[0]

    def read() -> np.ndarray:
        stored = np.empty((len(rowcol), array.shape[2]), np.int8)
        groups = _by_chunk(rowcol, side)
        waiting = []
        for members in groups:
            row, col = rowcol[members[0]] // side * side
            waiting.append(array[row : row + side, col : col + side].read())
        for members, chunk in zip(groups, waiting, strict=True):
            row, col = (rowcol[members] % side).T
            stored[members] = chunk.result()[row, col]
        return stored

    return read


def open_tensorstore(array: str) -> Any:
    """Open the array in a folder."""
    import tensorstore

    kvstore = {"driver": "file", "path": f"{array}/"}
    return tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()


def decode_only(store: str, points: Any) -> Read:
    """Check and decode the needed chunks, already in memory, by one thread per core."""
    return _decoding(store, points, checked=True)


def zstd_only(store: str, points: Any) -> Read:
    """Decode the needed chunks without the check of their CRC-32C."""
    return _decoding(store, points, checked=False)


def _decoding(store: str, points: Any, *, checked: bool) -> Read:
    import google_crc32c
    from numcodecs.zstd import Zstd

    zstd, frames = Zstd(), _frames(Path(store), points["rowcol"])

    def decode(part: list[bytes]) -> int:
        size = 0
        for frame in part:
            if checked:
                google_crc32c.value(frame)
            size += len(zstd.decode(frame))
        return size

    pool = ThreadPoolExecutor(os.cpu_count())
    parts = [frames[start::64] for start in range(64)]
    return lambda: np.array(sum(pool.map(decode, parts)))


def _frames(store: Path, rowcol: np.ndarray) -> list[bytes]:
    """Return the compressed bytes of the needed chunks, without their checksum."""
    frames = []
    for members in _by_chunk(rowcol, SHARD):
        row, col = rowcol[members[0]] // SHARD
        content = (store / MODALITY / "c" / str(row) / str(col) / "0").read_bytes()
        side = SHARD // CHUNK
        size = side * side * _INDEX_ENTRY_BYTES
        index = np.frombuffer(content[-size - _CHECKSUM_BYTES : -_CHECKSUM_BYTES], "<u8")
        index = index.reshape(side, side, 2)
        for at in np.unique(rowcol[members] % SHARD // CHUNK, axis=0):
            offset, length = (int(number) for number in index[tuple(at)])
            frames.append(content[offset : offset + length - _CHECKSUM_BYTES])
    return frames


def _by_chunk(rowcol: np.ndarray, cells: int) -> list[np.ndarray]:
    row, col = (rowcol // cells).T
    key = row * (1 << 32) + col  # one sortable number per chunk
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def geotessera_zarr(store: str, points: Any) -> Read:
    """Sample with geotessera's reader of Zarr stores; logs and progress are off by default."""
    from geotessera.store import GeoTesseraZarr

    opened, coords = GeoTesseraZarr(store), [tuple(lonlat) for lonlat in points["lonlat"].tolist()]
    return lambda: opened.sample_points(coords, year=2025)


def geotessera_tile(store: str, points: Any) -> Read:
    """Sample with geotessera's reader of tiles: a memory map of one `.npy`, scales beside it."""
    from geotessera.tiles import Tile

    folder = Path(store)
    tile = Tile.from_npy(next(folder.rglob("grid_*[0-9].npy")), folder)
    lonlat = points["lonlat"]
    return lambda: tile.sample_points(lonlat)


READERS = {
    reader.__name__: reader
    for reader in (
        unigeo_int8,
        unigeo_float32,
        unigeo_opened_anew,
        memory_map,
        memory_map_anew,
        projection,
        zarr_vindex,
        xarray_sel,
        xarray_fsspec_sel,
        tensorstore_vindex,
        tensorstore_chunks,
        decode_only,
        zstd_only,
        geotessera_zarr,
        geotessera_tile,
    )
}


def timed(read: Read) -> tuple[dict[str, float], np.ndarray]:
    """Return wall and CPU seconds of one reading, over all threads, and its output."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    output = read()
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_s": cpu_s}, output


def measured(read: Read) -> dict[str, float]:
    """Return the seconds, and the peak of memory above that held before and above the output.

    `peak_mb` counts all resident memory, mapped files too; `peak_own_mb` counts anonymous memory,
    polled every 2 ms.
    """
    anonymous, stop = [_memory_kb("RssAnon")], threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            anonymous.append(_memory_kb("RssAnon"))

    watching = threading.Thread(target=watch)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from what is held now
    held = _memory_kb("VmRSS")
    watching.start()
    figures, output = timed(read)
    peak = _memory_kb("VmHWM")
    stop.set()
    watching.join()
    output_kb = output.nbytes / 1024
    figures["peak_mb"] = (peak - held - output_kb) / 1024
    figures["peak_own_mb"] = (max(anonymous) - anonymous[0] - output_kb) / 1024
    return figures


def _memory_kb(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def right(output: np.ndarray, vectors: np.ndarray) -> bool:
    """Return whether the output is the true vectors, as stored or of unit length."""
    if output.shape != vectors.shape:
        return False
    if output.dtype == np.int8:
        return np.array_equal(output, vectors)
    length = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    return bool(np.abs(output - vectors / length).max() < 1e-5)


def main() -> None:
    name, store, points = sys.argv[1:]
    with np.load(points) as file:
        given = {key: file[key] for key in ("lonlat", "rowcol", "xy")}
    read = READERS[name](store, given)
    print(json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        match line.strip():
            case "run":
                answer: dict[str, Any] = timed(read)[0]
            case "measure":
                answer = measured(read)
            case _:
                with np.load(points) as file:
                    answer = {"right": right(read(), file["vectors"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
