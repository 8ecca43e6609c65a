"""Keys of a table's rows: of states and counties, or cells of H3 and geohash.

A key of a state or county is its FIPS code (`8`, `08`, `08013`, `0500000US08013`), its letters or
its name (`Colorado`, `Boulder, CO`).
"""

import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unigeo.schemas.errors import PointsError, RegionWarning
from unigeo.schemas.geo.us_outlines import KNOWN, name_of_key
from unigeo.schemas.tables.cell_ids import GEOHASH, as_h3, geohash_centres, h3_centres
from unigeo.schemas.tables.coordinate_columns import format_names
from unigeo.schemas.tables.object_types import kind_of
from unigeo.schemas.tables.points import Points

_DIGITS = re.compile(r"(?:\d{7,9}US)?(\d+)(?:\.0)?", re.ASCII | re.IGNORECASE)
_STATE, _COUNTY = 2, 5
"""Digits of FIPS codes."""
_OWN_FILES = (str(Path(__file__).parents[1]),)


@dataclass(frozen=True, eq=False)
class Keys:
    """What the different keys of a column mean."""

    outlines: dict[str, str | None]
    """Title of the outline of each key, None where there is none; empty for keys of cells."""
    lonlat: dict[str, tuple[float, float]]
    """Centre of the cell of each key; empty for keys of outlines."""

    def points(self, keys: Iterable[str]) -> Points:
        """Return the centres of the cells of rows, NaN where a key is empty."""
        nowhere = (math.nan, math.nan)
        rows = [self.lonlat.get(key, nowhere) for key in keys]
        return Points(np.array(rows, np.float64).reshape(-1, 2))


def key_column(table: Any, by: Any) -> list[str]:
    """Return the keys of a table's rows as text, empty where missing.

    Raises:
        PointsError: if it is no table, or has no such column.
    """
    kind = kind_of(table)
    if kind not in ("pandas", "geodataframe", "polars", "arrow"):
        raise PointsError(f"cannot join a {type(table).__name__} by keys: give a table")
    names = list(table.column_names if kind == "arrow" else table.columns)
    if names.count(by) != 1:
        raise PointsError(f"there is no one column {by!r} among {format_names(names)}")
    column = table.column(by) if kind == "arrow" else table[by]
    values = column.to_pylist() if kind == "arrow" else column.to_list()
    return [_as_text(value) for value in values]


def _as_text(value: Any) -> str:
    if value is None or value != value or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def read_keys(keys: Iterable[str], name: Any) -> Keys:
    """Find out what the keys of a column mean, from all of them together.

    Args:
        keys: the different keys; empty ones are missing.
        name: name of the column, for messages.

    Raises:
        PointsError: if most are of no kind that is known, or are census tracts or ZIP codes.
        MissingExtraError: if they are H3 cells and h3 is not installed.

    Warns:
        RegionWarning: if some have no outline.
    """
    given = sorted({key.strip() for key in keys} - {""})
    if not given:
        raise PointsError(f"the column {name!r} has no keys: all are empty")
    outlines = _outlines(given)
    unknown = [key for key, title in outlines.items() if title is None]
    if 2 * len(unknown) < len(given):
        if unknown:
            shown = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
            warnings.warn(
                RegionWarning(
                    f"{len(unknown):,} of {len(given):,} keys of {name!r} have no outline: {shown}."
                    f" There are {KNOWN}, of the year 2020; Alaska, Hawaii, the territories and "
                    "Connecticut's planning regions are not among them"
                ),
                skip_file_prefixes=_OWN_FILES,
                stacklevel=2,
            )
        return Keys(outlines, {})
    cells = {key: as_h3(key) for key in given}
    if None not in cells.values():
        centres = h3_centres([str(cell) for cell in cells.values()])
        return Keys({}, dict(zip(given, map(tuple, centres.tolist()), strict=True)))
    if all(GEOHASH.fullmatch(key.lower()) and not key.isdecimal() for key in given):
        centres = geohash_centres(given)
        return Keys({}, dict(zip(given, map(tuple, centres.tolist()), strict=True)))
    lengths = {len(match[1]) for match in map(_DIGITS.fullmatch, given) if match}
    if lengths & {10, 11, 12, 15}:
        raise PointsError(
            f"the column {name!r} holds codes of census tracts or blocks, such as {given[0]!r}: "
            "only states and counties are embedded; give zonal their polygons"
        )
    raise PointsError(
        f"the column {name!r} holds no keys that are known, such as {unknown[0]!r}: there are "
        f"{KNOWN}, and cells of H3 and geohash; ZIP codes have no outline here, give zonal their "
        "polygons"
    )


def _outlines(keys: list[str]) -> dict[str, str | None]:
    """Return the title of each key's outline; None where there is none."""
    codes = {key: match[1] for key in keys if (match := _DIGITS.fullmatch(key))}
    # Codes that were read as numbers have lost their zeros, which the longest of them restores.
    width = _STATE if max(map(len, codes.values()), default=0) <= _STATE else _COUNTY
    return {key: name_of_key(codes[key].zfill(width) if key in codes else key) for key in keys}
