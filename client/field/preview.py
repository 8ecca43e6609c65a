"""Draws a field as maps: three principal components at a time, as red, green and blue.

Cells with similar vectors have similar colours. A published field holds such images (see
`schemas.store.preview`), which are drawn if they exist. Otherwise they are computed here: the first
three components hold climate and terrain, the next three what is rarer, such as cities. Colours are
relative to the field: the components are fitted to it, and each colour is stretched between the 1st
and the 99th percentile.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.progress import with_progress
from unigeo.schemas.errors import LayoutError, MissingExtraError, StoreError
from unigeo.schemas.io.addresses import check_destination
from unigeo.schemas.io.atomic_files import file_beside
from unigeo.schemas.io.limits import check_memory
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.preview import GROUP as PREVIEW
from unigeo.schemas.store.quantization import FILL, dequantize

if TYPE_CHECKING:
    from unigeo.client.field.field import Field

_MOST_CELLS = 1_500
"""Cells along the longer side of an image."""
_NO_DATA = (0.93, 0.93, 0.93)
"""Colour of cells without a vector."""
_PANELS = 2
"""Images below each other, of three components each."""


def draw_previews(field: "Field", folder: Path | str, modalities: tuple[str, ...]) -> list[Path]:
    """Draw each modality as a PNG with its name.

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
    check_destination(folder / "image.png", str(folder), makes_folders=True)
    paths = []
    for modality in modalities:
        panels, extent_km = stored_colours(field, modality) or principal_colours(field, modality)
        height = 9.0 * panels.shape[1] / panels.shape[2]
        figure = Figure(figsize=(9.0, len(panels) * (height + 0.6)), layout="constrained")
        FigureCanvasAgg(figure)
        for k, rgb in enumerate(panels):
            axes = figure.add_subplot(len(panels), 1, k + 1)
            draw_panel(axes, field, modality, rgb, extent_km, first=3 * k + 1)
        path = folder / f"{modality}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with file_beside(path) as part:
                figure.savefig(part, dpi=130, format="png")
        except OSError as error:
            raise StoreError(f"cannot write the preview {path}: {error}") from error
        paths.append(path)
    return paths


def draw_panel(
    axes: Any,
    field: "Field",
    modality: str,
    rgb: Float[np.ndarray, "row col 3"],
    extent_km: tuple[float, float, float, float],
    first: int = 1,
) -> None:
    """Draw an image with its title and its eastings and northings.

    Args:
        axes: of matplotlib.
        field: the field.
        modality: whose vectors are drawn.
        rgb: colours from 0 to 1.
        extent_km: the image's west, east, south and north edge.
        first: number of the main direction that is red.
    """
    axes.imshow(rgb, extent=extent_km, interpolation="nearest")
    axes.set_title(
        f"{field.attributes.region}: {modality} vectors, "
        f"{field.grid.resolution_m / 1000:g} km cells, "
        f"main directions {first} to {first + 2} as colours",
        fontsize=10,
    )
    axes.set_xlabel(f"easting, km ({field.grid.crs})")
    axes.set_ylabel("northing, km")


