"""Addresses of raster files: how GDAL reaches them, and what tells that they are the same."""

import os
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
import rasterio
from obstore.exceptions import BaseError

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.schemas.errors import ObservationsError, StoreError
from unigeo.schemas.io.addresses import folder_and_name
from unigeo.schemas.io.retrying import FIRST_WAIT_S, TRIES
from unigeo.schemas.io.store_errors import describe_error
from unigeo.schemas.io.stores import open_obstore

SCHEMES = ("https", "http", "s3")
NETWORK = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": str(TRIES - 1),
    "GDAL_HTTP_RETRY_DELAY": str(FIRST_WAIT_S),
    "GDAL_HTTP_TIMEOUT": "60",
    "VSI_CACHE": "TRUE",
}
"""Settings of GDAL for files behind a network: no listing of folders, and retries."""
_WORLD_FILES = (".png", ".jpg", ".jpeg", ".jp2", ".j2k")
"""Endings of the files beside which a world file may lie."""


def is_address(name: str) -> bool:
    """Return whether a name is an address, rather than a path."""
    return "://" in name


def check_address(address: str) -> str:
    """Return an address as it is.

    Raises:
        ValueError: it is of another scheme, or holds a secret.
    """
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES or not parts.netloc or not parts.path.strip("/"):
        raise ValueError(f"{address!r} is no address of a file: write https://... or s3://...")
    if parts.username or parts.query or parts.fragment or "*" in address:
        raise ValueError(
            f"{parts.scheme}://{parts.hostname}{parts.path} must be written without user name, "
            "query and '*': it is stored with what is made of it. Put credentials in the "
            "environment, as AWS_ACCESS_KEY_ID for s3://"
        )
    return address


def gdal_name(address: str) -> str:
    """Return the name by which GDAL opens an address.

    >>> gdal_name("s3://bucket/a.tif")
    '/vsis3/bucket/a.tif'
    """
    if address.startswith("s3://"):
        return "/vsis3/" + address.removeprefix("s3://")
    return "/vsicurl/" + address


def address_of(name: str) -> str:
    """Return the address of a name of GDAL, the inverse of `gdal_name`; other names as they are."""
    if name.startswith("/vsis3/"):
        return "s3://" + name.removeprefix("/vsis3/")
    return name.removeprefix("/vsicurl/")


def gdal_settings(path: Path | str, form: str = "GTiff") -> Any:
    """Return the settings of GDAL under which a file is opened and read."""
    if isinstance(path, str):
        beside = path.lower().endswith(_WORLD_FILES)
        sidecars = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"} if beside else {}
        return rasterio.Env(**NETWORK | sidecars | _s3_settings(os.environ))
    if form == "VRT":
        return rasterio.Env(**NETWORK | _s3_settings(os.environ))
    if form == "JPEG":
        # A JPEG that ends early would be read as grey.
        return rasterio.Env(GDAL_ERROR_ON_LIBJPEG_WARNING="YES")
    return nullcontext()


def _s3_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return GDAL's names of the settings by which other programs reach an S3 server."""
    settings = {}
    named = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = next((environment[name] for name in named if environment.get(name)), "")
    if endpoint:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        settings = {
            "AWS_S3_ENDPOINT": parts.netloc,
            "AWS_HTTPS": "NO" if parts.scheme == "http" else "YES",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
    if environment.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes"):
        settings["AWS_NO_SIGN_REQUEST"] = "YES"
    return settings


@dataclass(frozen=True)
class AddressStamp:
    """State of a file behind an address when it was opened."""

    address: str
    sample: str
    """ETag of the file, or else its size and the time of its last change."""

    @classmethod
    def of(cls, address: str, label: str) -> "AddressStamp":
        """Ask the server for the state of a file, or of the metadata of a Zarr store.

        Raises:
            ObservationsError: it cannot be reached.
        """
        if not address.rstrip("/").endswith(".zarr"):
            return cls(address, _state(address, label))
        documents = [f"{address.rstrip('/')}/{name}" for name in ("zarr.json", ".zmetadata")]
        for document in documents[:-1]:
            with suppress(ObservationsError):
                return cls(document, _state(document, label))
        return cls(documents[-1], _state(documents[-1], label))

    def check(self) -> None:
        """Compare the file with its recorded state.

        Raises:
            ReplacedError: the file was replaced.
        """
        if _state(self.address, self.address) != self.sample:
            raise ReplacedError(
                f"{self.address} was replaced while it was in use. What was made of the old file "
                "is kept, and would be mixed with the new one. Put the old file back and run the "
                "same command again, or make everything of the new one under another name."
            )


def _state(address: str, label: str) -> str:
    try:
        folder, name = folder_and_name(address)
        about = obstore.head(open_obstore(folder), name)
    except (StoreError, OSError, BaseError, ValueError) as error:
        raise ObservationsError(
            f"{label} cannot be reached: {describe_error(error)}. See that the address is right, "
            "and that credentials are in the environment."
        ) from error
    return str(about["e_tag"] or f"{about['size']} bytes of {about['last_modified'].isoformat()}")
