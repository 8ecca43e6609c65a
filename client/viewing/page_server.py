"""A web server of one store and its page, for the browser of this machine."""

import gzip
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from unigeo.client.viewing.byte_requests import read_range
from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.limits import OBJECT_BYTES
from unigeo.schemas.io.store_errors import describe_error, unreachable_errors
from unigeo.schemas.io.stores import open_store
from unigeo.schemas.store.page import page_of

if TYPE_CHECKING:
    from zarr.abc.store import Store

_ADDRESS = "127.0.0.1"
_NAMES = (_ADDRESS, "localhost")
_STORE = "/store/"
# The page may read the store from here alone; images are of the base map that its user names.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; "
    "worker-src blob: data:; style-src 'unsafe-inline'; "
    "img-src https: http: data: blob:; connect-src 'self' data:"
)


class PageServer:
    """Serves a store and its page on this machine alone, while its context lasts.

    The page is at `url`, the store's objects are below it, and requests for ranges of bytes are
    answered, whatever the store lies in: a folder, an object store or another web server.
    """

    def __init__(self, store: Any, *, port: int = 0, source: str = "") -> None:
        """Bind to a port.

        Args:
            store: as `schemas.io.stores.open_store` takes it.
            port: of 127.0.0.1; 0 takes a free one.
            source: name or address of the store in the Python lines that the page shows; by
                default the store itself, if it is one.

        Raises:
            StoreError: if the port cannot be had.
        """
        opened = open_store(store)

        address = source or (str(store) if isinstance(store, str | Path) else "")

        class Handler(_Handler):
            store = opened
            page = page_of(_STORE.strip("/"), address)

        try:
            self._server = ThreadingHTTPServer((_ADDRESS, port), Handler)
        except OSError as error:
            raise StoreError(
                f"cannot serve on port {port}: {error.strerror or error}. Name another, or "
                "none for a free one"
            ) from error
        self._server.daemon_threads = True
        self.url = f"http://{_ADDRESS}:{self._server.server_address[1]}/"

    def __enter__(self) -> "PageServer":
        """Serve in a thread of its own."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and give the port back."""
        self._server.shutdown()
        self._server.server_close()

    def serve_forever(self) -> None:
        """Serve in this thread until it is interrupted."""
        try:
            self._server.serve_forever()
        finally:
            self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    store: "Store"
    page: bytes
    protocol_version = "HTTP/1.1"  # keeps connections, of which a map makes many

    def do_GET(self) -> None:
        """Answer with the page, or with an object of the store."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer as to GET, without the body."""
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Write no log: the page counts its requests itself."""

    def _answer(self) -> None:
        # A page of another site, whose name was made to lead to this machine, has its own Host.
        if (self.headers.get("Host") or "").rsplit(":", 1)[0] not in _NAMES:
            self._send(HTTPStatus.FORBIDDEN, b"this server answers to 127.0.0.1 alone\n")
            return
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            headers = {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Security-Policy": _POLICY,
            }
            self._send(HTTPStatus.OK, self.page, headers)
        elif path.startswith(_STORE) and _is_key(path.removeprefix(_STORE)):
            self._send_object(path.removeprefix(_STORE))
        else:
            self._send(HTTPStatus.NOT_FOUND, b"there is no such object\n")

    def _send_object(self, key: str) -> None:
        from zarr.abc.store import RangeByteRequest
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        asked = read_range(self.headers.get("Range"))
        try:
            size = sync(self.store.getsize(key))
            start, stop = (0, size) if asked is None else asked.within(size)
            if asked is not None and start >= stop:
                headers = {"Content-Range": f"bytes */{size}"}
                self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", headers)
                return
            if stop - start > OBJECT_BYTES:
                self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"the object is too large\n")
                return
            wanted = RangeByteRequest(start, stop)
            found = sync(self.store.get(key, default_buffer_prototype(), wanted))
        except FileNotFoundError:
            found = None
        except unreachable_errors() as error:
            self._send(HTTPStatus.BAD_GATEWAY, f"{describe_error(error)}\n".encode())
            return
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, b"there is no such object\n")
            return
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        status = HTTPStatus.OK
        if asked is not None:
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        body = bytes(found.to_bytes())
        # A root of many arrays says the same of each: compressed, it takes a twentieth.
        if asked is None and key.endswith("zarr.json") and self._takes_gzip():
            body, headers["Content-Encoding"] = gzip.compress(body, 6), "gzip"
        self._send(status, body, headers)

    def _takes_gzip(self) -> bool:
        return "gzip" in (self.headers.get("Accept-Encoding") or "")

    def _send(self, status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-cache")
            self.send_header("X-Content-Type-Options", "nosniff")
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):  # the browser no longer wants it
            self.close_connection = True


def _is_key(key: str) -> bool:
    """Return whether a path is a key of a store: it leads nowhere else."""
    parts = key.split("/")
    return all(part not in ("", ".", "..") for part in parts) and not set(key) & {"\\", "\0", ":"}
