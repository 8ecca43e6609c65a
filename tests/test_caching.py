"""The cache on disk: it returns what the store holds or nothing, whatever happens to it."""

import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import stores
from support.servers import RangeServer

from unigeo import client
from unigeo.client.caching.range_database import BLOCK_BYTES, RangeDatabase, Run
from unigeo.client.errors import CacheWarning, DamagedError, StoreError

CONTENT = np.random.default_rng(0).integers(0, 256, 3 * BLOCK_BYTES + 100, np.uint8).tobytes()
NAME = b"n" * 32
LONLAT = np.random.default_rng(1).uniform((-18, -13), (20, 9), (1000, 2))
offsets = st.integers(0, len(CONTENT))


def run_of(start: int, stop: int, name: bytes = NAME) -> Run:
    return Run(name, len(CONTENT), start, CONTENT[start:stop])


@settings(max_examples=12)
@given(
    kept=st.lists(st.tuples(offsets, offsets), max_size=6),
    asked=st.lists(st.tuples(offsets, offsets), max_size=6),
)
def test_what_is_found_is_what_was_kept(
    tmp_path_factory: pytest.TempPathFactory, kept: list, asked: list
) -> None:
    """A range is found exactly where each of its bytes was kept, across runs too."""
    database = RangeDatabase(tmp_path_factory.mktemp("cache"))
    has = np.zeros(len(CONTENT), bool)
    for start, stop in map(sorted, kept):
        database.keep([run_of(start, stop)])
        has[start:stop] = True
    for start, stop in [*map(sorted, asked), *map(sorted, kept)]:
        found = database.find(NAME, start, stop)
        assert found == (CONTENT[start:stop] if has[start:stop].all() else None)
        tail = stop - len(CONTENT) or -1
        if kept:
            expected = CONTENT[tail:] if has[tail:].all() else None
            assert database.find(NAME, tail, None) == expected
    assert database.find(b"m" * 32, 0, 1) is None


def test_the_file_is_bounded_and_what_was_used_last_stays(tmp_path: Path) -> None:
    database = RangeDatabase(tmp_path, most_bytes=2_000_000)
    names = [bytes([number]) * 32 for number in range(30)]
    for name in names:
        database.keep([run_of(0, len(CONTENT), name)])
    assert sum(file.stat().st_size for file in tmp_path.glob("*.sqlite")) < 2_300_000
    assert database.find(names[-1], 0, 100) == CONTENT[:100]
    assert database.find(names[0], 0, 100) is None
    with sqlite3.connect(tmp_path / "ranges-1.sqlite") as connection:  # all were used long ago
        connection.execute("UPDATE pieces SET used = id")
    connection.close()
    survivor = next(name for name in names if database.find(name, 0, 100) is not None)
    database.keep([run_of(0, len(CONTENT), b"x" * 32 + name) for name in names[:6]])
    assert database.find(survivor, 0, 100) == CONTENT[:100]


