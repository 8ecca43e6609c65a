"""The columns of a table that hold its coordinates, found by their names."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from unigeo.schemas.errors import PointsError

LON_NAMES = ("lon", "longitude", "lng", "long", "x")
LAT_NAMES = ("lat", "latitude", "y")


def find_columns(names: Sequence[Any], columns: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """The columns of longitude and latitude among `names`, whatever their case.

    `x` and `y` are taken together, where longitude or latitude has no name of its own.

    Raises:
        PointsError: if there is none, or more than one of the same name.
    """
    if columns is not None:
        if isinstance(columns, str) or len(columns) != 2 or columns[0] == columns[1]:
            raise PointsError(f"columns= names two columns, longitude first, not {columns!r:.60}")
        for name in columns:
            if name not in names:
                raise PointsError(f"there is no column {name!r} among {listed(names)}")
            _refuse_repeats([one for one in names if one == name])
        return columns[0], columns[1]
    words: dict[str, list[Any]] = {}
    for name in names:
        words.setdefault(_word(name), []).append(name)
    for family in (slice(None, -1), slice(-1, None)):  # telling names first, then x and y
        found = [
            next((words[word] for word in usual[family] if word in words), None)
            for usual in (LON_NAMES, LAT_NAMES)
        ]
        if found[0] is not None and found[1] is not None:
            _refuse_repeats(found[0])
            _refuse_repeats(found[1])
            return found[0][0], found[1][0]
    if any(word in words for word in LON_NAMES) and any(word in words for word in LAT_NAMES):
        raise PointsError(
            f"no pair of coordinate columns among {listed(names)}: x goes with y, longitude with "
            "latitude; name both with columns=(longitude, latitude)"
        )
    lacking, usual = (
        ("latitude", LAT_NAMES)
        if any(word in words for word in LON_NAMES)
        else ("longitude", LON_NAMES)
    )
    raise PointsError(
        f"no {lacking} column among {listed(names) or 'none'}; usual names are "
        f"{', '.join(usual)}, or name both with columns=(longitude, latitude)"
    )


def _refuse_repeats(found: list[Any]) -> None:
    if len(found) > 1:
        raise PointsError(
            f"{len(found)} columns may be meant: {', '.join(map(repr, found))}. Rename or drop all "
            "but one"
            + ("" if len(Counter(found)) == 1 else ", or name both with columns=(lon, lat)")
        )


def _word(name: Any) -> str:
    """A column's name as it is compared; of several levels, the only one that is not empty."""
    levels = [level for level in name if level != ""] if isinstance(name, tuple) else [name]
    return str(levels[0] if len(levels) == 1 else name).strip().lower()


def has_columns(names: Sequence[Any], columns: tuple[Any, Any] | None) -> bool:
    """Whether there are columns of longitude and latitude among `names`."""
    try:
        find_columns(names, columns)
    except PointsError:
        return False
    return True


def is_longitude(name: Any) -> bool:
    """Whether a name says that its numbers are degrees, as `lon` does and `x` does not."""
    return _word(name) in LON_NAMES[:-1]


def listed(names: Sequence[Any], most: int = 20) -> str:
    """The first of some names, and how many there are."""
    shown = ", ".join(map(str, names[:most]))
    return shown + (f", ... ({len(names)} in all)" if len(names) > most else "")
