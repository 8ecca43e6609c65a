"""Source of street-level images: the image or panorama nearest to a location, cropped.

Images come from Mapillary or KartaView, which blur faces and number plates, or from a folder whose
images the settings declare to be blurred.
"""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from unigeo.producer.observations.folder import dates
from unigeo.producer.observations.folder.location_tables import LocationTable
from unigeo.producer.sources.findings import (
    Finding,
    KeptFinding,
    KeptModality,
    Origin,
    SourceFindings,
)
from unigeo.producer.sources.set_description import StreetRules
from unigeo.producer.sources.web_requests import GoneError
from unigeo.schemas.geo.great_circle import degree_margins

Image.MAX_IMAGE_PIXELS = 250_000_000  # panoramas have up to 16k x 8k pixels


@dataclass(frozen=True, kw_only=True)
class StreetImage:
    """Metadata of one street-level image or panorama."""

    name: str
    lon: float
    lat: float
    panorama: bool
    heading_deg: float | None
    """Compass direction of the centre of the image; None where it is not known."""
    date: str
    """Date of capture, ISO 8601; empty where it is not known."""
    licence: str
    credit: str
    address: str
    """What `ImageFetch` reads the pixels by: a URL, a name or a path."""


ImageSearch = Callable[[float, float, float, float], list[StreetImage]]
"""Returns the images in a box: west, south, east, north in degrees."""
ImageFetch = Callable[[str], bytes]
"""Returns the encoded pixels of an image by its address; raises `GoneError`."""


@dataclass(eq=False)
class StreetSource:
    """Source of square street images: that nearest to each location, within a radius."""

    rules: StreetRules
    search: ImageSearch
    fetch: ImageFetch
    seed: int
    """Seed of the directions and fields of view of crops from panoramas."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Images that were skipped before any search, and the reason for each."""
    earlier: KeptModality | None = None
    """Images of an earlier set, which need not be fetched where the same ones are nearest."""

    @property
    def reach_m(self) -> float:
        """Largest distance from a location to its image."""
        return self.rules.radius_m

    def observe(self, lonlat: Float[np.ndarray, "location 2"]) -> SourceFindings:
        """Crop one square image per location, as the camera saw it."""
        usable, unusable = self._search_round(lonlat)
        if not usable:
            return SourceFindings([Finding(reason="nothing in reach")] * len(lonlat), unusable)
        import pandas as pd

        positions = np.array([(image.lon, image.lat) for image in usable])
        table = LocationTable(pd.DataFrame({"name": [image.name for image in usable]}), positions)
        nearest = table.nearest(lonlat, self.rules.radius_m)
        findings: list[Finding] = [Finding(reason="nothing in reach")] * len(lonlat)
        for row in np.unique(nearest[nearest >= 0]):
            image, pixels = usable[row], None
            for location in np.flatnonzero(nearest == row):
                view = _View.draw(image, self.rules, self.seed, lonlat[location])
                kept = self._find_kept(image, lonlat[location])
                if kept is not None:
                    findings[location] = Finding(kept.value, view.origin, kept=True)
                    continue
                pixels = self._pixels(image) if pixels is None else pixels  # fetched once
                findings[location] = (
                    Finding(reason=pixels)
                    if isinstance(pixels, str)
                    else Finding(view.render(pixels, self.rules.patch_px), view.origin)
                )
        return SourceFindings(findings, unusable)

    def _find_kept(self, image: StreetImage, lonlat: Float[np.ndarray, " 2"]) -> KeptFinding | None:
        """Return the earlier observation of a location if it was cut from the same image."""
        earlier = self.earlier
        found = None if earlier is None else earlier.find(lonlat)
        if earlier is None or found is None or found.item != image.name:
            return None
        same = self.rules.kind != "folder" or image.name in earlier.unchanged
        return found if same else None

    def _search_round(
        self, lonlat: Float[np.ndarray, "location 2"]
    ) -> tuple[list[StreetImage], dict[str, str]]:
        """Return the usable images round the locations, sorted by name, and why others are not."""
        wide, high = degree_margins(self.rules.radius_m, np.abs(lonlat[:, 1]).max())
        (west, south), (east, north) = lonlat.min(axis=0), lonlat.max(axis=0)
        found = self.search(
            float(west - wide), float(south - high), float(east + wide), float(north + high)
        )
        usable, unusable = [], dict(self.refused)
        for image in sorted(found, key=lambda image: image.name):
            reason = self._why_unusable(image)
            if reason:
                unusable[image.name] = reason
            else:
                usable.append(image)
        return usable, unusable

    def _why_unusable(self, image: StreetImage) -> str:
        if image.panorama and self.rules.panoramas == "no":
            return "a panorama"
        if not image.panorama and self.rules.panoramas == "only":
            return "not a panorama"
        if self.rules.years and not set(self.rules.years) & set(dates.years(image.date)):
            return "of another year"
        if image.panorama and image.heading_deg is None:
            return "panorama without heading"
        return ""

    def _pixels(self, image: StreetImage) -> UInt8[np.ndarray, "3 row col"] | str:
        """Fetch a panorama, or an image cropped to a square; or return why there is none."""
        try:
            data = self.fetch(image.address)
        except GoneError as gone:
            return str(gone)
        try:
            with Image.open(io.BytesIO(data)) as decoded:
                upright = ImageOps.exif_transpose(decoded).convert("RGB")
                if image.panorama:
                    return np.moveaxis(np.asarray(upright), 2, 0)
                side = self.rules.patch_px
                square = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
                return np.moveaxis(np.asarray(square), 2, 0)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return "damaged image"


