"""MDAS by the DSM tower: land use of Augsburg's pixels, read from heights alone.

The folder is `Augsburg_data_4_publication`, or holds it:

    sub_area_1/3K_DSM_sub_area1.tif        heights in metres, about 0.3 m a pixel
    sub_area_1/osm_landuse_sub_area1.tif   OpenStreetMap's class codes, 7201 to 7219; at any depth
    sub_area_2/...   sub_area_3/...

Source: Hu et al. (2023), "MDAS", Earth Syst. Sci. Data 15, 113-131. Which split and metric stand
behind the published 72.0 of a DSM probe is not known: here each area is tested by a probe of the
others, and accuracy, mean IoU and macro-F1 are all given.
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
from unigeo.producer.evaluation.downstream.inputs import tokens_of
from unigeo.producer.evaluation.downstream.linear import (
    PIXELS,
    PixelSettings,
    confusion_of,
    fit_pixels,
)
from unigeo.producer.evaluation.downstream.result import Result
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
"""Geofabrik's codes of OpenStreetMap land use; every other value is no label."""
AREAS = ("sub_area_1", "sub_area_2", "sub_area_3")


def run_mdas(
    model: UniGeoCLIP,
    folder: Any,
    device: torch.device,
    *,
    resolution_m: float = 0.6,
    settings: PixelSettings = PIXELS,
) -> Result:
    """Probe the land use of every pixel: a linear layer on the DSM tower's patch tokens.

    Args:
        model: with a DSM tower.
        folder: of MDAS.
        device: to encode and train on.
        resolution_m: ground size of a DSM pixel that the model was trained on.
        settings: of the probe's training.

    Returns:
        `accuracy`, `miou` and `macro_f1` over the labelled pixels of all areas, each area predicted
        by a probe that was trained on the other ones.

    Raises:
        ObservationsError: if a file is missing, unreadable or without CRS, or there is one area.
    """
    _, rows, cols = model.settings.shape("dsm")
    tiles = {
        name: _tiles(area, rows, cols, resolution_m) for name, area in _areas(Path(folder)).items()
    }
    present = [
        number
        for number in range(len(LAND_USE))
        if any((masks == number).any() for _, masks in tiles.values())
    ]
    data = {
        name: (tokens_of(model, "dsm", heights, device), _renumbered(masks, present))
        for name, (heights, masks) in tiles.items()
    }
    confusion = np.zeros((len(present), len(present)), np.int64)
    for held in data:
        others = [part for name, part in data.items() if name != held]
        tokens = torch.cat([part[0] for part in others])
        masks = np.concatenate([part[1] for part in others])
        probe = fit_pixels(tokens, masks, len(present), device, settings)
        confusion += confusion_of(probe, *data[held], len(present), device)
    scores = overall_scores(confusion)
    names = list(LAND_USE.values())
    return Result(
        name="mdas",
        metrics={name: scores[name] for name in ("accuracy", "miou", "macro_f1")},
        table=class_scores(confusion, tuple(names[number] for number in present)),
        facts={"resolution_m": resolution_m, "settings": settings}
        | {f"{name} tiles": len(masks) for name, (_, masks) in data.items()},
    )


def _renumbered(
    masks: UInt8[np.ndarray, "tile row col"], present: list[int]
) -> UInt8[np.ndarray, "tile row col"]:
    """Number the classes that occur from 0."""
    numbers = np.full(256, IGNORED, np.uint8)
    numbers[present] = np.arange(len(present))
    return np.asarray(numbers[masks])


def _areas(folder: Path) -> dict[str, Path]:
    root = folder / "Augsburg_data_4_publication"
    root = root if root.is_dir() else folder
    found = {name: root / name for name in AREAS if (root / name).is_dir()}
    if len(found) < 2:
        raise ObservationsError(
            f"{root} holds {', '.join(found) or 'no sub-area'}; at least two of {', '.join(AREAS)} "
            f"are needed, each with 3K_DSM_*.tif and osm_landuse_*.tif."
        )
    return found


def _tiles(
    area: Path, rows: int, cols: int, resolution_m: float
) -> tuple[Float32[np.ndarray, "tile 1 row col"], UInt8[np.ndarray, "tile row col"]]:
    """Cut an area into tiles without overlap: heights, NaN where unknown, and class numbers.

    Tiles at the far edges reach over it; tiles without a label are left out.
    """
    dsm, labels = _file(area, "3k_dsm"), _file(area, "osm_landuse")
    try:
        with rasterio.open(dsm) as source:
            box, shrinks = source.bounds, source.res[0] < resolution_m
            corner = from_origin(box.left, box.top, resolution_m, resolution_m)
            grid = {"dst_crs": source.crs, "dst_transform": corner}
        down = math.ceil((box.top - box.bottom) / (rows * resolution_m))
        across = math.ceil((box.right - box.left) / (cols * resolution_m))
        shape = down * rows, across * cols
        how = Resampling.average if shrinks else Resampling.bilinear
        heights = _on_grid(dsm, grid, shape, how)
        codes = _on_grid(labels, grid, shape, Resampling.nearest)
    except RasterioError as error:
        raise ObservationsError(f"{area}: {error}. Download MDAS again.") from error
    masks = np.full(codes.shape, IGNORED, np.uint8)
    for number, code in enumerate(LAND_USE):
        masks[codes == code] = number
    masks = _cut(masks, rows, cols)
    labelled = (masks != IGNORED).any(axis=(1, 2))
    return _cut(heights.astype(np.float32), rows, cols)[labelled][:, None], masks[labelled]


def _on_grid(path: Path, grid: dict[str, Any], shape: tuple[int, int], how: Resampling) -> Any:
    """Read a raster's first band on a grid; NaN off the raster and where it has no data."""
    values = np.full(shape, np.nan)
    with rasterio.open(path) as source:
        if source.crs is None:
            raise ObservationsError(f"{path} has no CRS. Download MDAS again.")
        whole = np.issubdtype(np.dtype(source.dtypes[0]), np.integer)
        nodata = np.nan if source.nodata is None and not whole else source.nodata
        reproject(
            rasterio.band(source, 1),
            values,
            src_nodata=nodata,
            resampling=how,
            init_dest_nodata=False,  # what is not seen stays NaN
            **grid,
        )
    return values


def _cut(values: np.ndarray, rows: int, cols: int) -> Any:
    """Cut (y, x) into (tile, rows, cols)."""
    tall, wide = values.shape
    blocks = values.reshape(tall // rows, rows, wide // cols, cols)
    return blocks.swapaxes(1, 2).reshape(-1, rows, cols)


def _file(area: Path, start: str) -> Path:
    found = [path for path in sorted(area.rglob("*.tif")) if path.name.lower().startswith(start)]
    if len(found) != 1:
        raise ObservationsError(
            f"{area} must hold one file {start}_*.tif, at any depth, but holds {len(found)}: "
            f"{', '.join(path.name for path in found)}. Download MDAS again."
        )
    return found[0]
