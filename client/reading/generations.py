"""Which state of a store an open field reads: objects that change meanwhile are an error.

Each object is remembered as it was first seen: a file by its inode, size and time of change, a
remote object by its entity tag, or else its time, and its size. One that is another later, or that
first came after the field was opened, is compared with the manifest by its SHA-256, so that a store
that was touched, backed up or copied anew with the same bytes reads on. What this cannot see is an
object that is changed in the moment between the look at it and the copy of its bytes.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from unigeo.schemas.errors import DamagedError

if TYPE_CHECKING:
    from zarr.abc.store import Store

    from unigeo.client.reading.object_listing import Listing

ROOT = "zarr.json"


class ObjectVersion(NamedTuple):
    """What tells one state of an object from another."""

    tag: Any
    """A file's device, inode and time of last writing; an entity tag."""
    size_bytes: int
    changed_ns: int
    """When it came to be what it is, nanoseconds since 1970 by the store's clock; 0: unknown."""

    def same(self, other: "ObjectVersion") -> bool:
        """Whether both are of the same object in the same state."""
        return (self.tag, self.size_bytes) == (other.tag, other.size_bytes)


def identity_of_file(found: os.stat_result) -> ObjectVersion:
    """A file's; its owner, mode and links are no part of it, though they set `changed_ns`."""
    tag = (found.st_dev, found.st_ino, found.st_mtime_ns)
    return ObjectVersion(tag, found.st_size, found.st_ctime_ns)


def identity_of_meta(meta: Mapping[str, Any]) -> ObjectVersion:
    """A remote object's, from what obstore says of it."""
    changed = meta.get("last_modified")
    changed_ns = 0 if changed is None else int(changed.timestamp()) * 10**9
    return ObjectVersion(meta.get("e_tag") or changed_ns, int(meta["size"]), changed_ns)


class Generation:
    """The objects of a store as an open field first saw them."""

    def __init__(self, store: "Store", listing: "Listing | None" = None) -> None:
        """Begin to watch; without a listing an object that is another later is an error at once."""
        self._store, self._listing = store, listing
        self._seen: dict[str, tuple[ObjectVersion, ...]] = {}
        self._opened_ns = time.time_ns()
        self._lock = threading.Lock()
        self.unsettled = False
        """Whether objects were seen for the first time since the root was last looked at."""

    def knows(self, key: str, identity: ObjectVersion) -> bool:
        """Whether an object is as it was seen before, or is seen first and is not too new.

        Else `prove` tells, which reads it.
        """
        with self._lock:
            seen = self._seen.get(key)
            if seen is not None:
                return any(one.same(identity) for one in seen)
            late = identity.changed_ns > self._opened_ns and key != ROOT
            if late and self._listing is not None:
                return False
            self._seen[key] = (identity,)
            self.unsettled = self.unsettled or key != ROOT
            return True

    async def prove(self, key: str) -> None:
        """Compare an object with what was published, and remember its identity if they are equal.

        Of the root the attributes are compared, of others the SHA-256 with the manifest's.

        Raises:
            DamagedError: if they differ, or nothing says what it should be.
        """
        from unigeo.client.reading.range_requests import get_object

        if self._listing is None:
            raise changed(key)
        body, identity = await get_object(self._store, key)
        if body is None or identity is None:
            raise changed(key)
        content = bytes(body.to_bytes())
        if key == ROOT:
            try:
                same = json.loads(content)["attributes"] == await self._listing.attributes()
            except (ValueError, TypeError, KeyError):
                same = False
        else:
            same = hashlib.sha256(content).digest() == await self._listing.sha256(key)
        if not same:
            raise changed(key)
        with self._lock:
            self._seen[key] = (*self._seen.get(key, ()), identity)

    async def settle(self) -> None:
        """Look whether the root is still the one that was opened.

        Raises:
            DamagedError: if it is another.
        """
        from unigeo.client.reading.range_requests import look_at

        self.unsettled = False
        identity = await look_at(self._store, ROOT)
        if identity is not None and not self.knows(ROOT, identity):
            await self.prove(ROOT)


def changed(key: str) -> DamagedError:
    """The error of an object that is another than the one that the field was opened on."""
    return DamagedError(
        f"{key} changed since the field was opened: the store was replaced, or is being written. "
        "Open it again, and take no answers of before and after together"
    )
