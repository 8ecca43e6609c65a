"""What sampling will cost, before it is done."""

import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.reading.cell_reader import StoredCells
from unigeo.client.reading.range_requests import Requests, Span
from unigeo.client.reading.sampling import Method, Modality, located
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

_STEPS = {"nearest": (0,), "bilinear": (0, 1), "bicubic": (-1, 0, 1, 2)}
_PROBES = 3  # requests that measure the latency
_PROBE_BYTES = 2**20


@dataclass(frozen=True)
class StoreLink:
    """The way to a store."""

    latency_s: float
    """From a request to its first byte."""
    bytes_per_s: float
    in_flight: int = 128
    """Requests at once."""


@dataclass(frozen=True)
class Plan:
    """Cost of sampling points."""

    points: int
    inside: int
    """Points on the field's grid."""
    requests: int
    """At most: requests, or reads of a local file; of no more than a vector's bytes where vectors
    are stored uncompressed."""
    bytes: int
    """At most: to be read."""
    output_bytes: int
    """Of float32 vectors."""
    seconds: float
    link: StoreLink

    def __add__(self, other: "Plan") -> "Plan":
        """One sampling after the other."""
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


def estimate(modalities: list[Modality], points: Points, method: Method, link: StoreLink) -> Plan:
    """Count the reads that sampling points takes; reads nothing but the manifest."""
    requests = size = inside_count = output = 0
    rounds = 0.0
    for modality in modalities:
        x, y = points.metres(modality.grid.crs)
        rowcol, status = located(modality.grid, x, y)
        on_field = np.flatnonzero(status == Status.VALID)
        inside_count = len(on_field)
        exact = modality.grid.position_m(x[on_field], y[on_field])
        cells = _around(exact, rowcol[on_field], method).reshape(-1, 2)
        on_grid = np.all((cells >= 0) & (cells < modality.grid.shape), axis=1)
        for count, amount in modality.vectors.cost(np.unique(cells[on_grid], axis=0)):
            requests += count
            size += amount
            rounds += -(-count // link.in_flight)
        output += 4 * modality.vectors.bands * len(points)
    seconds = rounds * link.latency_s + size / link.bytes_per_s
    return Plan(len(points), inside_count, requests, size, output, seconds, link)


def measure_link(modality: Modality) -> StoreLink:
    """Time a few small reads of the store: what a request costs, and how fast bytes come.

    Raises:
        StoreError: if the store cannot be read.
    """
    cells = modality.vectors
    if not isinstance(cells, StoredCells):
        return StoreLink(latency_s=2e-3, bytes_per_s=100e6)  # of Zarr itself, on a local disk
    if not isinstance(cells.source, Requests):
        return StoreLink(latency_s=1e-4, bytes_per_s=1e9)  # a local disk
    latencies = []
    for _ in range(_PROBES):
        start = time.perf_counter()
        cells.source.fetch([Span("zarr.json", 0, 64)], lambda number, body: None)
        latencies.append(time.perf_counter() - start)
    start = time.perf_counter()
    got = cells.some_bytes(_PROBE_BYTES)
    took = max(time.perf_counter() - start - min(latencies), 1e-3)
    return StoreLink(min(latencies), max(got / took, 1e5), cells.source.most_in_flight)


def _around(
    exact: Float[np.ndarray, "point 2"],
    rowcol: Int[np.ndarray, "point 2"],
    method: Method,
) -> Int[np.ndarray, "point cell 2"]:
    """The cells that a point's vector is mixed from."""
    if method == "nearest":
        return rowcol[:, None]
    corner = np.floor(exact - 0.5).astype(np.int64)
    steps = np.array(_STEPS[method])
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(corner[:, None] + offsets)
