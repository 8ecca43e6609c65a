"""Street-level images of a folder, with position, date and direction from EXIF or from a table."""

import glob
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import ExifTags, Image

from unigeo.producer.observations.folder import dates
from unigeo.producer.sources.change_clauses import join_clauses
from unigeo.producer.sources.set_description import StreetRules
from unigeo.producer.sources.street import StreetImage
from unigeo.producer.sources.web_requests import GoneError
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import Region

TABLE_COLUMNS = ("file", "lat", "lon")
DAMAGED = "damaged image"
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
"""Bytes at the end of a whole file, by format."""
_TAIL_BYTES = 65_536
"""Bytes at the end of a file in which they are looked for: cameras may add some after them."""


@dataclass(eq=False)
class ImageFolder:
    """The street-level images of a folder."""

    rules: StreetRules
    region: Region

    @property
    def refused(self) -> dict[str, str]:
        """Files that are skipped, such as those without a position, and the reason for each."""
        return self._images[1]

    def search(self, west: float, south: float, east: float, north: float) -> list[StreetImage]:
        """Return every image in a box of degrees."""
        return [
            image
            for image in self._images[0]
            if west <= image.lon <= east and south <= image.lat <= north
        ]

    def fetch(self, address: str) -> bytes:
        """Read the bytes of a file.

        Raises:
            GoneError: the file cannot be read.
        """
        try:
            return Path(address).read_bytes()
        except OSError as error:
            raise GoneError("unreadable file") from error

    @cached_property
    def _images(self) -> tuple[list[StreetImage], dict[str, str]]:
        """Images inside the region, and the files that are skipped."""
        paths = sorted(glob.glob(self.rules.files, recursive=True))  # noqa: PTH207
        if not paths:
            raise ObservationsError(f"table [street]: no file matches {self.rules.files!r}.")
        listed = self._read_table() if self.rules.table else None
        images, refused = [], {}
        for path in paths:
            image: StreetImage | str = find_damage(Path(path))
            if not image and listed is None:
                image = read_exif(path, self.rules.licence, self.rules.credit)
            elif not image and listed is not None:
                image = listed.get(Path(path).name, "not in the table")
            if isinstance(image, StreetImage) and not self.region.contains(
                np.array([image.lon, image.lat])
            ):
                image = "position outside the region"
            if isinstance(image, str):
                refused[Path(path).name] = image
            else:
                images.append(replace(image, address=path))
        if set(refused.values()) == {DAMAGED} and not images:
            reasons = [f"{name}: {reason}" for name, reason in refused.items()]
            raise ObservationsError(
                f"table [street]: none of {len(paths):,} files {self.rules.files!r} can be used: "
                f"{join_clauses(reasons)}."
            )
        return images, refused

    def _read_table(self) -> dict[str, StreetImage]:
        """Read the table of images, by file name."""
        try:
            table = pd.read_csv(self.rules.table, dtype={"file": str, "date": str})
        except (OSError, ValueError) as error:
            raise ObservationsError(f"table [street]: {self.rules.table}: {error}.") from error
        absent = [name for name in TABLE_COLUMNS if name not in table.columns]
        if absent:
            raise ObservationsError(
                f"table [street]: {self.rules.table} has no column {absent[0]!r}; it needs "
                f"{', '.join(TABLE_COLUMNS)} and may have heading_deg, date."
            )
        images = {}
        for number, row in enumerate(table.to_dict("records")):
            name, heading = Path(str(row["file"])).name, row.get("heading_deg")
            date = row.get("date")
            captured = "" if date is None or pd.isna(date) else str(date).strip()
            try:
                dates.years(captured)
            except ValueError as error:
                raise ObservationsError(
                    f"table [street]: {self.rules.table}, row {number}, column 'date': {error}."
                ) from error
            lon, lat = (pd.to_numeric(row[key], errors="coerce") for key in ("lon", "lat"))
            if not (abs(lon) <= 180 and abs(lat) <= 90):
                raise ObservationsError(
                    f"table [street]: {self.rules.table}, row {number}: lon and lat must be "
                    f"degrees, not {row['lon']!r} and {row['lat']!r}."
                )
            images[name] = StreetImage(
                name=name, lon=float(lon), lat=float(lat), panorama=False,
                heading_deg=None if pd.isna(heading) else float(heading),
                date=captured, licence=self.rules.licence,
                credit=self.rules.credit, address="",
            )  # fmt: skip
        return images


def find_damage(path: Path) -> str:
    """Return why a file is no whole image; empty for one that seems to be whole.

    The header is read, and the end looked for; the pixels are decoded only where there is none.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            end = _ENDS.get(image.format or "")
            if end is not None:
                file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                if end not in file.read():
                    file.seek(0)
                    Image.open(file).load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return DAMAGED
    return ""


def read_exif(path: str, licence: str, credit: str) -> StreetImage | str:
    """Read the metadata of an image from its EXIF, or return why it cannot be used."""
    try:
        with Image.open(path) as image:
            exif, (width, height) = image.getexif(), image.size
            panorama = width == 2 * height and b"equirectangular" in image.info.get("xmp", b"")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return DAMAGED
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    try:
        lat = _degrees(gps[ExifTags.GPS.GPSLatitude], gps[ExifTags.GPS.GPSLatitudeRef], "S")
        lon = _degrees(gps[ExifTags.GPS.GPSLongitude], gps[ExifTags.GPS.GPSLongitudeRef], "W")
        heading = gps.get(ExifTags.GPS.GPSImgDirection)
        turn = None if heading is None else float(heading)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return "no position in EXIF"
    # Cameras without a fix write 0, 0.
    if not (-90 <= lat <= 90 and -180 <= lon <= 180) or (lon == 0 and lat == 0):
        return "impossible position in EXIF"
    captured = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal) or exif.get(
        ExifTags.Base.DateTime, ""
    )
    return StreetImage(
        name=Path(path).name, lon=lon, lat=lat, panorama=panorama, heading_deg=turn,
        # EXIF writes dates as 2004:07:15.
        date=dates.day_or_none(str(captured).replace(":", "-")), licence=licence, credit=credit,
        address=path,
    )  # fmt: skip


def _degrees(parts: Any, reference: str, negative: str) -> float:
    """Convert degrees, minutes and seconds to signed degrees."""
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    return -value if reference == negative else value
