"""Real processes killed with `kill -9` at random moments: the store ends with the same bytes.

A few moments each; `python -m benchmarks.producer.kills --moments 30` tries more.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.producer import kills

WAIT_S = 0.05


@pytest.fixture(scope="module", params=["local", "s3"])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    with kills.place(request.param) as base:
        yield base


@pytest.fixture(scope="module")
def unbroken(place: str) -> tuple[str, dict[str, bytes], float]:
    """Where stores may be, the objects of an unbroken one, and how long it took."""
    process = kills.started(f"{place}/unbroken.zarr", "--wait", str(WAIT_S))
    begin = time.monotonic()
    assert kills.finish(process) == 8
    length_s = time.monotonic() - begin
    assert kills.leftovers(f"{place}/unbroken.zarr") == []
    return place, kills.objects(f"{place}/unbroken.zarr"), length_s


def test_a_killed_producer_started_again_ends_with_the_same_bytes(unbroken) -> None:
    place, whole, length_s = unbroken
    random.seed(len(place))
    kills.kill_producer(f"{place}/killed.zarr", 2, WAIT_S, length_s)
    assert kills.objects(f"{place}/killed.zarr") == whole
    assert kills.leftovers(f"{place}/killed.zarr") == []


def test_two_producers_share_a_store_and_both_end_well(unbroken) -> None:
    place, whole, _ = unbroken
    url = f"{place}/shared.zarr"
    both = [kills.started(url, "--wait", str(WAIT_S)) for _ in range(2)]
    written = [kills.finish(process) for process in both]
    assert sum(written) == 8  # no shard twice
    assert kills.objects(url) == whole
    assert kills.leftovers(url) == []


def test_a_killed_dask_worker_loses_no_task(tmp_path: Path) -> None:
    with kills.place("local") as base:
        kills.finish(kills.started(f"{base}/unbroken.zarr", "--wait", "0"))
        log = tmp_path / "log.jsonl"
        twice = kills.kill_worker(f"{base}/killed.zarr", 1, 0.3, 2.0, log)
        assert kills.objects(f"{base}/killed.zarr") == kills.objects(f"{base}/unbroken.zarr")
        assert kills.leftovers(f"{base}/killed.zarr") == []
        assert twice <= 2  # at most one shard per worker
