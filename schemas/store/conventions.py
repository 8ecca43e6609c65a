"""Public conventions of attributes that the groups and arrays of a store follow.

A node with a convention's keys also names the convention in `zarr_conventions`, by a UUID that
never changes. Sources, each with a JSON schema that the registrations here satisfy:
github.com/zarr-conventions/proj, /spatial and /multiscales at tag v0.1, and
github.com/geo-embeddings/embeddings-zarr-convention, version 1.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

KEY = "zarr_conventions"


def _registration(
    name: str, uuid: str, repository: str, tag: str, description: str
) -> dict[str, str]:
    return {
        "name": name,
        "uuid": uuid,
        "schema_url": f"https://raw.githubusercontent.com/{repository}/refs/tags/{tag}/schema.json",
        "spec_url": f"https://github.com/{repository}/blob/{tag}/README.md",
        "description": description,
    }


CONVENTIONS = {
    "multiscales": _registration(
        "multiscales",
        "d35379db-88df-4056-af3a-620245f8e347",
        "zarr-conventions/multiscales",
        "v0.1",
        "Multiscale layout of zarr datasets",
    ),
    "proj:": _registration(
        "proj",
        "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "zarr-conventions/proj",
        "v0.1",
        "Coordinate reference system information for geospatial data",
    ),
    "spatial:": _registration(
        "spatial",
        "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
        "zarr-conventions/spatial",
        "v0.1",
        "Spatial coordinate information",
    ),
    "geoemb:": _registration(
        "geoemb:",
        "61c12cc5-0e28-4056-999a-480cf3fb7e4c",
        "geo-embeddings/embeddings-zarr-convention",
        "v1",
        "Geoembeddings convention for geospatial embedding arrays with model provenance",
    ),
}
"""Registration of each convention, by its key or the prefix of its keys."""


def registered(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with the registration of every convention whose keys are among them.

    >>> [one["name"] for one in registered({"proj:code": "EPSG:8858"})["zarr_conventions"]]
    ['proj']
    """
    used = [
        dict(registration)
        for prefix, registration in CONVENTIONS.items()
        if any(key.startswith(prefix) for key in attributes)
    ]
    return {**attributes, KEY: used}


def projjson(crs: str) -> dict[str, Any]:
    """Return a CRS as PROJJSON, for readers without a table of EPSG codes."""
    return dict(_projjson(crs))  # a copy, as the cached one is shared


@cache
def _projjson(crs: str) -> dict[str, Any]:
    from pyproj import CRS

    return CRS.from_user_input(crs).to_json_dict()
