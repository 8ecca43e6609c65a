"""Polygons that the rows of a suite's tables stand for, and how vectors are averaged over them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from unigeo.schemas.errors import ProbeError, RegionError
from unigeo.schemas.io.toml_files import check_keys

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.shapes.polygon_rings import Polygons

MeanOf = Literal["points", "cells"]


@dataclass(frozen=True, kw_only=True)
class SuiteAreas:
    """`[areas]` of a suite file: each row of a table stands for a polygon, not for its point."""

    file: str
    """File of polygons that geopandas reads, such as GeoJSON; relative to the data folder."""
    key: str
    """Column of this file and of every table that links rows to polygons."""
    places: int = 8
    """Number of points in each polygon, evenly by area, whose mean vector is the row's."""
    mean_of: MeanOf = "points"
    """`cells`: the row's vector is the mean over the polygon's cells, as `Field.zonal` computes it;
    this needs a store, and the points serve what has none, such as numbers of rasters."""
    weights: str | None = None
    """Weights of cells, as `Field.zonal` takes them: the name of a covariate of the store, or the
    path of a GeoTIFF relative to the data folder, with a power such as `^2` behind it or none."""
    number_weights: str | None = None
    """Hand-made number that weighs the points where hand-made numbers are averaged, with a power or
    none."""

    @property
    def sampling(self) -> str:
        """Description of what is averaged."""
        if self.mean_of == "cells":
            means = "area mean" if self.weights is None else f"mean, weighted by {self.weights},"
            return f"the {means} over the cells of each polygon of {self.file}"
        return f"the mean of {self.places} places within each polygon of {self.file}"


class SuitePolygons:
    """The polygons of a suite, and points within each, for the rows of tables that name one."""

    def __init__(self, areas: SuiteAreas, data: Path, suite: str) -> None:
        """Read the polygons.

        Args:
            areas: their file and key.
            data: folder of the file.
            suite: path of the suite, for messages.

        Raises:
            ProbeError: if they cannot be read, or two have one key.
        """
        from unigeo.client.areas.cell_weights import split_power
        from unigeo.client.areas.polygon_tables import read_areas
        from unigeo.client.areas.polygons import read_polygons
        from unigeo.client.areas.random_points import points_within

        self.areas = areas
        self.weights = areas.weights
        """Weights of cells; None to weigh them by area alone."""
        try:
            if areas.weights is not None and (data / split_power(areas.weights)[0]).is_file():
                self.weights = str(data / areas.weights)
            known = read_areas(str(data / areas.file))
            if areas.key not in known.own:
                raise RegionError(f"it has no column {areas.key!r}")
            keys = known.own[areas.key]
            if keys.duplicated().any():
                twice = keys[keys.duplicated()].iloc[0]
                raise RegionError(f"two polygons have {areas.key} {twice!r}")
            self.polygons: Polygons = read_polygons(known.polygons)
            self._points = points_within(self.polygons, areas.places)
        except RegionError as error:
            raise ProbeError(f"[areas] {areas.file!r} of suite {suite}: {error}") from error
        self._numbers = dict(zip(keys, range(len(keys)), strict=True))

    def numbers_of(self, frame: "pd.DataFrame") -> Int[np.ndarray, " row"]:
        """Return the number of each row's polygon.

        Raises:
            ProbeError: naming the first row without a polygon.
        """
        key = self.areas.key
        if key not in frame:
            raise ProbeError(
                f"no column {key!r}, which says which polygon is a row's; if its rows are points, "
                "say `areas = false` in its [[table]]"
            )
        unknown = [value for value in frame[key] if value not in self._numbers]
        if unknown:
            raise ProbeError(f"no polygon has {key} {unknown[0]!r}")
        return np.array([self._numbers[value] for value in frame[key]], np.int64)

    def points_of(self, numbers: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row point 2"]:
        """Return the points within polygons, by their numbers."""
        points: np.ndarray = self._points[numbers]
        return points


def parse_areas(table: Any, where: str) -> SuiteAreas:
    """Check the table `[areas]`.

    Raises:
        ProbeError: naming the key that is unknown, missing or malformed.
    """
    kinds = {"file": str, "key": str, "places": int, "mean_of": str}
    kinds |= {"weights": str, "number_weights": str}
    check_keys(table, kinds, where, ProbeError, ("file", "key"))
    if table.get("places", 1) < 1:
        raise ProbeError(f"{where}: the key 'places' must be positive, not {table['places']}")
    if table.get("mean_of", "points") not in get_args(MeanOf):
        raise ProbeError(
            f"{where}: the key 'mean_of' must be one of {', '.join(get_args(MeanOf))}, not "
            f"{table['mean_of']!r}"
        )
    if "weights" in table and table.get("mean_of") != "cells":
        raise ProbeError(f"{where}: the key 'weights' needs mean_of = 'cells'")
    return SuiteAreas(**table)
