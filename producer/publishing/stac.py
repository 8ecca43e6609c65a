"""A field as STAC: an item for each release, a collection for each region, a catalogue of all.

Nothing in them depends on when they were written. Source: STAC 1.1.0, projection extension 2.0.0.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import zarr

from unigeo.producer.observations.dates import spans_in
from unigeo.schemas.attributes import UnigeoAttributes
from unigeo.schemas.bounds import box_bounds
from unigeo.schemas.catalogue import FIELDS, Entry
from unigeo.schemas.concepts import GROUP as CONCEPTS
from unigeo.schemas.layout import status_name
from unigeo.schemas.overviews import coarser_grid, overview_factors, overview_path
from unigeo.schemas.preview import GROUP as PREVIEW
from unigeo.schemas.status import Status

VERSION = "1.1.0"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
ZARR = "application/vnd.zarr; version=3"
ANY_TIME = ("1900-01-01T00:00:00Z", "2100-01-01T00:00:00Z")
"""Of observations that state no date, such as synthetic ones."""

_MOST_CELLS = 4_000_000
"""Looked at for the extent."""
_SPDX = re.compile(r"[\w\-.+]+")


def interval(observations: Mapping[str, Any]) -> tuple[str, str]:
    """First and last moment of the dates that observations state, in UTC.

    >>> interval({"modalities": {"aerial": {"acquired": "2017 to 2024-06"}}})
    ('2017-01-01T00:00:00Z', '2024-06-30T23:59:59Z')
    """
    sources = observations.get("modalities", {})
    texts = [str(source.get("acquired", "")) for source in sources.values()]
    try:
        spans = [found for text in texts for found in spans_in(text)]
    except ValueError:  # of a version that let pass what only looks like a date
        spans = []
    if not spans:
        return ANY_TIME
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    return f"{first}T00:00:00Z", f"{last}T23:59:59Z"


def extent(group: zarr.Group, own: UnigeoAttributes) -> tuple[float, float, float, float]:
    """West, south, east and north of the cells that hold vectors; west > east at the seam.

    Of a large field the cells of an overview, so a little more.
    """
    whole, layout = own.grid.grid(), own.field_layout()
    factors = (1, *overview_factors(layout))
    fitting = [f for f in factors if whole.shape[0] * whole.shape[1] <= _MOST_CELLS * f * f]
    factor = (fitting or factors[-1:])[0]
    grid = coarser_grid(whole, factor)
    held = np.zeros(grid.shape, bool)
    for modality in layout.modalities:
        path = status_name(modality if factor == 1 else f"{overview_path(factor)}/{modality}")
        status: Any = group[path]
        held |= np.asarray(status[...]) == Status.VALID
    if not held.any():
        held[:] = True
    rows, cols = np.flatnonzero(held.any(axis=1)), np.flatnonzero(held.any(axis=0))
    west, _, _, north = grid.bounds
    size = grid.resolution_m
    box = (
        west + cols[0] * size,
        north - (rows[-1] + 1) * size,
        west + (cols[-1] + 1) * size,
        north - rows[0] * size,
    )
    ((w, s, e, n),) = box_bounds(grid.crs, *(np.array([edge], float) for edge in box)).tolist()
    return round(w, 6), round(s, 6), round(e, 6), round(n, 6)


def licence_of(words: str) -> str:
    """A licence as STAC wants it: an SPDX identifier, or `other`."""
    return words if _SPDX.fullmatch(words) else "other"


def item(
    group: zarr.Group,
    own: UnigeoAttributes,
    names: Mapping[str, str],
    root_sha256: str,
    providers: Sequence[str],
) -> dict[str, Any]:
    """The STAC item of one field.

    Args:
        group: its published root.
        own: the root's attributes.
        names: of the files beside the store: `store`, `item`, `collection`, `catalogue`, `card`.
        root_sha256: of the store's `zarr.json`.
        providers: who made it.
    """
    attributes = dict(group.attrs)
    licence, citation = str(attributes["license"]), str(attributes["citation"])
    start, end = interval(own.observations)
    grid, bbox = own.grid.grid(), extent(group, own)
    store = f"./{names['store']}"
    assets = {
        "field": {
            "href": store,
            "type": ZARR,
            "title": "The field: one int8 vector per cell and modality",
            "roles": ["data"],
            "unigeo:root_sha256": root_sha256,
        },
        "preview": {
            "href": f"{store}/{PREVIEW}",
            "type": ZARR,
            "title": "Its main directions as red, green and blue, a pyramid",
            "roles": ["overview"],
        },
        "card": {
            "href": f"./{names['card']}",
            "type": "text/markdown",
            "title": "The model, its data and its limits",
            "roles": ["metadata"],
        },
    }
    return {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [PROJECTION],
        "id": item_id(own),
        "collection": collection_id(own.region),
        "geometry": _geometry(bbox),
        "bbox": list(bbox),
        "properties": {
            "title": f"unigeo field of {own.region}, {grid.resolution_m:g} m, release "
            f"{release_of(own)}",
            "description": f"Embeddings ({', '.join(own.layout.modalities)}) of every cell, "
            f"{own.field_layout().in_words('numbers each')}, by {own.model.name} "
            f"{own.model.sha256[:12]}.",
            "datetime": None,
            "start_datetime": start,
            "end_datetime": end,
            "license": licence_of(licence),
            "providers": _providers(providers),
            "gsd": grid.resolution_m,
            "proj:code": grid.crs,
            "proj:shape": list(grid.shape),
            "proj:transform": list(grid.affine),
            "proj:bbox": list(grid.bounds),
            "unigeo:region": own.region,
            "unigeo:release": release_of(own),
            "unigeo:licence": licence,
            "unigeo:citation": citation,
            "unigeo:model_sha256": own.model.sha256,
            "unigeo:searchable": CONCEPTS in group,
        },
        "assets": assets,
        "links": [
            {"rel": "root", "href": f"./{names['catalogue']}", "type": "application/json"},
            {"rel": "parent", "href": f"./{names['collection']}", "type": "application/json"},
            {"rel": "collection", "href": f"./{names['collection']}", "type": "application/json"},
        ],
    }


def collection(region: str, items: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The STAC collection of a region's releases.

    Args:
        region: its name.
        items: file name and content of each.
    """
    found = [one["properties"] for _, one in items]
    licences = sorted({one["license"] for one in found})
    names = sorted({provider["name"] for one in found for provider in one["providers"]})
    boxes = [one["bbox"] for _, one in items]
    return {
        "type": "Collection",
        "stac_version": VERSION,
        "id": collection_id(region),
        "title": f"unigeo fields of {region}",
        "description": f"Embedding fields of {region}: one vector per cell of an equal-area grid. "
        "Each item is a release and never changes.",
        "license": licences[0] if len(licences) == 1 else "other",
        "providers": _providers(names),
        "extent": {
            "spatial": {"bbox": [_union(boxes)]},
            "temporal": {
                "interval": [
                    [
                        min(one["start_datetime"] for one in found),
                        max(one["end_datetime"] for one in found),
                    ]
                ]
            },
        },
        "summaries": {
            "gsd": sorted({one["gsd"] for one in found}),
            "unigeo:release": sorted({one["unigeo:release"] for one in found}),
            "unigeo:citation": sorted({one["unigeo:citation"] for one in found}),
        },
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "./catalog.json", "type": "application/json"},
            *(
                {"rel": "item", "href": f"./{name}", "type": "application/geo+json"}
                for name, _ in items
            ),
        ],
    }


