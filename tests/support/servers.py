"""A web server of ranges that counts, delays and fails as told.

In a test it runs in a thread:

    with RangeServer(folder, latency_s=0.03, bytes_per_s=50e6) as server:
        server.fault("aerial/c/*", status=503, times=2)
        client.open_field(server.url)
        server.requests, server.log

For a timing it runs as a process of its own, `servers.py FOLDER --latency 0.03 --rate 50e6`, which
prints its URL; GET `/_counts` gives the counters as JSON, POST `/_counts` gives them and resets.
"""

import argparse
import asyncio
import hashlib
import json
import re
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from aiohttp import web

if TYPE_CHECKING:
    import pytest

COUNTS = "_counts"
_PIECE_BYTES = 1 << 16
_SHORTEST_SLEEP_S = 1e-3  # shorter sleeps are late by their own length; the link's clock runs on


@dataclass(kw_only=True)
class Fault:
    """What goes wrong with requests whose path matches."""

    pattern: str
    """Of the path without its leading slash, by `fnmatch`: `aerial/c/*`, `*`."""
    times: int | None = None
    """For how many requests; None is for ever."""
    after: int = 0
    """Matching requests that go well first."""
    status: int | None = None
    """Answer with this status and no object."""
    retry_after_s: int | None = None
    """The `Retry-After` header beside that status."""
    cut_after: int | None = None
    """Break the connection after so many bytes of the promised body."""
    stall: bool = False
    """Never answer."""
    ignore_range: bool = False
    """Answer 200 with the whole object, whatever range was asked."""
    corrupt: bool = False
    """Flip every bit of the body."""
    truncate_to: int | None = None
    """Serve the object as if it ended after so many bytes."""
    shift_range: int | None = None
    """Say in `Content-Range` that the bytes lie so much further on than they do."""

    def strikes(self, path: str) -> bool:
        """Whether it befalls this request; counts it."""
        if self.times == 0 or not fnmatch(path, self.pattern):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(frozen=True)
class Request:
    """One line of the log."""

    method: str
    path: str
    range: str | None
    status: int
    """0 where the request was never answered."""
    size_bytes: int
    """Of the body that was promised."""


@dataclass
class Counts:
    """What was asked of the server, and what it gave."""

    requests: int = 0
    bytes: int = 0
    """Of bodies, as far as they were sent."""
    not_found: int = 0
    in_flight: int = 0
    """Requests being answered now."""
    in_flight_max: int = 0


class Served:
    """An asyncio server in a thread of its own, on 127.0.0.1, while its context lasts."""

    _runner: web.ServerRunner

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def start(self) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        for site in self._runner.sites:
            for listening in site._server.sockets:  # type: ignore[union-attr]
                self._loop.remove_reader(listening.fileno())
        await asyncio.sleep(0.01)  # asyncio loses what is accepted but unknown as a server closes
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:  # a connection being accepted has no owner yet, who would close it
            await asyncio.wait(left, timeout=0.05)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0.02)  # connections that were told to close do so