@pytest.fixture
def field_server(gulf: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    """A server of a store that a test may exchange."""
    shutil.copytree(gulf, tmp_path / "served")
    with RangeServer(tmp_path / "served", dated=True) as server:
        yield server


def sampled(url: str, cache: Path | bool) -> np.ndarray:
    vectors = client.open_field(url, cache=cache).sample(LONLAT, "aerial", as_="numpy")["aerial"]
    return np.asarray(vectors)


def test_what_is_read_twice_costs_one_revalidation(
    field_server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, cache = field_server.url, tmp_path / "cache"
    expected = sampled(url, False)
    np.testing.assert_array_equal(sampled(url, cache), expected)
    client.open_field(url, cache=cache).dataset().load()
    field_server.reset()
    np.testing.assert_array_equal(sampled(url, cache), expected)
    assert [(request.path, request.status) for request in field_server.log] == [("zarr.json", 304)]
    # By the environment, of some of the points, by Zarr, and in another process.
    monkeypatch.setenv("UNIGEO_CACHE", str(cache))
    field_server.reset()
    field = pickle.loads(pickle.dumps(client.open_field(url)))
    np.testing.assert_array_equal(
        field.sample(LONLAT[::7], "aerial", as_="numpy")["aerial"], expected[::7]
    )
    field.dataset()[["aerial", "aerial_status"]].load()
    assert [r for r in field_server.log if r.status not in (304, 404)] == []
    assert field_server.counts.bytes == 0


def test_the_size_must_be_a_number(
    field_server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIGEO_CACHE_MB", "much")
    with pytest.raises(StoreError, match="UNIGEO_CACHE_MB is a number of megabytes, not 'much'"):
        client.open_field(field_server.url, cache=tmp_path)


def serve(server: RangeServer, store: Path) -> None:
    """Exchange the store that is served, keeping its times, as `mv` and `rsync -t` do."""
    assert isinstance(server.content, Path)
    shutil.rmtree(server.content)
    shutil.copytree(store, server.content)


def test_no_release_gets_the_bytes_of_another(
    field_server: RangeServer, gulf: Path, tmp_path: Path
) -> None:
    other, url, cache = tmp_path / "other.zarr", field_server.url, tmp_path / "cache"
    ways = stores.encoder()
    stores.build(other, encode=lambda modality, lonlat: ways(modality, lonlat + 1.0))
    for path in other.rglob("*"):
        os.utime(path, (time.time() - 5000,) * 2)  # long there, before the field is opened
    first, second = sampled(str(gulf), False), sampled(str(other), False)
    assert not np.array_equal(first, second)
    field = client.open_field(url, cache=cache)
    serve(field_server, other)
    with pytest.raises(DamagedError, match="changed since the field was opened"):
        field.sample(LONLAT, "aerial")
    for store, expected in ((gulf, first), (other, second), (gulf, first)):
        serve(field_server, store)
        for _ in range(2):
            np.testing.assert_array_equal(sampled(url, cache), expected)


def test_damage_is_noticed_and_mended(field_server: RangeServer, tmp_path: Path) -> None:
    url, cache = field_server.url, tmp_path / "cache"
    expected = sampled(url, cache)
    path = cache / "ranges-1.sqlite"
    connection = sqlite3.connect(path)
    with connection:  # a bit of every piece, and of the root
        for table in ("pieces", "roots"):
            for key, body in connection.execute(
                f"SELECT rowid, body FROM {table}"
                if table == "pieces"
                else "SELECT name, body FROM roots"
            ).fetchall():
                damaged = bytes([body[0] ^ 1]) + body[1:]
                where = "id" if table == "pieces" else "name"
                connection.execute(f"UPDATE {table} SET body = ? WHERE {where} = ?", (damaged, key))
    connection.close()
    for _ in range(2):
        np.testing.assert_array_equal(sampled(url, cache), expected)
    field_server.reset()
    sampled(url, cache)
    assert field_server.requests == 1  # mended
    for content in (b"no database at all" * 1000, path.read_bytes()[:5000]):
        for file in cache.iterdir():
            file.unlink()
        path.write_bytes(content)
        for _ in range(2):
            np.testing.assert_array_equal(sampled(url, cache), expected)


def test_a_cache_that_cannot_be_written_is_turned_off_with_one_warning(
    field_server: RangeServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    expected = sampled(field_server.url, False)
    with pytest.warns(CacheWarning, match="the cache in .*file is off") as said:
        np.testing.assert_array_equal(sampled(field_server.url, tmp_path / "file"), expected)
    assert len(said) == 1


CHILD = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import random
from unigeo.client.caching.range_database import RangeDatabase, Run
content = Path(sys.argv[3]).read_bytes()
database = RangeDatabase(Path(sys.argv[1]), most_bytes=1_500_000)
random.seed(int(sys.argv[4]))
limit = int(sys.argv[5])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
print("ready", flush=True)
for _ in range(int(sys.argv[6])):
    name = bytes([random.randrange(20)]) * 32
    start, stop = sorted(random.randrange(len(content)) for _ in range(2))
    database.keep([Run(name, len(content), start, content[start:stop])])
    found = database.find(name, start + 10, stop - 10) if stop - start > 20 else None
    assert found in (None, content[start + 10 : stop - 10])
print("off" if database.off else "on")
"""


def child(tmp_path: Path, seed: int, limit: int = 0, rounds: int = 60) -> "subprocess.Popen[str]":
    """A process that keeps and finds random ranges, each of which it compares."""
    (tmp_path / "content").write_bytes(CONTENT)
    arguments = [tmp_path / "cache", sys.path[0], tmp_path / "content", seed, limit, rounds]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def check_whole(folder: Path) -> None:
    """Everything that a cache has is right, and more can be kept."""
    database = RangeDatabase(folder)
    for number in range(20):
        name = bytes([number]) * 32
        for start in range(0, len(CONTENT), 20_000):
            assert database.find(name, start, start + 100) in (None, CONTENT[start : start + 100])
    database.keep([run_of(0, 1000)])
    assert database.find(NAME, 0, 1000) == CONTENT[:1000]


def test_processes_share_a_cache_and_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    others = [child(tmp_path, seed) for seed in range(2)]
    for seed in range(2, 5):
        killed = child(tmp_path, seed, rounds=10**6)
        assert killed.stdout is not None and killed.stdout.readline() == "ready\n"
        time.sleep(0.03 * seed)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    for other in others:
        output, errors = other.communicate()
        assert (output, errors) == ("ready\non\n", "")
    check_whole(tmp_path / "cache")


def test_a_full_disk_turns_the_cache_off_with_one_warning(tmp_path: Path) -> None:
    full = child(tmp_path, 0, limit=400_000)
    output, errors = full.communicate()
    assert output == "ready\noff\n", errors
    assert errors.count("CacheWarning: the cache in") == 1
    check_whole(tmp_path / "cache")