@dataclass(frozen=True)
class _View:
    """What is seen of an image at a location: all of it, or a part of a panorama."""

    origin: Origin
    angles: tuple[float, float, float] | None
    """Field of view, turn from the panorama's centre and pitch, in degrees; None for all of it."""

    @classmethod
    def draw(
        cls, image: StreetImage, rules: StreetRules, seed: int, lonlat: Float[np.ndarray, " 2"]
    ) -> "_View":
        """Draw a direction of a panorama; other images are used as they are."""
        numbers: dict[str, float] = {}
        angles = None
        if image.heading_deg is not None:
            numbers["heading_deg"] = round(image.heading_deg % 360, 2)
        if image.panorama:
            assert image.heading_deg is not None
            # Seeded by the location: its view is the same whatever else is observed with it.
            rng = np.random.default_rng([seed, _hash(f"{lonlat[0]!r} {lonlat[1]!r}")])
            ranges = (rules.fov_deg, rules.yaw_deg, rules.pitch_deg)
            fov, yaw, pitch = (round(float(rng.uniform(*r)), 2) for r in ranges)
            angles = (fov, yaw - image.heading_deg, pitch)
            numbers |= {"heading_deg": yaw % 360, "fov_deg": fov, "pitch_deg": pitch}
        origin = Origin(
            item=image.name,
            date=dates.to_days(image.date),
            licence=image.licence,
            credit=image.credit,
            numbers=numbers,
            panorama=_hash(image.name) if image.panorama else -1,
        )
        return cls(origin, angles)

    def render(
        self, pixels: UInt8[np.ndarray, "3 row col"], side_px: int
    ) -> UInt8[np.ndarray, "3 view view"]:
        """Return the pixels of the view."""
        if self.angles is None:
            return np.array(pixels)
        from unigeo.producer.sources.panorama import render_perspective

        return render_perspective(pixels, (side_px, side_px), *self.angles)


def split_box(
    west: float, south: float, east: float, north: float, side_deg: float
) -> Sequence[tuple[float, float, float, float]]:
    """Split a box into boxes whose sides are at most `side_deg`, in degrees."""
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


def _hash(name: str) -> int:
    """Hash a name to 62 bits."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2
