"""Cases of the client's timings: what is read, by which readers, and the goals of unigeo.

Each case yields a `Result`; its goals are computed from its rows, so that the table shows why one
is missed.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.client.fields import field_store, files_below, points_file, raw_vectors
from benchmarks.client.installing import ROOT, environment, start, weight
from benchmarks.client.link import StoreLink
from benchmarks.client.measuring import Reader, evict, race, warm
from benchmarks.client.tessera import tessera_points, tessera_store, tessera_tile

LATENCY_S, RATE_BYTES_S = 0.03, 50e6
_INDEX_ENTRY_BYTES, _CHECKSUM_BYTES, _CHUNKS_PER_SHARD = 16, 4, 256


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the field and numbers of points."""

    side: int = 1024
    """Number of cells along a side of the field."""
    bands: int = 768
    points: int = 100_000
    some: int = 10_000
    """Number of points in the slower cases."""
    remote: int = 1000
    rounds: int = 5
    conus: Path | None = None
    """Real field of CONUS at 5 km."""
    polygons: Path | None = None
    """File of its counties."""


QUICK = Sizes(side=512, points=20_000, some=2000, remote=200, rounds=3)


@dataclass(frozen=True)
class Goal:
    """A figure and its limit, which is an upper one unless `at_most` is false."""

    what: str
    value: float
    limit: float
    at_most: bool = True
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure keeps the limit."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass
class Result:
    """Rows, goals and notes of a case."""

    title: str
    rows: list[dict[str, Any]]
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, reader: str, figure: str = "seconds") -> float | None:
        """Return one reader's figure, if it could be measured."""
        return next((row.get(figure) for row in self.rows if row["reader"] == reader), None)

    def add_goal(self, what: str, value: float | None, limit: float, **how: Any) -> None:
        """Add a goal for a figure, if it could be measured."""
        if value is not None:
            self.goals.append(Goal(what, value, limit, **how))

    def add_ratio_goal(self, one: str, other: str, limit: float, figure: str = "seconds") -> None:
        """Add the goal that `one` is at least `limit` times as fast as `other`."""
        first, second = self.of(one, figure), self.of(other, figure)
        if first and second is not None:
            what = "CPU" if figure == "cpu_s" else "times"
            self.add_goal(
                f"{other} / {one}, {what}", second / first, limit, at_most=False, unit="x"
            )


def warm_points(cache: Path, sizes: Sizes) -> Iterable[Result]:
    """Time many points of a local store that is in the page cache."""
    store, raw = _store(cache, sizes)
    for kind in ("uniform", "clustered"):
        points = points_file(cache, kind, sizes.points, sizes.side, raw)
        warm([*files_below(store), raw])
        rows = race(
            [
                Reader("unigeo_int8", str(store), points, "unigeo int8"),
                Reader("unigeo_float32", str(store), points, "unigeo float32"),
                Reader("memory_map", str(raw), points, "numpy gather, memory map"),
                Reader("memory_map_anew", str(raw), points, "numpy gather, map opened anew"),
                Reader("projection", str(store), points, "places to cells alone", checked=False),
                Reader("tensorstore_vindex", str(store), points, "tensorstore vindex"),
                Reader("tensorstore_chunks", str(store), points, "tensorstore, whole chunks"),
                Reader("zarr_vindex", str(store), points, "zarr vindex", rounds=1),
                Reader("xarray_sel", str(store), points, "xarray .sel", rounds=1),
            ],
            sizes.rounds,
            measure=True,
        )
        result = Result(f"{sizes.points:,} {kind} points, local, page cache warm", rows)
        result.add_ratio_goal("unigeo int8", "xarray .sel", 300)
        result.add_ratio_goal("unigeo float32", "xarray .sel", 100)
        result.add_ratio_goal("unigeo int8", "zarr vindex", 30)
        result.add_ratio_goal("unigeo int8", "numpy gather, memory map", 0.5)
        for name in ("unigeo int8", "unigeo float32"):
            result.add_goal(
                f"{name}: peak memory above the output", result.of(name, "peak_mb"), 128, unit="MB"
            )
            own = result.of(name, "peak_own_mb")
            result.add_goal(f"{name}: the same without mapped files", own, 128, unit="MB")
        result.notes.append(
            "the memory map is given rows and columns, the others places; pages of mapped files "
            "are the system's cache, counted in the peak and not in the own memory: a plain memory "
            "map shows as many"
        )
        yield result


