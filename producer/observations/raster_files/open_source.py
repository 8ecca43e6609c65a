"""Opening of a raster file as a source of patches: all that is checked once, before it is read."""

from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from unigeo.producer.observations.file_contents import Stamp
from unigeo.producer.observations.raster_files.array_files import open_array
from unigeo.producer.observations.raster_files.band_facts import BandFacts, MeaningError, Stated
from unigeo.producer.observations.raster_files.band_meaning import (
    BandMeaning,
    band_meaning,
    check_bands,
    vertical_unit,
)
from unigeo.producer.observations.raster_files.decimated_pixels import DamagedPixelsError
from unigeo.producer.observations.raster_files.file_checks import check_complete, check_size
from unigeo.producer.observations.raster_files.formats import ARRAYS, VRT, format_of
from unigeo.producer.observations.raster_files.gdal_files import (
    WORLD_FILE_FORMATS,
    check_sidecars,
    declared_crs,
    open_dataset,
    read_virtual_raster,
    sidecars,
    unreadable,
)
from unigeo.producer.observations.raster_files.height_values import HeightDescription
from unigeo.producer.observations.raster_files.raster_addresses import gdal_settings
from unigeo.producer.observations.raster_files.raster_pixels import open_pixels
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.schemas.errors import ObservationsError

PROBE_SIDE = 128
"""Side, in pixels, of the parts of a surface model whose heights are checked at opening."""
PROBES_PER_SIDE = 5
"""Number of those parts along each side; they cover all of a raster of 640 pixels."""
COLOURS = ("red", "green", "blue")
"""Bands of a file with a palette."""


def open_source(
    path: Path | str,
    bands: tuple[int, ...],
    nodata: float | None,
    label: str,
    described: HeightDescription | None = None,
    stated: Stated | None = None,
) -> RasterSource:
    """Check a raster file and collect what is needed to read it.

    Args:
        path: a file or a Zarr store, or the address of one.
        bands: bands to read, counted from 1.
        nodata: nodata value, where the file does not declare it.
        label: name of the file in error messages, with the table that lists it.
        described: the description of a surface model; None for an image or classes.
        stated: what else the observations state.

    Raises:
        ObservationsError: the file is missing, truncated, of another format, not georeferenced, or
            without one of the bands.
        MeaningError: (an ObservationsError) the numbers of a surface model are no heights, or those
            of classes no codes.
    """
    stated = stated or Stated()
    if described is not None:
        stated = replace(stated, encoder="surface")
    if isinstance(path, Path) and not path.exists():
        raise ObservationsError(f"{label}: no such file. Looked for it at {path}.")
    form = format_of(path, label)
    reader = open_array if form in ARRAYS else _open_by_gdal
    source = reader(path, form, bands, nodata, label, described, stated)
    if source.heights is not None and isinstance(path, Path):
        _check_heights(source)
    return source


def _open_by_gdal(
    path: Path | str,
    form: str,
    bands: tuple[int, ...],
    nodata: float | None,
    label: str,
    described: HeightDescription | None,
    stated: Stated,
) -> RasterSource:
    """Check a file that GDAL reads."""
    text = ""
    parts: tuple[Path, ...] = ()
    if form == VRT:
        assert isinstance(path, Path)
        read = read_virtual_raster(path, stated, label)
        text, parts = read.text, tuple(file for file in read.files if isinstance(file, Path))
    try:
        with gdal_settings(path, form), open_dataset(path, form, text) as dataset:
            if isinstance(path, Path):
                check_sidecars(dataset, path, stated.root, label)
            if dataset.transform.is_identity or dataset.transform.is_degenerate:
                raise ObservationsError(
                    f"{label} is not georeferenced: it has no transform and no world file (ground "
                    "control points are not used). Warp it with gdalwarp first."
                )
            crs = declared_crs(dataset, path, stated, label)
            if form in WORLD_FILE_FORMATS and isinstance(path, Path):
                parts = tuple(sidecars(dataset, path))
            facts = BandFacts.of(dataset)
            shape, affine = (dataset.height, dataset.width), tuple(dataset.transform)[:6]
            palette = _palette(dataset, bands, stated, label)
            if not palette:
                check_bands(facts, bands, label)
            check_size(dataset, (1,) if palette else bands, path, form, label)
            if form == "GTiff" and isinstance(path, Path):
                check_complete(dataset, path, label)
    except RasterioError as error:
        raise unreadable(label, error) from error
    if palette:
        meaning = BandMeaning("uint8", names=tuple(COLOURS[band - 1] for band in bands))
    else:
        meaning = band_meaning(facts, bands, nodata, vertical_unit(crs), described, stated, label)
    return RasterSource(
        path=path,
        bands=bands,
        nodata=nodata,
        shape=shape,
        crs_wkt=crs.to_wkt(),
        affine=affine,
        stamp=Stamp.of(path) if isinstance(path, Path) else None,
        label=label,
        encoder=stated.encoder,
        form=form,
        palette=palette,
        text=text,
        parts=tuple((part, Stamp.of(part)) for part in parts),
        dtype=meaning.dtype,
        heights=meaning.heights,
        scales=meaning.scales,
        band_names=stated.band_names or meaning.names,
        band_units=meaning.units,
    )


def _palette(dataset: Any, bands: tuple[int, ...], stated: Stated, label: str) -> bytes:
    """Return red, green, blue and alpha of each code of an image with a palette; empty without one.

    Raises:
        MeaningError: the bands are not those of colours.
    """
    if stated.encoder != "image" or ColorInterp.palette not in dataset.colorinterp:
        return b""
    if dataset.count > 1 or not set(bands) <= {1, 2, 3} or len(bands) != 3:
        raise MeaningError(
            f"{label} has a palette, so its bands are 1, 2 and 3: red, green and blue. Declare "
            f'`bands = [1, 2, 3]` in table [{stated.table}], or `encoder = "classes"` if its codes '
            "are classes."
        )
    if dataset.dtypes[0] not in ("uint8", "uint16"):
        raise MeaningError(
            f"{label} has a palette of {dataset.dtypes[0]}, and codes of a palette are uint8 or "
            "uint16. Convert it with `gdal_translate -ot Byte`."
        )
    colours = np.zeros((2 ** (8 * np.dtype(dataset.dtypes[0]).itemsize), 4), np.uint8)
    for code, rgba in dataset.colormap(1).items():
        colours[code] = rgba
    return colours.tobytes()


def _check_heights(source: RasterSource) -> None:
    """Check the heights of some parts of a raster, before hours of reading."""
    assert source.heights is not None
    numbers, data = [], []
    with closing(open_pixels(source)) as pixels:
        for top, left in product(*map(_probe_starts, source.shape)):
            height = min(PROBE_SIDE, source.shape[0] - top)
            width = min(PROBE_SIDE, source.shape[1] - left)
            try:
                values, known = pixels.raw(RasterWindow(left, top, width, height))
            except DamagedPixelsError:
                continue  # a damaged block is counted as unreadable when patches are cut
            numbers.append(values.ravel())
            data.append(known.ravel())
    if numbers:
        source.heights.check(np.concatenate(numbers), np.concatenate(data), source.label)


def _probe_starts(size: int) -> list[int]:
    """Return where the probed parts along a side begin; they do not overlap.

    They begin at multiples of their side, so that each lies in one block of a tiled raster.
    """
    if size <= PROBES_PER_SIDE * PROBE_SIDE:
        return list(range(0, size, PROBE_SIDE))
    starts = np.linspace(0, size - PROBE_SIDE, PROBES_PER_SIDE).astype(int)
    return (starts // PROBE_SIDE * PROBE_SIDE).tolist()
