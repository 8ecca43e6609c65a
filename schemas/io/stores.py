"""Where a store lives: a folder, an object store, a web server, or memory, opened as Zarr."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from unigeo.schemas.errors import ForeignError, MissingExtraError, StoreError
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

_network_process: int | None = None
"""The process that first opened a remote store."""


def check_process(store: Any) -> None:
    """Refuse to read a remote store in a process forked from one that has read any.

    obstore's threads do not live on in a forked process, which would wait for them for ever.

    Raises:
        StoreError: with the ways round.
    """
    global _network_process
    from zarr.storage import ObjectStore

    if not isinstance(store, ObjectStore):
        return
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
    url = str(absolute_url(url))
    scheme = urlsplit(url).scheme if "://" in url else ""
    if not scheme:
        return _local(Path(url), read_only)
    if scheme in WEB and not read_only:
        raise StoreError(f"{url} is a web address and cannot be written; name a path or s3://")
    if scheme in OBJECT_STORES or scheme in WEB:
        return _remote(str(url), read_only, timeout_s)
    return _by_fsspec(str(url), scheme, read_only)


def absolute_url(url: Any) -> Any:
    """An address that means the same from any working directory; a Zarr store as it is.

    Links are followed: a field that is open stays on the store that they led to.

    Raises:
        StoreError: if a `file://` URL names another machine.

    >>> absolute_url("s3://bucket/conus.zarr"), absolute_url("file:///tmp/../srv/conus.zarr")
    ('s3://bucket/conus.zarr', '/srv/conus.zarr')
    """
    text = os.fspath(url) if isinstance(url, os.PathLike) else url
    if not isinstance(text, str):
        return url
    if text.startswith("file:"):
        from urllib.request import url2pathname

        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise StoreError(
                f"{text} names the machine {parts.netloc!r}; write file:///path, with three strokes"
            )
        text = url2pathname(parts.path)
    elif "://" in text:
        return text
    return str(Path(text).expanduser().resolve())


def refuse_inside_a_store(path: Path, what: str) -> None:
    """Refuse to write into the folder of a Zarr store: its manifest lists what belongs there.

    Args:
        path: of the new file or folder.
        what: the name of it in the message.

    Raises:
        StoreError: naming the store.
    """
    for folder in path.absolute().parents:
        if (folder / "zarr.json").is_file():
            raise StoreError(
                f"cannot write {what}: it lies inside the Zarr store {folder}, and would damage "
                "it; name a place outside"
            )


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
        path: of the group.
        read_only: as in `open_store`.
        consolidated: take the metadata of everything below from the group's own.
        timeout_s: as in `open_store`.
        store: of the URL, where it is open already.

    Raises:
        ForeignError: if its metadata are cut off, or are not those of such a group.
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
        except FileNotFoundError as error:
            raise _no_group(store, url, path, consolidated) from error
        except MALFORMED as error:
            raise _no_group(store, url, path, consolidated) from error
        if consolidated and group.metadata.consolidated_metadata is None:  # {} is taken for none
            raise _no_group(store, url, path, consolidated)
        return group
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot read the store at {url}: {describe_error(error)}") from error


def _no_group(store: "Store", url: Any, path: str, consolidated: bool) -> StoreError:
    """Why Zarr found no group, from what stands in its place."""
    name = f"{path}/zarr.json".lstrip("/")
    body = _document(store, name)
    if body is None:
        if path:
            return StoreError(f"the store at {url} has no group {path!r}")
        for name in (".zgroup", ".zarray", ".zmetadata"):
            if _document(store, name) is not None:
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
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ForeignError(
            f"{what} are {f'{len(body):,} bytes that are no JSON' if body else 'empty'}: they are "
            f"cut off, or foreign. {anew}"
        )
    if not (
        isinstance(found, dict)
        and (found.get("zarr_format"), found.get("node_type")) == (3, "group")
        and isinstance(found.get("attributes", {}), dict)
    ):
        return ForeignError(f"{what} are foreign: JSON, but not of a Zarr v3 group. {anew}")
    if consolidated and not found.get("consolidated_metadata"):
        if not path and "unigeo" not in found.get("attributes", {}):
            return ForeignError(
                f"{what} are foreign: those of another Zarr group, without the attribute 'unigeo'. "
                f"{anew}"
            )
        return StoreError(
            f"the store at {url} has no consolidated metadata, so it was never published; finish "
            "it by running unigeo-produce again"
        )
    return ForeignError(f"{what} are damaged: what they repeat of arrays is malformed. {anew}")


def _document(store: "Store", name: str) -> bytes | None:
    """A small object of a store; None if it is not there, or may not be read."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    try:
        body = sync(store.get(name, default_buffer_prototype()))
    except unreachable_errors():
        return None
    return None if body is None else bytes(body.to_bytes())


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


def read_document(url: Any, *, timeout_s: float = TIMEOUT_S) -> bytes | None:
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
        raise StoreError(f"cannot read {url}: {describe_error(error)}") from error
    return None if body is None else bytes(body.to_bytes())


def _local(path: Path, read_only: bool) -> "Store":
    from zarr.storage import LocalStore

    return LocalStore(path, read_only=read_only)


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
        raise MissingExtraError(f"cannot open {url}: {describe_error(error)}") from error
    except damage_errors() as error:
        raise StoreError(f"cannot open {url}: {describe_error(error)}") from error


def _remote(url: str, read_only: bool, timeout_s: float) -> "Store":
    from zarr.storage import ObjectStore

    opened = ObjectStore(open_obstore(url, timeout_s), read_only=read_only)
    check_process(opened)
    return opened


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
    own: Any = {}
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if account and urlsplit(url).scheme in _AZURE:
        own["account_name"] = account  # else obstore's store panics where Zarr names it in an error
    retries: Any = client_retries(timeout_s)
    try:
        return obstore.store.from_url(url, client_options=client, retry_config=retries, **own)
    except damage_errors() as error:
        raise StoreError(f"cannot open {url}: {describe_error(error)}") from error
