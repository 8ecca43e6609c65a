"""A Zarr store that raises where plain Zarr would fill in: an object lost, cut off or replaced.

Whatever Zarr or xarray reads of an open field comes through it, lazily and in other processes too.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import WrapperStore

from unigeo.client.reading.generations import ROOT, Generation
from unigeo.client.reading.object_listing import Listing, damaged, lost, short
from unigeo.client.reading.range_requests import get_watched
from unigeo.schemas.errors import DamagedError, LayoutError, StoreError, UnigeoError
from unigeo.schemas.io.stores import check_process, explained, ignores_ranges, unreachable_errors
from unigeo.schemas.store.sharding import index_bytes, parse_index

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


class CheckedStore(WrapperStore[Store]):
    """Reads of another store, compared with its listing and its generation."""

    def __init__(
        self,
        store: Store,
        listing: Listing | None = None,
        generation: Generation | None = None,
    ) -> None:
        """Take a published store; sent to another process it begins to watch anew."""
        super().__init__(store)
        self.listing = listing or Listing(store)
        self.generation = generation or Generation(store, self.listing)

    def _with_store(self, store: Store) -> Any:
        return type(self)(store, self.listing, self.generation)

    def __reduce__(self) -> Any:
        return type(self), (self._store,)

    def __str__(self) -> str:
        return str(self._store)

    @property
    def unchecked(self) -> Store:
        """The store itself."""
        return self._store

    @property
    def _supports_sync_io(self) -> bool:
        return False  # so that Zarr calls `get` alone

    async def get(
        self,
        key: str,
        prototype: "BufferPrototype | None" = None,
        byte_range: "ByteRequest | None" = None,
    ) -> "Buffer | None":
        """An object, or a part of it; None where the store is to have none.

        Raises:
            DamagedError: if it is lost, cut off, or another than when the field was opened.
            StoreError: if it cannot be read.
        """
        check_process(self._store)
        try:
            body = await get_watched(self._store, key, byte_range, self.generation)
        except unreachable_errors() as error:
            if isinstance(error, UnigeoError) or key == ROOT:  # whose opener has the address
                raise
            if _denied(error) and await self.listing.size(key) == 0:
                return None  # a bucket that does not allow listing says so of what it lacks
            raise StoreError(f"cannot read {key}: {explained(error)}") from error
        if body is None:
            if await self.listing.size(key):
                raise lost(key)
            return None
        await self._check(key, body, byte_range)
        return (prototype or default_buffer_prototype()).buffer.from_buffer(body)

    async def _check(self, key: str, body: "Buffer", wanted: "ByteRequest | None") -> None:
        """Refuse what is longer or shorter than asked for, or the end of no shard."""
        asked = _size_of(wanted)
        if asked is not None and len(body) > asked:
            raise ignores_ranges(key)
        if key.endswith("zarr.json"):
            return
        if isinstance(wanted, RangeByteRequest):
            if len(body) < wanted.end - wanted.start:
                raise short(key, wanted.start + len(body), wanted.end)
            return
        node = await self.listing.node(key)
        if node is None:
            return
        if wanted is None and node.object_bytes is not None and len(body) != node.object_bytes:
            raise short(key, len(body), node.object_bytes)
        if node.index_chunks is not None:
            try:
                tail = body[max(0, len(body) - index_bytes(node.index_chunks)) :]
                parse_index(bytes(tail.to_bytes()), node.index_chunks)
            except LayoutError as error:
                raise damaged(key, error) from error

    async def prove(self, key: str) -> None:
        """Compare a whole object with the manifest by its SHA-256, where the manifest has one.

        Raises:
            DamagedError: if it is another, or the manifest is not the root's own.
        """
        digest = (await self.listing.attributes()).get("unigeo", {}).get("manifest_sha256")
        if not digest:
            return  # an older store: nothing vouches for its manifest
        expected = await self.listing.sha256(key)
        if expected is None:
            for part in await self.listing.manifest_objects():
                if await self.get(part) is None:
                    raise lost(part)
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
        """Several parts, one after another; see `get`."""
        return [await self.get(key, prototype, wanted) for key, wanted in key_ranges]

    async def get_ranges(
        self,
        key: str,
        byte_ranges: "Sequence[ByteRequest | None]",
        *,
        prototype: "BufferPrototype",
        **options: Any,
    ) -> "AsyncIterator[Sequence[tuple[int, Buffer | None]]]":
        """Several parts of an object, at once; see `get`."""
        given = {name: value for name, value in options.items() if value is not None}
        try:
            async for group in Store.get_ranges(
                self, key, byte_ranges, prototype=prototype, **given
            ):
                yield group
        except BaseExceptionGroup as group:
            own: BaseException | None = group.split(UnigeoError)[0]
            while isinstance(own, BaseExceptionGroup):
                own = own.exceptions[0]
            if own is None:
                raise
            raise own from group

    async def _get_many(self, requests: Any) -> Any:
        """Several objects; see `get`."""
        for key, prototype, wanted in requests:
            yield key, await self.get(key, prototype, wanted)


def unchecked(store: Store) -> Store:
    """A store without the checks, if it has any."""
    return store.unchecked if isinstance(store, CheckedStore) else store


def _size_of(wanted: "ByteRequest | None") -> int | None:
    """How many bytes a request is for, if it says so."""
    if isinstance(wanted, RangeByteRequest):
        return wanted.end - wanted.start
    return wanted.suffix if isinstance(wanted, SuffixByteRequest) else None


def _denied(error: BaseException) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"PermissionError", "PermissionDeniedError"})
