"""An object store for Zarr that repeats requests after errors that may pass."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any

from zarr.storage import ObjectStore

from unigeo.schemas.io.retrying import is_transient, outage_waits_s, say_waiting
from unigeo.schemas.io.store_errors import unreachable_errors


def retrying(store: Any) -> Any:
    """Return a store; an object store as one that repeats its requests."""
    if not needs_retry(store):
        return store
    return RetryingObjectStore(store.store, read_only=store.read_only)


def needs_retry(store: Any) -> bool:
    """Return whether requests of a store may fail for the moment and are not repeated yet."""
    return isinstance(store, ObjectStore) and not isinstance(store, RetryingObjectStore)


class RetryingObjectStore(ObjectStore[Any]):
    """An object store for Zarr that repeats requests after errors that may pass."""

    async def get(self, *about: Any, **more: Any) -> Any:
        """See `zarr.abc.store.Store.get`."""
        return await _with_retries_async(partial(super().get, *about, **more))

    async def exists(self, key: str) -> bool:
        """See `zarr.abc.store.Store.exists`."""
        return bool(await _with_retries_async(partial(super().exists, key)))

    async def getsize(self, key: str) -> int:
        """See `zarr.abc.store.Store.getsize`."""
        return int(await _with_retries_async(partial(super().getsize, key)))

    async def set(self, key: str, value: Any) -> None:
        """See `zarr.abc.store.Store.set`."""
        await _with_retries_async(partial(super().set, key, value))

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        """See `zarr.abc.store.Store.set_if_not_exists`."""
        await _with_retries_async(partial(super().set_if_not_exists, key, value))

    async def delete(self, key: str) -> None:
        """See `zarr.abc.store.Store.delete`."""
        await _with_retries_async(partial(super().delete, key))

    async def delete_dir(self, prefix: str) -> None:
        """See `zarr.abc.store.Store.delete_dir`."""
        await _with_retries_async(partial(super().delete_dir, prefix))

    async def list_prefix(self, prefix: str) -> AsyncGenerator[str, None]:
        """See `zarr.abc.store.Store.list_prefix`."""
        list_once = super().list_prefix  # `super()` does not work inside the inner function

        async def listed() -> list[str]:
            return [key async for key in list_once(prefix)]

        for key in await _with_retries_async(listed):
            yield key

    async def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        """See `zarr.abc.store.Store.list_dir`."""
        list_once = super().list_dir

        async def listed() -> list[str]:
            return [key async for key in list_once(prefix)]

        for key in await _with_retries_async(listed):
            yield key


async def _with_retries_async(ask: Callable[[], Awaitable[Any]]) -> Any:
    waits = outage_waits_s()
    while True:
        try:
            return await ask()
        except unreachable_errors() as error:
            wait_s = next(waits, None)
            if wait_s is None or not is_transient(error):
                raise
            say_waiting(error)
        await asyncio.sleep(wait_s)
