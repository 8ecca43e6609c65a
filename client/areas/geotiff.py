"""A modality as a GeoTIFF that any GIS opens, written one shard at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Int8

from unigeo.client.areas.polygons import read_region
from unigeo.client.areas.windows import iter_pieces, region_of_field
from unigeo.client.points.join import column_names
from unigeo.schemas.errors import LayoutError, MissingExtraError, StoreError
from unigeo.schemas.io.atomic_files import file_beside
from unigeo.schemas.io.stores import refuse_inside_a_store
from unigeo.schemas.store.quantization import FILL

if TYPE_CHECKING:
    from unigeo.client.reading.stored_field import StoredField

Dtype = Literal["int8", "float32"]

_ENDINGS = (".tif", ".tiff")
_TILE = 256
_BANDS_AT_ONCE = 16  # of one shard: 4 MB of float32
_CACHE_BYTES = 128 << 20  # GDAL's own would be a share of the machine's memory


def check_geotiff_path(path: str | Path, overwrite: bool) -> Path:
    """Refuse a GeoTIFF that cannot be written, before any work is done for it.

    Args:
        path: of the file, which is local and ends in `.tif` or `.tiff` in any case.
        overwrite: whether the file may be there already.

    Raises:
        StoreError: if the name is empty or ends otherwise, there is no such folder, or the name is
            taken by a folder, or by a file that must not be replaced.
    """
    name, path = str(path), Path(path)
    if "://" in name:
        raise StoreError(f"cannot write {name}: a GeoTIFF is written to a local file; copy it then")
    if not name.strip().lower().endswith(_ENDINGS) or name != name.strip():
        raise StoreError(
            f"cannot write a GeoTIFF named {name!r}: its name must end in {' or '.join(_ENDINGS)}"
        )
    if not path.absolute().parent.is_dir():
        raise StoreError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise StoreError(f"cannot write {path}: it is a folder")
    refuse_inside_a_store(path, str(path))
    if path.exists() and not overwrite:
        raise StoreError(
            f"cannot write {path}: it is there already; allow it to be replaced (overwrite=True, "
            "or --overwrite), remove it, or name another"
        )
    return path


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
    try:
        import rasterio
        from rasterio.errors import RasterioError
    except ImportError as error:
        raise MissingExtraError("GeoTIFF needs rasterio: pip install 'unigeo[geo]'") from error
    if len(modalities) != 1:
        raise LayoutError(f"a GeoTIFF holds one modality; choose among {', '.join(modalities)}")
    if dtype not in ("int8", "float32"):
        raise ValueError(f"dtype must be 'int8' or 'float32', not {dtype!r}")
    modality, chosen = modalities[0], _chosen_bands(field, modalities[0], bands)
    polygons = None if region is None else read_region(region, crs)
    window = field.grid.full_window
    if polygons is not None:
        _, window = region_of_field(field, polygons, None)
    profile = {
        "driver": "GTiff",
        "height": window.height,
        "width": window.width,
        "count": len(chosen),
        "dtype": dtype,
        "nodata": FILL if dtype == "int8" else np.nan,
        "crs": field.grid.crs,
        "transform": rasterio.Affine(*field.grid.crop(window).affine),
        "tiled": True,
        "blockxsize": _TILE,
        "blockysize": _TILE,
        "interleave": "band",
        "bigtiff": "if_safer",
    }
    names = column_names(modality, field.layout.width(modality))
    try:
        with (
            rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES),
            file_beside(path) as part,
            rasterio.open(part, "w", **profile) as out,
        ):
            out.descriptions = tuple(names[band] for band in chosen)
            out.update_tags(**_tags(field, modality))
            for piece in iter_pieces(field, (modality,), polygons, mask=mask):
                row, col = window.offset_of(piece.window)
                at = rasterio.windows.Window(col, row, piece.window.width, piece.window.height)
                for first, values in _band_groups(piece.stored[modality], chosen, dtype):
                    out.write(values, list(range(first + 1, first + 1 + len(values))), window=at)
    except (OSError, RasterioError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write the GeoTIFF {path}: {error}") from error
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
    """A few bands at a time, band first, with the place of the first among those chosen."""
    length = np.empty(0)
    if dtype == "float32":
        length = _lengths(stored)
    for first in range(0, len(bands), _BANDS_AT_ONCE):
        group = np.moveaxis(stored[..., bands[first : first + _BANDS_AT_ONCE]], -1, 0)
        if dtype == "float32":
            group = np.where(group == FILL, np.float32(np.nan), group / length)
        yield first, np.ascontiguousarray(group)


def _lengths(stored: Int8[np.ndarray, "row col band"]) -> np.ndarray:
    """|q| of every cell, float32, row by row so as to need little memory."""
    lengths = np.empty(stored.shape[:2], np.float32)
    for row, vectors in enumerate(stored):
        wide = vectors.astype(np.float32)
        lengths[row] = np.sqrt(np.einsum("cb,cb->c", wide, wide))
    return lengths
