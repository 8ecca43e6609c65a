"""Answers from web services: tried again while there is hope, never faster than allowed.

What is gone for good (404, 410, a damaged answer) is a `GoneError`, which a build counts.
What may come back (408, 425, 429, 5xx, no connection) is tried again, and then ends the build with
an error; a later run goes on where this one stopped.
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
from unigeo.schemas.io.retrying import FIRST_WAIT_S, is_transient_status, waits_s

TIMEOUT_S = 60.0
HEAD_BYTES = 1 << 16
"""First bytes of an object, by which it is known where its server says nothing of it."""
LONGEST_WAIT_S = 60.0
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
    """See `retrying.waits_s`; a server may ask for a longer or shorter wait."""
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
        waits = waits_s(first_wait_s=self.first_wait_s)
        for tries in count(1):
            self._pace()
            wait_s = next(waits, None)
            try:
                answer = self._own_session().request(
                    method, url, params=params, json=body, data=form, timeout=TIMEOUT_S,
                    headers={**self.headers, **(headers or {})}, allow_redirects=True,
                    stream=headers is not None,  # a server may send the whole object all the same
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
                        f"{_bare(url)} answers HTTP {answer.status_code}: {answer.text[:200]!r}. "
                        "Check the address, the access token and the settings of this source."
                    )
                failure = f"HTTP {answer.status_code}"
                if wait_s is not None:
                    wait_s = _retry_after_s(answer, wait_s)
            if wait_s is None:
                raise StoreError(
                    f"{_bare(url)} cannot be reached: {failure} after {tries} tries. Run the same "
                    "command again later; it goes on where it stopped."
                )
            time.sleep(min(wait_s, LONGEST_WAIT_S))
        raise AssertionError("the loop returns or raises")

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


def _retry_after_s(answer: requests.Response, wait_s: float) -> float:
    """Seconds that the server asks to wait; `wait_s` where it does not say."""
    try:
        return max(float(answer.headers["Retry-After"]), 0.0)
    except (KeyError, ValueError):
        return wait_s


def _bare(url: str) -> str:
    """An address without its query, which may hold a token."""
    return url.split("?")[0]
