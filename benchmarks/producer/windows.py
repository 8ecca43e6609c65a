"""Read windows of a cloud-optimized GeoTIFF over HTTP: GDAL beside async-geotiff.

    pip install async-geotiff                      # else only GDAL is timed
    python -m benchmarks.producer.windows          # half a minute

A file of 6,144 x 6,144 pixels (three bands, JPEG, tiles of 512) behind a web server that waits
30 ms before each answer; 200 windows of 256 x 256 at random. One JSON line per reader, each in a
process of its own so that none finds what another cached: seconds, requests, bytes, and the largest
difference from GDAL's pixels.
"""

import argparse
import asyncio
import multiprocessing
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin
from rasterio.windows import Window

from benchmarks.client.link import StoreLink
from benchmarks.producer.observe import tell
from unigeo.producer.observations.raster_files.raster_addresses import NETWORK

SIDE, WINDOW, COUNT = 6144, 256, 200


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, StoreLink(Path(name), latency_s=0.03) as link:
        write(Path(name))
        first = None
        for reader in ("gdal, 1 thread", "gdal, 16 threads", "async-geotiff, 16 at once"):
            link.counts()
            with context.Pool(1) as pool:
                result = pool.apply(read, (reader, link.url))
            if result is None:
                tell(reader, missing="pip install async-geotiff")
                continue
            seconds, pixels = result
            first = pixels if first is None else first
            counts = link.counts()
            tell(
                reader, seconds=round(seconds, 2), requests=counts["requests"],
                bytes=counts["bytes"], at_most_off=int(np.abs(pixels.astype(int) - first).max()),
            )  # fmt: skip


def write(folder: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (3, SIDE // 16, SIDE // 16)).repeat(16, 1).repeat(16, 2)
    values = np.clip(coarse + rng.normal(0, 8, (3, SIDE, SIDE)), 0, 255).astype(np.uint8)
    plain = folder / "plain.tif"
    with rasterio.open(
        plain, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8", crs=32618,
        transform=from_origin(320_500, 4_298_900, 0.6, 0.6), tiled=True,
    ) as raster:  # fmt: skip
        raster.write(values)
    rasterio.shutil.copy(plain, folder / "cog.tif", driver="COG", compress="JPEG", quality=85)
    plain.unlink()


def corners() -> list[tuple[int, int]]:
    rng = np.random.default_rng(1)
    return [tuple(int(k) for k in rng.integers(0, SIDE - WINDOW, 2)) for _ in range(COUNT)]


def read(reader: str, url: str) -> tuple[float, np.ndarray] | None:
    """Seconds, and the pixels of all windows; None where the reader is not installed."""
    start = time.perf_counter()
    if reader.startswith("gdal"):
        pixels = by_gdal(url, int(reader.split()[1]))
    else:
        try:
            import async_geotiff
        except ImportError:
            return None
        start = time.perf_counter()
        pixels = asyncio.run(by_async_geotiff(async_geotiff, url, int(reader.split()[1])))
    return time.perf_counter() - start, pixels


def by_gdal(url: str, threads: int) -> np.ndarray:
    local = threading.local()

    def one(corner: tuple[int, int]) -> np.ndarray:
        if not hasattr(local, "raster"):  # a handle serves one thread
            local.env = rasterio.Env(**NETWORK)
            local.env.__enter__()
            local.raster = rasterio.open(f"{url}/cog.tif", sharing=False)
        window = Window(corner[1], corner[0], WINDOW, WINDOW)  # type: ignore[call-arg]
        pixels: np.ndarray = local.raster.read(window=window)
        return pixels

    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(one, corners())))


async def by_async_geotiff(library: Any, url: str, at_once: int) -> np.ndarray:
    from obstore.store import HTTPStore

    store = HTTPStore(url, client_options={"allow_http": True})
    raster = await library.GeoTIFF.open("cog.tif", store=store)
    turn = asyncio.Semaphore(at_once)

    async def one(corner: tuple[int, int]) -> np.ndarray:
        async with turn:
            window = library.Window(
                col_off=corner[1], row_off=corner[0], width=WINDOW, height=WINDOW
            )
            return np.asarray((await raster.read(window=window)).data)

    return np.stack(await asyncio.gather(*map(one, corners())))


if __name__ == "__main__":
    main()
