"""Answers from web services: tried again while there is hope, never faster than allowed.

What is gone for good (404, 410, a damaged answer) is a `GoneError`, which a build counts.
What may come back (429, 5xx, no connection) is tried again, and then ends the build with an error;
a later run goes on where this one stopped.
"""

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from unigeo.schemas.errors import ObservationsError, StoreError

TIMEOUT_S = 60.0
HEAD_BYTES = 1 << 16
"""First bytes of an object, by which it is known where its server says nothing of it."""
TRIES = 6
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_GONE = frozenset({404, 410})


class GoneError(Exception):
    """An observation that is not to be had; its message is the reason that is counted."""


@dataclass(eq=False)
class WebClient:
    """A polite client of one service."""

    per_second: float = 10.0
    """Requests, at most."""
    headers: Mapping[str, str] = field(default_factory=dict)
    first_wait_s: float = FIRST_WAIT_S
    """Before the second try; each later wait is twice as long, unless the server says how long."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _next: float = 0.0
    _session: threading.local = field(default_factory=threading.local)

    def json(self, url: str, *, params: Any = None, body: Any = None, form: Any = None) -> Any:
        """Ask for JSON: by GET, or by POST of a JSON body or a form.

        Raises:
            GoneError: the address is gone, or the answer is no JSON.
            StoreError: the service cannot be reached.
            ObservationsError: it refuses the question.
        """
        answer = self._ask("GET" if body is form is None else "POST", url, params, body, form)
        try:
            return answer.json()
        except ValueError as error:
            raise GoneError("damaged answer") from error

    def bytes(self, url: str) -> bytes:
        """Fetch an object.

        Raises:
            GoneError: there is no such object.
            StoreError: it cannot be reached.
        """
        return bytes(self._ask("GET", url, None, None, None).content)

    def check(self, url: str) -> None:
        """Ask whether an object is there, without fetching it.

        Raises:
            GoneError: there is no such object.
            StoreError: it cannot be reached.
        """
        self._ask("HEAD", url, None, None, None)

    def object_identity(self, url: str) -> dict[str, Any]:
        """What a server says of an object, by which another one under its address is known.

        Returns:
            `bytes`, and `etag` or `last_modified`; of a server that says neither `head_sha256`, of
            the object's first bytes.

        Raises:
            GoneError: there is no such object.
            StoreError: it cannot be reached.
        """
        headers = self._ask("HEAD", url, None, None, None).headers
        size = headers.get("Content-Length", "")
        known: dict[str, Any] = {"bytes": int(size)} if size.isdecimal() else {}
        for header, key in (("ETag", "etag"), ("Last-Modified", "last_modified")):
            if headers.get(header):
                return known | {key: headers[header]}
        first = {"Range": f"bytes=0-{HEAD_BYTES - 1}"}
        with self._ask("GET", url, None, None, None, first) as answer:
            body = answer.raw.read(HEAD_BYTES, decode_content=False)
        return known | {"head_sha256": hashlib.sha256(body).hexdigest()}

    def _ask(
        self,
        method: str,
        url: str,
        params: Any,
        body: Any,
        form: Any,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        wait, last = self.first_wait_s, ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(min(wait, LONGEST_WAIT_S))
                wait *= 2
            self._pace()
            try:
                answer = self._own_session().request(
                    method, url, params=params, json=body, data=form, timeout=TIMEOUT_S,
                    headers={**self.headers, **(headers or {})}, allow_redirects=True,
                    stream=headers is not None,  # a server may send the whole object all the same
                )  # fmt: skip
            except requests.RequestException as error:
                last = type(error).__name__
                continue
            if answer.status_code in _GONE:
                raise GoneError(f"HTTP {answer.status_code}")
            if answer.status_code in _AGAIN:
                last = f"HTTP {answer.status_code}"
                wait = _told(answer, wait)
                continue
            if not answer.ok:
                raise ObservationsError(
                    f"{_bare(url)} answers HTTP {answer.status_code}: {answer.text[:200]!r}. "
                    "Check the address, the access token and the settings of this source."
                )
            return answer
        raise StoreError(
            f"{_bare(url)} cannot be reached: {last} after {TRIES} tries. Run the same command "
            "again later; it goes on where it stopped."
        )

    def _own_session(self) -> requests.Session:
        """One connection pool per thread."""
        if not hasattr(self._session, "own"):
            self._session.own = requests.Session()
        session: requests.Session = self._session.own
        return session

    def _pace(self) -> None:
        """Wait for this request's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + 1 / self.per_second
        time.sleep(max(0.0, turn - now))


def _told(answer: requests.Response, wait: float) -> float:
    """Seconds that the server asks to wait, or those of our own."""
    try:
        return max(float(answer.headers["Retry-After"]), 0.0)
    except (KeyError, ValueError):
        return wait


def _bare(url: str) -> str:
    """An address without its query, which may hold a token."""
    return url.split("?")[0]
