"""Coordinate reference systems as users name them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import PointsError

if TYPE_CHECKING:
    from pyproj import CRS


def known_crs(crs: Any) -> "CRS":
    """Return the CRS of a name, an EPSG number, a definition or an object.

    Raises:
        PointsError: if PROJ knows no such CRS.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_user_input(crs)
    except (CRSError, TypeError, ValueError) as error:
        raise PointsError(f"{crs!r:.200} is not a CRS that PROJ knows: {error!s:.200}") from error


def is_same_crs(one: Any, other: Any) -> bool:
    """Tell whether two CRSs are the same, apart from the order of their axes.

    Raises:
        PointsError: if PROJ does not know one of them.

    >>> is_same_crs(8858, "EPSG:8858")
    True
    """
    if isinstance(one, str) and one == other:
        return True
    return known_crs(one).equals(known_crs(other), ignore_axis_order=True)


def is_degrees(crs: Any) -> bool:
    """Tell whether a CRS is WGS 84 longitude and latitude.

    Raises:
        PointsError: if PROJ does not know it.
    """
    return any(is_same_crs(crs, degrees) for degrees in ("OGC:CRS84", "EPSG:4326"))


def crs_member(document: Mapping[str, Any]) -> str | None:
    """Return the CRS that a GeoJSON document names for itself.

    GDAL and geopandas write the member `crs`, which RFC 7946 lacks.

    Args:
        document: a GeoJSON object of any kind.

    Returns:
        A name for `known_crs`, or None where the document names none: its coordinates are then
        WGS 84 longitude and latitude.

    Raises:
        ValueError: if the member does not name a CRS by itself, such as a link.

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
