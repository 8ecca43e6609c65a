"""STAC documents of a field: item of a release, collection of a region, catalogue of all fields.

Their content depends neither on the time nor on the URL at which they are written: all links are
relative, `self` too, so that a folder can be moved. Source: STAC 1.1.0 and the extensions of
`stac_extensions`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import zarr

from unigeo.producer.observations.folder.dates import spans_in
from unigeo.producer.publishing.stac_extensions import (
    MODEL,
    PROJECTION,
    VERSIONING,
    XARRAY_ASSETS,
    ZARR,
    ZARR_ASSETS,
    encoder_asset,
    model_fields,
    zarr_group,
)
from unigeo.schemas.geo.bounds import box_bounds
from unigeo.schemas.store.attributes import UnigeoAttributes
from unigeo.schemas.store.catalogue import FIELDS, NAME, Entry
from unigeo.schemas.store.concepts import GROUP as CONCEPTS
from unigeo.schemas.store.encoder import GROUP as ENCODER
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.overviews import overview_factors, overview_path
from unigeo.schemas.store.preview import GROUP as PREVIEW
from unigeo.schemas.store.status import Status

VERSION = "1.1.0"
GEOJSON, JSON = "application/geo+json", "application/json"
CATALOGUE_TITLE = "unigeo fields"
STORE_ENDING = ".zarr"
ANY_TIME = ("1900-01-01T00:00:00Z", "2100-01-01T00:00:00Z")
"""Interval of observations that state no date, such as synthetic ones."""

_MOST_CELLS = 4_000_000
"""Largest number of status codes read to find the extent."""
_SPDX = re.compile(r"[\w\-.+]+")


def interval(observations: Mapping[str, Any]) -> tuple[str, str]:
    """Return the first and last moment of the dates that observations state, in UTC.

    >>> interval({"modalities": {"aerial": {"acquired": "2017 to 2024-06"}}})
    ('2017-01-01T00:00:00Z', '2024-06-30T23:59:59Z')
    """
    sources = observations.get("modalities", {})
    texts = [str(source.get("acquired", "")) for source in sources.values()]
    try:
        spans = [span for text in texts for span in spans_in(text)]
    except ValueError:  # an older version accepted texts that only look like a date
        spans = []
    if not spans:
        return ANY_TIME
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    return f"{first}T00:00:00Z", f"{last}T23:59:59Z"


def extent(group: zarr.Group, attributes: UnigeoAttributes) -> tuple[float, float, float, float]:
    """Return west, south, east and north of the cells that hold vectors, in degrees.

    West is greater than east if they cross the antimeridian. The extent of a large field is that of
    an overview's cells, which is slightly larger.
    """
    full, layout = attributes.grid.grid(), attributes.field_layout()
    factors = (1, *overview_factors(layout))
    fitting = [f for f in factors if full.shape[0] * full.shape[1] <= _MOST_CELLS * f * f]
    factor = (fitting or factors[-1:])[0]
    grid = full.coarsen(factor)
    valid = np.zeros(grid.shape, bool)
    for modality in layout.modalities:
        path = status_name(modality if factor == 1 else f"{overview_path(factor)}/{modality}")
        status: Any = group[path]
        valid |= np.asarray(status[...]) == Status.VALID
    if not valid.any():
        valid[:] = True  # STAC demands a box: that of the grid
    rows, cols = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
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


def _beside(attributes: UnigeoAttributes) -> str:
    """Return a sentence on the covariates; empty where there are none."""
    count = len(attributes.layout.covariates)
    return f" Beside them {count} plain numbers of each cell (covariates)." if count else ""


def licence_of(text: str) -> str:
    """Return a licence as STAC requires it: an SPDX identifier, or `other`."""
    return text if _SPDX.fullmatch(text) else "other"


def item(
    group: zarr.Group,
    attributes: UnigeoAttributes,
    names: Mapping[str, str],
    root_sha256: str,
    providers: Sequence[str],
) -> dict[str, Any]:
    """Return the STAC item of one field.

    Args:
        group: the published root.
        attributes: the root's attributes.
        names: names of the files beside the store: `store`, `item`, `collection`, `catalogue`,
            `card`.
        root_sha256: SHA-256 of the store's `zarr.json`.
        providers: people or institutions that made the field.
    """
    licence, citation = str(group.attrs["license"]), str(group.attrs["citation"])
    start, end = interval(attributes.observations)
    grid, bbox = attributes.grid.grid(), extent(group, attributes)
    store, encoded = f"./{names['store']}", ENCODER in group
    assets = {
        "field": {
            "href": store,
            "type": ZARR,
            "title": "The field: one int8 vector per cell and modality",
            "roles": ["data"],
            **zarr_group(consolidated=True),
            "xarray:open_kwargs": {
                "engine": "zarr",
                "consolidated": True,
                "zarr_format": 3,
                "decode_coords": "all",
            },
            "unigeo:root_sha256": root_sha256,
        },
        "preview": {
            "href": f"{store}/{PREVIEW}",
            "type": ZARR,
            "title": "Its main directions as red, green and blue, a pyramid",
            "roles": ["overview"],
            **zarr_group(consolidated=True),
        },
        "card": {
            "href": f"./{names['card']}",
            "type": "text/markdown",
            "title": "The model, its data and its limits",
            "roles": ["metadata"],
        },
    }
    if encoded:
        assets["encoder"] = encoder_asset(f"{store}/{ENCODER}")
    title = _title(attributes)
    return {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [
            PROJECTION,
            VERSIONING,
            *([MODEL] if encoded else []),
            ZARR_ASSETS,
            XARRAY_ASSETS,
        ],
        "id": item_id(attributes, names["store"]),
        "collection": collection_id(attributes.region),
        "geometry": _geometry(bbox),
        "bbox": list(bbox),
        "properties": {
            "title": title,
            "description": f"Embeddings ({', '.join(attributes.layout.modalities)}) of every cell, "
            f"{attributes.field_layout().describe_width('numbers each')}, by "
            f"{attributes.model.name} {attributes.model.sha256[:12]}.{_beside(attributes)}",
            "datetime": None,
            "start_datetime": start,
            "end_datetime": end,
            "version": release_of(attributes),
            "license": licence_of(licence),
            "providers": _providers(providers),
            "gsd": grid.resolution_m,
            "proj:code": grid.crs,
            "proj:shape": list(grid.shape),
            "proj:transform": list(grid.affine),
            "proj:bbox": list(grid.bounds),
            **(model_fields(attributes) if encoded else {}),
            "unigeo:region": attributes.region,
            "unigeo:release": release_of(attributes),
            "unigeo:licence": licence,
            "unigeo:citation": citation,
            "unigeo:model_sha256": attributes.model.sha256,
            "unigeo:searchable": CONCEPTS in group,
        },
        "assets": assets,
        "links": [
            _link("self", names["item"], GEOJSON, title),
            _link("root", names["catalogue"], JSON, CATALOGUE_TITLE),
            _link("parent", names["collection"], JSON, collection_title(attributes.region)),
            _link("collection", names["collection"], JSON, collection_title(attributes.region)),
        ],
    }


def collection(
    region: str, items: Sequence[tuple[str, Mapping[str, Any]]], name: str
) -> dict[str, Any]:
    """Return the STAC collection of a region's releases.

    Args:
        region: name of the region.
        items: file name and content of each item.
        name: name of the collection's file.
    """
    properties = [one["properties"] for _, one in items]
    licences = sorted({one["license"] for one in properties})
    names = sorted({provider["name"] for one in properties for provider in one["providers"]})
    boxes = [one["bbox"] for _, one in items]
    return {
        "type": "Collection",
        "stac_version": VERSION,
        "id": collection_id(region),
        "title": collection_title(region),
        "description": f"Embedding fields of {region}: one vector per cell of an equal-area grid. "
        "Each item is a release and never changes.",
        "license": licences[0] if len(licences) == 1 else "other",
        "providers": _providers(names),
        "extent": {
            "spatial": {"bbox": [_union(boxes)]},
            "temporal": {
                "interval": [
                    [
                        min(one["start_datetime"] for one in properties),
                        max(one["end_datetime"] for one in properties),
                    ]
                ]
            },
        },
        "summaries": {
            "gsd": sorted({one["gsd"] for one in properties}),
            "unigeo:release": sorted({one["unigeo:release"] for one in properties}),
            "unigeo:citation": sorted({one["unigeo:citation"] for one in properties}),
        },
        "links": [
            _link("self", name, JSON, collection_title(region)),
            _link("root", NAME, JSON, CATALOGUE_TITLE),
            _link("parent", NAME, JSON, CATALOGUE_TITLE),
            *(
                _link("item", file, GEOJSON, one["properties"].get("title", file))
                for file, one in items
            ),
        ],
    }


def catalogue(entries: Iterable[Entry], name: str = NAME) -> dict[str, Any]:
    """Return the STAC catalogue of several fields, for a file called `name`."""
    # Sorted, so that the file does not depend on the order in which fields were announced.
    listed = sorted(entries, key=lambda one: (one.region, one.order, one.href))
    children = sorted({(entry.collection, entry.region) for entry in listed})
    return {
        "type": "Catalog",
        "stac_version": VERSION,
        "id": "unigeo-fields",
        "title": CATALOGUE_TITLE,
        "description": "Embedding fields by region and release. Open one with "
        "unigeo.client.open_field(this file, region=...).",
        "links": [
            _link("self", name, JSON, CATALOGUE_TITLE),
            _link("root", name, JSON, CATALOGUE_TITLE),
            *(_link("child", file, JSON, collection_title(region)) for file, region in children),
        ],
        FIELDS: [entry.model_dump(mode="json") for entry in listed],
    }


def item_id(attributes: UnigeoAttributes, store: str) -> str:
    """Return the item's id, unique among regions, resolutions, releases and stores of a folder.

    Args:
        attributes: the field's attributes.
        store: name of its store; the id contains it unless `unigeo-produce` chose it.
    """
    release, stem = release_of(attributes), store.removesuffix(STORE_ENDING)
    usual = stem in (attributes.region, f"{attributes.region}-r{release}")
    return f"unigeo-{attributes.region}-{attributes.grid.resolution_m:g}m-r{release}" + (
        "" if usual else f"-{stem}"
    )


def _title(attributes: UnigeoAttributes) -> str:
    size = f"{attributes.grid.resolution_m:g} m"
    return f"unigeo field of {attributes.region}, {size}, release {release_of(attributes)}"


def collection_title(region: str) -> str:
    """Return the title of a region's collection."""
    return f"unigeo fields of {region}"


