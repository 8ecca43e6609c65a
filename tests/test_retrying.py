"""One policy says which failures are tried again, how often, and after which wait."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import obstore.exceptions
import pytest
import requests
import zarr
from multidict import CIMultiDict, CIMultiDictProxy
from support import servers
from yarl import URL

from unigeo.client.reading.range_requests import Requests, Span
from unigeo.producer.observations.observation_set.named_objects import ObjectFolder
from unigeo.producer.sources.web_requests import GoneError, WebClient
from unigeo.producer.storage.retrying_store import RetryingObjectStore
from unigeo.schemas.errors import DamagedError, ObservationsError, StoreError
from unigeo.schemas.io import retrying
from unigeo.schemas.io.retrying import (
    READER_TRIES,
    TRIES,
    is_transient,
    is_transient_status,
    waits_s,
    with_retries,
)
from unigeo.schemas.io.stores import open_obstore

PASSING = (408, 425, 429, 500, 502, 503, 504, 507, 599)
FINAL = (400, 401, 403, 405, 409, 412, 416, 451)


def of_aiohttp(status: int) -> Exception:
    url = URL("http://localhost/key")
    about = aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict()), url)
    return aiohttp.ClientResponseError(about, (), status=status)


def of_requests(status: int) -> Exception:
    answer = requests.Response()
    answer.status_code = status
    return requests.HTTPError(response=answer)


@pytest.mark.parametrize("error", [of_aiohttp, of_requests])
def test_the_same_statuses_pass_for_every_client(error: Callable[[int], Exception]) -> None:
    for status in PASSING:
        assert is_transient_status(status)
        assert is_transient(error(status))
    for status in FINAL:
        assert not is_transient_status(status)
        assert not is_transient(error(status))


@pytest.mark.parametrize(
    "error",
    [
        PermissionError("no"),
        FileNotFoundError("no"),
        NotImplementedError("no"),
        DamagedError("cut off"),
        obstore.exceptions.UnauthenticatedError("no"),
        obstore.exceptions.PermissionDeniedError("no"),
        obstore.exceptions.AlreadyExistsError("there"),
        obstore.exceptions.PreconditionError("changed"),
        obstore.exceptions.GenericError("400 Bad Request: <Code>ExpiredToken</Code>"),
    ],
)
def test_an_answer_that_stays_the_same_is_not_asked_for_again(error: Exception) -> None:
    calls = 0

    def ask() -> None:
        nonlocal calls
        calls += 1
        raise error

    assert not is_transient(error)
    with pytest.raises(type(error)):
        with_retries(ask)
    assert calls == 1


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited, without waiting."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)

    async def sleep(wait_s: float) -> None:
        waits.append(wait_s)

    for module in ("client.reading.range_requests", "producer.storage.retrying_store"):
        monkeypatch.setattr(f"unigeo.{module}.asyncio.sleep", sleep)
    return waits


def test_waits_double_and_are_cut_at_random() -> None:
    for _ in range(20):
        waits = list(waits_s())
        assert len(waits) == TRIES - 1
        for number, wait_s in enumerate(waits):
            assert 2**number / 4 <= wait_s <= 2**number / 2
    assert len({*waits_s(), *waits_s()}) == 2 * (TRIES - 1)
    assert list(waits_s(tries=1)) == []


def test_a_failure_that_passes_is_not_noticed_and_one_that_stays_is_raised(
    slept: list[float],
) -> None:
    answers: list[Any] = [ConnectionResetError("reset")] * 3 + ["content"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    assert with_retries(ask) == "content"
    assert len(slept) == 3
    answers[:] = [ConnectionResetError("reset")] * TRIES + ["too late"]
    with pytest.raises(ConnectionResetError):
        with_retries(ask)
    assert answers == ["too late"]
    answers[:] = [ConnectionResetError("reset"), "too late"]
    with pytest.raises(ConnectionResetError):
        with_retries(ask, again=False)


class FlakyStore(zarr.storage.MemoryStore):
    """A store of Zarr that is no obstore's, and fails at first."""

    failures = 0

    async def get(self, *about: Any, **more: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise of_aiohttp(503)
        return await super().get(*about, **more)


@pytest.mark.parametrize(("failures", "ends"), [(READER_TRIES - 1, False), (READER_TRIES, True)])
def test_a_reader_waits_for_few_tries(failures: int, ends: bool, slept: list[float]) -> None:
    store = FlakyStore()

    async def read() -> Any:
        await store.set("key", zarr.core.buffer.cpu.Buffer.from_bytes(b"content"))
        store.failures = failures
        return await Requests(store).request(Span("key"))

    if ends:
        with pytest.raises(StoreError, match="cannot read key"):
            asyncio.run(read())
    else:
        assert bytes(asyncio.run(read())) == b"content"
    assert len(slept) == READER_TRIES - 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503, 507])
def test_a_web_service_is_asked_again(tmp_path: Path, status: int) -> None:
    (tmp_path / "a").write_bytes(b"content")
    with servers.RangeServer(tmp_path) as server:
        server.fault("a", status=status, times=TRIES - 1)
        assert WebClient(1000, first_wait_s=0.001).bytes(f"{server.url}/a") == b"content"
        server.fault("a", status=status)
        with pytest.raises(StoreError, match=f"HTTP {status} after {TRIES} tries"):
            WebClient(1000, first_wait_s=0.001).bytes(f"{server.url}/a")


def test_a_web_service_that_refuses_is_asked_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    web = WebClient(1000)
    with servers.RangeServer(tmp_path) as server:
        server.fault("a", status=403)
        with pytest.raises(ObservationsError, match="HTTP 403"):
            web.bytes(f"{server.url}/a")
        with pytest.raises(GoneError, match="404"):
            web.bytes(f"{server.url}/b")
        assert len(server.log) == 2
    with pytest.raises(StoreError, match="InvalidURL after 1 tries"):
        web.bytes("no address")


def test_objects_of_a_set_and_of_a_store_outlast_what_obstore_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore repeats a request by itself; a faulty server outlasts it, but not the policy."""
    monkeypatch.setattr(retrying, "CLIENT_RETRIES", 1)
    for module in ("schemas.io.retrying", "producer.storage.retrying_store"):
        monkeypatch.setattr(f"unigeo.{module}.outage_waits_s", lambda: iter([0.0] * (TRIES - 1)))
    (tmp_path / "a").write_bytes(b"content")
    with servers.RangeServer(tmp_path) as server:
        server.fault("a", status=503, times=4)
        objects = ObjectFolder(server.url)
        assert objects.get("a") == b"content"
        server.fault("a", status=503, times=4)
        assert [bytes(part) for part in objects.ranges("a", [(1, 3)])] == [b"ont"]
        server.fault("a", status=503, times=4)
        store = RetryingObjectStore(open_obstore(server.url), read_only=True)
        assert asyncio.run(store.getsize("a")) == 7
