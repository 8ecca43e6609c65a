"""The MDAS benchmark: land use of every pixel in Augsburg, predicted from heights alone.

The folder is `Augsburg_data_4_publication`, or contains it:

    sub_area_1/3K_DSM_sub_area1.tif        heights in metres, about 0.3 m a pixel
    sub_area_1/osm_landuse_sub_area1.tif   OpenStreetMap's class codes, 7201 to 7219; at any depth
    sub_area_2/...   sub_area_3/...

Source: Hu et al. (2023), "MDAS", Earth Syst. Sci. Data 15, 113-131. The split and the metric of the
published score of 72.0 of a DSM probe are not known: here each area is tested with a probe trained
on the others, and the scores are accuracy, mean IoU and macro-F1.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from jaxtyping import Float32, UInt8
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import from_origin
from rasterio.warp import reproject

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.downstream.confusion import IGNORED, class_scores, overall_scores
from unigeo.producer.evaluation.downstream.inputs import encode_tokens
from unigeo.producer.evaluation.downstream.linear import (
    PIXELS,
    PixelSettings,
    fit_pixels,
    pixel_confusion,
)
from unigeo.producer.evaluation.downstream.result import BenchmarkResult
from unigeo.schemas.errors import ObservationsError

LAND_USE = {
    7201: "forest",
    7202: "park",
    7203: "residential",
    7204: "industrial",
    7205: "farm",
    7206: "cemetery",
    7207: "allotments",
    7208: "meadow",
    7209: "commercial",
    7210: "nature reserve",
    7211: "recreation ground",
    7212: "retail",
    7213: "military",
    7214: "quarry",
    7215: "orchard",
    7217: "scrub",
    7218: "grass",
    7219: "heath",
}
"""Geofabrik's codes of OpenStreetMap land use; pixels of any other value have no label."""
AREAS = ("sub_area_1", "sub_area_2", "sub_area_3")


def run_mdas(
    model: UniGeoCLIP,
    folder: Any,
    device: torch.device,
    *,
    resolution_m: float = 0.6,
    settings: PixelSettings = PIXELS,
) -> BenchmarkResult:
    """Probe the land use of every pixel by a linear layer on the patch tokens of the DSM encoder.

    Args:
        model: model with a DSM encoder.
        folder: folder of MDAS.
        device: device to encode and train on.
        resolution_m: pixel size of the DSM that the model was trained on.
        settings: settings for training the probe.

    Returns:
        `accuracy`, `miou` and `macro_f1` over the labelled pixels of all areas, each area predicted
        by a probe trained on the others.

    Raises:
        ObservationsError: if a file is missing, unreadable or without CRS, or there are fewer than
            two areas.
    """
    _, rows, cols = model.settings.shape("dsm")
    tiles = {
        name: _read_tiles(area, rows, cols, resolution_m)
        for name, area in _find_areas(Path(folder)).items()
    }
    present = [
        number
        for number in range(len(LAND_USE))
        if any((masks == number).any() for _, masks in tiles.values())
    ]
    data = {
        name: (encode_tokens(model, "dsm", heights, device), _renumbered(masks, present))
        for name, (heights, masks) in tiles.items()
    }
    confusion = np.zeros((len(present), len(present)), np.int64)
    for test_area in data:
        training = [part for name, part in data.items() if name != test_area]
        tokens = torch.cat([part[0] for part in training])
        masks = np.concatenate([part[1] for part in training])
        probe = fit_pixels(tokens, masks, len(present), device, settings)
        confusion += pixel_confusion(probe, *data[test_area], len(present), device)
    scores = overall_scores(confusion)
    names = list(LAND_USE.values())
    return BenchmarkResult(
        name="mdas",
        metrics={name: scores[name] for name in ("accuracy", "miou", "macro_f1")},
        table=class_scores(confusion, tuple(names[number] for number in present)),
        facts={"resolution_m": resolution_m, "settings": settings}
        | {f"{name} tiles": len(masks) for name, (_, masks) in data.items()},
    )