def cold_points(cache: Path, sizes: Sizes) -> Iterable[Result]:
    """Time the same with an evicted page cache, in a new process each time."""
    store, raw = _store(cache, sizes)
    files = files_below(store)
    left: list[float] = []

    def drop(_: Reader) -> None:
        left.append(evict(files))

    for kind, count in (
        ("uniform", sizes.points),
        ("clustered", sizes.points),
        ("uniform", sizes.remote),
    ):
        points = points_file(cache, kind, count, sizes.side, raw)
        rows = race(
            [
                Reader("unigeo_int8", str(store), points, "unigeo int8"),
                Reader("tensorstore_chunks", str(store), points, "tensorstore, whole chunks"),
                Reader("tensorstore_vindex", str(store), points, "tensorstore vindex"),
            ],
            sizes.rounds,
            before=drop,
            fresh=True,
        )
        result = Result(f"{count:,} {kind} points, local, page cache evicted", rows)
        result.add_ratio_goal("unigeo int8", "tensorstore, whole chunks", 1)
        result.notes.append(
            f"at most {100 * max(left):.2g} % of the pages were left (mincore); the host of a "
            "virtual machine may still hold them"
        )
        yield result


def compressed_points(cache: Path, sizes: Sizes) -> Iterable[Result]:
    """Time points of a zstd store, where decoding dominates."""
    raw = raw_vectors(cache, sizes.side, sizes.bands)
    store = field_store(cache, sizes.side, sizes.bands, "zstd")
    points = points_file(cache, "uniform", sizes.some, sizes.side, raw)
    warm(files_below(store))
    threads = os.cpu_count()
    decode = f"CRC-32C and zstd alone, {threads} threads"
    rows = race(
        [
            Reader("unigeo_int8", str(store), points, "unigeo int8"),
            Reader("decode_only", str(store), points, decode, checked=False),
            Reader("zstd_only", str(store), points, "zstd alone", checked=False),
            Reader("tensorstore_chunks", str(store), points, "tensorstore, whole chunks"),
            Reader("tensorstore_vindex", str(store), points, "tensorstore vindex"),
        ],
        sizes.rounds,
        measure=True,
    )
    result = Result(f"{sizes.some:,} uniform points, zstd, local, page cache warm", rows)
    result.add_ratio_goal("unigeo int8", decode, 0.85)
    result.add_ratio_goal("unigeo int8", "zstd alone", 0.85)
    result.add_ratio_goal("unigeo int8", "tensorstore, whole chunks", 1)
    yield result


def geotessera(cache: Path, sizes: Sizes) -> Iterable[Result]:
    """Time the samplers of geotessera on the same vectors of 128 bands in its own layouts."""
    bands = 128
    raw, store = raw_vectors(cache, sizes.side, bands), field_store(cache, sizes.side, bands)
    python = environment(cache, "geotessera", "geotessera")
    theirs, tile = tessera_store(cache, raw), tessera_tile(cache, raw)
    warm([*files_below(store), *files_below(theirs), *files_below(tile)])
    for count in (sizes.some, sizes.points):
        points = points_file(cache, "uniform", count, sizes.side, raw)
        moved = tessera_points(points)
        few = {"rounds": 1} if count > sizes.some else {}
        rows = race(
            [
                Reader("unigeo_float32", str(store), points, "unigeo float32"),
                Reader(
                    "geotessera_zarr",
                    str(theirs),
                    moved,
                    "geotessera, Zarr store",
                    python=python,
                    **few,
                ),
                Reader(
                    "geotessera_tile",
                    str(tile),
                    moved,
                    "geotessera, one downloaded tile",
                    python=python,
                ),
            ],
            sizes.rounds,
            measure=True,
        )
        result = Result(f"{count:,} uniform points beside geotessera, 128 bands, warm", rows)
        result.add_ratio_goal("unigeo float32", "geotessera, Zarr store", 15, "cpu_s")
        result.notes.append(
            "`GeoTesseraZarr(path).sample_points` on a store of its own layout; the tile is "
            "`Tile.sample_points`, a memory map of one file, which asks for no index"
        )
        yield result


