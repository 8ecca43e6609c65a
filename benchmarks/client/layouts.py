"""Try other layouts on a real field: inner chunks and codecs, by bytes and by speed.

    python -m benchmarks.client.layouts conus.zarr --out layouts.json

Rewrites the window of shards with the most vectors in each layout and prints, for each modality,
the bytes stored (beside those of the vectors alone), the time of 10,000 points at random cells and
the time of one block of 256 x 256 cells; medians of five turns, page cache warm. Points are read by
tensorstore, whole chunks, in every layout, and by `field.sample` where a field can have the layout.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

from benchmarks.client.measuring import warm
from benchmarks.client.readers import open_tensorstore, read_whole_chunks
from benchmarks.client.reporting import machine
from unigeo import client
from unigeo.producer.publishing.publish import publish
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.attributes import root_attributes
from unigeo.schemas.store.layout import Layout, status_name
from unigeo.schemas.store.quantization import FILL
from unigeo.schemas.store.status import Status

CHUNKS = (8, 16, 32, 64)
BLOCK = 256
_BANDS_FIRST = TransposeCodec(order=(2, 0, 1))
_BYTES = BytesCodec()

CODECS: dict[str, tuple[Any, ...]] = {
    "none": (_BYTES,),
    "lz4": (_BYTES, BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle", typesize=1)),
    "lz4, bitshuffle": (
        _BYTES,
        BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=1),
    ),
    "zstd": (_BYTES, ZstdCodec(level=3)),
    "zstd, bitshuffle": (
        _BYTES,
        BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=1),
    ),
    "bands first, zstd": (_BANDS_FIRST, _BYTES, ZstdCodec(level=3)),
    "bands first, zstd, bitshuffle": (
        _BANDS_FIRST,
        _BYTES,
        BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=1),
    ),
}
"""Codecs of the inner chunks, before the checksum."""
_OF_A_FIELD = ("none", "zstd")


@dataclass(frozen=True)
class Part:
    """A shard-aligned window of one modality of a real field."""

    grid: Grid
    vectors: np.ndarray
    status: np.ndarray
    rowcol: np.ndarray
    """Row and column of each point's cell."""


