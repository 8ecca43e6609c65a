"""Outages of stores and schedulers are waited out, with a word each, and then end in a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import BaseError
from support import stores

from unigeo.producer.commands.endings import error_line
from unigeo.producer.raster.dask_cluster import connect_in_time
from unigeo.producer.raster.dask_worker import perform
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.raster_job import Equipment, RasterJob
from unigeo.producer.raster.run import ExecutionOptions
from unigeo.schemas.errors import ModelError, StoreError
from unigeo.schemas.io import retrying
from unigeo.schemas.io.retrying import LONGEST_WAIT_S, outage_waits_s, patient, with_retries
from unigeo.schemas.io.store_errors import describe_error


class Outage:
    """A request that fails some times; the clock runs on by each wait and no other way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: int, error: Exception) -> None:
        self.left, self.error, self.now_s = failures, error, 1000.0
        monkeypatch.setattr(retrying.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(retrying.time, "sleep", self.sleep)
        monkeypatch.setattr(retrying, "_said_s", [-1e9])

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= LONGEST_WAIT_S
        self.now_s += seconds

    def __call__(self) -> str:
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return "answered"


REFUSED = ConnectionRefusedError("Connection refused")


def test_an_outage_of_five_minutes_is_waited_out_with_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outage = Outage(monkeypatch, 30, REFUSED)
    with patient(600):
        assert with_retries(outage) == "answered"
    assert 5 * 30 < outage.now_s - 1000 < 600
    said = [line for line in capsys.readouterr().err.splitlines() if line]
    assert said and all(line.startswith("waiting ") for line in said)
    assert len(said) <= 1 + (outage.now_s - 1000) / 30 and "Connection refused" in said[0]


@given(seconds=st.floats(0.0, 900.0))
def test_a_longer_outage_ends_the_run_at_the_end_of_its_patience(seconds: float) -> None:
    with pytest.MonkeyPatch.context() as inside:
        outage = Outage(inside, 10_000, REFUSED)
        with patient(seconds), pytest.raises(ConnectionRefusedError):
            with_retries(outage)
        assert outage.now_s - 1000 == pytest.approx(seconds)


def test_what_comes_again_however_often_one_asks_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outage = Outage(monkeypatch, 10, FileNotFoundError("gone"))
    with patient(600), pytest.raises(FileNotFoundError):
        with_retries(outage)
    assert outage.now_s == 1000


def test_patience_is_of_its_run_alone() -> None:
    assert len(list(outage_waits_s())) == retrying.TRIES - 1
    with patient(0):
        assert list(outage_waits_s()) == []
    assert len(list(outage_waits_s())) == retrying.TRIES - 1


@pytest.mark.parametrize("address", ["nonsense", "", "http://host:8786", "tcp://", "host:port"])
def test_what_is_no_address_of_a_scheduler_is_refused_in_a_sentence(address: str) -> None:
    with pytest.raises(ModelError, match=r"such as tcp://HOST:8786"):
        ExecutionOptions(scheduler=address)


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "tls://host:1", "host:8786"])
def test_addresses_of_schedulers(address: str) -> None:
    assert ExecutionOptions(scheduler=address).scheduler == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "Error performing PUT http://127.0.0.1:9/b/k in 6ms, after 4 retries, max_retries: 4, "
            "retry_timeout: 90s - HTTP error: error sending request\n\nDebug source:\nReqwest {\n}",
            "no server answers at http://127.0.0.1:9; correct the address",
        ),
        (
            "Object at location k not found: Server returned non-2xx status code: 404 Not Found: "
            '<?xml version="1.0"?>\n<Error><Code>NoSuchBucket</Code><Message>No</Message>'
            "<BucketName>mine</BucketName></Error>",
            "there is no bucket mine; create it",
        ),
        (
            'status code: 400: <?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Wait'
            "</Message></Error>",
            "SlowDown: Wait",
        ),
    ],
)
def test_the_words_of_object_stores_are_one_sentence(text: str, words: str) -> None:
    said = describe_error(BaseError(text))
    assert words in said and "\n" not in said and "<" not in said and "Reqwest" not in said
    assert said in error_line(BaseError(text))


def test_an_absent_scheduler_is_waited_for_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    def absent() -> None:
        raise OSError("Timed out trying to connect\nto tcp://127.0.0.1:1")

    with pytest.raises(StoreError, match="no dask scheduler answered, and the patience") as ended:
        connect_in_time(absent, 0.5)
    assert "\n" not in str(ended.value) and "same command again" in str(ended.value)
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "asked again for" in said[0]


def test_a_worker_has_the_patience_of_its_run() -> None:
    """Whatever its process did before, and for as long as the task lasts."""
    seen: list[float] = []

    def open_equipment() -> Equipment:
        seen.extend(retrying._patience_s)
        raise ModelError("opened")

    layout = stores.layout_of(("coordinate",))
    grid = stores.grid_of(stores.GULF, layout)
    job = RasterJob(
        url="nowhere", region=stores.GULF, grid=grid, layout=layout,
        open_equipment=open_equipment, patience_s=12.5,
    )  # fmt: skip
    with pytest.raises(ModelError, match="opened"):
        perform(job, Task("coordinate", 0, 0), False, True)
    assert seen == [12.5] and retrying._patience_s == []
