"""Photographs of a folder: where, when and which way is read from EXIF, or from a table."""

import glob
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import ExifTags, Image

from unigeo.producer.observations.folder import dates
from unigeo.producer.sources.set_description import StreetRules
from unigeo.producer.sources.street import StreetImage
from unigeo.producer.sources.web_requests import GoneError
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import Region

TABLE_COLUMNS = ("file", "lat", "lon")


@dataclass(eq=False)
class ImageFolder:
    """Photographs by place."""

    about: StreetRules
    region: Region

    @property
    def refused(self) -> dict[str, str]:
        """Files without a place, or with one outside the region (in the ocean), and why."""
        return self._read[1]

    def search(self, west: float, south: float, east: float, north: float) -> list[StreetImage]:
        """Every photograph in a box of degrees."""
        return [p for p in self._read[0] if west <= p.lon <= east and south <= p.lat <= north]

    def fetch(self, address: str) -> bytes:
        """The bytes of a file.

        Raises:
            GoneError: it cannot be read.
        """
        try:
            return Path(address).read_bytes()
        except OSError as error:
            raise GoneError("unreadable file") from error

    @cached_property
    def _read(self) -> tuple[list[StreetImage], dict[str, str]]:
        paths = sorted(glob.glob(self.about.files, recursive=True))  # noqa: PTH207
        if not paths:
            raise ObservationsError(f"table [street]: no file matches {self.about.files!r}.")
        known = self._of_table() if self.about.table else None
        found, refused = [], {}
        for path in paths:
            one = (
                read_exif(path, self.about.licence, self.about.credit)
                if known is None
                else known.get(Path(path).name, "not in the table")
            )
            if isinstance(one, StreetImage) and not self.region.contains(
                np.array([one.lon, one.lat])
            ):
                one = "position outside the region"
            if isinstance(one, str):
                refused[Path(path).name] = one
            else:
                found.append(replace(one, address=path))
        return found, refused

    def _of_table(self) -> dict[str, StreetImage]:
        try:
            table = pd.read_csv(self.about.table, dtype={"file": str, "date": str})
        except (OSError, ValueError) as error:
            raise ObservationsError(f"table [street]: {self.about.table}: {error}.") from error
        absent = [name for name in TABLE_COLUMNS if name not in table.columns]
        if absent:
            raise ObservationsError(
                f"table [street]: {self.about.table} has no column {absent[0]!r}; it needs "
                f"{', '.join(TABLE_COLUMNS)} and may have heading_deg, date."
            )
        known = {}
        for number, row in enumerate(table.to_dict("records")):
            name, heading = Path(str(row["file"])).name, row.get("heading_deg")
            said = row.get("date")
            taken = "" if said is None or pd.isna(said) else str(said).strip()
            try:
                dates.years(taken)
            except ValueError as error:
                raise ObservationsError(
                    f"table [street]: {self.about.table}, row {number}, column 'date': {error}."
                ) from error
            known[name] = StreetImage(
                name=name, lon=float(row["lon"]), lat=float(row["lat"]), panorama=False,
                heading_deg=None if pd.isna(heading) else float(heading),
                date=taken, licence=self.about.licence,
                credit=self.about.credit, address="",
            )  # fmt: skip
        return known


def read_exif(path: str, licence: str, credit: str) -> StreetImage | str:
    """A photograph by its EXIF, or why it is none."""
    try:
        with Image.open(path) as image:
            exif, (width, height) = image.getexif(), image.size
            panorama = width == 2 * height and b"equirectangular" in image.info.get("xmp", b"")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "damaged image"
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    try:
        lat = _degrees(gps[ExifTags.GPS.GPSLatitude], gps[ExifTags.GPS.GPSLatitudeRef], "S")
        lon = _degrees(gps[ExifTags.GPS.GPSLongitude], gps[ExifTags.GPS.GPSLongitudeRef], "W")
        heading = gps.get(ExifTags.GPS.GPSImgDirection)
        turn = None if heading is None else float(heading)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return "no position in EXIF"
    if not (-90 <= lat <= 90 and -180 <= lon <= 180) or (lon == 0 and lat == 0):
        return "impossible position in EXIF"
    taken = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal) or exif.get(
        ExifTags.Base.DateTime, ""
    )
    return StreetImage(
        name=Path(path).name, lon=lon, lat=lat, panorama=panorama, heading_deg=turn,
        date=dates.day_or_none(str(taken).replace(":", "-")), licence=licence, credit=credit,
        address=path,
    )  # fmt: skip


def _degrees(parts: Any, reference: str, negative: str) -> float:
    """Degrees of three rationals: degrees, minutes, seconds."""
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    return -value if reference == negative else value
