"""A remote store read through a cache on disk.

An object is named in the cache by its SHA-256 in the store's manifest and by the address of the
store. The root is read anew at each opening, which costs one request without a body where it is
unchanged. Bytes are kept only if they are of the root that was opened: the root is the same after
they were read, and their object is either not younger than the root or was there well before the
opening. Objects that the manifest does not list are not kept, nor anything of a store without one.
"""

import asyncio
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import ObjectStore, WrapperStore

from unigeo.client.caching.range_database import MOST_BYTES, RangeDatabase, Root, Run
from unigeo.client.reading.generations import ROOT, ObjectVersion, version_of_meta
from unigeo.client.reading.object_listing import array_path
from unigeo.client.reading.range_requests import get_with_version, object_version
from unigeo.schemas.errors import StoreError, UnigeoError
from unigeo.schemas.io.store_errors import unreachable_errors
from unigeo.schemas.io.stores import check_process
from unigeo.schemas.store.manifest import GROUP as MANIFEST

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from unigeo.client.reading.object_listing import Listing

VARIABLE, VARIABLE_MB = "UNIGEO_CACHE", "UNIGEO_CACHE_MB"
"""Environment variables of the cache's folder, and of its size."""
_MOST_PENDING_BYTES = 1 << 23
"""Bytes that wait to be kept, beyond which the root is compared and they are."""
_OF_MANIFEST = f"{MANIFEST}/"
_CLOCKS_DIFFER_NS = 600 * 10**9
"""Nanoseconds by which the clocks of a server and of this machine may differ."""


def cached(store: Store, url: Any, folder: str | os.PathLike[str] | bool | None) -> Store:
    """Return a remote store that is read through the cache in a folder; any other as it is.

    Args:
        store: an open store.
        url: its address.
        folder: of the cache; by default the one that `UNIGEO_CACHE` names, if it does; False for no
            cache.

    Raises:
        StoreError: if the size that `UNIGEO_CACHE_MB` gives is no number.
    """
    folder = os.environ.get(VARIABLE) if folder is None else folder
    if not folder or not isinstance(store, ObjectStore):
        return store
    if folder is True:
        raise StoreError("cache is the folder of the cache, or False for none")
    text = os.environ.get(VARIABLE_MB, "")
    try:
        most_bytes = int(float(text) * 1e6) if text else MOST_BYTES
    except (ValueError, OverflowError) as error:
        raise StoreError(f"{VARIABLE_MB} is a number of megabytes, not {text!r}") from error
    path = Path(folder).expanduser().resolve()
    return CachedStore(store, str(url), RangeDatabase(path, most_bytes))


