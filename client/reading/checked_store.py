"""A Zarr store that raises on lost, truncated or replaced objects; plain Zarr reads fill values.

Zarr and xarray read an open field only through this store, also lazily and in other processes.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import WrapperStore

from unigeo.client.reading.cached_store import CachedStore
from unigeo.client.reading.generations import ROOT, Generation
from unigeo.client.reading.object_listing import Listing, damaged_error, lost_error, size_error
from unigeo.client.reading.range_requests import get_checked
from unigeo.schemas.errors import DamagedError, LayoutError, StoreError, UnigeoError
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.io.store_errors import (
    describe_error,
    is_denied,
    range_ignored_error,
    unreachable_errors,
)
from unigeo.schemas.io.stores import check_process
from unigeo.schemas.store.sharding import index_bytes, parse_index

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


class CheckedStore(WrapperStore[Store]):
    """Wraps a store, and compares what is read with its listing and its generation."""

    def __init__(
        self,
        store: Store,
        listing: Listing | None = None,
        generation: Generation | None = None,
    ) -> None:
        """Wrap a published store, with the listing and generation of an earlier wrapper if any."""
        super().__init__(store)
        self.listing = listing or Listing(store)
        if isinstance(store, CachedStore):
            store.listing = self.listing
        self.generation = generation or Generation(store, self.listing)

    def _with_store(self, store: Store) -> Any:
        return type(self)(store, self.listing, self.generation)

    def __reduce__(self) -> Any:
        # Locks cannot be sent to another process, where checking begins anew.
        return type(self), (self._store,)

    def __str__(self) -> str:
        return str(self._store)

    @property
    def unchecked(self) -> Store:
        """The wrapped store."""
        return self._store

    @property
    def _supports_sync_io(self) -> bool:
        return False  # so that Zarr reads by `get` only, which checks

    async def get(
        self,
        key: str,
        prototype: "BufferPrototype | None" = None,
        byte_range: "ByteRequest | None" = None,
    ) -> "Buffer | None":
        """Read an object or a part of it; return None if the store is to have no such object.

        Raises:
            DamagedError: if it is lost, truncated, or changed since the field was opened.
            StoreError: if it cannot be read.
        """
        check_process(self._store)
        try:
            body = await get_checked(self._store, key, byte_range, self.generation)
        except unreachable_errors() as error:
            if isinstance(error, UnigeoError) or key == ROOT:  # `open_root` names the address
                raise
            if is_denied(error) and await self.listing.size(key) == 0:
                return None  # a bucket that forbids listing denies access to what does not exist
            raise StoreError(f"cannot read {key}: {describe_error(error)}") from error
        if body is None:
            if await self.listing.size(key):
                raise lost_error(key)
            return None
        await self._check(key, body, byte_range)
        return (prototype or default_buffer_prototype()).buffer.from_buffer(body)

    async def _check(self, key: str, body: "Buffer", byte_range: "ByteRequest | None") -> None:
        """Raise if the bytes have another size than requested, or the wrong end for a shard."""
        size = _size_of(byte_range)
        if size is not None and len(body) > size:
            raise range_ignored_error(key)
        if key.endswith("zarr.json"):
            return
        if isinstance(byte_range, RangeByteRequest):
            if len(body) < byte_range.end - byte_range.start:
                raise size_error(key, byte_range.start + len(body), byte_range.end)
            return
        # The end of an object was read, or all of it: compare its size, and a shard's index.
        node = await self.listing.node(key)
        if node is None:
            return
        expected = node.object_bytes
        if byte_range is None and expected is not None and len(body) != expected:
            raise size_error(key, len(body), expected)
        if node.index_chunks is not None:
            try:
                tail = body[max(0, len(body) - index_bytes(node.index_chunks)) :]
                parse_index(bytes(tail.to_bytes()), node.index_chunks)
            except LayoutError as error:
                raise damaged_error(key, error) from error

    async def check_content(self, key: str) -> None:
        """Compare a whole object with the manifest by its SHA-256, if the manifest has one.

        Raises:
            DamagedError: if it differs, or the manifest is not the one that the root names.
        """
        digest = (await self.listing.attributes()).get("unigeo", {}).get("manifest_sha256")
        if not digest:
            return  # an older store, which holds no digest of its manifest
        expected = await self.listing.sha256(key)
        if expected is None:
            for part in await self.listing.manifest_objects():
                body = await self.get(part)
                if body is None:
                    raise lost_error(part)
                if part.endswith("zarr.json") and not _is_json(bytes(body.to_bytes())):
                    raise DamagedError(f"{part} is no JSON: it is cut off. Copy the store anew")
            raise DamagedError(
                "the manifest is not the one whose digest the root holds: it is lost or damaged. "
                "Copy the store anew"
            )
        body = await self.get(key)
        if body is not None and hashlib.sha256(body.to_bytes()).digest() != expected:
            raise DamagedError(
                f"{key} is not the object that the manifest lists (another SHA-256): it is damaged "
                "or was replaced. Copy it anew"
            )

    async def get_partial_values(
        self,
        prototype: "BufferPrototype",
        key_ranges: "Iterable[tuple[str, ByteRequest | None]]",
    ) -> "list[Buffer | None]":
        """Read several parts, one after another; see `get`."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def get_ranges(
        self,
        key: str,
        byte_ranges: "Sequence[ByteRequest | None]",
        *,
        prototype: "BufferPrototype",
        **options: Any,
    ) -> "AsyncIterator[Sequence[tuple[int, Buffer | None]]]":
        """Read several parts of an object concurrently; see `get`."""
        given = {name: value for name, value in options.items() if value is not None}
        try:
            async for group in Store.get_ranges(
                self, key, byte_ranges, prototype=prototype, **given
            ):
                yield group
        except BaseExceptionGroup as group:
            # Zarr's tasks raise in a group; callers catch the first of our own errors in it.
            error: BaseException | None = group.split(UnigeoError)[0]
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            if error is None:
                raise
            raise error from group

    async def _get_many(self, requests: Any) -> Any:
        """Read several objects; see `get`."""
        for key, prototype, byte_range in requests:
            yield key, await self.get(key, prototype, byte_range)


def unchecked(store: Store) -> Store:
    """Return the store without checks."""
    return store.unchecked if isinstance(store, CheckedStore) else store


def _is_json(content: bytes) -> bool:
    try:
        load_json(content)
    except ValueError:
        return False
    return True


def _size_of(byte_range: "ByteRequest | None") -> int | None:
    """Return how many bytes are requested at most; None if any number."""
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.end - byte_range.start
    return byte_range.suffix if isinstance(byte_range, SuffixByteRequest) else None
