"""Opens a store's root so that whatever is read below it is checked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from unigeo.client.reading.generations import Generation
from unigeo.client.reading.mapped_files import MappedFiles
from unigeo.client.reading.object_listing import Listing, Sizes
from unigeo.client.reading.range_requests import ObjectSource, Requests
from unigeo.schemas.errors import DamagedError, StoreError, UnigeoError
from unigeo.schemas.io.store_errors import damage_errors, describe_error, unreachable_errors
from unigeo.schemas.io.stores import open_group

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store


@dataclass(frozen=True, eq=False)
class CheckedRoot:
    """A store's root group, and how the objects below it are read."""

    group: "zarr.Group"
    """The root; it reads through a `CheckedStore`, unless there is no listing."""
    source: ObjectSource
    listing: Listing | None
    """The objects that should exist; None while the store is being built and nothing says it."""

    def sizes_of(self, path: str) -> Callable[[], Sizes | None]:
        """Return a function that reads, once, the manifest's sizes of an array's objects."""
        from zarr.core.sync import sync

        @cache
        def sizes() -> Sizes | None:
            return None if self.listing is None else sync(self.listing.sizes(path))

        return sizes


def open_root(store: "Store", url: Any, *, building: bool = False) -> CheckedRoot:
    """Open the root of a field's store.

    Args:
        store: plain, or checked already.
        url: its name in messages.
        building: accept a store that is not published yet.

    Raises:
        StoreError: as `schemas.io.stores.open_group`.
    """
    from unigeo.client.reading.checked_store import CheckedStore, unchecked

    if building:
        group = open_group(url, store=unchecked(store), consolidated=False)
        attributes = group.attrs.get("unigeo")
        if not (isinstance(attributes, dict) and attributes.get("state") == "published"):
            return CheckedRoot(group, source_of(group.store, Generation(group.store)), None)
    checked = store if isinstance(store, CheckedStore) else CheckedStore(store)
    group = open_group(url, store=checked)
    checked.listing.set_root(group.metadata)
    return CheckedRoot(group, source_of(checked.unchecked, checked.generation), checked.listing)


def source_of(store: "Store", generation: Generation | None = None) -> ObjectSource:
    """Return the fastest source of a Zarr store's bytes."""
    from zarr.storage import LocalStore

    if isinstance(store, LocalStore):
        return MappedFiles(store.root, generation)
    return Requests(store, generation=generation)


@contextmanager
def errors_naming(what: str) -> Iterator[None]:
    """Turn Zarr's errors over a store's bytes into ours, which name `what` was read."""
    try:
        yield
    except UnigeoError:
        raise
    except unreachable_errors() as error:
        raise StoreError(f"cannot read {what}: {describe_error(error)}") from error
    except damage_errors() as error:  # of the codecs: a wrong checksum or a truncated stream
        raise DamagedError(
            f"cannot read {what}: {describe_error(error)}. It is damaged: `unigeo verify` names "
            "the object; copy it anew"
        ) from error
