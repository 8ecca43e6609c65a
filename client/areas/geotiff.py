"""Writes a modality as a GeoTIFF, one shard at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Int8

from unigeo.client.areas.geotiff_files import (
    check_geotiff_path,
    create_geotiff,
    import_rasterio,
    raster_window,
)
from unigeo.client.areas.polygons import read_region_polygons
from unigeo.client.areas.windows import iter_pieces, region_of_field
from unigeo.client.points.join import column_names
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.quantization import FILL

if TYPE_CHECKING:
    from unigeo.client.reading.stored_field import StoredField

Dtype = Literal["int8", "float32"]

_BANDS_AT_ONCE = 16
"""Bands of one shard that are converted together; they take 4 MB in float32."""
_CACHE_BYTES = 128 << 20
"""GDAL's cache; its default is a share of the machine's memory."""


def write_geotiff(
    field: "StoredField",
    path: Path | str,
    modalities: tuple[str, ...],
    bands: Iterable[int] | None = None,
    dtype: Dtype = "int8",
    *,
    region: Any = None,
    crs: Any = None,
    mask: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write one modality's bands; see `Field.to_geotiff`."""
    path = check_geotiff_path(path, overwrite)
    import_rasterio()
    if len(modalities) != 1:
        raise LayoutError(f"a GeoTIFF holds one modality; choose among {', '.join(modalities)}")
    if dtype not in ("int8", "float32"):
        raise ValueError(f"dtype must be 'int8' or 'float32', not {dtype!r}")
    modality, chosen = modalities[0], _chosen_bands(field, modalities[0], bands)
    # Read once: both the window and the pieces below take polygons as they are.
    polygons = None if region is None else read_region_polygons(region, crs, field.grid)
    window = field.grid.full_window
    if polygons is not None:
        _, window = region_of_field(field, polygons, None)
    names = column_names(modality, field.layout.width(modality))
    with create_geotiff(
        path,
        "the GeoTIFF",
        field.grid.crop(window),
        cache_bytes=_CACHE_BYTES,
        count=len(chosen),
        dtype=dtype,
        nodata=FILL if dtype == "int8" else np.nan,
        interleave="band",
    ) as out:
        out.descriptions = tuple(names[band] for band in chosen)
        out.update_tags(**_tags(field, modality))
        for piece in iter_pieces(field, (modality,), polygons, mask=mask):
            row, col = window.offset_of(piece.window)
            in_file = raster_window(Window(row, col, piece.window.height, piece.window.width))
            for first, values in _band_groups(piece.stored[modality], chosen, dtype):
                out.write(values, list(range(first + 1, first + 1 + len(values))), window=in_file)
    return path


def _chosen_bands(field: "StoredField", modality: str, bands: Iterable[int] | None) -> list[int]:
    width = field.layout.width(modality)
    chosen = list(range(width)) if bands is None else [int(band) for band in bands]
    wrong = [band for band in chosen if not 0 <= band < width]
    if wrong or not chosen:
        raise LayoutError(
            f"the field has no band {', '.join(map(str, wrong)) or 'named'}; its bands are 0 to "
            f"{width - 1}"
        )
    return chosen


def _tags(field: "StoredField", modality: str) -> dict[str, str]:
    return {
        "UNIGEO_MODALITY": modality,
        "UNIGEO_MODEL_SHA256": field.attributes.model.sha256,
        "UNIGEO_SOURCE": field.url,
        "UNIGEO_QUANTIZATION": "v = q / |q| over all bands of a cell",
        "TIFFTAG_COPYRIGHT": field.licence,
        "TIFFTAG_IMAGEDESCRIPTION": f"unigeo field {field.attributes.region}: {modality} vectors",
    }


def _band_groups(
    stored: Int8[np.ndarray, "row col band"], bands: list[int], dtype: Dtype
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a few bands at a time, band first, with the position of the first in `bands`."""
    length = np.empty(0)
    if dtype == "float32":
        length = _lengths(stored)
    for first in range(0, len(bands), _BANDS_AT_ONCE):
        group = np.moveaxis(stored[..., bands[first : first + _BANDS_AT_ONCE]], -1, 0)
        if dtype == "float32":
            group = np.where(group == FILL, np.float32(np.nan), group / length)
        yield first, np.ascontiguousarray(group)


def _lengths(stored: Int8[np.ndarray, "row col band"]) -> np.ndarray:
    """Return |q| of every cell, computed row by row to save memory."""
    lengths = np.empty(stored.shape[:2], np.float32)
    for row, vectors in enumerate(stored):
        floats = vectors.astype(np.float32)
        lengths[row] = np.sqrt(np.einsum("cb,cb->c", floats, floats))
    return lengths
