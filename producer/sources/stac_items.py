"""Items of a STAC API: found by box and year, ranked for a footprint by a named rule."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import batched
from typing import Any
from urllib.parse import urljoin

import numpy as np
import shapely
from jaxtyping import Float

from unigeo.producer.observations.folder import dates
from unigeo.producer.sources.web_requests import GoneError, WebClient
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import shortest_arc

PAGE = 250
"""Items per page of a search."""
PAGES = 400
"""Largest number of pages of a search."""
SIGN_URL = "https://planetarycomputer.microsoft.com/api/sas/v1/sign"
PREFERENCES = ("newest", "oldest", "nearest", "clearest", "fullest")


@dataclass(frozen=True, eq=False)
class Item:
    """One image of a catalogue."""

    name: str
    date: str
    """Date of observation, ISO 8601: a date, a time, or a range."""
    cloud: float
    """Cloud cover in percent; 0 where it is not stated."""
    gsd_m: float | None
    """Ground sampling distance in metres; None where it is not stated."""
    outline: shapely.Geometry
    """Footprint in degrees."""
    href: str
    """Address of the asset."""
    licence: str = ""
    digest: str = ""
    """SHA-256 of the file's checksum if the catalogue states one, else of the item's metadata."""
    tracks_file: bool = False
    """Whether `digest` changes with the file: the metadata hold a checksum or time of update."""

    @property
    def year(self) -> int:
        """Year of observation: the first of a range."""
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
        web: client of the API.
        url: address of the API's landing page; `/search` is below it.
        collections: collections to search in.
        bbox: west, south, east, north in degrees.
        years: years of observation; any year if empty.
        asset: name of the asset that is wanted.

    Returns:
        The items sorted by name; and names of items that are malformed or lack the asset, with the
        reason.

    Raises:
        ObservationsError: there is no such API, or its pages do not end.
        StoreError: the API cannot be reached.
    """
    query: dict[str, Any] = {"collections": list(collections), "bbox": list(bbox), "limit": PAGE}
    if years:
        span = f"{min(years)}-01-01T00:00:00Z/{max(years)}-12-31T23:59:59Z"
        query["datetime"] = span
    items, unusable = _query_pages(web, url, query, asset)
    # The query covers the years between the first and the last, too.
    wanted = [item for item in items if not years or set(years) & set(dates.years(item.date))]
    return wanted, unusable


def search_by_name(
    web: WebClient, url: str, collections: Sequence[str], names: Sequence[str], asset: str
) -> list[Item]:
    """Return those items of some names that a STAC API has, sorted by name.

    Raises:
        ObservationsError: there is no such API, or its pages do not end.
        StoreError: the API cannot be reached.
    """
    items: list[Item] = []
    for batch in batched(names, PAGE):
        query = {"collections": list(collections), "ids": list(batch), "limit": PAGE}
        items += _query_pages(web, url, query, asset)[0]
    return sorted(items, key=lambda item: item.name)


def _query_pages(
    web: WebClient, url: str, query: dict[str, Any], asset: str
) -> tuple[list[Item], dict[str, str]]:
    """Read all pages of a search; results as of `search`."""
    address, method = url.rstrip("/") + "/search", "POST"
    items: dict[str, Item] = {}
    unusable: dict[str, str] = {}
    for _ in range(PAGES):
        try:
            post = method == "POST"
            page = web.json(address, body=query) if post else web.json(address)
        except GoneError as gone:
            raise ObservationsError(
                f"{address} is no STAC search ({gone}). Give the address of the API's landing page."
            ) from gone
        for feature in page.get("features", []):
            item = _parse_item(feature, asset, url)
            if isinstance(item, str):
                unusable[str(feature.get("id"))] = item
            else:
                items[item.name] = item
        next_links = [link for link in page.get("links", []) if link.get("rel") == "next"]
        if not next_links:
            return [items[name] for name in sorted(items)], unusable
        link = next_links[0]
        address, method = urljoin(address, link["href"]), str(link.get("method", "GET")).upper()
        # STAC API: with "merge" the body of the link is added to that of the request before.
        query = (query if link.get("merge") else {}) | link.get("body", {})
    raise ObservationsError(
        f"{url} gave {PAGES} pages for one box and still more; ask for fewer collections or years."
    )


def _parse_item(feature: dict[str, Any], asset: str, url: str) -> Item | str:
    """Return an item, or the reason why it cannot be used."""
    if asset not in feature.get("assets", {}):
        return "no asset"
    properties = feature.get("properties", {})
    ends = [properties.get(f"{end}_datetime") for end in ("start", "end")]
    date = properties.get("datetime") or "/".join(end for end in ends if end)
    try:
        dates.days(date)
        outline = shapely.make_valid(shapely.geometry.shape(feature["geometry"]))
        base = next((k["href"] for k in feature.get("links", []) if k.get("rel") == "self"), url)
        file = feature["assets"][asset]
        checksum = file.get("file:checksum")
        return Item(
            name=str(feature["id"]),
            date=date,
            cloud=float(properties.get("eo:cloud_cover") or 0),
            gsd_m=None if properties.get("gsd") is None else float(properties["gsd"]),
            outline=outline,
            href=urljoin(base, file["href"]),
            licence=str(properties.get("license") or ""),
            digest=_digest(checksum or [properties, feature["geometry"], _without_signature(file)]),
            tracks_file=bool(checksum or file.get("updated") or properties.get("updated")),
        )
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
        return "malformed item"


