"""The `crs` member of GeoJSON, which GDAL and geopandas write and RFC 7946 no longer has."""

from collections.abc import Mapping
from typing import Any


def crs_member(document: Mapping[str, Any]) -> str | None:
    """The CRS that a document names for itself.

    Args:
        document: a GeoJSON object of any kind.

    Returns:
        What PROJ takes, or None where the document names none: its numbers are then WGS 84
        longitude and latitude.

    Raises:
        ValueError: if the member is of a kind that names no CRS by itself, such as a link.

    Source: the GeoJSON format specification of 2008, section 3.

    >>> crs_member({"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::5070"}}})
    'urn:ogc:def:crs:EPSG::5070'
    """
    member = document.get("crs")
    if member is None:
        return None
    properties = member.get("properties") if isinstance(member, Mapping) else None
    if isinstance(properties, Mapping):
        if member.get("type") == "name" and isinstance(properties.get("name"), str):
            return str(properties["name"])
        if member.get("type") == "EPSG" and isinstance(properties.get("code"), int):
            return f"EPSG:{properties['code']}"
    raise ValueError(
        f"the GeoJSON's crs member names no CRS: {member!r:.200}. Take it out and name the CRS "
        "with crs=, or write the document in longitude and latitude without one"
    )
