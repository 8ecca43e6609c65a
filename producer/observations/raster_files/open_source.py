"""Opening of a raster file as a source of patches: all that is checked once, before it is read."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from rasterio.enums import Interleaving
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from unigeo.producer.observations.file_contents import Stamp
from unigeo.producer.observations.raster_files.height_values import (
    HeightConversion,
    HeightDescription,
    check_unscaled,
    height_conversion,
)
from unigeo.producer.observations.raster_files.raster_source import RasterSource, has_value
from unigeo.schemas.errors import ObservationsError

SMALL_BYTES = 1 << 30
"""Unpacked size up to which a raster is accepted whatever the size of its file."""
MAX_COMPRESSION = 100_000
"""Largest accepted ratio of unpacked to stored bytes: a hundred times deflate's, as for sparse
tiles."""
BLOCK_BYTES = 1 << 30
"""Largest accepted size of one block of a file, unpacked."""
CHECKED_BLOCKS = 4096
"""Largest number of blocks whose offset in the file is checked at opening."""
PROBE_SIDE = 256
"""Side, in pixels, of the parts of a surface model whose heights are checked at opening."""
PROBES_PER_SIDE = 5
"""Number of those parts along each side; they cover all of a raster of 1,280 pixels."""


def open_source(
    path: Path | str,
    bands: tuple[int, ...],
    nodata: float | None,
    label: str,
    described: HeightDescription | None = None,
) -> RasterSource:
    """Check a raster file and collect what is needed to read it.

    Args:
        path: a GeoTIFF, or the address of one.
        bands: bands to read, counted from 1.
        nodata: nodata value, where the file does not declare it.
        label: name of the file in error messages, with the table that lists it.
        described: the description of a surface model; None for an image.

    Raises:
        ObservationsError: the file is missing, truncated, not a GeoTIFF, not georeferenced, or
            without one of the bands.
        MeaningError: (an ObservationsError) the numbers of an image are scaled, or those of a
            surface model are no heights.
    """
    if isinstance(path, Path) and not path.is_file():
        raise ObservationsError(f"{label}: no such file. Looked for it at {path}.")
    try:
        with rasterio.open(path, driver="GTiff", sharing=False) as dataset:
            if dataset.crs is None:
                raise ObservationsError(
                    f"{label} has no CRS. Set the right one with `gdal_edit.py -a_srs EPSG:...`."
                )
            if dataset.transform.is_identity or dataset.transform.is_degenerate:
                raise ObservationsError(
                    f"{label} is not georeferenced (ground control points are not used). Warp it "
                    "with gdalwarp first."
                )
            lacking = [band for band in bands if not 1 <= band <= dataset.count]
            if lacking:
                raise ObservationsError(
                    f"{label} has bands 1 to {dataset.count}, no band {lacking[0]}. Correct the "
                    "key `bands`."
                )
            _check_size(dataset, bands, path, label)
            if isinstance(path, Path):
                _check_complete(dataset, path, label)
            heights = None
            if described is None:
                check_unscaled(dataset, bands, label)
            else:
                unit = _vertical_unit(dataset.crs)
                heights = height_conversion(dataset, bands[0], unit, nodata, described, label)
                if isinstance(path, Path):
                    _check_heights(dataset, bands[0], nodata, heights, label)
            dtypes = {dataset.dtypes[band - 1] for band in bands}
            return RasterSource(
                path=path,
                bands=bands,
                nodata=nodata,
                shape=(dataset.height, dataset.width),
                crs_wkt=pyproj.CRS.from_user_input(dataset.crs).to_wkt(),
                affine=tuple(dataset.transform)[:6],
                dtype=" and ".join(sorted(dtypes)),
                stamp=Stamp.of(path) if isinstance(path, Path) else None,
                heights=heights,
                label=label,
            )
    except RasterioError as error:
        raise ObservationsError(
            f"{label} cannot be read as a GeoTIFF: {error}. It may be damaged or cut short; fetch "
            "it again."
        ) from error


def _vertical_unit(crs: Any) -> str:
    """Return the unit of height of a compound CRS; empty for other CRSs."""
    parts = pyproj.CRS.from_user_input(crs).sub_crs_list
    axes = [axis for part in parts if part.is_vertical for axis in part.axis_info]
    return axes[0].unit_name if axes else ""


def _check_heights(
    dataset: Any, band: int, nodata: float | None, heights: HeightConversion, label: str
) -> None:
    """Check the heights of some parts of a raster, before hours of reading."""
    numbers, data = [], []
    for top, left in product(_probe_starts(dataset.height), _probe_starts(dataset.width)):
        height, width = min(PROBE_SIDE, dataset.height - top), min(PROBE_SIDE, dataset.width - left)
        window = RasterWindow(left, top, width, height)
        try:
            values = dataset.read(band, window=window)
            mask = dataset.read_masks(band, window=window) > 0
        except RasterioError:
            continue  # a damaged block is counted as unreadable when patches are cut
        numbers.append(values.ravel())
        data.append((mask & has_value(values, nodata)).ravel())
    if numbers:
        heights.check(np.concatenate(numbers), np.concatenate(data), label)


def _probe_starts(size: int) -> list[int]:
    """Return where the probed parts along a side begin; they do not overlap."""
    if size <= PROBES_PER_SIDE * PROBE_SIDE:
        return list(range(0, size, PROBE_SIDE))
    starts: list[int] = np.linspace(0, size - PROBE_SIDE, PROBES_PER_SIDE).astype(int).tolist()
    return starts


def _check_size(dataset: Any, bands: tuple[int, ...], path: Path | str, label: str) -> None:
    """Refuse a file whose header claims more pixels than a file of its size holds.

    Of a file behind a URL only blocks are fetched, so only their size is checked.
    """
    sizes = [np.dtype(dataset.dtypes[band - 1]).itemsize for band in bands]
    claimed = dataset.height * dataset.width * sum(sizes)
    stored = path.stat().st_size if isinstance(path, Path) else claimed
    if claimed > SMALL_BYTES and claimed > MAX_COMPRESSION * stored:
        raise ObservationsError(
            f"{label} claims {dataset.height:,} x {dataset.width:,} pixels, {claimed:,} bytes, and "
            f"has {stored:,} bytes: no codec packs {MAX_COMPRESSION:,} to one. It is damaged, or "
            "made to do harm; fetch it again from where you trust it."
        )
    rows, cols = max(dataset.block_shapes)
    bands_per_block = dataset.count if dataset.interleaving == Interleaving.pixel else 1
    block = rows * cols * max(sizes) * bands_per_block
    if block > BLOCK_BYTES:
        raise ObservationsError(
            f"{label} is stored in blocks of {rows:,} x {cols:,} pixels, {block:,} bytes, each "
            f"read whole; at most {BLOCK_BYTES:,} are. Tile it: `gdal_translate -of COG`."
        )


def _check_complete(dataset: Any, path: Path, label: str) -> None:
    """Refuse a file that ends before one of its blocks does."""
    size = path.stat().st_size
    rows, cols = dataset.block_shapes[0]
    count = (-(-dataset.height // rows), -(-dataset.width // cols))
    blocks = count[0] * count[1]
    for number in np.unique(np.linspace(0, blocks - 1, min(blocks, CHECKED_BLOCKS)).astype(int)):
        name = f"{number % count[1]}_{number // count[1]}"
        offset = dataset.get_tag_item(f"BLOCK_OFFSET_{name}", "TIFF", bidx=1)
        length = dataset.get_tag_item(f"BLOCK_SIZE_{name}", "TIFF", bidx=1)
        if offset is not None and int(offset) + int(length or 0) > size:
            raise ObservationsError(
                f"{label} is cut short: a block ends at byte {int(offset) + int(length or 0)} and "
                f"the file has {size}. Fetch it again."
            )
