"""Coordinate reference systems as users name them."""

from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import PointsError

if TYPE_CHECKING:
    from pyproj import CRS


def known_crs(crs: Any) -> "CRS":
    """What PROJ knows under a name, a number, a definition or an object.

    Raises:
        PointsError: if it knows none.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_user_input(crs)
    except (CRSError, TypeError, ValueError) as error:
        raise PointsError(f"{crs!r:.200} is not a CRS that PROJ knows: {error!s:.200}") from error


def is_same_crs(one: Any, other: Any) -> bool:
    """Whether two CRSs are the same but for the order of their axes.

    Raises:
        PointsError: if PROJ does not know one of them.

    >>> is_same_crs(8858, "EPSG:8858")
    True
    """
    if isinstance(one, str) and one == other:
        return True
    return known_crs(one).equals(known_crs(other), ignore_axis_order=True)


def is_degrees(crs: Any) -> bool:
    """Whether a CRS is plain WGS 84 longitude and latitude.

    Raises:
        PointsError: if PROJ does not know it.
    """
    return any(is_same_crs(crs, degrees) for degrees in ("OGC:CRS84", "EPSG:4326"))
