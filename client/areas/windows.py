"""Parts of a field in a region: a lazy window, or one piece per shard."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int8, UInt8

from unigeo.client.areas.polygon_status import why_off_the_field
from unigeo.client.areas.polygons import read_region_polygons
from unigeo.client.progress import with_progress
from unigeo.client.shapes.coverage import holds_centre
from unigeo.client.shapes.outlines import Outlines, outlines_on
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.quantization import FILL, dequantize
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    import xarray as xr

    from unigeo.client.reading.stored_field import StoredField


@dataclass(frozen=True, eq=False)
class Piece:
    """The part of a field that lies in one shard."""

    grid: Grid
    """Grid of the whole field."""
    window: Window
    """Window of the grid that the piece covers."""
    stored: dict[str, Int8[np.ndarray, "row col band"]]
    """Vectors of each modality as stored, -128 where there is none."""
    status: dict[str, UInt8[np.ndarray, "row col"]]
    """Codes of `Status`, which say why a cell has or lacks a vector."""

    @property
    def lonlat(self) -> Float[np.ndarray, "row col 2"]:
        """Cell centres, WGS 84 degrees, longitude first; NaN off the globe."""
        return self.grid.centres(self.window)

    def vectors(self, modality: str) -> Float[np.ndarray, "row col band"]:
        """Return unit vectors, float32, NaN where there is none."""
        return dequantize(self.stored[modality])


def bounding_window(grid: Grid, outlines: Outlines) -> Window | None:
    """Return the smallest window that holds all polygons, cropped to the grid; None if off it."""
    if not len(outlines.polygon):
        return None
    low = np.clip(np.floor(np.nanmin(outlines.bounds[:, :2], axis=0)), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(np.nanmax(outlines.bounds[:, 2:], axis=0)), 0, grid.shape).astype(int)
    if not (high > low).all():
        return None
    (row, col), (height, width) = low.tolist(), (high - low).tolist()
    return Window(row, col, height, width)


def region_of_field(field: "StoredField", region: Any, crs: Any) -> tuple[Outlines, Window]:
    """Read a region's polygons, and find the window of the field that holds them.

    Raises:
        RegionError: if they cannot be read, there is none, or they lie off the field.
    """
    polygons = read_region_polygons(region, crs, field.grid)
    outlines = outlines_on(polygons, field.grid)
    window = bounding_window(field.grid, outlines)
    if window is None:
        why = why_off_the_field(field, polygons)
        raise RegionError(f"the region lies off the field. {why}")
    return outlines, window


def region_dataset(
    field: "StoredField", region: Any, crs: Any = None, mask: bool = False
) -> "xr.Dataset":
    """Return a lazy window of the field; see `Field.region`."""
    outlines, window = region_of_field(field, region, crs)
    rows, cols = window.slices
    part = field.dataset().isel(y=rows, x=cols)
    if not mask:
        return part
    from unigeo.client.areas.mask import mask_outside

    for name in field.layout.arrays:
        fills = {name: field.layout.fill(name), status_name(name): int(Status.OUTSIDE_REGION)}
        for variable, fill in fills.items():
            part[variable] = mask_outside(part[variable], outlines, window, fill)
    return part


def iter_pieces(
    field: "StoredField",
    modalities: tuple[str, ...],
    region: Any = None,
    crs: Any = None,
    mask: bool = False,
) -> Iterator[Piece]:
    """Yield one piece per shard; see `Field.iter_region`."""
    outlines, within = (None, None) if region is None else region_of_field(field, region, crs)
    windows = list(field.grid.shard_windows(field.layout.shard, within))
    for window in with_progress(windows, "cells", "shards", show=False):
        outside = ~holds_centre(outlines, window) if mask and outlines is not None else None
        if outside is not None and outside.all():
            continue
        yield _read_piece(field, modalities, window, outside)


def _read_piece(
    field: "StoredField", modalities: tuple[str, ...], window: Window, outside: np.ndarray | None
) -> Piece:
    """Read the cells of a window; those `outside` the region get the status and no vector."""
    stored, status = {}, {}
    for name in modalities:
        codes = field.read(status_name(name), *window.slices)
        if outside is not None:
            codes = np.where(outside, np.uint8(Status.OUTSIDE_REGION), codes)
        if (codes == Status.VALID).any():  # else no vector need be read
            vectors = field.read(name, *window.slices)
            if outside is not None:
                vectors[outside] = FILL
        else:
            width = field.layout.width(name)
            vectors = np.full((window.height, window.width, width), FILL, np.int8)
        stored[name], status[name] = vectors, codes
    return Piece(field.grid, window, stored, status)
