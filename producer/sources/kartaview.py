"""Client of KartaView (OpenStreetCam), by its public API of images near a point.

Source: `GET /2.0/photo/?lat=&lng=&radius=`; images are CC BY-SA 4.0 and blurred by the service.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from unigeo.producer.observations.folder import dates
from unigeo.producer.sources.street import StreetImage, split_box
from unigeo.producer.sources.web_requests import GoneError, WebClient
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.great_circle import MOST_METRES_PER_DEGREE

URL = "https://api.openstreetcam.org/2.0"
PAGE = 500
PAGES = 200
TILE_DEG = 0.02
LICENCE = "CC-BY-SA-4.0"


@dataclass(eq=False)
class KartaView:
    """Client of the image service."""

    web: WebClient
    url: str = URL

    def search(self, west: float, south: float, east: float, north: float) -> list[StreetImage]:
        """Return every image in a box of degrees.

        Raises:
            ObservationsError: the request is refused.
            StoreError: the service cannot be reached.
        """
        found: dict[str, StreetImage] = {}
        for box in split_box(west, south, east, north, TILE_DEG):
            lon, lat = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            high = (box[3] - box[1]) * MOST_METRES_PER_DEGREE / 2
            wide = (box[2] - box[0]) * MOST_METRES_PER_DEGREE / 2 * np.cos(np.radians(lat))
            # The service answers with the images in a circle: here the one round the box.
            for photo in self._near(lon, lat, float(np.hypot(high, wide)) + 1):
                image = _parse_image(photo)
                if image is not None and west <= image.lon <= east and south <= image.lat <= north:
                    found[image.name] = image
        return list(found.values())

    def _near(self, lon: float, lat: float, radius_m: float) -> list[dict[str, Any]]:
        """Return the service's records of the images within a radius of a point."""
        photos: list[dict[str, Any]] = []
        for page in range(1, PAGES + 1):
            params = {
                "lat": f"{lat:.7f}", "lng": f"{lon:.7f}", "radius": round(radius_m),
                "itemsPerPage": PAGE, "page": page, "join": "user",
            }  # fmt: skip
            try:
                answer = self.web.json(f"{self.url}/photo/", params=params)
            except GoneError as gone:
                raise ObservationsError(f"{self.url} is no KartaView API ({gone}).") from gone
            result = answer.get("result") or {}
            photos += result.get("data") or []
            if not result.get("hasMoreData"):
                break
        return photos

    def fetch(self, address: str) -> bytes:
        """Fetch the pixels of an image, as JPEG."""
        return self.web.bytes(address)


def _parse_image(photo: dict[str, Any]) -> StreetImage | None:
    """Return an image of the API; None if it has no position or pixels."""
    try:
        address = photo.get("fileurlProc") or photo.get("fileurlLTh") or photo["fileurl"]
        heading = photo.get("heading")
        return StreetImage(
            name=str(photo["id"]),
            lon=float(photo["lng"]),
            lat=float(photo["lat"]),
            panorama=photo.get("projection") == "SPHERE",
            # The service writes -1 where the direction is not known.
            heading_deg=None if heading in (None, "", -1, "-1") else float(heading),
            date=dates.day_or_none(photo.get("shotDate") or photo.get("dateAdded")),
            licence=LICENCE,
            credit=f"{(photo.get('user') or {}).get('username', 'a contributor')}, KartaView",
            address=str(address),
        )
    except (KeyError, TypeError, ValueError):
        return None
