"""Outlines of the contiguous United States, its states and its counties, by name or FIPS code.

They are the Census Bureau's cartographic boundaries of 2020, 1:5,000,000, in the public domain,
simplified by about 200 m. States are made of their counties, so their edges meet.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple
from unicodedata import combining, normalize

import numpy as np

from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.regions import Region, named_regions
from unigeo.schemas.geo.rings import Ring

CRS = "EPSG:8858"
CONUS = "conus"
_DC = "11"
"""FIPS code of the District of Columbia."""
_CONUS_NAMES = (CONUS, "contiguous united states", "lower 48", "48 states")
_SAINT = re.compile(r"\b(?:saint|st)(e?)(?:\.|\b)")
_BETWEEN = re.compile(r"\s|['’`]|(?<=[^\W\d])-(?=[^\W\d])")
"""What names are written with or without: spaces, apostrophes, hyphens between letters."""
KNOWN = "conus, the 48 states and DC, counties such as 'Boulder, CO' or '08013'"
"""Description of the names for messages."""


class County(NamedTuple):
    """Names of a county."""

    fips: str
    """Code of five digits, the first two of them the state's."""
    name: str
    """Name without its kind, such as `Boulder`."""
    full_name: str
    """Name with its kind, such as `Boulder County`."""
    postal: str
    """Letters of the state."""
    state: str
    """Name of the state."""


@dataclass(frozen=True, eq=False)
class _Outlines:
    """Counties and their rings, which are made of arcs that neighbours share."""

    counties: tuple[County, ...]
    arcs: tuple[Ring, ...]
    rings: tuple[tuple[tuple[int, ...], ...], ...]
    """Rings of each county: numbers of arcs from 1, negative where they are run backwards."""

    def arc(self, number: int) -> Ring:
        """Return the points of an arc in the direction in which it is run."""
        return self.arcs[number - 1] if number > 0 else self.arcs[-number - 1][::-1]


def us_region(name: str) -> Region | None:
    """Find an outline by its name, in any case; None if there is none of the name.

    Args:
        name: `conus`; a state's name, letters or FIPS code; a county's FIPS code, or its name and
            the state's, such as "Boulder, CO" or "Boulder County, Colorado".

    Raises:
        RegionError: if several counties have the name.

    >>> us_region("boulder, co").name, us_region("CO").name, us_region("nowhere") is None
    ('Boulder County, CO', 'Colorado', True)
    """
    found = _members().get(_normalized(name))
    if found is None:
        return None
    title, members = found
    if title is None:
        which = " or ".join(repr(_full_name(_outlines().counties[k])) for k in members)
        raise RegionError(f"there are {len(members)} counties {name!r}: name {which}")
    return _region(title, members)


def name_of_key(key: str) -> str | None:
    """Return the title of the outline that a key names; None if it names none, or several."""
    found = _members().get(_normalized(key))
    return None if found is None else found[0]


def similar_names(name: str, count: int = 3) -> list[str]:
    """Return the titles of the regions whose names are most like a name."""
    titles = {_normalized(one): one for one in named_regions()}
    titles |= {key: title for key, (title, _) in _members().items() if title is not None}
    like = get_close_matches(_normalized(name), titles, count)
    return list(dict.fromkeys(titles[key] for key in like))


def _normalized(name: str) -> str:
    """Return a name as it is compared: tables differ in case, accents and spaces.

    >>> _normalized("Saint  Louis,MO") == _normalized("St. Louis, MO"), _normalized("Doña Ana")
    (True, 'donaana')
    """
    letters = (letter for letter in normalize("NFKD", name) if not combining(letter))
    return _BETWEEN.sub("", _SAINT.sub(r"st\1", "".join(letters).casefold()))


def _full_name(county: County) -> str:
    return f"{county.full_name}, {county.postal}"


@cache
def _members() -> Mapping[str, tuple[str | None, tuple[int, ...]]]:
    """Return title and counties by normalized name; the title is None where several are meant."""
    counties = _outlines().counties
    known: dict[str, tuple[str | None, tuple[int, ...]]] = {}
    for name in _CONUS_NAMES:
        known[_normalized(name)] = CONUS, tuple(range(len(counties)))
    states: dict[tuple[str, str, str], list[int]] = {}
    by_name: dict[str, list[int]] = {}
    for number, one in enumerate(counties):
        states.setdefault((one.state, one.postal, one.fips[:2]), []).append(number)
        known[one.fips] = _full_name(one), (number,)
        for state in (one.postal, one.state):
            known[_normalized(f"{one.full_name}, {state}")] = _full_name(one), (number,)
            by_name.setdefault(_normalized(f"{one.name}, {state}"), []).append(number)
            if one.fips[:2] == _DC:
                by_name.setdefault(_normalized(f"Washington, {state}"), []).append(number)
    for key, numbers in by_name.items():
        title = _full_name(counties[numbers[0]]) if len(numbers) == 1 else None
        known.setdefault(key, (title, tuple(numbers)))
    for names, members in states.items():
        for name in names:
            known[_normalized(name)] = names[0], tuple(members)
    return known


@lru_cache(maxsize=4096)
def _region(title: str, members: tuple[int, ...]) -> Region:
    outlines = _outlines()
    if len(members) == 1:
        rings = outlines.rings[members[0]]
    else:
        arcs = Counter(arc for k in members for ring in outlines.rings[k] for arc in ring)
        # An edge between two of the counties is run once in each direction, and is none of theirs.
        rings = _chained(outlines, [arc for arc in arcs if -arc not in arcs])
    points = tuple(
        np.concatenate([outlines.arc(ring[0]), *(outlines.arc(arc)[1:] for arc in ring[1:])])
        for ring in rings
    )
    return Region(title, points, CRS)


def _chained(outlines: _Outlines, arcs: Iterable[int]) -> tuple[tuple[int, ...], ...]:
    """Chain arcs to closed rings."""
    starts: dict[tuple[float, ...], list[int]] = {}
    for arc in arcs:
        starts.setdefault(tuple(outlines.arc(arc)[0]), []).append(arc)
    rings = []
    while starts:
        first = next(iter(starts))
        ring: list[int] = []
        end = first
        while not ring or end != first:
            following = starts[end]
            ring.append(following.pop())
            if not following:
                del starts[end]
            end = tuple(outlines.arc(ring[-1])[-1])
        rings.append(tuple(ring))
    return tuple(rings)


@cache
def _outlines() -> _Outlines:
    with (
        files("unigeo.schemas.geo").joinpath("us_outlines.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        part = {name: stored[name] for name in stored.files}
    both = np.stack([part["low"], part["high"]], axis=-1)
    deltas = np.ascontiguousarray(both).view("<i2")[..., 0].T.astype(np.int64)
    arcs, at = [], 0
    for first, count in zip(part["first"], part["points_of_arc"].tolist(), strict=True):
        steps = np.cumsum(np.vstack([first, deltas[at : at + count - 1]]), axis=0)
        arcs.append(steps / float(part["per_degree"]))
        at += count - 1
    numbers = np.split(part["arcs"], np.cumsum(part["arcs_of_ring"].astype(np.int64))[:-1])
    rows = bytes(part["names"]).decode().split("\n")
    counties = tuple(County(*row.split("\t")) for row in rows)
    rings: list[list[tuple[int, ...]]] = [[] for _ in counties]
    for county, ring in zip(part["county_of_ring"].tolist(), numbers, strict=True):
        rings[county].append(tuple(ring.tolist()))
    return _Outlines(counties, tuple(arcs), tuple(map(tuple, rings)))
