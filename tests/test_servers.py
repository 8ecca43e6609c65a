import asyncio
import http.client
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.children import child
from support.servers import RangeServer, Request, parse_range

CONTENT = bytes(range(256)) * 4
OBJECTS = {"a/b": CONTENT, "c": b"tiny", "empty": b""}


def ask(
    server: RangeServer, path: str, asked: str | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    headers = {} if asked is None else {"Range": asked}
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    try:
        connection.request(method, f"/{path}", headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


@given(first=st.integers(0, 1100), last=st.integers(0, 1100))
def test_a_range_is_the_slice_it_names(first: int, last: int) -> None:
    asked = parse_range(f"bytes={first}-{last}", len(CONTENT))
    if last < first:
        assert asked is None  # not a range at all: the whole
    else:
        assert asked is not None
        assert CONTENT[slice(*asked)] == CONTENT[first : last + 1]


@pytest.mark.parametrize(
    ("asked", "body", "content_range"),
    [
        ("bytes=0-0", CONTENT[:1], "bytes 0-0/1024"),
        ("bytes=10-19", CONTENT[10:20], "bytes 10-19/1024"),
        ("bytes=1000-5000", CONTENT[1000:], "bytes 1000-1023/1024"),
        ("bytes=1000-", CONTENT[1000:], "bytes 1000-1023/1024"),
        ("bytes=-3", CONTENT[-3:], "bytes 1021-1023/1024"),
        ("bytes=-9999", CONTENT, "bytes 0-1023/1024"),
    ],
)
def test_partial_answers(asked: str, body: bytes, content_range: str) -> None:
    with RangeServer(OBJECTS) as server:
        status, headers, got = ask(server, "a/b", asked)
    assert (status, got, headers["Content-Range"]) == (206, body, content_range)
    assert headers["Content-Length"] == str(len(body))


def test_whole_answers(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(CONTENT)
    with RangeServer(tmp_path) as server:
        status, headers, body = ask(server, "a/b")
        assert (status, body) == (200, CONTENT)
        assert headers["Accept-Ranges"] == "bytes"
        assert headers["ETag"]
        status, of_head, body = ask(server, "a/b", method="HEAD")
        assert (status, body, of_head["Content-Length"]) == (200, b"", "1024")
        assert of_head["ETag"] == headers["ETag"]
        for path in ("a", "none", "a/b/c", "../servers.py"):
            assert ask(server, path)[0] == 404
        assert ask(server, "a/b", "bytes=5-,7-9")[0] == 200  # several ranges: the whole
        assert ask(server, "a/b", "bytes=1024-")[0] == 416
        assert ask(server, "a/b", method="PUT")[0] == 405
        assert server.not_found == ["a", "none", "a/b/c", "../servers.py"]
        assert server.counts.bytes >= 2 * len(CONTENT)
        assert server.requests == len(server.log) == 9
        assert server.log[0] == Request("GET", "a/b", None, 200, len(CONTENT))


def test_an_empty_object_is_one() -> None:
    with RangeServer(OBJECTS) as server:
        status, headers, body = ask(server, "empty")
        assert (status, headers["Content-Length"], body) == (200, "0", b"")


def test_faults_give_their_statuses_and_then_end() -> None:
    with RangeServer(OBJECTS) as server:
        server.fault("a/*", status=503, times=2, retry_after_s=7)
        assert ask(server, "c")[0] == 200
        for _ in range(2):
            status, headers, _ = ask(server, "a/b")
            assert (status, headers["Retry-After"]) == (503, "7")
        assert ask(server, "a/b")[0] == 200
        for status in (403, 404, 416, 429, 500):
            server.fault("c", status=status, times=1, after=1)
            assert [ask(server, "c")[0] for _ in range(3)] == [200, status, 200]
        server.fault("*", status=500)
        assert {ask(server, "c")[0] for _ in range(5)} == {500}
        server.reset()
        assert ask(server, "c")[0] == 200
        assert [request.status for request in server.log] == [200]


def test_a_cut_connection_breaks_the_promise() -> None:
    with RangeServer(OBJECTS) as server:
        server.fault("a/b", cut_after=100, times=1)
        with pytest.raises(http.client.IncompleteRead) as error:
            ask(server, "a/b")
        assert error.value.partial == CONTENT[:100]
        assert ask(server, "a/b")[2] == CONTENT


def test_a_stall_is_no_answer_and_ends_with_the_server() -> None:
    with RangeServer(OBJECTS) as server:
        server.fault("a/b", stall=True)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/a/b")
        assert connection.sock is not None
        connection.sock.settimeout(0.2)  # of the answer alone, which never comes
        with pytest.raises(TimeoutError):
            connection.getresponse()
        while not server.log:  # a busy machine may not have read the request yet
            time.sleep(0.01)
        connection.close()
    assert [request.status for request in server.log] == [0]


def test_lies_about_the_body() -> None:
    with RangeServer(OBJECTS) as server:
        server.fault("a/b", ignore_range=True, times=1)
        status, headers, body = ask(server, "a/b", "bytes=3-4")
        assert (status, body, "Content-Range" in headers) == (200, CONTENT, False)
        server.fault("a/b", corrupt=True, times=1)
        status, _, body = ask(server, "a/b", "bytes=3-4")
        assert (status, body) == (206, b"\xfc\xfb")
        server.fault("a/b", truncate_to=10, times=2)
        assert ask(server, "a/b", "bytes=3-40")[2] == CONTENT[3:10]
        assert ask(server, "a/b", "bytes=13-40")[0] == 416
        server.fault("a/b", shift_range=50, times=1)
        _, headers, body = ask(server, "a/b", "bytes=3-4")
        assert (headers["Content-Range"], body) == ("bytes 53-54/1024", CONTENT[3:5])


def test_latency_is_waited_side_by_side_and_in_flight_is_counted() -> None:
    with RangeServer(OBJECTS, latency_s=0.5) as server:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(server, "c")[2], range(8)))
        assert answers == [b"tiny"] * 8
        assert 2 <= server.counts.in_flight_max <= 8
        start = time.monotonic()
        for _ in range(3):
            ask(server, "c")
        assert time.monotonic() - start >= 1.5


def test_the_link_is_shared() -> None:
    body = bytes(1_000_000)
    with RangeServer({"big": body}, bytes_per_s=10e6) as server, ThreadPoolExecutor(4) as pool:
        start = time.monotonic()
        sizes = list(pool.map(lambda _: len(ask(server, "big")[2]), range(4)))
        seconds = time.monotonic() - start
    assert sizes == [len(body)] * 4
    assert seconds >= 0.39
    assert server.counts.bytes == 4 * len(body)


def test_as_a_process_it_tells_its_url_and_counts(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"tiny")
    command = [sys.executable, str(Path(__file__).parent / "support/servers.py"), str(tmp_path)]
    with child(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/c") as answer:
            assert answer.read() == b"tiny"
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{url}/none")
        error.value.close()
        for requests, body in ((2, b""), (0, None)):
            with urllib.request.urlopen(f"{url}/_counts", data=body) as answer:
                counts = json.load(answer)
            assert counts["requests"] == requests
        assert counts["bytes"] == counts["not_found"] == 0


def test_zarr_reads_a_field_through_it(gulf: Path) -> None:
    from unigeo import client

    with RangeServer(gulf) as server:
        far = client.open_field(server.url).sample([(0.5, 0.5)])
        assert far.equals(client.open_field(gulf).sample([(0.5, 0.5)]))
        assert server.requests == len(server.log)


def test_many_servers_leave_no_loop_behind() -> None:
    for _ in range(3):
        with RangeServer(OBJECTS) as server:
            ask(server, "c")
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
