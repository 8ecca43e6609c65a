"""Reads a region in every form in which users and settings give one.

A name ("conus", "texas", "Boulder, CO", "08013"); a box, as four numbers (also a numpy array) or as
the text "west,south,east,north"; GeoJSON, as a mapping, as text or in a file; a file that geopandas
reads; and any object with
`__geo_interface__`, such as a shapely geometry or a GeoDataFrame. The client reads polygons with
more detail from the same forms: `load_region` is what both share.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Complex, Real
from pathlib import Path
from typing import Any

import numpy as np

from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.polygon_files import geojson_document, read_polygon_file, shortened
from unigeo.schemas.geo.regions import (
    Region,
    named_regions,
    region,
    region_of_bbox,
    region_of_geojson,
)
from unigeo.schemas.geo.us_outlines import us_region

_BOX = 4


def load_region(value: Any, *, produced: bool = False) -> Any:
    """Load what a name, a path or text stands for.

    Args:
        value: see the module's docstring.
        produced: whether a name that the producer has, such as `california`, is its region, which
            reaches beyond the coast; by default it is the true outline, where there is one.

    Returns:
        A `Region` for a name; four numbers for the text of a box; a mapping for GeoJSON; a
        GeoDataFrame for any other file. A value that is neither text nor a path is returned as it
        is.

    Raises:
        RegionError: if it is none of these, or cannot be read.
        MissingExtraError: if a file needs geopandas and it is not installed.

    >>> load_region("conus").name, load_region("-105,39,-104,40")
    ('conus', (-105.0, 39.0, -104.0, 40.0))
    """
    if not isinstance(value, str | Path):
        return value
    if produced and str(value) in named_regions():
        return region(str(value))
    outline = us_region(str(value))
    if outline is not None:
        return outline
    if str(value).strip().lower() in named_regions():
        return region(str(value).strip().lower())
    if isinstance(value, str):
        box = _parse_box(value)
        if box is not None:
            return box
        if _is_json(value):
            return geojson_document(value, f"the text {shortened(value)!r}")
    return read_polygon_file(value)


def read_region(value: Any, crs: str | None = None) -> Region:
    """Read a region to be produced, in any form.

    Args:
        value: see the module's docstring; or a `Region`.
        crs: the Equal Earth CRS to map it in; by default the one of least shear, or that of a named
            region.

    Raises:
        RegionError: if it cannot be read, or holds no polygon or one that is not valid.
        MissingExtraError: if a file needs geopandas and it is not installed.

    >>> read_region({"type": "Polygon", "coordinates": [[(0, 0), (1, 0), (1, 1), (0, 0)]]}).crs
    'EPSG:8857'
    """
    loaded = load_region(value, produced=True)
    if isinstance(loaded, Region):
        return loaded if crs is None else replace(loaded, crs=crs)
    name, source = "polygons", "the GeoJSON"
    if isinstance(value, str | Path) and not _is_json(value):
        name, source = Path(value).stem, str(value)
    is_mapping = isinstance(loaded, Mapping)
    document = loaded if is_mapping else getattr(loaded, "__geo_interface__", None)
    if isinstance(document, Mapping):
        # A GeoDataFrame's CRS is no part of its GeoJSON.
        frame_crs = None if is_mapping else getattr(loaded, "crs", None)
        return region_of_geojson(document, source, name=name, crs=crs, own_crs=frame_crs)
    box = box_of_numbers(loaded)
    if box is not None:
        return region_of_bbox(box, crs=crs)
    raise RegionError(
        f"cannot read a region from a {type(value).__name__}: give a name, a box (west, south, "
        "east, north), GeoJSON, a path or a geometry"
    )


def box_of_numbers(value: Any) -> tuple[float, float, float, float] | None:
    """Return the edges of a box; None if the value is no flat sequence or array of numbers.

    Raises:
        RegionError: if there are not four numbers, or one is not real.

    >>> box_of_numbers(np.array([-105, 39, -104, 40])), box_of_numbers(["conus"])
    ((-105.0, 39.0, -104.0, 40.0), None)
    """
    if not isinstance(value, Sequence | np.ndarray) or getattr(value, "ndim", 1) != 1:
        return None
    if not len(value) or not all(map(is_number, value)):
        return None
    if not all(isinstance(v, Real) and not isinstance(v, bool | np.bool_) for v in value):
        raise RegionError(f"a box is four real numbers, not {value!s:.100}")
    if len(value) != _BOX:
        raise RegionError(
            f"cannot read polygons from {len(value)} numbers: a box is four, (west, south, east, "
            "north)"
        )
    west, south, east, north = (float(edge) for edge in value)
    return west, south, east, north


def is_number(value: Any) -> bool:
    """Return whether a value is a number of any type, also of one that no coordinate may have."""
    return isinstance(value, Complex | np.bool_)


def _is_json(value: str | Path) -> bool:
    return isinstance(value, str) and value.lstrip()[:1] in ("{", "[")


def _parse_box(text: str) -> tuple[float, ...] | None:
    """Parse the text of a box; None if the text is not made of numbers with commas between.

    Raises:
        RegionError: if there are not four of them, or one is not finite.
    """
    if "," not in text:  # "2020" may be the name of a file
        return None
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        return None
    if len(numbers) != _BOX or not all(map(math.isfinite, numbers)):
        raise RegionError(f"a box is west,south,east,north in degrees, not {text!r}")
    return numbers
