"""Map features round locations: a kind in words, a name where there is one, and a position.

Features come from OGC API - Features, Overpass, or files of OpenStreetMap, Overture and GeoNames.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pandas as pd
import shapely

from unigeo.producer.sources.web_requests import GoneError, WebClient
from unigeo.schemas.errors import ObservationsError, StoreError
from unigeo.schemas.io.json_text import load_json

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees."""
PAGE = 1000
"""Features per page of a request."""
PAGES = 200
"""Largest number of pages of a request."""
BOXES = 64
"""Largest number of boxes in one request to Overpass."""
KEYS = (
    "amenity", "shop", "tourism", "leisure", "landuse", "natural", "building", "highway",
    "railway", "waterway", "man_made", "historic", "power", "aeroway",
)  # fmt: skip
"""OpenStreetMap keys whose value names a kind, the more specific first."""
SETTLEMENTS = ("city", "town", "village", "hamlet", "suburb", "neighbourhood", "locality")
"""Values of OpenStreetMap's key `place` that are kinds of settlement."""
GEONAMES = {1: "name", 4: "lat", 5: "lon", 7: "feature_code", 14: "population"}
"""Columns of a dump of GeoNames, which has no header, by their number."""
_KIND = re.compile(r"[a-z][a-z' -]{1,39}")
VAGUE = {"yes", "no", "true", "unclassified", "service", "residential"}
"""Values that name no kind of thing."""
RELEVANCE = {"amenity": 5, "tourism": 5, "historic": 5, "aeroway": 5, "leisure": 4, "shop": 4,
           "natural": 3, "waterway": 3, "railway": 3, "landuse": 3, "man_made": 3, "power": 2,
           "building": 1, "highway": 1}  # fmt: skip


@dataclass(frozen=True)
class Feature:
    """One feature of a map."""

    kind: str
    """Kind in words, without a name: `primary school`, `pond`, `residential street`."""
    relevance: float
    """How characteristic it is of its surroundings, from 0 to 5."""
    lon: float
    lat: float
    name: str = ""
    population: int = 0
    """Population of a settlement; 0 where it is not known."""
    settlement: str = ""
    """Kind of settlement (city, town, village); empty for other features."""


def feature_from_tags(tags: Mapping[str, Any], lon: float, lat: float) -> Feature | None:
    """Read a feature of OpenStreetMap, Overture or GeoNames; None if it names no kind of thing.

    Args:
        tags: OpenStreetMap tags, Overture properties or columns of GeoNames.
        lon: longitude in degrees.
        lat: latitude in degrees.
    """
    name = _name(tags)
    settlement = str(tags.get("place") or "")
    if settlement in SETTLEMENTS:
        population = _to_int(tags.get("population"))
        return Feature(settlement, 4, lon, lat, name, population, settlement)
    if tags.get("feature_code") or tags.get("fcode"):  # GeoNames
        code = str(tags.get("feature_code") or tags.get("fcode"))
        if not code.startswith("PPL"):
            return None
        population = _to_int(tags.get("population"))
        settlement = (
            "city" if population >= 100_000 else "town" if population >= 5000 else "village"
        )
        return Feature(settlement, 4, lon, lat, name, population, settlement)
    categories = tags.get("categories")
    if isinstance(categories, Mapping) and categories.get("primary"):  # Overture places
        kind = _kind(str(categories["primary"]))
        return Feature(kind, 5, lon, lat, name) if kind else None
    for key in KEYS:
        value = str(tags.get(key) or "")
        if not value or (value in VAGUE and key not in ("highway", "landuse", "building")):
            continue
        kind = _kind(value)
        if not kind:
            continue
        if key == "building":
            kind = "building" if value in VAGUE else f"{kind} building"
        elif key == "highway":
            kind = "street" if value in VAGUE else f"{kind} road"
        elif key == "landuse":
            kind = kind if kind.endswith(("land", "forest", "meadow")) else f"{kind} land"
        elif key == "shop":
            kind = kind if kind.endswith("shop") else f"{kind} shop"
        return Feature(kind, RELEVANCE[key], lon, lat, name)
    if tags.get("class") or tags.get("subtype"):  # Overture base, buildings, transportation
        kind = _kind(str(tags.get("class") or tags["subtype"]))
        return Feature(kind, 2, lon, lat, name) if kind else None
    return None


def features_from_geojson(features: Iterable[Mapping[str, Any]]) -> list[Feature]:
    """Read the features of a GeoJSON collection; those without geometry are left out."""
    found = []
    for feature in features:
        try:
            point = shapely.geometry.shape(feature["geometry"]).representative_point()
            one = feature_from_tags(feature.get("properties") or {}, point.x, point.y)
        except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
            continue  # a geometry may be null
        if one is not None:
            found.append(one)
    return found


