"""Requests to web services, with a limited rate and retries.

What is gone for good (404, 410, a damaged answer) raises `GoneError`, which a build counts as a
missing observation. Other failures (408, 425, 429, 5xx, no connection) are retried; if they persist
they end the build with an error, and a later run resumes it.
"""

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import requests

from unigeo.schemas.errors import ObservationsError, StoreError
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.io.retrying import (
    FIRST_WAIT_S,
    is_transient_status,
    outage_waits_s,
    say_waiting,
)

TIMEOUT_S = 60.0
HEAD_BYTES = 1 << 16
"""Number of an object's first bytes that are hashed if its server states neither ETag nor date."""
LONGEST_WAIT_S = 60.0
"""Longest wait before a retry, whatever the server asks for."""
_GONE = frozenset({404, 410})


class GoneError(Exception):
    """An observation does not exist any more; the message is the reason that is counted."""


@dataclass(eq=False)
class WebClient:
    """Client of one service, which several threads may share."""

    per_second: float = 10.0
    """Largest number of requests per second."""
    headers: Mapping[str, str] = field(default_factory=dict)
    first_wait_s: float = FIRST_WAIT_S
    """First wait before a retry, see `retrying.waits_s`; a server may ask for another wait."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _next: float = 0.0
    _session: threading.local = field(default_factory=threading.local)

    def json(self, url: str, *, params: Any = None, body: Any = None, form: Any = None) -> Any:
        """Request JSON: by GET, or by POST of a JSON body or a form.

        Raises:
            GoneError: the address is gone, or the answer is no JSON.
            StoreError: the service cannot be reached.
            ObservationsError: the service refuses the request.
        """
        method = "GET" if body is form is None else "POST"
        answer = self._request(method, url, params=params, body=body, form=form)
        try:
            return load_json(answer.content)
        except ValueError as error:
            raise GoneError("damaged answer") from error

    def bytes(self, url: str) -> bytes:
        """Fetch an object.

        Raises:
            GoneError: there is no such object.
            StoreError: the service cannot be reached.
        """
        return bytes(self._request("GET", url).content)

    def check(self, url: str) -> None:
        """Check that an object exists, without fetching it.

        Raises:
            GoneError: there is no such object.
            StoreError: the service cannot be reached.
        """
        self._request("HEAD", url)

    def object_identity(self, url: str) -> dict[str, Any]:
        """Return properties of an object that change when it is replaced.

        Returns:
            `bytes`, and `etag` or `last_modified`; if the server states neither, `head_sha256`, a
            hash of the object's first bytes.

        Raises:
            GoneError: there is no such object.
            StoreError: it cannot be reached.
        """
        headers = self._request("HEAD", url).headers
        size = headers.get("Content-Length", "")
        identity: dict[str, Any] = {"bytes": int(size)} if size.isdecimal() else {}
        for header, key in (("ETag", "etag"), ("Last-Modified", "last_modified")):
            if headers.get(header):
                return identity | {key: headers[header]}
        first = {"Range": f"bytes=0-{HEAD_BYTES - 1}"}
        with self._request("GET", url, headers=first) as answer:
            body = answer.raw.read(HEAD_BYTES, decode_content=False)
        return identity | {"head_sha256": hashlib.sha256(body).hexdigest()}

    def _request(
        self,
        method: str,
        url: str,
        *,
        params: Any = None,
        body: Any = None,
        form: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request until it succeeds or fails for good, or an outage has lasted too long."""
        waits = outage_waits_s(self.first_wait_s)
        for tries in count(1):
            self._pace()
            wait_s = next(waits, None)
            try:
                answer = self._thread_session().request(
                    method, url, params=params, json=body, data=form, timeout=TIMEOUT_S,
                    headers={**self.headers, **(headers or {})}, allow_redirects=True,
                    stream=headers is not None,  # a server may ignore the range and send it all
                )  # fmt: skip
            except requests.RequestException as error:
                failure = type(error).__name__
                if isinstance(error, ValueError):  # an address that no server can have
                    wait_s = None
            else:
                if answer.status_code in _GONE:
                    raise GoneError(f"HTTP {answer.status_code}")
                if answer.ok:
                    return answer
                if not is_transient_status(answer.status_code):
                    raise ObservationsError(
                        f"{_without_query(url)} answers HTTP {answer.status_code}: "
                        f"{answer.text[:200]!r}. Check the address, the access token and the "
                        "settings of this source."
                    )
                failure = f"HTTP {answer.status_code}"
                if wait_s is not None:
                    wait_s = _retry_after_s(answer, wait_s)
            if wait_s is None:
                raise StoreError(
                    f"{_without_query(url)} cannot be reached: {failure} after {tries} tries. Run "
                    "the same command again later; it goes on where it stopped."
                )
            if tries > 1:  # a single failure is no outage
                say_waiting(f"{_without_query(url)} cannot be reached: {failure}")
            time.sleep(min(wait_s, LONGEST_WAIT_S))
        raise AssertionError("the loop returns or raises")

    def _thread_session(self) -> requests.Session:
        """Return the connection pool of this thread; a session of requests is not thread-safe."""
        if not hasattr(self._session, "value"):
            self._session.value = requests.Session()
        session: requests.Session = self._session.value
        return session

    def _pace(self) -> None:
        """Wait until the rate limit permits a request."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + 1 / self.per_second
        time.sleep(max(0.0, start - now))  # without the lock, so that others can queue


def _retry_after_s(answer: requests.Response, wait_s: float) -> float:
    """Return the seconds that the server asks to wait, or `wait_s` if it states none."""
    try:
        return max(float(answer.headers["Retry-After"]), 0.0)
    except (KeyError, ValueError):
        return wait_s


def _without_query(url: str) -> str:
    """Drop the query of an address, which may hold a token."""
    return url.split("?")[0]
