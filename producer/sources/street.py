"""Street pictures of places: the nearest photograph or panorama, cropped.

Photographs come from Mapillary, from KartaView, whose faces and number plates are blurred by the
services, or from a folder that is said to be blurred.
"""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from unigeo.producer.observations.folder import dates
from unigeo.producer.observations.folder.location_tables import LocationTable
from unigeo.producer.sources.findings import Finding, Origin, SourceFindings
from unigeo.producer.sources.set_description import StreetRules
from unigeo.producer.sources.web_requests import GoneError
from unigeo.schemas.geo.great_circle import degree_margins

Image.MAX_IMAGE_PIXELS = 250_000_000  # panoramas have up to 16k x 8k pixels


@dataclass(frozen=True, kw_only=True)
class StreetImage:
    """One photograph of a catalogue."""

    name: str
    lon: float
    lat: float
    panorama: bool
    heading_deg: float | None
    """Compass direction of its middle."""
    date: str
    """ISO 8601; empty where it is not known."""
    licence: str
    credit: str
    address: str
    """Where its pixels are: a URL or a path."""


ImageSearch = Callable[[float, float, float, float], list[StreetImage]]
"""Photographs in a box: west, south, east, north in degrees."""
ImageFetch = Callable[[str], bytes]


@dataclass(eq=False)
class StreetSource:
    """The photograph nearest to each place, as a square picture."""

    about: StreetRules
    search: ImageSearch
    fetch: ImageFetch
    seed: int
    refused: Mapping[str, str] = field(default_factory=dict)
    """Photographs that were passed over before any search, and why."""

    @property
    def reach_m(self) -> float:
        """How far from a place its photograph may have been taken."""
        return self.about.radius_m

    def observe(self, lonlat: Float[np.ndarray, "location 2"]) -> SourceFindings:
        """One square picture per place, as the camera saw it."""
        known, unusable = self._photographs(lonlat)
        if not known:
            return SourceFindings([Finding(reason="nothing in reach")] * len(lonlat), unusable)
        import pandas as pd

        where = np.array([(p.lon, p.lat) for p in known])
        table = LocationTable(pd.DataFrame({"name": [p.name for p in known]}), where)
        nearest = table.nearest(lonlat, self.about.radius_m)
        results: list[Finding] = [Finding(reason="nothing in reach")] * len(lonlat)
        for row in np.unique(nearest[nearest >= 0]):  # each photograph is fetched once
            members = np.flatnonzero(nearest == row)
            pixels = self._pixels(known[row])
            for place in members:
                results[place] = (
                    Finding(reason=pixels)
                    if isinstance(pixels, str)
                    else self._crop(known[row], pixels, lonlat[place])
                )
        return SourceFindings(results, unusable)

    def provenance(self) -> dict[str, Any]:
        """JSON: the settings."""
        return self.about.model_dump(mode="json")

    def _photographs(
        self, lonlat: Float[np.ndarray, "location 2"]
    ) -> tuple[list[StreetImage], dict[str, str]]:
        """Usable photographs round the places, in the order of their names; the others, and why."""
        wide, high = degree_margins(self.about.radius_m, np.abs(lonlat[:, 1]).max())
        (west, south), (east, north) = lonlat.min(axis=0), lonlat.max(axis=0)
        found = self.search(
            float(west - wide), float(south - high), float(east + wide), float(north + high)
        )
        usable, unusable = [], dict(self.refused)
        for photograph in sorted(found, key=lambda one: one.name):
            reason = self._unusable(photograph)
            if reason:
                unusable[photograph.name] = reason
            else:
                usable.append(photograph)
        return usable, unusable

    def _unusable(self, photograph: StreetImage) -> str:
        if photograph.panorama and self.about.panoramas == "no":
            return "a panorama"
        if not photograph.panorama and self.about.panoramas == "only":
            return "not a panorama"
        if self.about.years and not set(self.about.years) & set(dates.years(photograph.date)):
            return "of another year"
        if photograph.panorama and photograph.heading_deg is None:
            return "panorama without heading"
        return ""

    def _pixels(self, photograph: StreetImage) -> UInt8[np.ndarray, "3 row col"] | str:
        try:
            data = self.fetch(photograph.address)
        except GoneError as gone:
            return str(gone)
        try:
            with Image.open(io.BytesIO(data)) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
                if photograph.panorama:
                    return np.moveaxis(np.asarray(upright), 2, 0)
                side = self.about.patch_px
                square = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
                return np.moveaxis(np.asarray(square), 2, 0)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return "damaged image"

    def _crop(
        self,
        photograph: StreetImage,
        pixels: UInt8[np.ndarray, "3 row col"],
        lonlat: Float[np.ndarray, " 2"],
    ) -> Finding:
        numbers: dict[str, float] = {}
        picture = np.array(pixels)
        if photograph.heading_deg is not None:
            numbers["heading_deg"] = round(photograph.heading_deg % 360, 2)
        if photograph.panorama:
            from unigeo.producer.sources.panorama import render_perspective

            assert photograph.heading_deg is not None
            rng = np.random.default_rng([self.seed, _number(f"{lonlat[0]!r} {lonlat[1]!r}")])
            ranges = (self.about.fov_deg, self.about.yaw_deg, self.about.pitch_deg)
            fov, yaw, pitch = (round(float(rng.uniform(*r)), 2) for r in ranges)
            side = self.about.patch_px
            turn = yaw - photograph.heading_deg
            picture = render_perspective(pixels, (side, side), fov, turn, pitch)
            numbers |= {"heading_deg": yaw % 360, "fov_deg": fov, "pitch_deg": pitch}
        origin = Origin(
            item=photograph.name,
            date=dates.to_days(photograph.date),
            licence=photograph.licence,
            credit=photograph.credit,
            numbers=numbers,
            panorama=_number(photograph.name) if photograph.panorama else -1,
        )
        return Finding(picture, origin)


def split_box(
    west: float, south: float, east: float, north: float, side_deg: float
) -> Sequence[tuple[float, float, float, float]]:
    """Cut a box into boxes of at most a side, in degrees."""
    across, along = (
        max(1, int(np.ceil((high - low) / side_deg - 1e-9)))
        for low, high in ((west, east), (south, north))
    )
    x, y = np.linspace(west, east, across + 1), np.linspace(south, north, along + 1)
    return [
        (float(x[i]), float(y[j]), float(x[i + 1]), float(y[j + 1]))
        for j in range(along)
        for i in range(across)
    ]


def _number(name: str) -> int:
    """A number of 62 bits for a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2
