"""Search for the columns of a table that hold its coordinates, by their names."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from unigeo.schemas.errors import PointsError

LON_NAMES = ("lon", "longitude", "lng", "long", "längengrad", "laengengrad", "x")
LAT_NAMES = ("lat", "latitude", "breitengrad", "y")


CoordinateColumns = str | int | tuple[Any] | tuple[Any, Any]
"""Names of the columns of longitude and latitude, or of the one that holds positions as text."""


def named_column(columns: CoordinateColumns | None) -> tuple[Any, ...]:
    """Return the name of the one column that is named; nothing if none or a pair is.

    >>> named_column("where"), named_column(("x", "y"))
    (('where',), ())
    """
    if columns is None:
        return ()
    if isinstance(columns, str | int):
        return (columns,)
    return tuple(columns) if len(columns) == 1 else ()


def find_columns(names: Sequence[Any], columns: CoordinateColumns | None = None) -> tuple[Any, Any]:
    """Find the columns of longitude and latitude among `names`; case does not matter.

    `x` and `y` are accepted as a pair only, and only if no pair of names says longitude and
    latitude.

    Raises:
        PointsError: if there is none, or more than one of the same name.
    """
    if columns is not None:
        if isinstance(columns, str | int) or len(columns) != 2 or columns[0] == columns[1]:
            raise PointsError(
                "columns= names two columns, longitude first, or one of positions as text, not "
                f"{columns!r:.60}"
            )
        for name in columns:
            if name not in names:
                raise PointsError(f"there is no column {name!r} among {format_names(names)}")
            _refuse_duplicates([other for other in names if other == name])
        return columns[0], columns[1]
    by_key: dict[str, list[Any]] = {}
    for name in names:
        by_key.setdefault(_normalize(name), []).append(name)
    # The names of longitude and latitude come before x and y, which are last in both lists.
    for group in (slice(None, -1), slice(-1, None)):
        lon, lat = (
            next((by_key[key] for key in usual[group] if key in by_key), None)
            for usual in (LON_NAMES, LAT_NAMES)
        )
        if lon is not None and lat is not None:
            _refuse_duplicates(lon)
            _refuse_duplicates(lat)
            return lon[0], lat[0]
    has_lon = any(key in by_key for key in LON_NAMES)
    if has_lon and any(key in by_key for key in LAT_NAMES):
        raise PointsError(
            f"no pair of coordinate columns among {format_names(names)}: x goes with y, longitude "
            "with latitude; name both with columns=(longitude, latitude)"
        )
    lacking, usual = ("latitude", LAT_NAMES) if has_lon else ("longitude", LON_NAMES)
    raise PointsError(
        f"no {lacking} column among {format_names(names) or 'none'}; usual names are "
        f"{', '.join(usual)}, or name both with columns=(longitude, latitude)"
    )


def _refuse_duplicates(names: list[Any]) -> None:
    if len(names) > 1:
        raise PointsError(
            f"{len(names)} columns may be meant: {', '.join(map(repr, names))}. Rename or drop all "
            "but one"
            + ("" if len(Counter(names)) == 1 else ", or name both with columns=(lon, lat)")
        )


def _normalize(name: Any) -> str:
    """Return a column's name in the form in which names are compared.

    Of a name with several levels it is the only level that is not empty, if there is one.
    """
    levels = [level for level in name if level != ""] if isinstance(name, tuple) else [name]
    return str(levels[0] if len(levels) == 1 else name).strip().lower()


def has_columns(names: Sequence[Any], columns: CoordinateColumns | None) -> bool:
    """Return whether there are columns of longitude and latitude among `names`."""
    try:
        find_columns(names, columns)
    except PointsError:
        return False
    return True


def is_longitude(name: Any) -> bool:
    """Return whether a name means degrees, as `lon` does and `x` does not."""
    return _normalize(name) in LON_NAMES[:-1]


def format_names(names: Sequence[Any], most: int = 20) -> str:
    """List the first names, and their number if there are more."""
    shown = ", ".join(map(str, names[:most]))
    return shown + (f", ... ({len(names)} in all)" if len(names) > most else "")
