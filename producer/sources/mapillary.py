"""Client of Mapillary's Graph API.

The API answers a search in a box with up to 2,000 images and does not page, so a box with as many
is split into four. The addresses of pixels expire, so they are requested when needed.

Source: "Mapillary API Documentation", entity `image`; images are CC BY-SA 4.0 and blurred.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from unigeo.producer.sources.street import StreetImage, split_box
from unigeo.producer.sources.web_requests import GoneError, WebClient
from unigeo.schemas.errors import ObservationsError

URL = "https://graph.mapillary.com"
FIELDS = (
    "id,captured_at,compass_angle,computed_compass_angle,geometry,computed_geometry,is_pano,creator"
)
LIMIT = 2000
"""Largest number of images in an answer."""
TILE_DEG = 0.05
"""Side of a box; the API refuses boxes of more than 0.01 square degrees."""
SMALLEST_DEG = 1e-4
"""Side below which a box is not split further."""
LICENCE = "CC-BY-SA-4.0"


@dataclass(eq=False)
class Mapillary:
    """Client of the Graph API."""

    web: WebClient
    url: str = URL
    pixels: str = "thumb_2048_url"
    """Field of an image that holds the address of its pixels."""

    def search(self, west: float, south: float, east: float, north: float) -> list[StreetImage]:
        """Return every image in a box of degrees.

        Raises:
            ObservationsError: the token or the request is refused.
            StoreError: the API cannot be reached.
        """
        found: dict[str, StreetImage] = {}
        boxes = list(split_box(west, south, east, north, TILE_DEG))
        while boxes:
            box = boxes.pop()
            images = self._query(box)
            # A full answer may lack images: it is discarded, and the quarters are searched.
            if len(images) >= LIMIT and box[2] - box[0] > SMALLEST_DEG:
                boxes += split_box(*box, max(box[2] - box[0], box[3] - box[1]) / 2)
                continue
            for image in images:
                parsed = _parse_image(image)
                if parsed is not None:
                    found[parsed.name] = parsed
        return list(found.values())

    def _query(self, box: tuple[float, float, float, float]) -> list[dict[str, Any]]:
        """Return the API's records of the images in a box."""
        params: dict[str, Any] | None = {
            "bbox": ",".join(f"{edge:.7f}" for edge in box),
            "fields": FIELDS,
            "limit": LIMIT,
        }
        address, images = f"{self.url}/images", []
        while True:
            try:
                page = self.web.json(address, params=params)
            except GoneError as gone:
                raise ObservationsError(f"{self.url} is no Mapillary API ({gone}).") from gone
            images += page.get("data", [])
            next_page = page.get("paging", {}).get("next")
            if not next_page or not page.get("data"):
                return images
            address, params = next_page, None

    def fetch(self, name: str) -> bytes:
        """Fetch the pixels of an image, as JPEG.

        Raises:
            GoneError: the image was taken down.
            StoreError: the API cannot be reached.
        """
        image = self.web.json(f"{self.url}/{name}", params={"fields": self.pixels})
        if not image.get(self.pixels):
            raise GoneError("no pixels")
        # The address is signed, and on another server: the access token must not be sent there.
        return WebClient(self.web.per_second, first_wait_s=self.web.first_wait_s).bytes(
            image[self.pixels]
        )


def open_mapillary(
    token_name: str, url: str = URL, per_second: float = 10.0, first_wait_s: float = 0.5
) -> Mapillary:
    """Return a client with the access token in an environment variable.

    Raises:
        ObservationsError: the variable holds no token.
    """
    token = os.environ.get(token_name, "").strip()
    if not token:
        raise ObservationsError(
            f"Mapillary needs an access token: set the environment variable {token_name} to the "
            "client token of your application (mapillary.com/dashboard/developers)."
        )
    web = WebClient(per_second, {"Authorization": f"OAuth {token}"}, first_wait_s)
    return Mapillary(web, url or URL)


def _parse_image(image: dict[str, Any]) -> StreetImage | None:
    """Return an image of the API; None if it has no position or time."""
    try:
        geometry = image.get("computed_geometry") or image["geometry"]
        lon, lat = geometry["coordinates"][:2]
        captured = datetime.fromtimestamp(int(image["captured_at"]) / 1000, UTC)
        heading = image.get("computed_compass_angle", image.get("compass_angle"))
        by = (image.get("creator") or {}).get("username", "a contributor")
        return StreetImage(
            name=str(image["id"]),
            lon=float(lon),
            lat=float(lat),
            panorama=bool(image.get("is_pano")),
            heading_deg=None if heading is None else float(heading),
            date=captured.date().isoformat(),
            licence=LICENCE,
            credit=f"{by}, Mapillary",
            address=str(image["id"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
