"""Time formats that a set of observations could be kept in, read in order and at random.

    python -m benchmarks.producer.observe_formats          # two sizes, all formats that import
    python -m benchmarks.producer.observe_formats --side 224 --samples 400

A sample is two JPEGs (aerial, street), a 16-bit PNG (surface model) and a sentence; every format
holds the same bytes, but Zarr, which holds the pixels. Prints samples decoded per second by two
threads: in order, and 64 at a time at random from all of them; and the size on disk. Lance is timed
where it is installed (pip install pylance).
"""

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from PIL import Image

from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from unigeo.producer.observations.synthetic.world import World

NAMES = ("aerial.jpg", "street.jpg", "dsm.png", "txt")
BATCH = 64
ROW_GROUP = 32
Sample = dict[str, bytes]
Read = Callable[[np.ndarray], list[Sample]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, nargs="*", default=[32, 224])
    parser.add_argument("--samples", type=int, nargs="*", default=[6000, 800])
    options = parser.parse_args()
    for side, count in zip(options.side, options.samples, strict=True):
        samples = make(side, count)
        for name, write in FORMATS.items():
            with tempfile.TemporaryDirectory() as folder:
                try:
                    read = write(Path(folder), samples, side)
                except ImportError:
                    continue
                size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
                line = {"format": name, "side_px": side, "samples": count, "bytes": size}
                for order, rows in orders(count).items():
                    line[f"{order}_per_s"] = round(best(read, rows, name != "zarr"))
                print(json.dumps(line), flush=True)


def make(side: int, count: int) -> list[Sample]:
    """Samples from the embedded world, enlarged; 200 different ones are repeated."""
    world = World()
    lonlat = world.locations(min(count, 200), 0)
    aerial, street = (world.patches(m, lonlat).values for m in ("aerial", "street"))
    dsm, texts = world.patches("dsm", lonlat).values[:, 0], world.texts(lonlat)
    noise = np.random.default_rng(0).integers(0, 24, (side, side, 3), np.uint8)
    few = []
    for k in range(len(lonlat)):
        sample = {"txt": (texts[k] or "").encode()}
        for name, pixels in (("aerial.jpg", aerial[k]), ("street.jpg", street[k])):
            image = Image.fromarray(np.moveaxis(pixels, 0, 2)).resize((side, side))
            buffer = io.BytesIO()
            Image.fromarray(np.asarray(image) // 2 + noise).save(buffer, "JPEG", quality=92)
            sample[name] = buffer.getvalue()
        heights = np.asarray(Image.fromarray(dsm[k]).resize((side, side)))
        buffer = io.BytesIO()
        Image.fromarray((50 * (heights - heights.min())).astype(np.uint16)).save(buffer, "PNG")
        sample["dsm.png"] = buffer.getvalue()
        few.append(sample)
    return [few[k % len(few)] for k in range(count)]


def orders(count: int) -> dict[str, np.ndarray]:
    return {"sequential": np.arange(count), "random": np.random.default_rng(1).permutation(count)}


def decode(sample: Sample) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(sample[name]))) for name in NAMES[:3]]


def best(read: Read, rows: np.ndarray, encoded: bool) -> float:
    """Samples per second of the best of three passes."""

    def batch(part: tuple[int, ...]) -> None:
        for sample in read(np.array(part)):
            if encoded:
                decode(sample)

    rates = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            start = time.perf_counter()
            list(pool.map(batch, batched(rows.tolist(), BATCH)))
            rates.append(len(rows) / (time.perf_counter() - start))
    return max(rates)


def as_tar(folder: Path, samples: list[Sample], side: int) -> Read:
    """Tar archives, read by the offsets of their members."""
    index: list[list[tuple[int, int]]] = []
    path = folder / "0.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for k, sample in enumerate(samples):
            for name in NAMES:
                info = tarfile.TarInfo(f"{k:08d}.{name}")
                info.size = len(sample[name])
                tar.addfile(info, io.BytesIO(sample[name]))
    with tarfile.open(path) as tar:
        spans = [(m.offset_data, m.size) for m in tar.getmembers()]
    index = [list(part) for part in batched(spans, len(NAMES))]
    file = path.open("rb")

    def read(rows: np.ndarray) -> list[Sample]:
        import os

        read_samples = []
        for row in rows:
            (first, _), (last, size) = index[row][0], index[row][-1]
            data = os.pread(file.fileno(), last + size - first, first)
            read_samples.append(
                {
                    n: data[at - first : at - first + size]
                    for n, (at, size) in zip(NAMES, index[row], strict=True)
                }
            )
        return read_samples

    return read


def as_parquet(folder: Path, samples: list[Sample], side: int) -> Read:
    """Parquet with the images' bytes, in row groups of 32."""
    table = pa.table({n: pa.array([s[n] for s in samples], pa.binary()) for n in NAMES})
    pq.write_table(table, folder / "0.parquet", row_group_size=ROW_GROUP, compression="none",
                   use_dictionary=False)  # fmt: skip

    def read(rows: np.ndarray) -> list[Sample]:
        file = pq.ParquetFile(folder / "0.parquet", memory_map=True)
        group = rows // ROW_GROUP
        by_row: dict[int, Sample] = {}
        for number in np.unique(group):
            part = file.read_row_group(int(number), use_threads=False)
            for row in rows[group == number]:
                one = part.slice(int(row) % ROW_GROUP, 1).to_pylist()[0]
                by_row[int(row)] = one
        return [by_row[int(row)] for row in rows]

    return read


def as_zarr(folder: Path, samples: list[Sample], side: int) -> Read:
    """Zarr arrays of pixels, a chunk a sample, sharded, zstd."""
    group = zarr.create_group(folder / "0.zarr")
    pixels = [decode(sample) for sample in samples]
    arrays = []
    for k, name in enumerate(NAMES[:3]):
        shape = pixels[0][k].shape
        array = group.create_array(
            name, shape=(len(samples), *shape), dtype=pixels[0][k].dtype,
            chunks=(1, *shape), shards=(min(256, len(samples)), *shape),
        )  # fmt: skip
        array[:] = np.stack([p[k] for p in pixels])
        arrays.append(array)

    def read(rows: np.ndarray) -> list[Sample]:
        if (np.diff(rows) == 1).all():
            values = [a[int(rows[0]) : int(rows[-1]) + 1] for a in arrays]
        else:
            values = [a.oindex[rows] for a in arrays]
        return [{} for _ in values[0]]

    return read


def as_lance(folder: Path, samples: list[Sample], side: int) -> Read:
    """Lance with the images' bytes."""
    import lance

    keys = [name.replace(".", "_") for name in NAMES]
    columns = {
        k: pa.array([s[n] for s in samples], pa.binary()) for k, n in zip(keys, NAMES, strict=True)
    }
    data: Any = lance.write_dataset(pa.table(columns), str(folder / "0.lance"))
    return lambda rows: [
        {n: one[k] for k, n in zip(keys, NAMES, strict=True)}
        for one in data.take(rows.tolist()).to_pylist()
    ]


def as_files(folder: Path, samples: list[Sample], side: int) -> Read:
    """A file for every image."""
    for k, sample in enumerate(samples):
        for name in NAMES:
            (folder / f"{k:08d}.{name}").write_bytes(sample[name])
    return lambda rows: [
        {n: (folder / f"{row:08d}.{n}").read_bytes() for n in NAMES} for row in rows
    ]


FORMATS = {
    "tar": as_tar, "parquet": as_parquet, "zarr": as_zarr, "lance": as_lance, "files": as_files
}  # fmt: skip

if __name__ == "__main__":
    main()
