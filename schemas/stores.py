"""Where a store lives: a folder, an object store, a web server, or memory, opened as Zarr."""

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from unigeo.schemas.errors import MissingExtraError, StoreError
from unigeo.schemas.limits import DOCUMENT_BYTES, check_object

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

_AZURE = ("az", "abfs", "abfss")
OBJECT_STORES = ("s3", "gs", *_AZURE)
WEB = ("http", "https")
_ENDPOINTS = (
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AZURE_STORAGE_ENDPOINT",
    "GOOGLE_BASE_URL",
)
"""Variables of the environment that say where an object store is, for obstore."""
TIMEOUT_S = 30.0
_TRIES = 4


def open_store(url: Any, *, read_only: bool = True, timeout_s: float = TIMEOUT_S) -> "Store":
    """Open the Zarr store behind a URL.

    Args:
        url: a path, `file://`, `s3://`, `gs://`, `az://` or `https://` URL, a URL of any other
            protocol that fsspec knows, or a Zarr store, which is returned as it is. Object stores
            take credentials and endpoint from the usual
            environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_BEARER_TOKEN`, ...).
        read_only: refuse writes.
        timeout_s: seconds after which a request without an answer is given up and tried again.

    Raises:
        StoreError: if the scheme is unknown, or a web server is to be written to.
        MissingExtraError: if the protocol needs a package that is not installed.
    """
    from zarr.abc.store import Store

    if isinstance(url, Store):
        return url
    if isinstance(url, os.PathLike) or "://" not in str(url):
        return _local(Path(url), read_only)
    scheme = urlsplit(str(url)).scheme
    if scheme == "file":
        from urllib.request import url2pathname

        return _local(Path(url2pathname(urlsplit(str(url)).path)), read_only)
    if scheme in WEB and not read_only:
        raise StoreError(f"{url} is a web address and cannot be written; name a path or s3://")
    if scheme in OBJECT_STORES or scheme in WEB:
        return _remote(str(url), read_only, timeout_s)
    return _by_fsspec(str(url), scheme, read_only)


def open_group(
    url: Any,
    *,
    path: str = "",
    read_only: bool = True,
    consolidated: bool = True,
    timeout_s: float = TIMEOUT_S,
) -> "zarr.Group":
    """Open the root group of the Zarr v3 store behind a URL, or the group at a path in it.

    Raises:
        StoreError: if there is no such store, or it cannot be reached.
    """
    import zarr

    store = open_store(url, read_only=read_only, timeout_s=timeout_s)
    try:
        return zarr.open_group(
            store,
            path=path,
            mode="r" if read_only else "r+",
            zarr_format=3,
            use_consolidated=consolidated,
        )
    except FileNotFoundError as error:
        if path:
            raise StoreError(f"the store at {url} has no group {path!r}") from error
        raise StoreError(f"there is no Zarr v3 store at {url}; check the address") from error
    except ValueError as error:
        if "onsolidated" not in str(error):
            raise
        raise StoreError(
            f"the store at {url} has no consolidated metadata, so it was never published; finish "
            "it by running unigeo-produce again"
        ) from error
    except unreachable_errors() as error:
        raise StoreError(f"cannot read the store at {url}: {explained(error)}") from error


def folder_and_name(url: Any) -> tuple[str, str]:
    """The folder that something lies in, and its name there.

    >>> folder_and_name("s3://bucket/conus/conus.zarr/")
    ('s3://bucket/conus', 'conus.zarr')
    """
    text = str(url).rstrip("/")
    if "://" not in text:
        path = Path(text).expanduser()
        return str(path.parent), path.name
    folder, _, name = text.rpartition("/")
    return folder, name


def read_beside(url: Any, *, timeout_s: float = TIMEOUT_S) -> bytes | None:
    """A document by its URL; None if it is not there.

    Raises:
        StoreError: if it cannot be reached, or is larger than any document.
    """
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    folder, name = folder_and_name(url)
    store = open_store(folder, timeout_s=timeout_s)
    try:
        check_object(sync(store.getsize(name)), str(url), DOCUMENT_BYTES)
        body = sync(store.get(name, default_buffer_prototype()))
    except FileNotFoundError:
        return None
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot read {url}: {explained(error)}") from error
    return None if body is None else bytes(body.to_bytes())


def unreachable_errors() -> tuple[type[BaseException], ...]:
    """What a store raises when it cannot be reached; OSError, and obstore's own."""
    from obstore.exceptions import BaseError

    return (OSError, BaseError)


def damage_errors() -> tuple[type[BaseException], ...]:
    """What reading an array raises: a store out of reach, or, from the codecs, torn data."""
    return (*unreachable_errors(), ValueError, RuntimeError)


def explained(error: BaseException) -> str:
    """An error's own words on one line, and what to do where that is known."""
    words = " ".join(str(error).split()) or type(error).__name__
    words = words.split(" Debug source:")[0].rstrip()
    if "Range request not supported" in words:
        return f"{words}. Serve the store by a web server that answers range requests"
    if "169.254.169.254" in words or "must be specified" in words:
        return (
            f"{words}. No credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "GOOGLE_APPLICATION_CREDENTIALS or AZURE_STORAGE_ACCOUNT_NAME and its key, or for a "
            "public bucket AWS_SKIP_SIGNATURE=true, GOOGLE_SKIP_SIGNATURE=true or "
            "AZURE_SKIP_SIGNATURE=true with the account's name"
        )
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"PermissionError", "PermissionDeniedError", "UnauthenticatedError"}:
        return (
            f"{words}. Access is denied: give credentials by the usual environment variables, or "
            "ask the owner to allow reading"
        )
    return words


def _local(path: Path, read_only: bool) -> "Store":
    from zarr.storage import LocalStore

    return LocalStore(path.expanduser(), read_only=read_only)


def _by_fsspec(url: str, scheme: str, read_only: bool) -> "Store":
    own = ", ".join(f"{name}://" for name in ("file", *OBJECT_STORES, *WEB))
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(
            f"{url}: unigeo itself reads a plain path, {own}; other protocols need fsspec: "
            "pip install fsspec, and the package of the protocol"
        ) from error
    if scheme not in fsspec.available_protocols():
        raise StoreError(
            f"{url}: unknown scheme {scheme!r}; known are a plain path, {own}, and the protocols "
            "of fsspec"
        )
    from zarr.storage import FsspecStore

    try:
        return FsspecStore.from_url(url, read_only=read_only)
    except ImportError as error:
        raise MissingExtraError(f"cannot open {url}: {explained(error)}") from error
    except damage_errors() as error:
        raise StoreError(f"cannot open {url}: {explained(error)}") from error


def _remote(url: str, read_only: bool, timeout_s: float) -> "Store":
    import obstore.store
    from zarr.storage import ObjectStore

    client: Any = {"timeout": f"{timeout_s:g}s", "connect_timeout": f"{min(timeout_s, 10.0):g}s"}
    if any(at.startswith("http://") for at in (url, *map(os.environ.get, _ENDPOINTS)) if at):
        client["allow_http"] = True
    own: Any = {}
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if account and urlsplit(url).scheme in _AZURE:
        own["account_name"] = account  # else obstore's store panics where Zarr names it in an error
    again: Any = {"max_retries": _TRIES, "retry_timeout": timedelta(seconds=3 * timeout_s)}
    try:
        store = obstore.store.from_url(url, client_options=client, retry_config=again, **own)
    except damage_errors() as error:
        raise StoreError(f"cannot open {url}: {explained(error)}") from error
    return ObjectStore(store, read_only=read_only)
