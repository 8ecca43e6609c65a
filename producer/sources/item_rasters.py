"""Rasters of a catalogue's items as they are opened: their addresses, hashes and sources."""

import hashlib
import json
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import shapely

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.observations.folder import dates
from unigeo.producer.observations.raster_files.band_facts import MeaningError
from unigeo.producer.observations.raster_files.formats import VRT
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.producer.sources.set_description import ImageryRules, SurfaceRules
from unigeo.producer.sources.stac_items import Item, sign_address
from unigeo.producer.sources.web_requests import GoneError, WebClient
from unigeo.schemas.errors import ObservationsError

OPENINGS = 2
"""Number of times that a file is opened before it is taken for damaged."""
AHEAD_S = 300.0
"""Remaining validity, in seconds, below which a signature is renewed before a shard is cut."""
UNDATED = "1970-01-01"
"""Date of files for which neither the settings nor the name state one."""
_DATE_IN_NAME = re.compile(r"(?<!\d)(?:19|20)\d{6}(?!\d)")


@dataclass(eq=False)
class ItemRasters:
    """Sources of items, each opened once; several threads may ask for them."""

    rules: ImageryRules
    web: WebClient
    identities: dict[str, str] = field(default_factory=dict)
    """Hashes of items by name, of metadata and file, from when they were opened."""
    _opened: dict[str, RasterSource | str] = field(default_factory=dict)
    """Sources by the address of their item, or the reason why they cannot be used."""
    _expires: dict[str, float] = field(default_factory=dict)
    """When the signature of an address expires, in seconds since 1970."""
    _files: tuple[list[Item], dict[str, str]] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def named_files(self) -> tuple[list[Item], dict[str, str]]:
        """Return the files that the settings name, opened once, and those that cannot be used.

        Raises:
            ObservationsError: a file is missing, or cannot be read; the message names it.
        """
        with self._lock:
            if self._files is None:
                self._files = self._list_files()
            return self._files[0], dict(self._files[1])

    def source(self, item: Item, dtype: type[np.generic]) -> RasterSource | str:
        """Return the source of an item, with a valid address, or why it cannot be used.

        Args:
            item: item of the catalogue.
            dtype: type of the patches that are to be cut; bytes are cut of bytes alone.
        """
        with self._lock:  # several shards are built at once, and a file is opened only once
            known = self._opened.get(item.href)
            if known is None:
                known = self._open(item)
            elif (
                isinstance(known, RasterSource) and self._expires[item.href] < time.time() + AHEAD_S
            ):
                known = replace(known, path=self._address(item))
            self._opened[item.href] = known
        if isinstance(known, RasterSource) and dtype is np.uint8 and known.dtype != "uint8":
            return self._reject_dtype(known)
        return known

    def opened(self, item: Item) -> RasterSource:
        """Return the source of an item that was opened."""
        source = self._opened[item.href]
        assert isinstance(source, RasterSource)
        return source

    def present_identity(self, item: Item) -> str:
        """Return the hash of an item as it is now, against which a later opening is compared.

        Raises:
            GoneError: it is not there any more.
        """
        identity = self._identity(item, self._address(item))
        self.identities[item.name] = identity
        return identity

    def _identity(self, item: Item, href: Path | str) -> str:
        """Return a hash of an item, and of its file where the metadata would not change with it."""
        if item.tracks_file or isinstance(href, Path):
            return item.digest
        file = json.dumps(self.web.object_identity(href), sort_keys=True)
        return hashlib.sha256(f"{item.digest} {file}".encode()).hexdigest()

    def _address(self, item: Item) -> Path | str:
        """Return the path or signed address of an item, and note when the signature expires."""
        if "://" not in item.href:
            self._expires[item.href] = float("inf")
            return Path(item.href)
        href, self._expires[item.href] = sign_address(
            self.web, item.href, self.rules.sign, self.rules.sign_url
        )
        return href

    def _open(self, item: Item) -> RasterSource | str:
        """Open the file of an item, or return the reason why it cannot be used."""
        coarsest = self.rules.coarsest_m
        if coarsest is not None and item.gsd_m is not None and item.gsd_m > coarsest:
            return "too coarse"
        if item.cloud > self.rules.cloudiest:
            return "too cloudy"
        try:
            href = self._address(item)
            if isinstance(href, str):
                self.web.check(href)
            if item.digest:
                identity = self._identity(item, href)
                check_unchanged(self.identities, item, identity, self.rules.url)
        except GoneError as gone:
            if self.rules.kind == "files":
                raise ObservationsError(f"table [{self._table}]: {item.href}: {gone}.") from gone
            return str(gone)
        problem: ObservationsError | None = None
        described = self.rules.numbers if isinstance(self.rules, SurfaceRules) else None
        for _ in range(OPENINGS):
            try:
                source = open_source(
                    href, self.rules.bands, self.rules.nodata, item.name, described
                )
                if source.form == VRT:
                    raise MeaningError(
                        f"{source.label} is a VRT, and a set records each file that it is made of. "
                        "Name the files that the VRT joins instead."
                    )
                if source.scales:
                    _refuse_scales(source)
                return source
            except MeaningError:
                raise
            except ObservationsError as error:
                if isinstance(href, str):  # raises if the server is at fault, not the file
                    self.web.check(href)
                problem = error
        if self.rules.kind == "files":
            raise ObservationsError(f"table [{self._table}]: {problem}") from problem
        return "not a usable raster"

    @property
    def _table(self) -> str:
        """Table of the settings, for errors."""
        return "dsm" if isinstance(self.rules, SurfaceRules) else "aerial"

    def _reject_dtype(self, source: RasterSource) -> str:
        """Return the reason for skipping an image that is not uint8.

        Raises:
            MeaningError: the image is a file that the settings name.
        """
        if self.rules.kind == "stac":
            return f"pixels of {source.dtype}"
        raise MeaningError(
            f"table [aerial]: {source.label} holds {source.dtype}; pictures are uint8. Convert it, "
            "for example with `gdal_translate -ot Byte -scale`."
        )

    def _list_files(self) -> tuple[list[Item], dict[str, str]]:
        items, unusable, other_years = [], {}, set[int]()
        for name in self.rules.paths:
            if any(sign in name for sign in "*?[") and not Path(name).exists():
                raise ObservationsError(f"table [{self._table}]: no file matches {name!r}.")
            short = name.rsplit("/", 1)[-1]
            acquired = self.rules.acquired or _date_in(short)
            item = Item(short, acquired, 0.0, None, shapely.Point(), name)
            if self.rules.years and not set(self.rules.years) & set(dates.years(acquired)):
                other_years.update(dates.years(acquired) if acquired != UNDATED else ())
                continue
            self._opened[name] = source = self._open(item)
            if isinstance(source, str):
                unusable[item.name] = source
            else:
                items.append(replace(item, outline=shapely.box(*source.reach)))
        if not items and not unusable:
            seen = ", ".join(map(str, sorted(other_years))) or "no year that is known"
            raise ObservationsError(
                f"table [{self._table}]: no file is of the years "
                f"{', '.join(map(str, self.rules.years))}: they are of {seen}. Correct `years`, or "
                "say by `acquired` when they were taken."
            )
        return items, unusable


def _refuse_scales(source: RasterSource) -> None:
    """Refuse an image whose numbers are scaled: a set keeps them as bytes.

    Raises:
        MeaningError: with scale and offset.
    """
    scale, offset = next(pair for pair in source.scales if pair != (1.0, 0.0))
    raise MeaningError(
        f"{source.label} declares scale {scale:g} and offset {offset:g}, and its numbers are "
        "taken as they are. Write it anew with `gdal_translate -unscale`, and `-ot Byte "
        "-scale` if it is a picture."
    )


def _date_in(name: str) -> str:
    """Return the date YYYYMMDD in a file's name."""
    for digits in _DATE_IN_NAME.findall(name):
        with suppress(ValueError):  # eight digits that are no date
            return date.fromisoformat(digits).isoformat()
    return UNDATED


def check_unchanged(known: dict[str, str], item: Item, digest: str, url: str) -> None:
    """Note the hash of an item, or compare it with the one noted before.

    Raises:
        ReplacedError: the hash is another.
    """
    if known.setdefault(item.name, digest) != digest:
        raise ReplacedError(
            f"the image {item.name} of {url} changed during the build, and the set would become a "
            "mixture. Name another --out, or remove the set."
        )
