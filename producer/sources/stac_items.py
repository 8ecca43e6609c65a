"""Items of a STAC API: searched by place and year, chosen for a place by a named rule."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import batched
from typing import Any
from urllib.parse import urljoin

import numpy as np
import shapely
from jaxtyping import Float

from unigeo.producer.observations.folder import dates
from unigeo.producer.sources.web_requests import GoneError, WebClient
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
    """ISO 8601: a date, a moment, or from one to another."""
    cloud: float
    """Percent; 0 where it is not said."""
    gsd_m: float | None
    outline: shapely.Geometry
    href: str
    """Where the asset is."""
    licence: str = ""
    digest: str = ""
    """SHA-256 of what the catalogue says of the image: of its file's checksum where it has one."""
    vouched: bool = False
    """Whether that changes with the file: a checksum, or the time of the last change."""

    @property
    def year(self) -> int:
        """Of observation: the first where there are several."""
        return dates.years(self.date)[0]


def search(
    web: WebClient,
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
    items, lacking = _asked(web, url, question, asset)
    return [
        item for item in items if not years or set(years) & set(dates.years(item.date))
    ], lacking


def search_by_name(
    web: WebClient, url: str, collections: Sequence[str], names: Sequence[str], asset: str
) -> list[Item]:
    """The items of some names that a STAC API has, in the order of their names.

    Raises:
        ObservationsError: there is no such API, or it pages for ever.
        StoreError: it cannot be reached.
    """
    found: list[Item] = []
    for batch in batched(names, PAGE):
        question = {"collections": list(collections), "ids": list(batch), "limit": PAGE}
        found += _asked(web, url, question, asset)[0]
    return sorted(found, key=lambda item: item.name)


def _asked(
    web: WebClient, url: str, question: dict[str, Any], asset: str
) -> tuple[list[Item], dict[str, str]]:
    """All pages of an answer: items in the order of their names; those without the asset."""
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
            else:
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
    ends = [about.get(f"{end}_datetime") for end in ("start", "end")]
    date = about.get("datetime") or "/".join(end for end in ends if end)
    try:
        dates.days(date)
        outline = shapely.make_valid(shapely.geometry.shape(feature["geometry"]))
        base = next((k["href"] for k in feature.get("links", []) if k.get("rel") == "self"), url)
        described = feature["assets"][asset]
        checksum = described.get("file:checksum")
        return Item(
            name=str(feature["id"]),
            date=date,
            cloud=float(about.get("eo:cloud_cover") or 0),
            gsd_m=None if about.get("gsd") is None else float(about["gsd"]),
            outline=outline,
            href=urljoin(base, described["href"]),
            licence=str(about.get("license") or ""),
            digest=_digest(checksum or [about, feature["geometry"], _unsigned(described)]),
            vouched=bool(checksum or described.get("updated") or about.get("updated")),
        )
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
        return "malformed item"


def _unsigned(asset: dict[str, Any]) -> dict[str, Any]:
    """An asset without what is signed anew each time."""
    return {**asset, "href": str(asset["href"]).split("?")[0]}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def rank_items(
    items: Sequence[Item], footprint: shapely.Geometry, prefer: str, date: str
) -> tuple[Item, ...]:
    """Items that hold some of a footprint: the best first, then those that may fill it up.

    An item that holds the whole footprint goes before one that does not, unless `fullest` is what
    is asked, which is the same thing by degree. A mosaic is of one year: that of the first.

    Args:
        items: to choose from.
        footprint: of the patch, in degrees.
        prefer: one of `PREFERENCES`.
        date: what `nearest` is nearest to, ISO 8601: days between the two, 0 where they overlap.
    """
    area = float(shapely.area(footprint))
    parts = [shapely.intersection(item.outline, footprint) for item in items]
    shares = [float(shapely.area(part)) / area for part in parts]
    held = [(item, share) for item, share in zip(items, shares, strict=True) if share > 1e-6]

    def key(pair: tuple[Item, float]) -> tuple[Any, ...]:
        item, share = pair
        first, last = dates.days(item.date)
        before, after = dates.days(date or item.date)
        rank = {
            "newest": (-last,),
            "oldest": (first,),
            "nearest": (max(before - last, first - after, 0.0),),
            "clearest": (item.cloud, -last),
            "fullest": (-round(share, 6), item.cloud, -last),
        }[prefer]
        return (share < 1 - 1e-6, *rank, item.cloud, -share, item.name)

    held.sort(key=key)
    return tuple(item for item, _ in held if item.year == held[0][0].year)


def sign_address(
    web: WebClient, href: str, how: str, sign_url: str = SIGN_URL
) -> tuple[str, float]:
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


def footprints(lonlat: Float[np.ndarray, "location 2"], side_m: float) -> list[shapely.Geometry]:
    """Squares of a side round each place, north up, in degrees."""
    from unigeo.producer.observations.geotiff.patch_frames import local_lonlat

    half = side_m / 2
    ends = local_lonlat(
        lonlat, np.array([-half, half, half, -half]), np.array([-half, -half, half, half])
    )
    return [shapely.Polygon(square) for square in ends]