class CachedStore(WrapperStore[Store]):
    """Wraps a remote store; what is read twice is read from disk the second time."""

    def __init__(self, store: Store, url: str, database: RangeDatabase) -> None:
        super().__init__(store)
        self.listing: Listing | None = None
        """The objects by the manifest; nothing is kept before it is set."""
        self._url, self._database = url, database
        self._names: dict[str, bytes | None] = {}
        self._root: Root | None = None
        self._opened_ns = time.time_ns()
        self._in_flight = 0
        """Requests that are not answered yet."""
        self._pending: list[Run] = []
        """What was read, and waits for the comparison of the root."""
        self._pending_bytes = 0
        self._keeping = asyncio.Lock()

    def __reduce__(self) -> Any:
        return type(self), (self._store, self._url, self._database)

    def _with_store(self, store: Store) -> Any:
        return type(self)(store, self._url, self._database)

    def __str__(self) -> str:
        return str(self._store)

    @property
    def _supports_sync_io(self) -> bool:
        return False  # so that Zarr reads by `get` only

    async def get(
        self,
        key: str,
        prototype: "BufferPrototype | None" = None,
        byte_range: "ByteRequest | None" = None,
    ) -> "Buffer | None":
        """Read an object or a part of it."""
        body, _ = await self.read(key, byte_range)
        if body is None:
            return None
        return (prototype or default_buffer_prototype()).buffer.from_buffer(body)

    async def read(
        self, key: str, byte_range: "ByteRequest | None"
    ) -> "tuple[Buffer | None, ObjectVersion | None]":
        """Read an object or a part of it; its version is None where the cache had the bytes."""
        if key == ROOT and byte_range is None:
            return await self._read_root()
        name = await self._name(key)
        start, stop = _offsets(byte_range)
        if name is not None:
            kept = self._database.find(name, start, stop)
            if kept is not None:
                return default_buffer_prototype().buffer.from_bytes(kept), None
        check_process(self._store)
        self._in_flight += 1
        try:
            body, version = await get_with_version(self._store, key, byte_range)
        finally:
            self._in_flight -= 1
        if name is not None and body is not None and version is not None:
            self._remember(name, version, start, bytes(body.to_bytes()))
            # The root is compared once for all that was requested at one time; what is read of the
            # manifest, one object after another, waits for the cells that it is read for.
            ended = not self._in_flight and not key.startswith(_OF_MANIFEST)
            if ended or self._pending_bytes > _MOST_PENDING_BYTES:
                await self._keep()
        return body, version

    async def version(self, key: str) -> ObjectVersion | None:
        """Return an object's version, as the server says it now."""
        return await object_version(self._store, key)

    async def _keep(self) -> None:
        """Keep what was read if the root is still the one that was opened."""
        async with self._keeping:
            runs, self._pending, self._pending_bytes = self._pending, [], 0
            if runs and not await self._root_is_same():
                runs = []
            if runs:
                self._database.keep(runs)

    def _remember(self, name: bytes, version: ObjectVersion, start: int, body: bytes) -> None:
        """Let bytes wait to be kept, unless they may be of an object newer than the root."""
        settled_ns = self._opened_ns - _CLOCKS_DIFFER_NS
        root_ns = 0 if self._root is None else self._root.changed_ns
        if self._root is None or version.changed_ns > max(root_ns, settled_ns):
            return
        start = version.size_bytes + start if start < 0 else start
        if start >= 0 and start + len(body) <= version.size_bytes:
            self._pending.append(Run(name, version.size_bytes, start, body))
            self._pending_bytes += len(body)

    async def _name(self, key: str) -> bytes | None:
        """Return the name of an object in the cache; None if it is not kept."""
        if self._database.off or self.listing is None:
            return None
        if key not in self._names:
            digest = await self._content_digest(key, self.listing)
            address = hashlib.sha256(self._url.encode())
            address.update(digest or b"")
            self._names[key] = None if digest is None else address.digest()
        return self._names[key]

    async def _content_digest(self, key: str, listing: "Listing") -> bytes | None:
        """Return 32 bytes that stand for an object's content; None if nothing says what it is."""
        try:
            if key.startswith(_OF_MANIFEST):  # what the root's digest of the manifest stands for
                digest = (await listing.attributes()).get("unigeo", {}).get("manifest_sha256")
                return hashlib.sha256(f"{digest} {key}".encode()).digest() if digest else None
            digest = None if array_path(key) is None else await listing.sha256(key)
        except UnigeoError:  # of the manifest; reading goes on without the cache
            return None
        return digest if digest and any(digest) else None

    async def _read_root(self) -> "tuple[Buffer | None, ObjectVersion | None]":
        kept = self._database.root(self._root_name)
        root = await self._fetch_root(kept)
        if root is None:
            return None, None
        if root != kept and root.tag:
            self._database.keep_root(self._root_name, root)
        self._root = self._root or root
        version = ObjectVersion(root.tag or root.changed_ns, len(root.body), root.changed_ns)
        return default_buffer_prototype().buffer.from_bytes(root.body), version

    async def _fetch_root(self, kept: Root | None) -> Root | None:
        """Return the root as it is now: the one that is known if its entity tag is unchanged."""
        import obstore
        from obstore.exceptions import NotModifiedError

        check_process(self._store)
        options: Any = {"if_none_match": kept.tag} if kept is not None and kept.tag else None
        assert isinstance(self._store, ObjectStore)
        try:
            result = await obstore.get_async(self._store.store, ROOT, options=options)
            version = version_of_meta(result.meta)
            body = bytes(await result.bytes_async())
        except NotModifiedError:
            return kept
        except FileNotFoundError:
            return None
        return Root(str(result.meta.get("e_tag") or ""), version.changed_ns, body)

    async def _root_is_same(self) -> bool:
        try:
            root = await self._fetch_root(self._root)
        except unreachable_errors():
            return False
        return root is not None and self._root is not None and root.body == self._root.body

    @property
    def _root_name(self) -> bytes:
        return hashlib.sha256(f"{self._url} {ROOT}".encode()).digest()


def _offsets(byte_range: "ByteRequest | None") -> tuple[int, int | None]:
    """Return the first offset, negative from the end, and the stop; None is the end."""
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.start, byte_range.end
    if isinstance(byte_range, OffsetByteRequest):
        return byte_range.offset, None
    return (-byte_range.suffix, None) if isinstance(byte_range, SuffixByteRequest) else (0, None)