def _link(rel: str, name: str, media_type: str, title: str) -> dict[str, str]:
    return {"rel": rel, "href": f"./{name}", "type": media_type, "title": title}


def collection_id(region: str) -> str:
    """Return the id of a region's collection."""
    return f"unigeo-{region}"


def release_of(attributes: UnigeoAttributes) -> str:
    """Return a field's release; the first unless its attributes name another."""
    return str((attributes.model_extra or {}).get("release", "1"))


def _providers(names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"name": name, "roles": ["producer", "licensor"]} for name in names]


def _geometry(bbox: tuple[float, float, float, float]) -> dict[str, Any]:
    """Return the box as GeoJSON: two polygons if it crosses the antimeridian (RFC 7946, 3.1.9)."""
    west, south, east, north = bbox
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    rings = [[[w, south], [e, south], [e, north], [w, north], [w, south]] for w, e in spans]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings}
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}


def _union(boxes: Sequence[Sequence[float]]) -> list[float]:
    """Return a box that contains all; all longitudes if one of several crosses 180°."""
    if all(box == boxes[0] for box in boxes):
        return list(boxes[0])
    crossing = any(box[0] > box[2] for box in boxes)
    west, east = min(box[0] for box in boxes), max(box[2] for box in boxes)
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    return [-180.0, south, 180.0, north] if crossing else [west, south, east, north]
