"""How much of what is in a set: by modality, year, split, reason, and by state."""

import json
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Float

from unigeo.producer.observations.folder import dates
from unigeo.producer.observations.protocol import IMAGE_MODALITIES
from unigeo.producer.sources.splits import NAMES
from unigeo.schemas.errors import ObservationsError

ELSEWHERE = "elsewhere"
"""Stands for the area of a place that lies in none."""


def name_areas(lonlat: Float[np.ndarray, "location 2"], path: str | None = None) -> list[str]:
    """Name the area that each place lies in: the first of several, `ELSEWHERE` for none.

    Args:
        lonlat: WGS 84 degrees.
        path: GeoJSON of polygons with a property `name`; else the states of the United States, to
            about 3 km.

    Raises:
        ObservationsError: the file is missing or malformed.
    """
    text = files("unigeo.producer.sources").joinpath("states.geojson")
    try:
        said = json.loads((text if path is None else Path(path)).read_text(encoding="utf-8"))
        names = [str(one["properties"]["name"]) for one in said["features"]]
        shapes = [shapely.geometry.shape(one["geometry"]) for one in said["features"]]
    except (OSError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        raise ObservationsError(
            f"key `areas`: {path} is no GeoJSON of polygons with a property `name` ({error!r})."
        ) from error
    found = [ELSEWHERE] * len(lonlat)
    pairs = shapely.STRtree(shapes).query(shapely.points(lonlat), predicate="intersects")
    for place, area in sorted(zip(*pairs.tolist(), strict=True), reverse=True):
        found[place] = names[area]
    return found


def count_observations(
    rows: dict[str, Any], modalities: Sequence[str], areas: str | None = None
) -> dict[str, Any]:
    """Count the observations of an index by modality, year, split, reason and area."""
    lonlat = np.stack([rows["lon"], rows["lat"]], axis=1)
    area = name_areas(lonlat, areas)
    told: dict[str, Any] = {
        "places": len(rows["key"]),
        "splits": {name: n for name in NAMES if (n := rows["split"].count(name))},
        "areas": _sorted(Counter(area)),
    }
    for modality in modalities:
        reasons = rows[f"{modality}_reason"]
        there = [k for k, why in enumerate(reasons) if not why]
        years = [_years_of(rows[f"{modality}_date"][k] or "") for k in there]
        by_area: dict[str, Counter[str]] = {}
        for k, year in zip(there, years, strict=True):
            by_area.setdefault(area[k], Counter())[year] += 1
        told[modality] = {
            "observed": len(there),
            "years": _sorted(Counter(years)),
            "areas": {name: _sorted(by_area[name]) for name in sorted(by_area)},
            "reasons": _sorted(Counter(why for why in reasons if why)),
            "licences": _sorted(
                Counter(rows[f"{modality}_licence"][k] or "not stated" for k in there)
            ),
        }
        if modality in IMAGE_MODALITIES:
            told[modality]["bytes"] = int(np.nansum(rows[f"{modality}_bytes"].astype(float)))
    return told


def _years_of(date: str) -> str:
    """The year of a date, or the first and the last of several."""
    found = dates.years(date)
    if not found:
        return "undated"
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _sorted(numbers: Counter[str]) -> dict[str, int]:
    return dict(sorted(numbers.items()))
