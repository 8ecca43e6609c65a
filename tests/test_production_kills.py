"""Real processes killed with `kill -9` at random moments: the store ends with the same bytes.

A few moments each; `python -m benchmarks.producer.kills --moments 30` tries more.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from benchmarks.producer import kills

type Unbroken = tuple[str, dict[str, bytes], float]
"""Base address, objects of a store, and seconds that it took."""
WAIT_S = 0.05
AZURE = pytest.param(
    "azure",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(which("azurite-blob") is None, reason="needs Azurite: make azurite"),
    ],
)


S3, GCS = (pytest.param(name, marks=pytest.mark.slow) for name in ("s3", "gcs"))


@pytest.fixture(scope="module", params=["local", S3, GCS, AZURE])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    with kills.store_root(request.param) as base:
        yield base


@pytest.fixture(scope="module")
def unbroken(place: str) -> Unbroken:
    """Where stores may be, the objects of an unbroken one, and how long it took."""
    process = kills.started(f"{place}/unbroken.zarr", "--wait", str(WAIT_S))
    begin = time.monotonic()
    assert kills.finish(process) == 8
    length_s = time.monotonic() - begin
    assert kills.leftovers(f"{place}/unbroken.zarr") == []
    return place, kills.objects(f"{place}/unbroken.zarr"), length_s


def test_a_killed_producer_started_again_ends_with_the_same_bytes(
    unbroken: Unbroken, tmp_path: Path
) -> None:
    place, whole, length_s = unbroken
    random.seed(len(place))
    kills.kill_producer(f"{place}/killed.zarr", 2, WAIT_S, length_s, tmp_path / "log")
    assert kills.objects(f"{place}/killed.zarr") == whole
    assert kills.leftovers(f"{place}/killed.zarr") == []
    assert kills.written_twice(tmp_path / "log") == 0


def test_two_producers_share_a_store_and_both_end_well(unbroken: Unbroken) -> None:
    place, whole, _ = unbroken
    url = f"{place}/shared.zarr"
    both = [kills.started(url, "--wait", str(WAIT_S)) for _ in range(2)]
    written = [kills.finish(process) for process in both]
    assert sum(written) == 8  # no shard twice
    assert kills.objects(url) == whole
    assert kills.leftovers(url) == []


@pytest.mark.parametrize("place", ["local"], indirect=True)
@pytest.mark.parametrize("victim", ["worker", "scheduler"])
@pytest.mark.slow
def test_on_dask_a_kill_loses_no_task(unbroken: Unbroken, victim: str, tmp_path: Path) -> None:
    place, whole, length_s = unbroken
    random.seed(len(place))
    url = f"{place}/{victim}.zarr"
    kills.KILL[victim](url, 1, 0.2, 3 * length_s, tmp_path / "log")
    assert kills.objects(url) == whole
    assert kills.leftovers(url) == []
    assert kills.written_twice(tmp_path / "log") <= 2  # at most one shard per worker
