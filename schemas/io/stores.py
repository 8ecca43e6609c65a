"""Zarr stores opened by URL: a folder, an object store, a web server, or memory."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from unigeo.schemas.errors import ForeignError, MissingExtraError, StoreError
from unigeo.schemas.io.addresses import absolute_url, folder_and_name
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.io.limits import DOCUMENT_BYTES, check_object
from unigeo.schemas.io.retrying import client_retries
from unigeo.schemas.io.store_errors import (
    MALFORMED,
    damage_errors,
    describe_error,
    unreachable_errors,
)

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

_AZURE = ("az", "abfs", "abfss")
_OBJECT_STORES = ("s3", "gs", *_AZURE)
_WEB = ("http", "https")
_ENDPOINTS = (
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AZURE_STORAGE_ENDPOINT",
    "GOOGLE_BASE_URL",
)
"""Environment variables from which obstore takes the address of an object store."""
TIMEOUT_S = 30.0
"""Seconds after which a request without an answer is given up."""

_network_process: int | None = None
"""Identifier of the process that first opened a remote store."""


def check_process(store: Any) -> None:
    """Refuse to read a remote Zarr store in a forked process; see `check_not_forked`.

    Raises:
        StoreError: with what to do instead.
    """
    from zarr.storage import ObjectStore

    if isinstance(store, ObjectStore):
        check_not_forked()


def check_not_forked() -> None:
    """Refuse to read by the network in a process forked from one that has done so.

    A fork does not copy obstore's threads, so the new process would wait for them forever.

    Raises:
        StoreError: with what to do instead.
    """
    global _network_process
    _network_process = _network_process or os.getpid()
    if _network_process != os.getpid():
        raise StoreError(
            "this process was forked from one that had opened a remote store, whose network "
            "threads do not live on in it. Start workers by spawning: "
            "multiprocessing.get_context('spawn'), DataLoader(..., "
            "multiprocessing_context='spawn'), or open remote fields in the workers alone"
        )


def open_store(url: Any, *, read_only: bool = True, timeout_s: float = TIMEOUT_S) -> "Store":
    """Open the Zarr store behind a URL.

    Args:
        url: a path, `file://`, `s3://`, `gs://`, `az://` or `https://` URL, a URL of any other
            protocol that fsspec knows, or a Zarr store, which is returned as it is. Object stores
            take credentials and endpoint from the usual environment variables
            (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_BEARER_TOKEN`, ...).
        read_only: refuse writes.
        timeout_s: seconds after which a request without an answer is given up and tried again.

    Raises:
        StoreError: if the scheme is unknown, or a web server is to be written to.
        MissingExtraError: if the protocol needs a package that is not installed.
    """
    from zarr.abc.store import Store
    from zarr.storage import LocalStore

    if isinstance(url, Store):
        return url
    url = str(absolute_url(url))
    scheme = urlsplit(url).scheme if "://" in url else ""
    if not scheme:
        return LocalStore(Path(url), read_only=read_only)
    if scheme in _WEB and not read_only:
        raise StoreError(f"{url} is a web address and cannot be written; name a path or s3://")
    if scheme in _OBJECT_STORES or scheme in _WEB:
        return _open_remote(url, read_only, timeout_s)
    return _open_by_fsspec(url, scheme, read_only)


def open_obstore(url: str, timeout_s: float = TIMEOUT_S) -> Any:
    """Open an object store or web server as a store of obstore.

    Args:
        url: `s3://`, `gs://`, `az://` or `https://`.
        timeout_s: seconds after which a request without an answer is given up and tried again.

    Raises:
        StoreError: if the URL or the environment does not describe one.
    """
    import obstore.store

    client: Any = {"timeout": f"{timeout_s:g}s", "connect_timeout": f"{min(timeout_s, 10.0):g}s"}
    if any(at.startswith("http://") for at in (url, *map(os.environ.get, _ENDPOINTS)) if at):
        client["allow_http"] = True
    options: Any = {"client_options": client, "retry_config": client_retries(timeout_s)}
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if account and urlsplit(url).scheme in _AZURE:
        # Without it, obstore panics when Zarr puts the store's name into an error message.
        options["account_name"] = account
    try:
        return obstore.store.from_url(url, **options)
    except damage_errors() as error:
        raise StoreError(f"cannot open {url}: {describe_error(error)}") from error


def open_group(
    url: Any,
    *,
    path: str = "",
    read_only: bool = True,
    consolidated: bool = True,
    timeout_s: float = TIMEOUT_S,
    store: "Store | None" = None,
) -> "zarr.Group":
    """Open the root group of the Zarr v3 store behind a URL, or the group at a path in it.

    Args:
        url: as in `open_store`.
        path: of the group in the store.
        read_only: as in `open_store`.
        consolidated: take the metadata of everything below from the group's own metadata.
        timeout_s: as in `open_store`.
        store: the open store of the URL, if there is one.

    Raises:
        ForeignError: if the metadata are truncated, or are not those of such a group.
        StoreError: if there is no such store, it was never published, or it cannot be reached.
    """
    import zarr

    store = store or open_store(url, read_only=read_only, timeout_s=timeout_s)
    try:
        try:
            group = zarr.open_group(
                store,
                path=path,
                mode="r" if read_only else "r+",
                zarr_format=3,
                use_consolidated=consolidated,
            )
        except (FileNotFoundError, *MALFORMED) as error:
            raise _missing_group(store, url, path, consolidated) from error
        # Zarr opens a group with empty consolidated metadata as if it had none.
        if consolidated and group.metadata.consolidated_metadata is None:
            raise _missing_group(store, url, path, consolidated)
        return group
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot read the store at {url}: {describe_error(error)}") from error


def _missing_group(store: "Store", url: Any, path: str, consolidated: bool) -> StoreError:
    """Return the error that explains why Zarr found no group, from the objects that are there."""
    name = f"{path}/zarr.json".lstrip("/")
    body = _read_small(store, name)
    if body is None:
        if path:
            return StoreError(f"the store at {url} has no group {path!r}")
        for name in (".zgroup", ".zarray", ".zmetadata"):
            if _read_small(store, name) is not None:
                return ForeignError(
                    f"the store at {url} is of Zarr v2, and fields are of Zarr v3: it is no unigeo "
                    "field; check the address"
                )
        return StoreError(
            f"there is no Zarr v3 store at {url}, which has no zarr.json; check the address"
        )
    what = f"the metadata in {name} of the store at {url}"
    anew = "Copy the store anew, or check the address"
    try:
        document = load_json(body)
    except ValueError:
        return ForeignError(
            f"{what} are {f'{len(body):,} bytes that are no JSON' if body else 'empty'}: they are "
            f"cut off, or foreign. {anew}"
        )
    if not (
        isinstance(document, dict)
        and (document.get("zarr_format"), document.get("node_type")) == (3, "group")
        and isinstance(document.get("attributes", {}), dict)
    ):
        return ForeignError(f"{what} are foreign: JSON, but not of a Zarr v3 group. {anew}")
    if consolidated and not document.get("consolidated_metadata"):
        if not path and "unigeo" not in document.get("attributes", {}):
            return ForeignError(
                f"{what} are foreign: those of another Zarr group, without the attribute 'unigeo'. "
                f"{anew}"
            )
        return StoreError(
            f"the store at {url} has no consolidated metadata, so it was never published; finish "
            "it by running unigeo-produce again"
        )
    return ForeignError(f"{what} are damaged: what they repeat of arrays is malformed. {anew}")


def _read_small(store: "Store", name: str) -> bytes | None:
    """Read a small object; None if it does not exist, or may not be read."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    try:
        body = sync(store.get(name, default_buffer_prototype()))
    except unreachable_errors():
        return None
    return None if body is None else bytes(body.to_bytes())


def read_document(url: Any, *, timeout_s: float = TIMEOUT_S) -> bytes | None:
    """Read a JSON document by its URL; None if it does not exist.

    Raises:
        StoreError: if it cannot be reached, or is larger than any such document.
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
        raise StoreError(f"cannot read {url}: {describe_error(error)}") from error
    return None if body is None else bytes(body.to_bytes())


def _open_by_fsspec(url: str, scheme: str, read_only: bool) -> "Store":
    direct = ", ".join(f"{name}://" for name in ("file", *_OBJECT_STORES, *_WEB))
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(
            f"{url}: unigeo itself reads a plain path, {direct}; other protocols need fsspec: "
            "pip install fsspec, and the package of the protocol"
        ) from error
    if scheme not in fsspec.available_protocols():
        raise StoreError(
            f"{url}: unknown scheme {scheme!r}; known are a plain path, {direct}, and the "
            "protocols of fsspec"
        )
    from zarr.storage import FsspecStore

    try:
        return FsspecStore.from_url(url, read_only=read_only)
    except ImportError as error:
        raise MissingExtraError(f"cannot open {url}: {describe_error(error)}") from error
    except damage_errors() as error:
        raise StoreError(f"cannot open {url}: {describe_error(error)}") from error


def _open_remote(url: str, read_only: bool, timeout_s: float) -> "Store":
    from zarr.storage import ObjectStore

    opened = ObjectStore(open_obstore(url, timeout_s), read_only=read_only)
    check_process(opened)
    return opened