def cut(url: str, modality: str, shards: int, points: int) -> Part:
    """Cut the square of `shards` x `shards` shards with the most vectors, and draw points in it."""
    field = client.open_field(url)
    side = field.layout.shard
    valid = field.read(status_name(modality), slice(None), slice(None)) == Status.VALID
    counts = valid.reshape(valid.shape[0] // side, side, valid.shape[1] // side, side).sum((1, 3))
    shape = tuple(min(shards, count) for count in counts.shape)
    sums = np.lib.stride_tricks.sliding_window_view(counts, shape).sum((2, 3))
    row, col = (int(at) * side for at in np.unravel_index(sums.argmax(), sums.shape))
    part = Window(row, col, shape[0] * side, shape[1] * side)
    window = part.slices
    cells = np.argwhere(valid[window])
    rowcol = cells[np.random.default_rng(0).integers(len(cells), size=points)]
    vectors, status = field.read(modality, *window), field.read(status_name(modality), *window)
    return Part(field.grid.crop(part), vectors, status, rowcol)


def write_array(path: Path, part: Part, chunk: int, codecs: tuple[Any, ...], shard: int) -> int:
    """Write the part as one array, and return the bytes of its shards."""
    bands = part.vectors.shape[2]
    array = zarr.create_array(
        path,
        shape=part.vectors.shape,
        dtype="int8",
        chunks=(shard, shard, bands),
        serializer=ShardingCodec(
            chunk_shape=(chunk, chunk, bands), codecs=[*codecs, Crc32cCodec()]
        ),
        compressors=None,
        filters=None,
        fill_value=FILL,
    )
    array[:] = part.vectors
    return sum(file.stat().st_size for file in path.rglob("*") if file.name != "zarr.json")


def write_field(path: Path, part: Part, chunk: int, codec: Any, modality: str, shard: int) -> None:
    """Write the part as a separate field."""
    bands = part.vectors.shape[2]
    layout = Layout(modalities=(modality,), bands=bands, shard=shard, chunk=chunk, codec=codec)
    attributes = root_attributes(
        region="part",
        grid=part.grid,
        layout=layout,
        model_name="copied",
        model_sha256="00" * 32,
        model_settings={},
        observations={"name": "copied"},
        seed=0,
        code_version="0",
    )
    group = create_field(path, part.grid, layout, attributes)
    for name, values in ((modality, part.vectors), (status_name(modality), part.status)):
        group[name][:] = values  # type: ignore[index]
    publish(group)


def readers_of(
    folder: Path, part: Part, chunk: int, codec: str, modality: str, shard: int
) -> tuple[dict[str, Any], dict[str, Callable[[], Any]]]:
    """Write one layout, and return its bytes and the functions to time."""
    path = folder / f"{modality}_{chunk}_{codec}".replace(" ", "").replace(",", "_")
    stored = write_array(path, part, chunk, CODECS[codec], shard)
    array = open_tensorstore(str(path))
    row, col = (max(0, (side - BLOCK) // 2) for side in part.vectors.shape[:2])
    reads: dict[str, Callable[[], Any]] = {
        "points_s": read_whole_chunks(array, part.rowcol),
        "block_s": lambda: array[row : row + BLOCK, col : col + BLOCK].read().result(),
    }
    expected = part.vectors[tuple(part.rowcol.T)]
    if not np.array_equal(reads["points_s"](), expected):
        raise RuntimeError(f"chunk {chunk}, {codec}: other vectors were read than written")
    if codec in _OF_A_FIELD:
        field_path = path.with_suffix(".zarr")
        write_field(field_path, part, chunk, codec, modality, shard)
        field = client.open_field(field_path)
        lonlat = part.grid.centres()[tuple(part.rowcol.T)]
        reads["field_sample_s"] = lambda: field.sample(lonlat, modality, as_="numpy")
        warm([file for file in field_path.rglob("*") if file.is_file()])
    row_of = {"modality": modality, "chunk": chunk, "codec": codec, "bytes": stored}
    valid = np.count_nonzero(part.status == Status.VALID)
    row_of["of_vectors"] = stored / (valid * part.vectors.shape[2])
    return row_of, reads


def race(
    tried: list[tuple[dict[str, Any], dict[str, Callable[[], Any]]]], rounds: int
) -> list[dict[str, Any]]:
    """Time every read of every layout in turns, and return rows with medians."""
    figures: dict[tuple[int, str], list[float]] = {}
    for _ in range(rounds + 1):
        for number, (_, reads) in enumerate(tried):
            for name, read in reads.items():
                start, cpu_start = time.perf_counter(), time.process_time()
                read()
                cpu_s = time.process_time() - cpu_start
                figures.setdefault((number, name), []).append(time.perf_counter() - start)
                figures.setdefault((number, name.removesuffix("_s") + "_cpu_s"), []).append(cpu_s)
    rows = [row for row, _ in tried]
    for (number, name), times in figures.items():
        rows[number][name] = statistics.median(times[1:])  # the first one warms
    return rows


def table(rows: list[dict[str, Any]], points: int) -> str:
    """Return the rows as Markdown."""
    head = [
        "modality",
        "chunk",
        "codec",
        "MB",
        "of the vectors",
        f"{points:,} points, ms",
        "CPU ms",
        "`field.sample`, ms",
        f"block of {BLOCK}, ms",
    ]
    lines = [head, ["---"] * 3 + ["---:"] * 6]
    for row in rows:
        times = (row.get(key) for key in ("points_s", "points_cpu_s", "field_sample_s", "block_s"))
        lines.append(
            [
                *(str(row[key]) for key in ("modality", "chunk", "codec")),
                f"{row['bytes'] / 1e6:.1f}",
                f"{100 * row['of_vectors']:.1f} %",
                *("" if seconds is None else f"{1000 * seconds:.1f}" for seconds in times),
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def section(found: dict[str, Any]) -> str:
    """Return the layouts as a section of `docs/performance.md`."""
    on = found["machine"]
    return (
        f"\n### Other layouts\n\n`python -m benchmarks.client.layouts` on {found['field']}; "
        f"{on['cpu']}, {on['cores']} cores. Points by tensorstore, whole chunks; by `field.sample` "
        f"where a field can have the layout.\n\n{table(found['rows'], found['points'])}\n\n"
        "The default stays 16 cells and no compressor: read alone, a vector costs its own bytes, "
        "whatever the chunk, and every compressed layout costs several times more for each place. "
        "Larger chunks spare little and store the empty cells of the coast. Who pays by the byte "
        "chooses `--codec zstd`; bands first inside the chunk would save far more of a smooth "
        "`coordinate` field, at about twice the time of zstd, and is read by the client too.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store")
    parser.add_argument("--modality", nargs="+", help="all by default")
    parser.add_argument("--shards", type=int, default=2, help="side of the window, in shards")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    field = client.open_field(options.store)
    rows = []
    for modality in options.modality or field.modalities:
        part = cut(options.store, modality, options.shards, options.points)
        with tempfile.TemporaryDirectory() as folder:
            tried = [
                readers_of(Path(folder), part, chunk, codec, modality, field.layout.shard)
                for chunk in CHUNKS
                if field.layout.shard % chunk == 0
                for codec in CODECS
            ]
            rows += race(tried, options.rounds)
    print(f"{field!r}\n\n{table(rows, options.points)}")
    if options.out:
        rows_cols = " x ".join(map(str, field.grid.shape))
        name = f"{field.attributes.region}, {rows_cols} cells, {field.bands} bands"
        found = {"field": name, "points": options.points, "machine": machine(), "rows": rows}
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