def _renumbered(
    masks: UInt8[np.ndarray, "tile row col"], present: list[int]
) -> UInt8[np.ndarray, "tile row col"]:
    """Number the classes that occur consecutively from 0."""
    # A lookup table over all byte values: indexing it by a mask renumbers every pixel.
    numbers = np.full(256, IGNORED, np.uint8)
    numbers[present] = np.arange(len(present))
    return np.asarray(numbers[masks])


def _find_areas(folder: Path) -> dict[str, Path]:
    root = folder / "Augsburg_data_4_publication"
    root = root if root.is_dir() else folder
    areas = {name: root / name for name in AREAS if (root / name).is_dir()}
    if len(areas) < 2:
        raise ObservationsError(
            f"{root} holds {', '.join(areas) or 'no sub-area'}; at least two of {', '.join(AREAS)} "
            f"are needed, each with 3K_DSM_*.tif and osm_landuse_*.tif."
        )
    return areas


def _read_tiles(
    area: Path, rows: int, cols: int, resolution_m: float
) -> tuple[Float32[np.ndarray, "tile 1 row col"], UInt8[np.ndarray, "tile row col"]]:
    """Read an area as tiles without overlap: heights, NaN where unknown, and class numbers.

    Tiles at the southern and eastern edges may extend beyond the area. Tiles without labelled
    pixels are omitted.
    """
    dsm, land_use = _find_raster(area, "3k_dsm"), _find_raster(area, "osm_landuse")
    try:
        with rasterio.open(dsm) as source:
            box, shrinks = source.bounds, source.res[0] < resolution_m
            corner = from_origin(box.left, box.top, resolution_m, resolution_m)
            grid = {"dst_crs": source.crs, "dst_transform": corner}
        tile_rows = math.ceil((box.top - box.bottom) / (rows * resolution_m))
        tile_cols = math.ceil((box.right - box.left) / (cols * resolution_m))
        shape = tile_rows * rows, tile_cols * cols
        # Averaging prevents aliasing where the grid is coarser than the raster.
        resampling = Resampling.average if shrinks else Resampling.bilinear
        heights = _reproject(dsm, grid, shape, resampling)
        codes = _reproject(land_use, grid, shape, Resampling.nearest)
    except RasterioError as error:
        raise ObservationsError(f"{area}: {error}. Download MDAS again.") from error
    masks = np.full(codes.shape, IGNORED, np.uint8)
    for number, code in enumerate(LAND_USE):
        masks[codes == code] = number
    masks = _split_into_tiles(masks, rows, cols)
    labelled = (masks != IGNORED).any(axis=(1, 2))
    dsm_tiles = _split_into_tiles(heights.astype(np.float32), rows, cols)
    return dsm_tiles[labelled][:, None], masks[labelled]


def _reproject(
    path: Path, grid: dict[str, Any], shape: tuple[int, int], resampling: Resampling
) -> Any:
    """Read a raster's first band on a grid; NaN outside the raster and where it has no data."""
    values = np.full(shape, np.nan)
    with rasterio.open(path) as source:
        if source.crs is None:
            raise ObservationsError(f"{path} has no CRS. Download MDAS again.")
        is_integer = np.issubdtype(np.dtype(source.dtypes[0]), np.integer)
        # Without a declared nodata value, a floating-point raster marks missing pixels by NaN.
        nodata = np.nan if source.nodata is None and not is_integer else source.nodata
        reproject(
            rasterio.band(source, 1),
            values,
            src_nodata=nodata,
            resampling=resampling,
            init_dest_nodata=False,  # keep the NaN of pixels that the raster does not cover
            **grid,
        )
    return values


def _split_into_tiles(values: np.ndarray, rows: int, cols: int) -> Any:
    """Reshape an array (y, x) to (tile, rows, cols)."""
    height, width = values.shape
    blocks = values.reshape(height // rows, rows, width // cols, cols)
    return blocks.swapaxes(1, 2).reshape(-1, rows, cols)


def _find_raster(area: Path, start: str) -> Path:
    paths = [path for path in sorted(area.rglob("*.tif")) if path.name.lower().startswith(start)]
    if len(paths) != 1:
        raise ObservationsError(
            f"{area} must hold one file {start}_*.tif, at any depth, but holds {len(paths)}: "
            f"{', '.join(path.name for path in paths)}. Download MDAS again."
        )
    return paths[0]
