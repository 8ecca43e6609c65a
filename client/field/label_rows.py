"""Rows of labels as cells of a field: the cell of a point, the cells of a polygon."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from unigeo.client.areas.polygon_tables import feature_columns
from unigeo.client.areas.polygons import read_polygons
from unigeo.client.areas.windows import bounding_window
from unigeo.client.probing.targets import Target, Task, read_target
from unigeo.client.shapes.coverage import holds_centre
from unigeo.client.shapes.outlines import outlines_on
from unigeo.client.shapes.polygon_rings import Polygons
from unigeo.schemas.geo.grid import Grid, from_wgs84
from unigeo.schemas.geo.polygon_files import read_polygon_file
from unigeo.schemas.geo.rings import geometries_of
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns
from unigeo.schemas.tables.object_types import geometry_of
from unigeo.schemas.tables.points import Points, read_points
from unigeo.schemas.tables.table_files import loaded_table

MOST_CELLS = 100
"""Largest number of cells of one polygon that are labelled, evenly spaced among all."""
_JSON = (".geojson", ".json")
_AREAS = ("Polygon", "MultiPolygon")


@dataclass(frozen=True, eq=False)
class LabelRows:
    """The labels of a table, and the cells that they label."""

    target: Target
    """Label of each row."""
    points: Points
    """A point in each labelled cell, row by row."""
    row: Int[np.ndarray, " cell"]
    """Row of the table that labels each cell."""


def read_label_rows(
    table: Any,
    column: Any,
    grid: Grid,
    crs: Any,
    columns: CoordinateColumns | None,
    task: Task | None = None,
) -> LabelRows:
    """Read labels and the cells that they label.

    Args:
        table: as in `Field.label`.
        column: name of the column of labels.
        grid: grid of the field.
        crs: CRS of the coordinates, if the table does not name it.
        columns: names of the longitude and latitude columns, if they are unusual.
        task: as in `read_target`.

    Raises:
        ProbeError: if there is no such column.
        PointsError: if the coordinates cannot be read.
        RegionError: if a polygon cannot be read.
    """
    if isinstance(table, str | Path):
        is_json = str(table).lower().endswith(_JSON)
        table = read_polygon_file(table) if is_json else loaded_table(table, columns)
    if isinstance(table, Mapping) and table.get("type") == "FeatureCollection":
        return _of_features(table, column, grid, crs, task)
    target = read_target(table, column, task)
    geometry = geometry_of(table)
    if geometry is not None:
        is_area = geometry.geom_type.isin(_AREAS).to_numpy()
        if is_area.any():
            points = read_points(geometry.mask(is_area), crs, missing="keep")
            areas = read_polygons(geometry[is_area], crs, grid)
            return _joined(target, points, areas, is_area, grid)
    points = read_points(table, crs, columns, missing="keep")
    return LabelRows(target, points, np.arange(len(points)))


def _of_features(
    document: Mapping[str, Any], column: Any, grid: Grid, crs: Any, task: Task | None
) -> LabelRows:
    """Read the labels of GeoJSON features: points, polygons, or both."""
    geometries = geometries_of(document, "the GeoJSON")
    is_area = np.array([bool(one) and one.get("type") in _AREAS for one in geometries], bool)

    def part(wanted: Bool[np.ndarray, " row"]) -> dict[str, Any]:
        shapes = zip(geometries, wanted.tolist(), strict=True)
        features: list[dict[str, Any]] = [
            {"type": "Feature", "properties": {}, "geometry": shape if kept else None}
            for shape, kept in shapes
        ]
        return {**document, "features": features}

    target = read_target(feature_columns(document), column, task)
    points = read_points(part(~is_area), crs, missing="keep")
    areas = read_polygons(part(is_area), crs, grid)
    return _joined(target, points, areas, np.ones(len(is_area), bool), grid)


def _joined(
    target: Target, points: Points, areas: Polygons, rows: Bool[np.ndarray, " row"], grid: Grid
) -> LabelRows:
    """Join the points of some rows and the cells of others.

    Args:
        target: label of each row.
        points: of all rows, without a position where a row is a polygon.
        areas: polygons, without a shape where a row is a point.
        rows: the rows that `areas` has.
        grid: grid of the field.
    """
    cells = cells_within(areas, grid)
    area_rows = np.flatnonzero(rows)[~areas.missing]
    counts = [len(one) for one, lacking in zip(cells, areas.missing, strict=True) if not lacking]
    single = np.setdiff1d(np.arange(len(points)), area_rows)
    row = np.concatenate([single, np.repeat(area_rows, counts)])
    rowcol = np.concatenate([np.empty((0, 2), np.int64), *cells])
    size = grid.resolution_m
    x, y = (grid.col0 + rowcol[:, 1] + 0.5) * size, -(grid.row0 + rowcol[:, 0] + 0.5) * size
    lon, lat = from_wgs84(grid.crs).transform(x, y, direction="INVERSE")
    lonlat = np.concatenate([points.lonlat[single], np.stack([lon, lat], axis=-1)])
    order = np.argsort(row, kind="stable")
    return LabelRows(target, Points(lonlat[order]), row[order])


def cells_within(polygons: Polygons, grid: Grid) -> list[Int[np.ndarray, "cell 2"]]:
    """Return row and column of the cells whose centre lies in each polygon.

    Where a polygon holds more than `MOST_CELLS`, so many are chosen in even steps, row by row: its
    label shall not outweigh all others, and the fit takes time with the cube of the cells.
    """
    outlines = outlines_on(polygons, grid)
    found: list[Int[np.ndarray, "cell 2"]] = []
    for number in range(len(polygons)):
        one = outlines.take(np.array([number]))
        window = bounding_window(grid, one)
        rowcol = np.empty((0, 2), np.int64)
        if window is not None:
            rowcol = np.argwhere(holds_centre(one, window)) + np.array([window.row, window.col])
        found.append(rowcol[chosen_cells(len(rowcol))])
    return found


def chosen_cells(count: int) -> Int[np.ndarray, " chosen"]:
    """Return which of so many cells are labelled.

    >>> chosen_cells(3), len(chosen_cells(1000)), chosen_cells(250)[:4]
    (array([0, 1, 2]), 100, array([0, 2, 5, 7]))
    """
    kept = min(count, MOST_CELLS)
    return np.arange(kept) * count // max(kept, 1)
