"""Photographs of Mapillary, by its Graph API.

The API answers a search in a box with up to 2,000 images and does not page: a box whose answer is
full is cut in four. Pixels are behind addresses that expire, so they are asked for when needed.

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
TILE_DEG = 0.05
"""Side of a box; the API refuses boxes of more than 0.01 square degrees."""
SMALLEST_DEG = 1e-4
LICENCE = "CC-BY-SA-4.0"


@dataclass(eq=False)
class Mapillary:
    """A client of the Graph API."""

    web: WebClient
    url: str = URL
    pixels: str = "thumb_2048_url"

    def search(self, west: float, south: float, east: float, north: float) -> list[StreetImage]:
        """Every image in a box of degrees.

        Raises:
            ObservationsError: the token or the question is refused.
            StoreError: the API cannot be reached.
        """
        found: dict[str, StreetImage] = {}
        boxes = list(split_box(west, south, east, north, TILE_DEG))
        while boxes:
            box = boxes.pop()
            images = self._ask(box)
            if len(images) >= LIMIT and box[2] - box[0] > SMALLEST_DEG:
                boxes += split_box(*box, max(box[2] - box[0], box[3] - box[1]) / 2)
                continue
            for image in images:
                photograph = _read(image)
                if photograph is not None:
                    found[photograph.name] = photograph
        return list(found.values())

    def _ask(self, box: tuple[float, float, float, float]) -> list[dict[str, Any]]:
        question: dict[str, Any] | None = {
            "bbox": ",".join(f"{edge:.7f}" for edge in box),
            "fields": FIELDS,
            "limit": LIMIT,
        }
        address, images = f"{self.url}/images", []
        while True:
            try:
                page = self.web.json(address, params=question)
            except GoneError as gone:
                raise ObservationsError(f"{self.url} is no Mapillary API ({gone}).") from gone
            images += page.get("data", [])
            following = page.get("paging", {}).get("next")
            if not following or not page.get("data"):
                return images
            address, question = following, None

    def fetch(self, name: str) -> bytes:
        """The pixels of an image, as JPEG.

        Raises:
            GoneError: it was taken down.
            StoreError: it cannot be reached.
        """
        about = self.web.json(f"{self.url}/{name}", params={"fields": self.pixels})
        if not about.get(self.pixels):
            raise GoneError("no pixels")
        # The address is signed; the token is for the API alone.
        return WebClient(self.web.per_second, first_wait_s=self.web.first_wait_s).bytes(
            about[self.pixels]
        )


def open_mapillary(
    token_name: str, url: str = URL, per_second: float = 10.0, first_wait_s: float = 0.5
) -> Mapillary:
    """A client with the access token of an environment variable.

    Raises:
        ObservationsError: there is no token.
    """
    token = os.environ.get(token_name, "").strip()
    if not token:
        raise ObservationsError(
            f"Mapillary needs an access token: set the environment variable {token_name} to the "
            "client token of your application (mapillary.com/dashboard/developers)."
        )
    web = WebClient(per_second, {"Authorization": f"OAuth {token}"}, first_wait_s)
    return Mapillary(web, url or URL)


def _read(image: dict[str, Any]) -> StreetImage | None:
    """An image of the API; None if it has no place or time."""
    try:
        place = image.get("computed_geometry") or image["geometry"]
        lon, lat = place["coordinates"][:2]
        taken = datetime.fromtimestamp(int(image["captured_at"]) / 1000, UTC)
        heading = image.get("computed_compass_angle", image.get("compass_angle"))
        by = (image.get("creator") or {}).get("username", "a contributor")
        return StreetImage(
            name=str(image["id"]),
            lon=float(lon),
            lat=float(lat),
            panorama=bool(image.get("is_pano")),
            heading_deg=None if heading is None else float(heading),
            date=taken.date().isoformat(),
            licence=LICENCE,
            credit=f"{by}, Mapillary",
            address=str(image["id"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
