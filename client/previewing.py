"""A field as maps: its main directions, three at a time, as red, green and blue.

Cells that look alike have alike vectors. The first three directions hold climate and
terrain, the next three what is rarer, such as cities. The colours are relative to the field: the
directions are fitted to it, and each colour is stretched between the 1st and the 99th percentile.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import LayoutError, MissingExtraError, StoreError
from unigeo.schemas.quantization import FILL, dequantize

if TYPE_CHECKING:
    from unigeo.client.field import Field

_MOST_CELLS = 1_500  # along the longer side of the picture
_NO_DATA = (0.93, 0.93, 0.93)
_PANELS = 2


def draw_previews(field: "Field", folder: Path | str, modalities: tuple[str, ...]) -> list[Path]:
    """Draw each modality as a PNG named for it.

    Raises:
        MissingExtraError: if matplotlib is not installed.
        StoreError: if the folder cannot be written.
        LayoutError: if a modality has no vector at all.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("previews need matplotlib: pip install 'unigeo[plot]'") from error
    folder = Path(folder)
    drawn = []
    for modality in modalities:
        panels, extent_km = principal_colours(field, modality)
        height = 9.0 * panels.shape[1] / panels.shape[2]
        figure = Figure(figsize=(9.0, len(panels) * (height + 0.6)), layout="constrained")
        FigureCanvasAgg(figure)
        for k, rgb in enumerate(panels):
            axes = figure.add_subplot(len(panels), 1, k + 1)
            axes.imshow(rgb, extent=extent_km, interpolation="nearest")
            axes.set_title(
                f"{field.attributes.region}: {modality} vectors, "
                f"{field.grid.resolution_m / 1000:g} km cells, "
                f"main directions {3 * k + 1} to {3 * k + 3} as colours",
                fontsize=10,
            )
            axes.set_xlabel(f"easting, km ({field.grid.crs})")
            axes.set_ylabel("northing, km")
        path = folder / f"{modality}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=130)
        except OSError as error:
            raise StoreError(f"cannot write the preview {path}: {error}") from error
        drawn.append(path)
    return drawn


def principal_colours(
    field: "Field", modality: str
) -> tuple[Float[np.ndarray, "panel row col 3"], tuple[float, float, float, float]]:
    """Red, green and blue of every cell in each panel, cropped to the cells that have a vector.

    Large fields are thinned to every n-th cell. Each shard is read once.

    Returns:
        Colours from 0 to 1, and the picture's west, east, south and north edge in kilometres.
    """
    step = max(1, -(-max(field.grid.shape) // _MOST_CELLS))
    stored = _thinned(field, modality, step)
    valid = stored[..., 0] != FILL
    if not valid.any():
        raise LayoutError(f"no cell of the field has a {modality} vector yet")
    rows, cols = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, cols[0], cols[-1] + 1
    stored, valid = stored[top:bottom, left:right], valid[top:bottom, left:right]
    vectors = dequantize(stored[valid]).astype(np.float64)
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    panels = max(1, min(_PANELS, field.bands // 3))
    axes = axes[:, ::-1][:, : 3 * panels]
    axes = axes * np.where(axes.sum(axis=0) < 0, -1, 1)  # a direction's sign is free: fix it
    scores = centred @ axes
    low, high = np.percentile(scores, [1, 99], axis=0)
    rgb = np.broadcast_to(np.array(_NO_DATA), (panels, *valid.shape, 3)).copy()
    span = np.where(high > low, high - low, 1.0)
    colours = np.clip((scores - low) / span, 0, 1)
    for panel, at in enumerate(np.split(colours, range(3, 3 * panels, 3), axis=1)):
        rgb[panel][valid, : at.shape[1]] = at
    size, (west, _, _, north) = field.grid.resolution_m * step / 1000, field.grid.bounds
    west, north = west / 1000 + left * size, north / 1000 - top * size
    extent = (west, west + size * valid.shape[1], north - size * valid.shape[0], north)
    return rgb, extent


def _thinned(field: "Field", modality: str, step: int) -> np.ndarray:
    """Every n-th cell's vector as stored, read shard by shard."""
    shape = tuple(-(-side // step) for side in field.grid.shape)
    thin = np.full((*shape, field.bands), FILL, np.int8)
    for window in field.grid.windows(field.layout.shard):
        rows, cols = window.slices
        first_row, first_col = -(-rows.start // step), -(-cols.start // step)
        part = field.read(modality, rows, cols)[
            first_row * step - rows.start :: step, first_col * step - cols.start :: step
        ]
        thin[first_row : first_row + part.shape[0], first_col : first_col + part.shape[1]] = part
    return thin