def remote_points(cache: Path, sizes: Sizes) -> Iterable[Result]:
    """Time points over a web server at 30 ms and 50 MB/s; every reading opens the field."""
    store, raw = _store(cache, sizes)
    points = points_file(cache, "uniform", sizes.remote, sizes.side, raw)
    warm(files_below(store))
    with StoreLink(store, latency_s=LATENCY_S, bytes_per_s=RATE_BYTES_S) as link:
        rows = race(
            [
                Reader("unigeo_opened_anew", link.url, points, "unigeo int8"),
                Reader("xarray_fsspec_sel", link.url, points, "xarray .sel over fsspec", rounds=3),
            ],
            sizes.rounds,
            before=lambda _: link.counts() and None,
            after=lambda _: link.counts(),
        )
    shards = (sizes.side // 256) ** 2
    index_bytes = shards * (_CHUNKS_PER_SHARD * _INDEX_ENTRY_BYTES + _CHECKSUM_BYTES)
    result = Result(
        f"{sizes.remote:,} uniform points over the web, {1000 * LATENCY_S:g} ms, "
        f"{RATE_BYTES_S / 1e6:g} MB/s",
        rows,
    )
    ours = "unigeo int8"
    allowed = 2 * sizes.remote * sizes.bands + index_bytes
    result.add_goal("bytes", result.of(ours, "bytes"), allowed, unit="B")
    result.add_goal("requests", result.of(ours, "requests"), sizes.remote + shards + 2)
    result.add_goal("objects not found", result.of(ours, "not_found"), 0)
    result.add_ratio_goal(ours, "xarray .sel over fsspec", 10)
    result.notes.append(
        f"vectors {sizes.remote * sizes.bands:,} B, indexes of {shards} shards {index_bytes:,} B; "
        "opening the field is counted"
    )
    yield result


def one_point(cache: Path, sizes: Sizes) -> Iterable[Result]:
    """Time one point of a local store, 200 times."""
    store, raw = _store(cache, sizes)
    points = points_file(cache, "uniform", 1, sizes.side, raw)
    reader = Reader("unigeo_int8", str(store), points, "unigeo int8")
    rows = race([reader], 200)
    rows[0]["each_s"] = rows[0]["each_s"][:5]
    result = Result("one point, local, warm", rows)
    seconds = result.of("unigeo int8")
    result.add_goal("one point", None if seconds is None else 1000 * seconds, 1, unit="ms")
    yield result


def starts(cache: Path, sizes: Sizes) -> Iterable[Result]:
    """Time the start of fresh processes in an environment with the client alone."""
    del sizes
    python = environment(cache, "client", str(ROOT))
    commands = {
        "python alone": [str(python), "-c", "pass"],
        "import unigeo.client": [str(python), "-c", "import unigeo.client"],
        "unigeo --help": [str(python.with_name("unigeo")), "--help"],
    }
    rows = [{"reader": name, **start(command)} for name, command in commands.items()]
    result = Result("starting, fresh processes", rows)
    result.add_goal(
        "import unigeo.client, CPU", result.of("import unigeo.client", "cpu_s"), 0.3, unit="s"
    )
    result.add_goal("unigeo --help, CPU", result.of("unigeo --help", "cpu_s"), 0.4, unit="s")
    yield result


def installed(cache: Path, sizes: Sizes) -> Iterable[Result]:
    """Measure the size of an installation."""
    del sizes
    rows = []
    for name, package in (("client", str(ROOT)), ("geotessera", "geotessera")):
        label = "unigeo" if name == "client" else name
        rows.append({"reader": label, **weight(environment(cache, name, package))})
    result = Result("installed in a fresh environment", rows)
    result.add_goal("packages", result.of("unigeo", "packages"), 24)
    result.add_goal("size", result.of("unigeo", "mb"), 260, unit="MB")
    yield result


def many_points(cache: Path, sizes: Sizes) -> Iterable[Result]:
    """Time batches of points, a hundred times as many as in the other cases."""
    store = field_store(cache, sizes.side, 128)
    warm(files_below(store))
    count = 100 * sizes.points
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.client.many", str(store), "--points", str(count)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    printed = json.loads(done.stdout.splitlines()[-1])
    row = {"reader": "unigeo float32", "rounds": 1, "seconds": printed["seconds"]}
    row |= {"cpu_s": printed["cpu_seconds"], "peak_mb": printed["peak_beyond_one_batch_mb"]}
    title = (
        f"{printed['points']:,} points in batches of {printed['batch']:,}, {printed['bands']} bands"
    )
    result = Result(title, [row])
    result.add_goal("peak memory beyond that of one batch", row["peak_mb"], 128, unit="MB")
    yield result


def small_discs(cache: Path, sizes: Sizes) -> Iterable[Result]:
    """Time means over discs of half a cell in radius, geometry and reading apart."""
    store, _ = _store(cache, sizes)
    warm(files_below(store))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.client.discs", str(store), "--discs", str(sizes.points)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    printed = json.loads(done.stdout.splitlines()[-1])
    labels = {
        "points": f"unigeo float32, {printed['cells']:,} points",
        "discs": "unigeo, discs, geometry and reading",
        "geometry": "geometry alone: vertices and shares of cells",
        "exactextract": "exactextract: shares of cells, of polygons that are ready",
    }
    rows: list[dict[str, Any]] = [
        {
            "reader": label,
            "rounds": printed["rounds"],
            "seconds": printed["seconds"][name],
            "cpu_s": printed["cpu_seconds"][name],
        }
        for name, label in labels.items()
        if name in printed["seconds"]
    ]
    result = Result(
        f"{printed['discs']:,} discs of half a cell in radius, which touch {printed['cells']:,} "
        f"cells, {printed['bands']} bands, local, warm",
        rows,
    )
    for what, measured in (("times", printed["seconds"]), ("CPU", printed["cpu_seconds"])):
        reading = measured["discs"] - measured["geometry"]
        result.add_goal(
            f"reading / as many points as cells, {what}", reading / measured["points"], 3, unit="x"
        )
    result.add_ratio_goal(labels["geometry"], labels["exactextract"], 1)
    yield result


def county_means(cache: Path, sizes: Sizes) -> Iterable[Result]:
    """Time zonal means of counties on a real field, if the command names both."""
    del cache
    if sizes.conus is None or sizes.polygons is None:
        return
    command = [sys.executable, "-m", "benchmarks.client.zonal", str(sizes.conus)]
    printed = []
    for _ in range(sizes.rounds):
        done = subprocess.run(
            [*command, str(sizes.polygons)], cwd=ROOT, check=True, capture_output=True, text=True
        )
        printed.append(json.loads(done.stdout.splitlines()[-1]))
    first = printed[0]
    row: dict[str, Any] = {"reader": "unigeo", "rounds": len(printed)}
    row["seconds"] = statistics.median(one["seconds"] for one in printed)
    row["cpu_s"] = statistics.median(one["cpu_seconds"] for one in printed)
    row["peak_mb"] = max(one["peak_mb"] for one in printed)
    what = f"{first['polygons']:,} polygons, {len(first['modalities'])} x {first['bands']} bands"
    result = Result(f"zonal means, {what}, from opening to table", [row])
    result.add_goal("time", row["seconds"], 10, unit="s")
    result.add_goal("peak memory of the whole process", row["peak_mb"], 1000, unit="MB")
    yield result


CASES: dict[str, Callable[[Path, Sizes], Iterable[Result]]] = {
    "warm": warm_points,
    "cold": cold_points,
    "zstd": compressed_points,
    "geotessera": geotessera,
    "remote": remote_points,
    "one": one_point,
    "starts": starts,
    "installed": installed,
    "many": many_points,
    "discs": small_discs,
    "zonal": county_means,
}


def _store(cache: Path, sizes: Sizes) -> tuple[Path, Path]:
    raw = raw_vectors(cache, sizes.side, sizes.bands)
    return field_store(cache, sizes.side, sizes.bands), raw
