"""A synthetic region and the services that serve its data, on loopback: STAC with signed addresses,
images by ranges, Mapillary's Graph API, KartaView, features, Overpass.

What is observed at a location is a function of its longitude and latitude.
"""

import io
import json
import re
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyproj
import rasterio
import shapely
from PIL import Image
from rasterio.transform import from_origin

from support.servers import parse_range
from unigeo.producer.sources import s2

TOKEN = "MLY|test"
WGS84 = pyproj.Geod(ellps="WGS84")
PAGE = 3
"""Items of a STAC page, so that searches have several."""
BLOCK = 64


@dataclass
class Services:
    """Every service of the made region, and any folder of files, while its context lasts."""

    folder: Path
    items: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    """Of the Mapillary-like service."""
    pixels: dict[str, bytes] = field(default_factory=dict)
    features: list[dict[str, Any]] = field(default_factory=list)
    faults: list[list[Any]] = field(default_factory=list)
    """Pattern of a path, status, how many times."""
    counts: Counter[str] = field(default_factory=Counter)
    limit: int = 2000
    """Images of an answer, at most."""
    photos: list[dict[str, Any]] = field(default_factory=list)
    """Of the KartaView-like service."""
    statements: int = 1000
    """Of an Overpass question, at most: of more the answer is broken off."""
    signatures: dict[str, float] = field(default_factory=dict)
    """Those of the signing service, and when each expires, in seconds since 1970."""
    signed_for_s: float = 3600.0
    tells: str = ""
    """Header that identifies a file's content: ETag, Last-Modified, or none."""

    def __enter__(self) -> Self:
        services = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                services.answer(self, None)

            def do_HEAD(self) -> None:
                services.answer(self, None)

            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                services.answer(self, self.rfile.read(size))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, body: bytes | None) -> None:
        parts = urlsplit(request.path)
        path, query = parts.path.lstrip("/"), {k: v[0] for k, v in parse_qs(parts.query).items()}
        self.counts[path.split("/")[0]] += 1
        for fault in self.faults:
            if fault[2] > 0 and fnmatch(path, fault[0]):
                fault[2] -= 1
                wait = {"Retry-After": "0"} if fault[1] == 429 else {}
                return self.send(request, fault[1], b"told to fail", wait)
        if path == "stac/search":
            return self.search(request, json.loads(body or b"{}"))
        if path == "graph/images":
            return self.graph(request, query)
        if path.startswith("graph/"):
            name = path.removeprefix("graph/")
            return self.tell(request, {"id": name, "thumb_2048_url": f"{self.url}/pixels/{name}"})
        if path.startswith("pixels/"):
            data = self.pixels.get(path.removeprefix("pixels/"))
            if data is None:
                return self.send(request, 404, b"none")
            return self.send(request, 200, data)
        if path == "features/items":
            return self.tell_features(request, query)
        if path == "kartaview/photo/":
            return self.kartaview(request, query)
        if path == "overpass/interpreter":
            return self.overpass(request, parse_qs((body or b"").decode())["data"][0])
        if path == "sign":
            return self.sign(request, query["href"])
        if path.startswith("private/"):
            if time.time() > self.signatures.get(query.get("sig", ""), 0):
                return self.send(request, 403, b"not signed")
            return self.file(request, path.removeprefix("private/"))
        return self.file(request, path)

    def search(self, request: BaseHTTPRequestHandler, question: dict[str, Any]) -> None:
        box = shapely.box(*question.get("bbox", (-180, -90, 180, 90)))
        start = int(question.get("token", 0))
        years = re.findall(r"(\d{4})-\d\d-\d\dT", question.get("datetime", ""))
        hits = [
            one for one in self.items
            if one["collection"] in question["collections"]
            and one["id"] in question.get("ids", [one["id"]])
            and shapely.intersects(shapely.geometry.shape(one["geometry"]), box)
            and (not years or years[0] <= one["properties"]["datetime"][:4] <= years[1])
        ]  # fmt: skip
        page: dict[str, Any] = {"type": "FeatureCollection", "features": hits[start : start + PAGE]}
        if start + PAGE < len(hits):
            page["links"] = [
                {"rel": "next", "href": f"{self.url}/stac/search", "method": "POST",
                 "merge": True, "body": {"token": start + PAGE}}
            ]  # fmt: skip
        self.tell(request, page)

    def graph(self, request: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        if request.headers.get("Authorization") != f"OAuth {TOKEN}":
            return self.send(request, 401, b'{"error": {"message": "Invalid OAuth access token"}}')
        west, south, east, north = map(float, query["bbox"].split(","))
        if (east - west) * (north - south) > 0.01:
            return self.send(request, 400, b"bbox too large")
        hits = [
            one for one in self.images
            if west <= one["geometry"]["coordinates"][0] <= east
            and south <= one["geometry"]["coordinates"][1] <= north
        ]  # fmt: skip
        return self.tell(request, {"data": hits[: min(int(query["limit"]), self.limit)]})

    def tell_features(self, request: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        box = shapely.box(*map(float, query["bbox"].split(",")))
        hits = [
            one for one in self.features
            if shapely.intersects(shapely.geometry.shape(one["geometry"]), box)
        ]  # fmt: skip
        start, size = int(query.get("offset", 0)), 200
        page: dict[str, Any] = {"type": "FeatureCollection", "features": hits[start : start + size]}
        if start + size < len(hits):
            more = f"{self.url}/features/items?bbox={query['bbox']}&offset={start + size}"
            page["links"] = [{"rel": "next", "href": more}]
        self.tell(request, page)

    def kartaview(self, request: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        """Answer with the images in a circle, page by page."""
        lon, lat, radius = (float(query[name]) for name in ("lng", "lat", "radius"))
        hits = [
            one for one in self.photos
            if WGS84.inv(lon, lat, float(one["lng"]), float(one["lat"]))[2] <= radius
        ]  # fmt: skip
        size = min(int(query["itemsPerPage"]), self.limit)
        start = size * (int(query["page"]) - 1)
        more = start + size < len(hits)
        result = {"data": hits[start : start + size], "hasMoreData": more}
        self.tell(request, {"status": {"apiCode": 600}, "result": result})

    def overpass(self, request: BaseHTTPRequestHandler, question: str) -> None:
        """Elements of `nwr` statements, by regular expressions of keys or of one key's values."""
        form = r'nwr\[(~?)"([^"]+)"~"([^"]+)"\]\(([-\d.,]+)\);'
        statements = re.findall(form, question)
        if not re.fullmatch(
            rf"\[out:json\]\[timeout:\d+\];\((?:{form})+\);out tags center;", question
        ):
            return self.send(request, 400, b"parse error")
        elements = []
        for number, one in enumerate(self.features):
            point, tags = shapely.geometry.shape(one["geometry"]), one["properties"]
            for keys, key, value, box in statements[: self.statements]:
                south, west, north, east = map(float, box.split(","))
                pairs = tags.items() if keys else [(k, v) for k, v in tags.items() if k == key]
                wanted = any(re.search(key, k) and re.search(value, v) for k, v in pairs)
                if wanted and shapely.box(west, south, east, north).covers(point.centroid):
                    about = {"type": "node" if number % 2 else "way", "id": number, "tags": tags}
                    where = {"lon": point.centroid.x, "lat": point.centroid.y}
                    elements.append(about | (where if number % 2 else {"center": where}))
                    break
        answer: dict[str, Any] = {"elements": elements}
        if len(statements) > self.statements:
            answer["remark"] = "runtime error: Query timed out"
        return self.tell(request, answer)

    def sign(self, request: BaseHTTPRequestHandler, href: str) -> None:
        """Let an address be read for a while."""
        end = time.time() + self.signed_for_s
        signature = f"sig{len(self.signatures)}"
        self.signatures[signature] = end
        expiry = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.tell(request, {"msft:expiry": expiry, "href": f"{href}?sig={signature}"})

    def file(self, request: BaseHTTPRequestHandler, path: str) -> None:
        file = self.folder / path
        if ".." in path or not file.is_file():
            return self.send(request, 404, b"none")
        data = file.read_bytes()
        identity = {}
        if self.tells == "ETag":
            identity = {"ETag": f'"{zlib.crc32(data):x}"'}
        elif self.tells:
            identity = {self.tells: formatdate(file.stat().st_mtime, usegmt=True)}
        span = parse_range(request.headers.get("Range"), len(data))
        if span is None:
            return self.send(request, 200, data, {"Accept-Ranges": "bytes"} | identity)
        where = {"Content-Range": f"bytes {span[0]}-{span[1] - 1}/{len(data)}"} | identity
        return self.send(request, 206, data[span[0] : span[1]], where)

    def tell(self, request: BaseHTTPRequestHandler, words: Any) -> None:
        self.send(request, 200, json.dumps(words).encode(), {"Content-Type": "application/json"})

    def send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
    ) -> None:
        try:
            request.send_response(status)
            for name, value in (headers or {}).items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):  # the client was killed
            request.close_connection = True


CELLS = s2.children(s2.cell_ids(np.array([[-78.0, 38.8]]), 11), 12)[0][:3]
"""The made region: three S2 cells of level 12, where UTM zones 17 and 18 meet."""


def region_geojson() -> dict[str, Any]:
    rings = [[*c.tolist(), c[0].tolist()] for c in s2.corners(CELLS)]
    shapes = [{"type": "Polygon", "coordinates": [ring]} for ring in rings]
    return {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {}, "geometry": s} for s in shapes],
    }


