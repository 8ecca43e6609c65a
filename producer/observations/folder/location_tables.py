"""Tables whose rows each belong to a location, and the search for the row nearest to a point."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from unigeo.schemas.errors import ObservationsError, PointsError
from unigeo.schemas.geo.great_circle import EARTH_RADIUS_M
from unigeo.schemas.tables.points import check_lonlat
from unigeo.schemas.tables.table_files import read_table


@dataclass(frozen=True, eq=False)
class LocationTable:
    """A table whose rows each belong to a location."""

    rows: pd.DataFrame
    lonlat: Float[np.ndarray, "row 2"]
    """Location of each row, WGS 84 degrees."""

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(_geocentric(self.lonlat))

    def nearest(
        self, lonlat: Float[np.ndarray, "point 2"], radius_m: float
    ) -> Int[np.ndarray, " point"]:
        """Find the row nearest to each point; -1 where no row is within the radius.

        Distances are chords between points on WGS 84, converted to arcs: within 0.4 % of the
        geodesic at 1,000 km, and within a millimetre at 5 km.
        """
        if not len(self.rows) or not len(lonlat):
            return np.full(len(lonlat), -1)
        # A radius along the arc is this long as a chord, which is what the tree measures.
        # The chord of an arc of `radius_m`, at most the diameter of the Earth.
        reach = 2 * EARTH_RADIUS_M * np.sin(min(radius_m / (2 * EARTH_RADIUS_M), np.pi / 2))
        # The bound is exclusive: a row at exactly the radius is still to be found.
        _, row = self._tree.query(
            _geocentric(lonlat), distance_upper_bound=np.nextafter(reach, np.inf)
        )
        # cKDTree answers with the number of rows where nothing is within the bound.
        return np.where(row == len(self.rows), -1, row).astype(np.int64)


def read_locations(
    path: Path, label: str, lon: str, lat: str, others: Sequence[str]
) -> LocationTable:
    """Read a CSV or Parquet file with one row per location.

    Args:
        path: the file.
        label: name of the file in error messages.
        lon: column of longitudes, WGS 84 degrees.
        lat: column of latitudes.
        others: further columns to read.

    Raises:
        ObservationsError: the file is missing, unreadable, without rows or without a column, or a
            row is no location on Earth.
    """
    if not path.is_file():
        raise ObservationsError(f"{label}: no such file. Looked for it at {path}.")
    try:
        table = read_table(str(path))
    except (PointsError, OSError) as error:
        raise ObservationsError(f"{label} cannot be read: {error}. Fetch it again.") from error
    lacking = [name for name in (lon, lat, *others) if name not in table.columns]
    if lacking:
        present = ", ".join(repr(str(name)) for name in table.columns[:12])
        raise ObservationsError(
            f"{label} has no column {lacking[0]!r}; its columns are {present}. Name the right one."
        )
    if not len(table):
        raise ObservationsError(f"{label} has no rows.")
    try:
        lonlat = table[[lon, lat]].to_numpy(float)
        check_lonlat(lonlat)
    except (PointsError, ValueError, TypeError) as error:
        raise ObservationsError(f"{label}, columns {lon!r} and {lat!r}: {error}") from error
    return LocationTable(pd.DataFrame(table[list(dict.fromkeys(others))]), lonlat)


def _geocentric(lonlat: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 3"]:
    """Return geocentric coordinates of points on the WGS 84 ellipsoid, in metres."""
    geocentric = pyproj.Transformer.from_crs(4979, 4978, always_xy=True)
    return np.stack(geocentric.transform(lonlat[:, 0], lonlat[:, 1], np.zeros(len(lonlat))), axis=1)
