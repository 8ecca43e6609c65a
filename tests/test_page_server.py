"""A store and its page over HTTP, as `unigeo view` serves them, and as it writes the page."""

import gzip
import http.client
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support.servers import RangeServer, parse_range

from unigeo import client
from unigeo.client.commands.cli import unigeo
from unigeo.client.viewing.byte_requests import read_range
from unigeo.client.viewing.exported_page import export_page
from unigeo.client.viewing.page_server import PageServer
from unigeo.schemas.errors import StoreError
from unigeo.schemas.store.page import is_page, page_of

PAGE_BYTES = 1_500_000
"""The most that the page may take, compressed."""


def ask(
    url: str, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, bytes, dict[str, str]]:
    """Ask by a path that no library has made safe."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), {key.lower(): v for key, v in answer.getheaders()}
    finally:
        connection.close()


@pytest.fixture(scope="module")
def server(gulf: Path) -> Iterator[PageServer]:
    with PageServer(str(gulf)) as serving:
        yield serving


def test_every_object_is_served_whole_and_by_range(server: PageServer, gulf: Path) -> None:
    for key in ("zarr.json", "coordinate/c/0/0/0", "preview/1/aerial/c/0/0/0"):
        body = (gulf / key).read_bytes()
        path = f"/store/{key}"
        assert ask(server.url, path)[:2] == (200, body)
        status, part, headers = ask(server.url, path, {"Range": "bytes=7-19"})
        assert (status, part) == (206, body[7:20])
        assert headers["content-range"] == f"bytes 7-19/{len(body)}"
        assert ask(server.url, path, {"Range": "bytes=-12"})[:2] == (206, body[-12:])
        status, none, headers = ask(server.url, path, method="HEAD")
        assert (status, none, headers["content-length"]) == (200, b"", str(len(body)))
        beyond = ask(server.url, path, {"Range": f"bytes={len(body)}-"})
        assert (beyond[0], beyond[2]["content-range"]) == (416, f"bytes */{len(body)}")


def test_metadata_are_compressed_for_who_takes_it(server: PageServer, gulf: Path) -> None:
    """A root of many arrays says the same of each."""
    body = (gulf / "zarr.json").read_bytes()
    assert ask(server.url, "/store/zarr.json")[1] == body
    _, packed, headers = ask(server.url, "/store/zarr.json", {"Accept-Encoding": "br, gzip"})
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed) == body and len(packed) < len(body) / 5


def test_nothing_else_is_served(server: PageServer, gulf: Path) -> None:
    outside = gulf.parent / "secret"
    outside.write_text("secret")
    for path in (
        "/store/../secret",
        "/store/%2e%2e/secret",
        "/store/..%2fsecret",
        f"/store/{outside}",
        "/store/",
        "/store/coordinate",
        "/store/coordinate/c/9/9/0",
        "/other",
    ):
        assert ask(server.url, path)[0] == 404, path
    assert ask(server.url, "/", {"Host": "elsewhere.example"})[0] == 403


def test_the_page_names_its_store_and_may_ask_no_other_host(server: PageServer) -> None:
    status, body, headers = ask(server.url, "/")
    assert status == 200 and is_page(body)
    assert b'<meta name="unigeo-store" content="store" />' in body
    assert "connect-src 'self'" in headers["content-security-policy"]


def test_the_page_is_small_and_names_the_store_as_python_opens_it(gulf: Path) -> None:
    with PageServer(str(gulf), source="conus-1") as serving:
        _, page, _ = ask(serving.url, "/")
    assert b'<meta name="unigeo-source" content="conus-1" />' in page
    assert len(gzip.compress(page, 6)) <= PAGE_BYTES
    assert b'<meta name="unigeo-source" content="" />' in page_of("conus.zarr"), (
        "of an exported one"
    )


def test_a_remote_store_is_served_as_a_local_one(gulf: Path) -> None:
    with RangeServer(gulf) as remote, PageServer(remote.url) as serving:
        body = (gulf / "aerial/c/0/0/0").read_bytes()
        got = ask(serving.url, "/store/aerial/c/0/0/0", {"Range": "bytes=100-199"})
        assert got[:2] == (206, body[100:200])
        assert ask(serving.url, "/store/aerial/c/8/8/0")[0] == 404
        remote.fault("aerial/*", status=400)
        assert ask(serving.url, "/store/aerial/c/0/0/0")[0] == 502


@given(
    header=st.from_regex(r"(bytes|cells)=\d{0,3}-\d{0,3}", fullmatch=True), size=st.integers(1, 500)
)
def test_ranges_are_read_as_the_standard_says(header: str, size: int) -> None:
    asked, expected = read_range(header), parse_range(header, size)
    assert (asked is None) == (expected is None)
    if asked is not None and expected is not None and expected[0] < expected[1]:
        assert asked.within(size) == expected
    elif asked is not None:
        start, stop = asked.within(size)
        assert start >= stop


def test_a_port_that_is_taken_is_an_error(server: PageServer, gulf: Path) -> None:
    taken = urlsplit(server.url).port
    assert taken is not None
    with pytest.raises(StoreError, match=f"cannot serve on port {taken}"):
        PageServer(str(gulf), port=taken)


def test_the_page_is_written_beside_the_store(gulf: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(unigeo, ["view", str(gulf), "--export", str(tmp_path / "site")])
    assert done.exit_code == 0, done.output
    page = tmp_path / "site" / f"{gulf.stem}.html"
    assert done.output.strip() == str(page)
    relative = os.path.relpath(gulf, page.parent)
    assert page.read_bytes() == page_of(relative)
    export_page(str(gulf), tmp_path / "site")  # again, over itself
    page.write_text("somebody's own")
    with pytest.raises(StoreError, match="is no page of a field"):
        export_page(str(gulf), tmp_path / "site")


def test_the_page_of_a_web_store_names_its_address(tmp_path: Path) -> None:
    page = export_page("https://fields.example/a&b/conus.zarr", tmp_path)
    assert b'content="https://fields.example/a&amp;b/conus.zarr"' in page.read_bytes()
    with pytest.raises(StoreError, match="a browser cannot read s3:// addresses"):
        export_page("s3://bucket/conus.zarr", tmp_path)


def test_what_is_no_field_is_refused_before_it_is_served(tmp_path: Path) -> None:
    done = CliRunner().invoke(unigeo, ["view", str(tmp_path), "--no-browser"])
    assert done.exit_code == 2
    assert "there is no Zarr v3 store" in done.output


def test_a_notebook_shows_the_page_in_a_frame(gulf: Path) -> None:
    exploration = client.open_field(gulf).explore(height=400)
    assert f'<iframe src="{exploration.url}" width="100%" height="400"' in exploration._repr_html_()
    assert ask(exploration.url, "/store/zarr.json")[0] == 200
    exploration.close()
    with pytest.raises(ConnectionError):
        ask(exploration.url, "/")


def test_nothing_is_written_into_a_store(gulf: Path) -> None:
    with pytest.raises(client.errors.StoreError, match="lies inside the Zarr store"):
        export_page(str(gulf), gulf)