def colour(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Red, green and blue of the ground: smooth, and different everywhere."""
    waves = [np.sin(900 * lon + k) + np.cos(1100 * lat - 2 * k) for k in range(3)]
    return np.clip(128 + 50 * np.stack(waves), 1, 255).astype(np.uint8)


def height(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Metres above the sea."""
    return 200 + 30 * np.sin(700 * lon) + 20 * np.cos(800 * lat)


def make(services: Services) -> None:
    """Fill the services with the data of the synthetic region."""
    ends = s2.corners(CELLS).reshape(-1, 2)
    (west, south), (east, north) = ends.min(axis=0) - 0.004, ends.max(axis=0) + 0.004
    middle = (west + east) / 2
    for k, (epsg, left, right) in enumerate(((32617, west, middle), (32618, middle - 0.001, east))):
        box = (left, south, right, north)
        for year in (2019, 2022):
            add_item(services, f"aerial_{k}_{year}", "naip", "image", epsg, box, 5.0, year, colour)
        add_item(services, f"dsm_{k}", "dsm", "data", epsg, box, 5.0, 2020, height)
    rng = np.random.default_rng(0)
    for k in range(160):
        lon, lat = rng.uniform((west, south), (east, north))
        panorama = k % 2 == 0
        shape = (64, 128, 3) if panorama else (60, 80, 3)
        noise = rng.integers(0, 30, shape, np.uint8)
        pixels = np.clip(colour(np.array(lon), np.array(lat))[None, None] // 2 + noise, 0, 255)
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
        services.pixels[str(1000 + k)] = buffer.getvalue()
        services.images.append(
            {"id": str(1000 + k), "captured_at": 1_650_000_000_000 + k * 86_400_000,
             "compass_angle": float(rng.uniform(0, 360)), "is_pano": panorama,
             "geometry": {"type": "Point", "coordinates": [lon, lat]},
             "creator": {"username": f"user{k % 7}", "id": str(k % 7)}}
        )  # fmt: skip
    keys = ("amenity", "shop", "natural", "highway", "building", "leisure", "landuse")
    values = ("school", "bakery", "water", "primary", "house", "park", "farmland")
    kinds = list(zip(keys, values, strict=True))
    for k in range(900):
        lon, lat = rng.uniform((west, south), (east, north))
        key, value = kinds[int(rng.integers(len(kinds)))]
        about = {key: value} | ({"name": f"Oak Hill {k}"} if k % 3 == 0 else {})
        services.features.append(point(lon, lat, about))
    services.features.append(
        point(
            float(middle),
            float(south),
            {"place": "town", "name": "Washington", "population": "9000"},
        )
    )


def point(lon: float, lat: float, about: dict[str, Any]) -> dict[str, Any]:
    geometry = {"type": "Point", "coordinates": [lon, lat]}
    return {"type": "Feature", "properties": about, "geometry": geometry}


def add_item(
    services: Services, name: str, collection: str, asset: str, epsg: int,
    box: tuple[float, float, float, float], step: float, year: int, paint: Any,
) -> None:  # fmt: skip
    """Write a tiled GeoTIFF of a box and tell of it as a STAC item."""
    to = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    x0, y0, x1, y1 = to.transform_bounds(*box)
    cols, rows = int((x1 - x0) / step), int((y1 - y0) / step)
    x, y = np.meshgrid(x0 + (np.arange(cols) + 0.5) * step, y1 - (np.arange(rows) + 0.5) * step)
    lon, lat = to.transform(x, y, direction="INVERSE")
    values = paint(np.asarray(lon), np.asarray(lat))
    bands = values if values.ndim == 3 else values[None].astype(np.float32)
    file = services.folder / "cogs" / f"{name}.tif"
    file.parent.mkdir(exist_ok=True)
    with rasterio.open(
        file, "w", driver="GTiff", width=cols, height=rows, count=len(bands), dtype=bands.dtype,
        crs=epsg, transform=from_origin(x0, y1, step, step), tiled=True, blockxsize=BLOCK,
        blockysize=BLOCK, compress="deflate",
    ) as raster:  # fmt: skip
        raster.write(bands)
    services.items.append(
        {"type": "Feature", "id": name, "collection": collection,
         "properties": {"datetime": f"{year}-07-01T00:00:00Z", "gsd": step},
         "geometry": shapely.geometry.mapping(shapely.box(*box)),
         "assets": {asset: {"href": f"{services.url}/cogs/{name}.tif"}}, "links": []}
    )  # fmt: skip


TABLE = """
name = "made region"
licence = "CC-BY-SA-4.0"
seed = 3
[where]
region = "{folder}/region.geojson"
count = 200
per_cell = 2
[splits]
spatial_level = 13
spatial_share = 0.25
temporal_years = [2018]
[kept]
shard_level = 12
shard_places = 8
[aerial]
kind = "stac"
url = "{url}/stac"
collections = "naip"
resolution_m = 6
patch_px = 16
licence = "public domain"
[dsm]
kind = "stac"
url = "{url}/stac"
collections = "dsm"
resolution_m = 6
patch_px = 16
datum = "NAVD88"
[street]
kind = "mapillary"
url = "{url}/graph"
radius_m = 400
patch_px = 16
per_second = 500
[text]
kind = "features"
url = "{url}/features/items"
radius_m = 250
names = "keep"
licence = "ODbL-1.0"
per_second = 500
"""


def write_table(services: Services, folder: Path, text: str = TABLE) -> Path:
    """Write `SET.toml` and the region that it names."""
    (folder / "region.geojson").write_text(json.dumps(region_geojson()))
    path = folder / "set.toml"
    path.write_text(text.format(url=services.url, folder=folder))
    return path