@dataclass
class RangeServer(Served):
    """Serves a folder, or bytes by path, on 127.0.0.1 while its context lasts."""

    content: Path | Mapping[str, bytes]
    latency_s: float = 0.0
    """Waited before each answer."""
    bytes_per_s: float | None = None
    """Of the one link that all connections share; None is unlimited."""
    port: int = 0
    """0 takes a free one."""
    dated: bool = False
    """Say when a file was changed, instead of 1970."""
    counts: Counts = field(default_factory=Counts)
    log: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> int:
        return self.counts.requests

    @property
    def not_found(self) -> list[str]:
        """Paths that were asked for and are not there."""
        return [request.path for request in self.log if request.status == 404]

    def fault(self, pattern: str, **what: Any) -> Fault:
        """From now on, let this go wrong; the first fault that matches a request befalls it."""
        fault = Fault(pattern=pattern, **what)
        self.faults.append(fault)
        return fault

    def reset(self) -> None:
        """Forget counts, log and faults."""
        self.counts = Counts(in_flight=self.counts.in_flight)
        self.log.clear()
        self.faults.clear()

    async def start(self) -> None:
        self._link_free_at = 0.0
        self._runner = web.ServerRunner(
            web.Server(self._answer, handler_cancellation=True), shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = unquote(request.path).lstrip("/")
        if path == COUNTS:
            return self._tell_counts(request)
        counts = self.counts
        counts.requests += 1
        counts.in_flight += 1
        counts.in_flight_max = max(counts.in_flight_max, counts.in_flight)
        try:
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            fault = next((fault for fault in self.faults if fault.strikes(path)), None)
            fault = fault or Fault(pattern=path)
            status, headers, body = self._response(request, path, fault)
            # Counted before it is sent: who has the answer may look at once.
            asked, seen = request.headers.get("Range"), 0 if fault.stall else status
            self.log.append(Request(request.method, path, asked, seen, len(body)))
            counts.not_found += status == 404
            if fault.stall:
                await asyncio.Event().wait()
            return await self._send(request, status, headers, body, fault)
        finally:
            counts.in_flight -= 1

    def _tell_counts(self, request: web.BaseRequest) -> web.Response:
        told = json.dumps(asdict(self.counts))
        if request.method == "POST":
            self.reset()
        return web.Response(text=told, content_type="application/json")

    def _response(
        self, request: web.BaseRequest, path: str, fault: Fault
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        if fault.status is not None:
            wait = fault.retry_after_s
            return fault.status, {} if wait is None else {"Retry-After": str(wait)}, b"told to fail"
        if request.method not in ("GET", "HEAD"):
            return 405, {"Allow": "GET, HEAD"}, b"GET and HEAD only"
        size = self._size(path)
        if size is None:
            return 404, {}, b"there is no such object"
        if fault.truncate_to is not None:
            size = min(size, fault.truncate_to)
        tag = hashlib.sha256(f"{path} {size} {self._state(path)}".encode()).hexdigest()[:16]
        changed = formatdate(self._changed_s(path), usegmt=True)
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{tag}"', "Last-Modified": changed}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return 304, headers, b""
        if path.endswith(".html"):
            headers["Content-Type"] = "text/html"
        asked = None if fault.ignore_range else parse_range(request.headers.get("Range"), size)
        if asked is None:
            start, stop, status = 0, size, 200
        elif asked[0] >= asked[1]:
            return 416, {"Content-Range": f"bytes */{size}"}, b""
        else:
            (start, stop), status = asked, 206
            shift = fault.shift_range or 0
            headers["Content-Range"] = f"bytes {start + shift}-{stop - 1 + shift}/{size}"
        headers["Content-Length"] = str(stop - start)
        body = b"" if request.method == "HEAD" else self._bytes(path, start, stop)
        if fault.corrupt:
            body = bytes(255 - byte for byte in body)
        return status, headers, body

    async def _send(
        self,
        request: web.BaseRequest,
        status: int,
        headers: dict[str, str],
        body: bytes,
        fault: Fault,
    ) -> web.StreamResponse:
        if request.method == "HEAD" or not body:
            response = web.Response(status=status, headers=headers)
            await response.prepare(request)
            await response.write_eof()
            return response
        stream = web.StreamResponse(
            status=status, headers={"Content-Length": str(len(body))} | headers
        )
        await stream.prepare(request)
        end = len(body) if fault.cut_after is None else min(fault.cut_after, len(body))
        for start in range(0, end, _PIECE_BYTES):
            piece = body[start : min(start + _PIECE_BYTES, end)]
            await self._pass_link(len(piece))
            self.counts.bytes += len(piece)
            await stream.write(piece)
        if fault.cut_after is not None:
            assert request.transport is not None
            request.transport.close()
        else:
            await stream.write_eof()
        return stream

    async def _pass_link(self, size: int) -> None:
        """Wait until the shared link has carried so many bytes more."""
        if self.bytes_per_s is None:
            return
        now = asyncio.get_running_loop().time()
        self._link_free_at = max(now, self._link_free_at) + size / self.bytes_per_s
        if self._link_free_at - now >= _SHORTEST_SLEEP_S:
            await asyncio.sleep(self._link_free_at - now)

    def _size(self, path: str) -> int | None:
        if isinstance(self.content, Mapping):
            return len(self.content[path]) if path in self.content else None
        file = self.content / path
        return file.stat().st_size if file.is_file() and ".." not in path else None

    def _state(self, path: str) -> str:
        """What changes with an object's bytes."""
        if isinstance(self.content, Mapping):
            return hashlib.sha256(self.content[path]).hexdigest()
        return str((self.content / path).stat().st_mtime_ns)

    def _changed_s(self, path: str) -> float:
        if isinstance(self.content, Mapping) or not self.dated:
            return 0.0
        return (self.content / path).stat().st_mtime

    def _bytes(self, path: str, start: int, stop: int) -> bytes:
        if isinstance(self.content, Mapping):
            return self.content[path][start:stop]
        with (self.content / path).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and one past the last byte that a `Range` header asks for.

    Returns:
        None where the whole object is to be sent: no range, several, or not one of bytes. Where
        the range holds no byte of the object, the stop is not beyond the start.

    Source: RFC 9110, section 14.
    """
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").replace(" ", ""))
    if found is None or found.group() == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return (max(size - int(last), 0), size) if int(last) else (size, size)
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


@contextmanager
def object_store(monkeypatch: "pytest.MonkeyPatch") -> Iterator[str]:
    """An empty bucket on an S3 server, reached by the usual environment variables."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    urllib.request.urlopen(
        urllib.request.Request(f"http://{host}:{port}/fields", method="PUT")
    ).close()
    try:
        yield "s3://fields"
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--rate", type=float, help="bytes per second of the shared link")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()

    async def serve() -> None:
        server = RangeServer(options.folder, options.latency, options.rate, options.port, True)
        await server.start()
        print(server.url, flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
