"""Items of a STAC API: searched by place and year, chosen for a place by a named rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

import numpy as np
import shapely
from jaxtyping import Float

from unigeo.producer.sources.fetching import GoneError, Web
from unigeo.schemas.errors import ObservationsError

PAGE = 250
PAGES = 400
SIGN_URL = "https://planetarycomputer.microsoft.com/api/sas/v1/sign"
PREFERENCES = ("newest", "oldest", "nearest", "clearest", "fullest")


@dataclass(frozen=True, eq=False)
class Item:
    """One image of a catalogue."""

    name: str
    date: str
    """ISO 8601."""
    cloud: float
    """Percent; 0 where it is not said."""
    gsd_m: float | None
    outline: shapely.Geometry
    href: str
    """Where the asset is."""
    licence: str = ""

    @property
    def year(self) -> int:
        """Of observation."""
        return int(self.date[:4] or 0)


def search(
    web: Web,
    url: str,
    collections: Sequence[str],
    bbox: tuple[float, float, float, float],
    years: Sequence[int],
    asset: str,
) -> tuple[list[Item], dict[str, str]]:
    """Search a STAC API for items that touch a box.

    Args:
        web: client.
        url: of the API's landing page; `/search` is below it.
        collections: to search in.
        bbox: west, south, east, north in degrees.
        years: of observation; any if empty.
        asset: the one wanted.

    Returns:
        The items in the order of their names; those without the asset or malformed, and why.

    Raises:
        ObservationsError: there is no such API, or it pages for ever.
        StoreError: it cannot be reached.
    """
    question: dict[str, Any] = {"collections": list(collections), "bbox": list(bbox), "limit": PAGE}
    if years:
        span = f"{min(years)}-01-01T00:00:00Z/{max(years)}-12-31T23:59:59Z"
        question["datetime"] = span
    address, method = url.rstrip("/") + "/search", "POST"
    items: dict[str, Item] = {}
    lacking: dict[str, str] = {}
    for _ in range(PAGES):
        try:
            post = method == "POST"
            page = web.json(address, body=question) if post else web.json(address)
        except GoneError as gone:
            raise ObservationsError(
                f"{address} is no STAC search ({gone}). Give the address of the API's landing page."
            ) from gone
        for feature in page.get("features", []):
            item = _read(feature, asset, url)
            if isinstance(item, str):
                lacking[str(feature.get("id"))] = item
            elif not years or item.year in years:
                items[item.name] = item
        following = [link for link in page.get("links", []) if link.get("rel") == "next"]
        if not following:
            return [items[name] for name in sorted(items)], lacking
        link = following[0]
        address, method = urljoin(address, link["href"]), str(link.get("method", "GET")).upper()
        question = (question if link.get("merge") else {}) | link.get("body", {})
    raise ObservationsError(
        f"{url} gave {PAGES} pages for one box and still more; ask for fewer collections or years."
    )


def _read(feature: dict[str, Any], asset: str, url: str) -> Item | str:
    """An item, or why it is none."""
    if asset not in feature.get("assets", {}):
        return "no asset"
    about = feature.get("properties", {})
    date = about.get("datetime") or about.get("start_datetime") or ""
    try:
        datetime.fromisoformat(date)
        outline = shapely.make_valid(shapely.geometry.shape(feature["geometry"]))
        base = next((k["href"] for k in feature.get("links", []) if k.get("rel") == "self"), url)
        return Item(
            name=str(feature["id"]),
            date=date,
            cloud=float(about.get("eo:cloud_cover") or 0),
            gsd_m=None if about.get("gsd") is None else float(about["gsd"]),
            outline=outline,
            href=urljoin(base, feature["assets"][asset]["href"]),
            licence=str(about.get("license") or ""),
        )
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
        return "malformed item"


def ranked(
    items: Sequence[Item], footprint: shapely.Geometry, prefer: str, date: str
) -> tuple[Item, ...]:
    """Items that hold some of a footprint: the best first, then those that may fill it up.

    An item that holds the whole footprint goes before one that does not, unless `fullest` is what
    is asked, which is the same thing by degree. A mosaic is of one year: that of the first.

    Args:
        items: to choose from.
        footprint: of the patch, in degrees.
        prefer: one of `PREFERENCES`.
        date: what `nearest` is nearest to, ISO 8601.
    """
    area = float(shapely.area(footprint))
    parts = [shapely.intersection(item.outline, footprint) for item in items]
    shares = [float(shapely.area(part)) / area for part in parts]
    held = [(item, share) for item, share in zip(items, shares, strict=True) if share > 1e-6]

    def key(pair: tuple[Item, float]) -> tuple[Any, ...]:
        item, share = pair
        day = datetime.fromisoformat(item.date).timestamp() / 86400
        rank = {
            "newest": (-day,),
            "oldest": (day,),
            "nearest": (abs(day - datetime.fromisoformat(date or item.date).timestamp() / 86400),),
            "clearest": (item.cloud, -day),
            "fullest": (-round(share, 6), item.cloud, -day),
        }[prefer]
        return (share < 1 - 1e-6, *rank, item.cloud, -share, item.name)

    held.sort(key=key)
    return tuple(item for item, _ in held if item.year == held[0][0].year)


def signed(web: Web, href: str, how: str, sign_url: str = SIGN_URL) -> tuple[str, float]:
    """An address that may be read: as it is, or with a signature that the service gives.

    Args:
        web: client.
        href: of the asset.
        how: `none` or `planetary-computer`.
        sign_url: the signing service.

    Returns:
        The address, and until when it may be read, in seconds since 1970.

    Raises:
        GoneError: the service does not know the asset, or its answer is no signature.
        StoreError: it cannot be reached.

    Source: "Using tokens for data access", Planetary Computer documentation.
    """
    if how == "none":
        return href, float("inf")
    answer = web.json(sign_url, params={"href": href})
    try:
        return str(answer["href"]), datetime.fromisoformat(answer["msft:expiry"]).timestamp()
    except (KeyError, TypeError, ValueError) as error:
        raise GoneError("not signed") from error


def footprints(lonlat: Float[np.ndarray, "place 2"], side_m: float) -> list[shapely.Geometry]:
    """Squares of a side round each place, north up, in degrees."""
    from unigeo.producer.observations.frames import local_lonlat

    half = side_m / 2
    ends = local_lonlat(
        lonlat, np.array([-half, half, half, -half]), np.array([-half, -half, half, half])
    )
    return [shapely.Polygon(square) for square in ends]
