"""Land as polygons: the test whether a point is on land, and points drawn uniformly over it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import shapely
from jaxtyping import Bool, Float

from unigeo.schemas.errors import ObservationsError

ROUNDS = 10_000
"""Largest number of draws before land is assumed to have no area."""


@dataclass(frozen=True, eq=False)
class Land:
    """The area in which observations may be requested."""

    outline: shapely.Geometry
    """Polygons in WGS 84 degrees, longitude first."""

    def contains(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Return whether each point is on land."""
        return np.asarray(shapely.contains_xy(self._prepared, lonlat[:, 0], lonlat[:, 1]), bool)

    def draw(self, count: int, rng: np.random.Generator) -> Float[np.ndarray, "point 2"]:
        """Draw points uniformly by area on the ellipsoid."""
        # Lambert's cylindrical projection is equal-area: uniform on the plane is uniform on Earth.
        plane = pyproj.Transformer.from_crs(4326, "+proj=cea +ellps=WGS84", always_xy=True)
        west, south, east, north = shapely.bounds(self.outline)
        (left, right), (bottom, top) = plane.transform([west, east], [south, north])
        drawn = [np.empty((0, 2))]
        missing = count
        for _ in range(ROUNDS):
            if missing == 0:
                return np.concatenate(drawn)
            # Rejection sampling: points of the bounding box that are not on land are discarded.
            x, y = rng.uniform((left, bottom), (right, top), (2 * missing + 16, 2)).T
            lonlat = np.stack(plane.transform(x, y, direction="INVERSE"), axis=1)
            drawn.append(lonlat[self.contains(lonlat)][:missing])
            missing -= len(drawn[-1])
        raise ObservationsError("the land polygons have next to no area; check the land file.")

    @cached_property
    def _prepared(self) -> shapely.Geometry:
        shapely.prepare(self.outline)
        return self.outline


def read_land(path: Path, label: str) -> Land:
    """Read polygons in any CRS from GeoParquet or GeoJSON.

    Args:
        path: the file.
        label: name of the file in error messages.

    Raises:
        ObservationsError: the file is missing, unreadable, without CRS, or without polygons.
    """
    if not path.is_file():
        raise ObservationsError(f"{label}: no such file. Looked for it at {path}.")
    try:
        if path.suffix.lower() == ".parquet":
            table = geopandas.read_parquet(path)
        else:
            table = geopandas.read_file(path)
        crs, shapes = table.crs, table.geometry
    except Exception as error:  # pyogrio and pyarrow raise classes of their own
        raise ObservationsError(
            f"{label} cannot be read as GeoParquet or GeoJSON: {error}. Fetch it again."
        ) from error
    if crs is None:
        raise ObservationsError(f"{label} has no CRS. Write it again with the right one.")
    polygons = shapes[shapes.geom_type.isin(["Polygon", "MultiPolygon"])].to_crs(4326)
    if polygons.is_empty.all():
        raise ObservationsError(f"{label} has no polygons. Land is given by its outlines.")
    return Land(shapely.union_all(shapely.make_valid(polygons.to_numpy())))
