"""The state of a store that an open field reads; an object that changes meanwhile is an error.

Each object's version is remembered when it is first seen: of a file its inode, size and time of
modification; of a remote object its entity tag, or else its time, and its size. An object with
another version later, or first seen with a time after the field was opened, is compared with the
manifest by its SHA-256, so that a store that was touched, backed up or copied anew with the same
bytes can still be read. A change between reading an object's version and copying its bytes is not
noticed.
"""

import hashlib
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from unigeo.schemas.errors import DamagedError
from unigeo.schemas.io.json_text import load_json

if TYPE_CHECKING:
    from zarr.abc.store import Store

    from unigeo.client.reading.object_listing import Listing

ROOT = "zarr.json"


class ObjectVersion(NamedTuple):
    """What distinguishes one state of an object from another."""

    tag: Any
    """Device, inode and modification time of a file; entity tag of a remote object."""
    size_bytes: int
    changed_ns: int
    """Time of the last change, nanoseconds since 1970 by the store's clock; 0 if unknown."""

    def same(self, other: "ObjectVersion") -> bool:
        """Return whether both describe the same object in the same state."""
        return (self.tag, self.size_bytes) == (other.tag, other.size_bytes)


def version_of_file(result: os.stat_result) -> ObjectVersion:
    """Return a file's version from its `stat`.

    Owner, mode and links are no part of the tag, though changing them sets `changed_ns`.
    """
    tag = (result.st_dev, result.st_ino, result.st_mtime_ns)
    return ObjectVersion(tag, result.st_size, result.st_ctime_ns)


def version_of_meta(meta: Mapping[str, Any]) -> ObjectVersion:
    """Return a remote object's version from obstore's `ObjectMeta`."""
    changed = meta.get("last_modified")
    changed_ns = 0 if changed is None else int(changed.timestamp()) * 10**9
    return ObjectVersion(meta.get("e_tag") or changed_ns, int(meta["size"]), changed_ns)


class Generation:
    """The versions of a store's objects as an open field first saw them."""

    def __init__(self, store: "Store", listing: "Listing | None" = None) -> None:
        """Begin to watch; without a listing an object that changes later is an error at once."""
        self._store, self._listing = store, listing
        self._seen: dict[str, tuple[ObjectVersion, ...]] = {}
        self._opened_ns = time.time_ns()
        self._lock = threading.Lock()
        self.root_unchecked = False
        """Whether objects were seen for the first time since the root was last checked."""

    def accepts(self, key: str, version: ObjectVersion) -> bool:
        """Return whether an object's version is known, or is new and not too young.

        If it is not, `check_content` reads the object and decides.
        """
        with self._lock:
            seen = self._seen.get(key)
            if seen is not None:
                return any(one.same(version) for one in seen)
            # Written after the field was opened. The root is exempt: it defines what was opened.
            too_young = version.changed_ns > self._opened_ns and key != ROOT
            if too_young and self._listing is not None:
                return False
            self._seen[key] = (version,)
            self.root_unchecked = self.root_unchecked or key != ROOT
            return True

    async def check_content(self, key: str) -> None:
        """Compare an object with what was published, and accept its version if they are equal.

        The root's attributes are compared; of other objects the SHA-256, with the manifest's.

        Raises:
            DamagedError: if they differ, or nothing says what the object should be.
        """
        from unigeo.client.reading.range_requests import get_with_version

        if self._listing is None:
            raise changed_error(key)
        body, version = await get_with_version(self._store, key)
        if body is None or version is None:
            raise changed_error(key)
        content = bytes(body.to_bytes())
        if key == ROOT:
            try:
                same = load_json(content)["attributes"] == await self._listing.attributes()
            except (ValueError, TypeError, KeyError):
                same = False
        else:
            same = hashlib.sha256(content).digest() == await self._listing.sha256(key)
        if not same:
            raise changed_error(key)
        with self._lock:
            # Older versions stay accepted: they had the same content.
            self._seen[key] = (*self._seen.get(key, ()), version)

    async def check_root(self) -> None:
        """Check that the root is still the one that was opened.

        Raises:
            DamagedError: if it is another.
        """
        from unigeo.client.reading.range_requests import object_version

        self.root_unchecked = False
        version = await object_version(self._store, ROOT)
        if version is not None and not self.accepts(ROOT, version):
            await self.check_content(ROOT)


def changed_error(key: str) -> DamagedError:
    """Return the error of an object that changed since the field was opened."""
    return DamagedError(
        f"{key} changed since the field was opened: the store was replaced, or is being written. "
        "Open it again, and take no answers of before and after together"
    )
