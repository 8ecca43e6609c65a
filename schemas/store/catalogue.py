"""`catalog.json`: a STAC catalogue of fields over regions and releases, beside or above its stores.

Its member `unigeo:fields` lists the fields, so that a reader finds a store with one request. Paths
are relative to the catalogue's folder and never lead out of it, so whoever writes a catalogue can
make a reader open what lies in its folder, and nothing else.
"""

from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.json_text import load_json

NAME = "catalog.json"
FIELDS = "unigeo:fields"


def relative_inside(path: str) -> str:
    """Return a path, or refuse it if it leads out of the folder it is relative to.

    Raises:
        ValueError: if it is absolute, a URL, goes up, or hides either behind percent signs.

    >>> relative_inside("conus/conus.zarr")
    'conus/conus.zarr'
    """
    plain = unquote(unquote(path))  # twice, as a percent sign may itself be encoded
    windows = PureWindowsPath(plain)
    outside = (
        PurePosixPath(plain).is_absolute()
        or bool(windows.drive or windows.root)
        or ".." in windows.parts
        or "~" in windows.parts[:1]
        or any(character in plain for character in (":", "\\", "\0", "?", "#", "%"))
    )
    if outside or plain.strip(" ./") == "":
        raise ValueError(
            f"{path!r} must be a path inside the catalogue's folder: relative, without '..', and "
            "no URL"
        )
    return path


RelativePath = Annotated[str, AfterValidator(relative_inside)]


class Entry(BaseModel):
    """One field: a release of a region."""

    model_config = ConfigDict(extra="allow", frozen=True)

    region: str = Field(min_length=1)
    release: str = Field(min_length=1)
    href: RelativePath
    """Path of the store."""
    item: RelativePath
    """Path of its STAC item."""
    collection: RelativePath
    """Path of the STAC collection of its region."""
    resolution_m: float = Field(gt=0)
    modalities: tuple[str, ...]
    model_sha256: str
    root_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the store's `zarr.json`, from which every object of the store is verified."""

    @property
    def order(self) -> tuple[int, int, str]:
        """Key that sorts releases from old to new: numbers by size, then names."""
        # Dates and plain numbers compare as numbers; every other name sorts after them.
        number = int(self.release) if self.release.isdecimal() else -1
        return (0, number, "") if number >= 0 else (1, 0, self.release)


class _Catalogue(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    fields: tuple[Entry, ...] = Field(alias="unigeo:fields")


def read_catalogue(content: bytes, url: str) -> tuple[Entry, ...]:
    """Return the fields that a catalogue lists.

    Raises:
        StoreError: if it is not a catalogue of fields, or a path leads out of its folder.
    """
    try:
        document: Any = load_json(content)
    except ValueError as error:
        raise StoreError(f"{url} is no JSON: {error}") from error
    if not isinstance(document, dict) or FIELDS not in document:
        raise StoreError(
            f"{url} is no catalogue of unigeo fields: it has no member {FIELDS!r}. Name the store "
            "itself, or a catalog.json that unigeo-produce wrote"
        )
    try:
        return _Catalogue.model_validate(document).fields
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise StoreError(f"the catalogue {url} is not readable: {wrong}") from error


def choose_entry(
    entries: tuple[Entry, ...], url: str, region: str | None, release: str | int | None
) -> Entry:
    """Return the entry of a region: the newest release, unless one is named.

    Raises:
        StoreError: if there is none, or there are several; the message lists them.
    """
    regions = sorted({entry.region for entry in entries})
    if region is None and len(regions) == 1:
        region = regions[0]
    of_region = [entry for entry in entries if entry.region == region]
    if not of_region:
        problem = "name a region" if region is None else f"there is no region {region!r}"
        listed = ", ".join(regions) or "no field at all"
        raise StoreError(f"{problem} of the catalogue {url}; it lists {listed}")
    newest = max(of_region, key=lambda one: one.order).release
    wanted = newest if release is None else str(release)
    chosen = [entry for entry in of_region if entry.release == wanted]
    if not chosen:
        listed = ", ".join(entry.release for entry in sorted(of_region, key=lambda one: one.order))
        raise StoreError(f"{region} has no release {wanted!r} in {url}; it has {listed}")
    if len(chosen) > 1:
        listed = ", ".join(f"{one.href} ({one.resolution_m:g} m)" for one in chosen)
        raise StoreError(
            f"the catalogue {url} lists several fields of {region}, release {wanted}: {listed}. "
            "Open one of these stores by its own address"
        )
    return chosen[0]