def catalogue(entries: Iterable[Entry]) -> dict[str, Any]:
    """The STAC catalogue of several fields."""
    listed = sorted(entries, key=lambda one: (one.region, one.order, one.href))
    children = sorted({entry.collection for entry in listed})
    return {
        "type": "Catalog",
        "stac_version": VERSION,
        "id": "unigeo-fields",
        "title": "unigeo fields",
        "description": "Embedding fields by region and release. Open one with "
        "unigeo.client.open_field(this file, region=...).",
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            *(
                {"rel": "child", "href": f"./{name}", "type": "application/json"}
                for name in children
            ),
        ],
        FIELDS: [entry.model_dump(mode="json") for entry in listed],
    }


def item_id(own: UnigeoAttributes) -> str:
    """Name of the item, unique among regions, resolutions and releases."""
    return f"unigeo-{own.region}-{own.grid.resolution_m:g}m-r{release_of(own)}"


def collection_id(region: str) -> str:
    """Name of a region's collection."""
    return f"unigeo-{region}"


def release_of(own: UnigeoAttributes) -> str:
    """Which release a field is; the first unless it says else."""
    return str((own.model_extra or {}).get("release", "1"))


def _providers(names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"name": name, "roles": ["producer", "licensor"]} for name in names]


def _geometry(bbox: tuple[float, float, float, float]) -> dict[str, Any]:
    """The box as polygons: two where it crosses the antimeridian."""
    west, south, east, north = bbox
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    rings = [[[w, south], [e, south], [e, north], [w, north], [w, south]] for w, e in spans]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings}
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}


def _union(boxes: Sequence[Sequence[float]]) -> list[float]:
    """A box that holds all; round the globe where one of several crosses the antimeridian."""
    if all(box == boxes[0] for box in boxes):
        return list(boxes[0])
    crossing = any(box[0] > box[2] for box in boxes)
    west, east = min(box[0] for box in boxes), max(box[2] for box in boxes)
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    return [-180.0, south, 180.0, north] if crossing else [west, south, east, north]