def _without_signature(asset: dict[str, Any]) -> dict[str, Any]:
    """Drop the query of an asset's address, where a catalogue puts a signature that expires."""
    return {**asset, "href": str(asset["href"]).split("?")[0]}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def rank_items(
    items: Sequence[Item], footprint: shapely.Geometry, prefer: str, date: str
) -> tuple[Item, ...]:
    """Return the items of a mosaic for a footprint: the best first, then others to fill its gaps.

    Items that cover all of the footprint come before those that do not. All items of a mosaic are
    of one year, that of the best.

    Args:
        items: items to choose from.
        footprint: footprint of the patch, in degrees.
        prefer: one of `PREFERENCES`; `fullest` ranks by the share of the footprint covered.
        date: date that `nearest` refers to, ISO 8601; items that overlap it are all equally near.
    """
    area = float(shapely.area(footprint))
    parts = [shapely.intersection(item.outline, footprint) for item in items]
    # In square degrees, which is good enough for a ratio within one patch.
    shares = [float(shapely.area(part)) / area for part in parts]
    covering = [(item, share) for item, share in zip(items, shares, strict=True) if share > 1e-6]

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
        # The name last, so that the order of equal items does not depend on the API's.
        return (share < 1 - 1e-6, *rank, item.cloud, -share, item.name)

    covering.sort(key=key)
    return tuple(item for item, _ in covering if item.year == covering[0][0].year)


def sign_address(
    web: WebClient, href: str, method: str, sign_url: str = SIGN_URL
) -> tuple[str, float]:
    """Return an address that can be read, with a signature if the catalogue needs one.

    Args:
        web: client of the signing service.
        href: address of the asset.
        method: `none` or `planetary-computer`.
        sign_url: address of the signing service.

    Returns:
        The address, and when its signature expires, in seconds since 1970.

    Raises:
        GoneError: the service does not know the asset, or its answer is no signature.
        StoreError: the service cannot be reached.

    Source: "Using tokens for data access", Planetary Computer documentation.
    """
    if method == "none":
        return href, float("inf")
    answer = web.json(sign_url, params={"href": href})
    try:
        return str(answer["href"]), datetime.fromisoformat(answer["msft:expiry"]).timestamp()
    except (KeyError, TypeError, ValueError) as error:
        raise GoneError("not signed") from error


def footprints(lonlat: Float[np.ndarray, "location 2"], side_m: float) -> list[shapely.Geometry]:
    """Return a square, north up, round each location, in degrees.

    One across the antimeridian is cut there, as GeoJSON asks; one that holds a pole is the cap
    round it that reaches to the square's corners.
    """
    from unigeo.producer.observations.raster_files.patch_frames import local_lonlat

    half = side_m / 2
    ends = local_lonlat(
        lonlat, np.array([-half, half, half, -half]), np.array([-half, -half, half, half])
    )
    ends[..., 0] += 360.0 * np.round((lonlat[:, None, 0] - ends[..., 0]) / 360.0)
    return [_square_on_globe(corners) for corners in ends]


def _square_on_globe(corners: Float[np.ndarray, "corner 2"]) -> shapely.Geometry:
    """Return the area within corners, whose longitudes may lie beyond the antimeridian."""
    (west, south), (east, north) = corners.min(axis=0), corners.max(axis=0)
    if east - west > 180.0:  # a pole is inside
        reach = (south, 90.0) if south + north > 0 else (-90.0, north)
        return shapely.box(-180.0, reach[0], 180.0, reach[1])
    square = shapely.Polygon(corners)
    if west >= -180.0 and east <= 180.0:
        return square
    turned = [shapely.transform(square, partial(np.add, [turn, 0.0])) for turn in (-360.0, 0, 360)]
    return shapely.union_all(shapely.intersection(turned, shapely.box(-180.0, -90.0, 180.0, 90.0)))


def box_round(footprints: Sequence[shapely.Geometry]) -> tuple[float, float, float, float]:
    """Return west, south, east and north of footprints; west exceeds east over the antimeridian."""
    west, south, east, north = map(float, shapely.total_bounds(np.array(footprints)))
    if east - west > 180.0:
        parts = shapely.get_parts(np.array(footprints))
        west, east = shortest_arc([shapely.get_coordinates(part) for part in parts])
        if east - west >= 360.0:
            west, east = -180.0, 180.0
        west, east = (edge - 360.0 if edge > 180.0 else edge for edge in (west, east))
    return west, south, east, north
