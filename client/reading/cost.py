"""Estimates the requests, bytes and seconds of sampling before it is done."""

import time
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.reading.cell_reader import StoredCells
from unigeo.client.reading.range_requests import Requests, Span
from unigeo.client.reading.sampling import Method, Modality, locate_points
from unigeo.schemas.store.quantization import dequantize
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

_STEPS = {"nearest": (0,), "bilinear": (0, 1), "bicubic": (-1, 0, 1, 2)}
"""Rows and columns of the cells, counted from the last cell centre north and west of a point."""
_LATENCY_REQUESTS = 3
"""Requests that measure the latency; the fastest counts."""
_COMPUTED_BYTES = 2**21
"""Bytes of unit vectors whose computing measures its rate."""
_RATE_BYTES = 2**20
"""Bytes whose reading measures the rate."""


@dataclass(frozen=True)
class StoreLink:
    """Latency and rate of reading a store."""

    latency_s: float
    """Seconds from a request to its first byte."""
    bytes_per_s: float
    in_flight: int = 128
    """Number of concurrent requests."""
    output_bytes_per_s: float = 1e9
    """Rate at which stored numbers become unit vectors."""


@dataclass(frozen=True)
class Plan:
    """The cost of sampling points; requests and bytes are upper bounds."""

    points: int
    inside: int
    """Points on the field's grid."""
    requests: int
    """Requests, or reads of a local file; each is of one vector if vectors are stored
    uncompressed."""
    bytes: int
    """Bytes to be read."""
    output_bytes: int
    """Bytes of the float32 vectors in memory."""
    seconds: float
    link: StoreLink

    def __add__(self, other: "Plan") -> "Plan":
        """Return the cost of one sampling after the other."""
        return Plan(
            self.points + other.points,
            self.inside + other.inside,
            self.requests + other.requests,
            self.bytes + other.bytes,
            self.output_bytes + other.output_bytes,
            self.seconds + other.seconds,
            self.link,
        )

    def __str__(self) -> str:
        return (
            f"{self.points:,} points, {self.inside:,} of them on the field: at most "
            f"{self.requests:,} requests and {self.bytes / 1e6:,.1f} MB, about "
            f"{self.seconds:,.1f} s at {1000 * self.link.latency_s:.1f} ms per request and "
            f"{self.link.bytes_per_s / 1e6:,.0f} MB/s; {self.output_bytes / 1e6:,.1f} MB of vectors"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


def estimate(modalities: list[Modality], points: Points, method: Method, link: StoreLink) -> Plan:
    """Estimate the cost of sampling points; read nothing but the manifest.

    Requests run `link.in_flight` at a time, so each such round costs one latency. Reading, transfer
    and computing are added up, though some of them overlap.
    """
    requests = size = inside_count = output = 0
    rounds = 0.0
    for modality in modalities:
        x, y = points.metres(modality.grid.crs)
        rowcol, status = locate_points(modality.grid, x, y)
        on_field = np.flatnonzero(status == Status.VALID)
        inside_count = len(on_field)
        position = modality.grid.position_m(x[on_field], y[on_field])
        cells = _source_cells(position, rowcol[on_field], method).reshape(-1, 2)
        on_grid = np.all((cells >= 0) & (cells < modality.grid.shape), axis=1)
        for count, read_bytes in modality.vectors.cost(np.unique(cells[on_grid], axis=0)):
            requests += count
            size += read_bytes
            rounds += -(-count // link.in_flight)
        output += 4 * modality.vectors.bands * len(points)
    computed = output * len(_STEPS[method]) ** 2  # each vector is made of so many cells'
    seconds = rounds * link.latency_s + size / link.bytes_per_s + computed / link.output_bytes_per_s
    return Plan(len(points), inside_count, requests, size, output, seconds, link)


def measure_link(modality: Modality) -> StoreLink:
    """Measure latency and rate by a few small reads of the store.

    Raises:
        StoreError: if the store cannot be read.
    """
    cells = modality.vectors
    computing = _computing_rate(cells.bands)
    if not isinstance(cells, StoredCells):  # typical of Zarr itself, on a local disk
        return StoreLink(latency_s=2e-3, bytes_per_s=100e6, output_bytes_per_s=computing)
    if not isinstance(cells.source, Requests):  # a local disk
        return StoreLink(latency_s=1e-4, bytes_per_s=1e9, output_bytes_per_s=computing)
    latencies = []
    for _ in range(_LATENCY_REQUESTS):
        start = time.perf_counter()
        cells.source.fetch([Span("zarr.json", 0, 64)], lambda number, body: None)
        latencies.append(time.perf_counter() - start)
    start = time.perf_counter()
    size = cells.read_some(_RATE_BYTES)
    elapsed_s = max(time.perf_counter() - start - min(latencies), 1e-3)
    rate = max(size / elapsed_s, 1e5)
    return StoreLink(min(latencies), rate, cells.source.most_in_flight, computing)


def _computing_rate(bands: int) -> float:
    """Measure at how many bytes per second unit vectors are computed."""
    stored = np.ones((max(1, _COMPUTED_BYTES // (4 * bands)), bands), np.int8)
    start = time.perf_counter()
    dequantize(stored)
    return 4.0 * stored.size / max(time.perf_counter() - start, 1e-6)


def _source_cells(
    position: Float[np.ndarray, "point 2"],
    rowcol: Int[np.ndarray, "point 2"],
    method: Method,
) -> Int[np.ndarray, "point cell 2"]:
    """Return the cells that each point's vector is computed from."""
    if method == "nearest":
        return rowcol[:, None]
    corner = np.floor(position - 0.5).astype(np.int64)
    steps = np.array(_STEPS[method])
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(corner[:, None] + offsets)
