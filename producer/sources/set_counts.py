"""Counts of what is in a set: by modality, year, split, reason and state."""

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Float

from unigeo.producer.observations.folder import dates
from unigeo.producer.observations.observation_set.index import PATCHES
from unigeo.producer.sources.splits import NAMES
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.io.json_text import load_json

ELSEWHERE = "elsewhere"
"""Name of the area of locations that lie in none."""


def name_areas(lonlat: Float[np.ndarray, "location 2"], path: str | None = None) -> list[str]:
    """Name the area that each location lies in: the first of several, or `ELSEWHERE`.

    Args:
        lonlat: WGS 84 degrees.
        path: GeoJSON of polygons with a property `name`; without it, the states of the United
            States, simplified to about 3 km.

    Raises:
        ObservationsError: the file is missing or malformed.
    """
    text = files("unigeo.producer.sources").joinpath("states.geojson")
    try:
        areas = load_json((text if path is None else Path(path)).read_text(encoding="utf-8"))
        names = [str(one["properties"]["name"]) for one in areas["features"]]
        shapes = [shapely.geometry.shape(one["geometry"]) for one in areas["features"]]
    except (OSError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        raise ObservationsError(
            f"key `areas`: {path} is no GeoJSON of polygons with a property `name` ({error!r})."
        ) from error
    result = [ELSEWHERE] * len(lonlat)
    # Pairs of a location and an area that holds it.
    pairs = shapely.STRtree(shapes).query(shapely.points(lonlat), predicate="intersects")
    # In reverse order, so that the first of several areas is written last.
    for location, area in sorted(zip(*pairs.tolist(), strict=True), reverse=True):
        result[location] = names[area]
    return result


def count_observations(
    rows: dict[str, Any], modalities: Sequence[str], areas: str | None = None
) -> dict[str, Any]:
    """Count the observations of a set by modality, year, split, reason and area.

    Args:
        rows: columns of the index.
        modalities: modalities to count.
        areas: file of the areas, see `name_areas`.
    """
    lonlat = np.stack([rows["lon"], rows["lat"]], axis=1)
    area = name_areas(lonlat, areas)
    counts: dict[str, Any] = {
        "places": len(rows["key"]),
        "splits": {name: n for name in NAMES if (n := rows["split"].count(name))},
        "areas": _sorted(Counter(area)),
    }
    for modality in modalities:
        reasons = rows[f"{modality}_reason"]
        observed = [k for k, reason in enumerate(reasons) if not reason]
        years = [_format_years(rows[f"{modality}_date"][k] or "") for k in observed]
        by_area: dict[str, Counter[str]] = {}
        for k, year in zip(observed, years, strict=True):
            by_area.setdefault(area[k], Counter())[year] += 1
        counts[modality] = {
            "observed": len(observed),
            "years": _sorted(Counter(years)),
            "areas": {name: _sorted(by_area[name]) for name in sorted(by_area)},
            "reasons": _sorted(Counter(reason for reason in reasons if reason)),
            "licences": _sorted(
                Counter(rows[f"{modality}_licence"][k] or "not stated" for k in observed)
            ),
        }
        if modality in PATCHES:
            counts[modality]["bytes"] = int(np.nansum(rows[f"{modality}_bytes"].astype(float)))
    return counts


def _format_years(date: str) -> str:
    """Format the year of a date, or the first and the last year of a range."""
    years = dates.years(date)
    if not years:
        return "undated"
    return str(years[0]) if len(years) == 1 else f"{years[0]} to {years[-1]}"


def _sorted(numbers: Counter[str]) -> dict[str, int]:
    return dict(sorted(numbers.items()))