def query_ogc_features(web: WebClient, url: str, bbox: Box) -> list[Feature]:
    """Query OGC API - Features for the items in a box, page by page.

    Raises:
        ObservationsError: there is no such collection, or its pages do not end.
        StoreError: the API cannot be reached.
    """
    params: dict[str, Any] | None = {"bbox": ",".join(f"{e:.6f}" for e in bbox), "limit": PAGE}
    found: list[Feature] = []
    address = url
    for _ in range(PAGES):
        try:
            page = web.json(address, params=params)
        except GoneError as gone:
            raise ObservationsError(f"{url} has no items of features ({gone}).") from gone
        found += features_from_geojson(page.get("features", []))
        links = [link["href"] for link in page.get("links", []) if link.get("rel") == "next"]
        if not links:
            return found
        address, params = urljoin(address, links[0]), None
    raise ObservationsError(f"{url} gave {PAGES} pages for one box and still more.")


def query_overpass(web: WebClient, url: str, near: Sequence[Box], wide: Box) -> list[Feature]:
    """Query an Overpass interpreter for features in some boxes, and for settlements in a wide one.

    The interpreter may break off an answer, which it states in a remark, with status 200. The
    request is then repeated in halves.

    Raises:
        ObservationsError: the request is refused.
        StoreError: the interpreter cannot be reached, or breaks off the answer for a single box.
    """
    keys, towns = f'~"^({"|".join(KEYS)})$"~"."', f'"place"~"^({"|".join(SETTLEMENTS)})$"'
    parts = [[f"nwr[{towns}]({_south_first(wide)});"]]
    parts += [
        [f"nwr[{keys}]({_south_first(box)});" for box in batch] for batch in batched(near, BOXES)
    ]
    elements: dict[tuple[str, int], Mapping[str, Any]] = {}
    while parts:  # of statements; a part whose answer is broken off comes back in halves
        part = parts.pop()
        query = f"[out:json][timeout:90];({''.join(part)});out tags center;"
        try:
            answer = web.json(url, form={"data": query})
        except GoneError as gone:
            raise ObservationsError(f"{url} is no Overpass interpreter ({gone}).") from gone
        if "error" in str(answer.get("remark", "")):
            if len(part) == 1:
                raise StoreError(
                    f"{url} breaks off its answer: {answer['remark']}. Run the same command again "
                    "later, or name another interpreter."
                )
            half = len(part) // 2
            parts += [part[:half], part[half:]]
            continue
        for element in answer.get("elements", []):
            elements[str(element.get("type")), int(element.get("id", 0))] = element
    found = []
    # Sorted by type and id, so that a text does not depend on the order of the answers.
    for _, element in sorted(elements.items()):
        where = element.get("center", element)  # ways and relations have a centre
        if "lon" in where and "lat" in where:
            one = feature_from_tags(
                element.get("tags") or {}, float(where["lon"]), float(where["lat"])
            )
            if one is not None:
                found.append(one)
    return found


def _south_first(box: Box) -> str:
    west, south, east, north = (f"{edge:.6f}" for edge in box)
    return f"{south},{west},{north},{east}"


def read_features(name: str) -> list[Feature]:
    """Read GeoJSON, GeoParquet, a table with columns lon and lat, or a dump of GeoNames (.txt).

    Args:
        name: path or address of the file.

    Raises:
        ObservationsError: the file is missing or cannot be read.
        StoreError: the server cannot be reached.
    """
    kind = Path(urlsplit(name).path).suffix.lower()
    try:
        data = io.BytesIO(WebClient().bytes(name) if "://" in name else Path(name).read_bytes())
        if kind in (".geojson", ".json"):
            return features_from_geojson(load_json(data.getvalue())["features"])
        if kind == ".txt":
            table = pd.read_csv(
                data, sep="\t", header=None, usecols=list(GEONAMES),
                names=list(GEONAMES.values()), quoting=csv.QUOTE_NONE, keep_default_na=False,
            )  # fmt: skip
        else:
            table = pd.read_csv(data) if kind == ".csv" else pd.read_parquet(data)
    except (OSError, ValueError, KeyError, GoneError) as error:
        raise ObservationsError(f"table [text]: {name} cannot be read: {error}.") from error
    if "geometry" in table.columns:
        points = shapely.centroid(shapely.from_wkb(table.pop("geometry").to_numpy()))
        table["lon"], table["lat"] = shapely.get_x(points), shapely.get_y(points)
    if not {"lon", "lat"} <= set(table.columns):
        raise ObservationsError(f"table [text]: {name} has neither geometry nor lon and lat.")
    rows = (
        feature_from_tags(
            {str(k): v for k, v in row.items() if v is not None}, row["lon"], row["lat"]
        )
        for row in table.to_dict("records")
    )
    return [one for one in rows if one is not None]


def _name(tags: Mapping[str, Any]) -> str:
    name = tags.get("name") or ""
    if isinstance(tags.get("names"), Mapping):  # Overture
        name = tags["names"].get("primary") or name
    return " ".join(str(name).split())


def _to_int(value: Any) -> int:
    try:
        return int(float(value or 0))
    except (TypeError, ValueError):
        return 0


def _kind(value: str) -> str:
    """Return a kind in words; empty where the value is free text, which may name a person."""
    kind = value.split(";")[0].replace("_", " ").strip()
    return kind if _KIND.fullmatch(kind) else ""