def stored_colours(
    field: "Field", modality: str
) -> tuple[Float[np.ndarray, "panel row col 3"], tuple[float, float, float, float]] | None:
    """Read one panel from the finest level of the store's preview that is small enough.

    Returns:
        As `principal_colours`; None if the store holds no image of the modality.
    """
    import zarr

    if field.checked is None or field.attributes.state != "published":
        return None
    root = open_group(field.url, store=field.checked())
    layout: Any = dict(root[PREVIEW].attrs).get("multiscales") if PREVIEW in root else None
    assets = [level["asset"] for level in layout["layout"]] if layout else []
    levels = [root.get(f"{PREVIEW}/{asset}/{modality}") for asset in assets]
    images = [level for level in levels if isinstance(level, zarr.Array) and level.ndim == 3]
    if not images:
        return None
    small = [image for image in images if max(image.shape) <= _MOST_CELLS]
    image = small[0] if small else images[-1]
    check_memory(image, field.url)
    rgb = np.moveaxis(np.asarray(image[...]), 0, 2)
    shown = rgb.any(axis=2)  # black stands for no data
    if not shown.any():
        return None
    top, bottom, left, right = _bounds(shown)
    rgb, shown = rgb[top:bottom, left:right], shown[top:bottom, left:right]
    colours = np.where(shown[..., None], rgb / 255, np.array(_NO_DATA))
    transform: Any = image.attrs["spatial:transform"]
    size, _, west, _, _, north = map(float, transform)  # metres, to kilometres
    west, north, size = (
        west / 1000 + left * size / 1000,
        north / 1000 - top * size / 1000,
        size / 1000,
    )
    extent = (west, west + size * shown.shape[1], north - size * shown.shape[0], north)
    return colours[None], extent


def _bounds(shown: np.ndarray) -> tuple[int, int, int, int]:
    """Return the rows (first, end) and columns (first, end) that hold all true pixels."""
    rows, cols = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1


def principal_colours(
    field: "Field", modality: str
) -> tuple[Float[np.ndarray, "panel row col 3"], tuple[float, float, float, float]]:
    """Compute the colour of every cell in each panel, cropped to the cells that have a vector.

    Of large fields every n-th cell is used. Each shard is read once.

    Returns:
        Colours from 0 to 1, and the image's west, east, south and north edge in kilometres.

    Raises:
        LayoutError: if no cell has a vector.
    """
    step = max(1, -(-max(field.grid.shape) // _MOST_CELLS))
    stored = _read_every(field, modality, step)
    valid = stored[..., 0] != FILL
    if not valid.any():
        raise LayoutError(f"no cell of the field has a {modality} vector yet")
    top, bottom, left, right = _bounds(valid)
    stored, valid = stored[top:bottom, left:right], valid[top:bottom, left:right]
    vectors = dequantize(stored[valid]).astype(np.float64)
    # Principal components: eigenvectors of the covariance, the largest eigenvalue last.
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    panels = max(1, min(_PANELS, field.layout.width(modality) // 3))
    axes = axes[:, ::-1][:, : 3 * panels]
    axes = axes * np.where(axes.sum(axis=0) < 0, -1, 1)  # the sign is arbitrary: fix it
    scores = centred @ axes
    low, high = np.percentile(scores, [1, 99], axis=0)
    rgb = np.broadcast_to(np.array(_NO_DATA), (panels, *valid.shape, 3)).copy()
    span = np.where(high > low, high - low, 1.0)
    colours = np.clip((scores - low) / span, 0, 1)
    for panel, three in enumerate(np.split(colours, range(3, 3 * panels, 3), axis=1)):
        rgb[panel][valid, : three.shape[1]] = three
    size, (west, _, _, north) = field.grid.resolution_m * step / 1000, field.grid.bounds
    west, north = west / 1000 + left * size, north / 1000 - top * size
    extent = (west, west + size * valid.shape[1], north - size * valid.shape[0], north)
    return rgb, extent


def _read_every(field: "Field", modality: str, step: int) -> np.ndarray:
    """Read every `step`-th cell's vector along both axes as stored, shard by shard."""
    shape = tuple(-(-side // step) for side in field.grid.shape)
    thin = np.full((*shape, field.layout.width(modality)), FILL, np.int8)
    windows = list(field.grid.windows(field.layout.shard))
    for window in with_progress(windows, modality, "shards", show=False):
        rows, cols = window.slices
        # The first multiple of `step` in the window, counted from the field's corner.
        first_row, first_col = -(-rows.start // step), -(-cols.start // step)
        part = field.read(modality, rows, cols)[
            first_row * step - rows.start :: step, first_col * step - cols.start :: step
        ]
        thin[first_row : first_row + part.shape[0], first_col : first_col + part.shape[1]] = part
    return thin
