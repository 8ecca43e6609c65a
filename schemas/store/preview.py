"""The group `preview`: each modality as an image, at full resolution and coarser by powers of two.

`preview/1` has a pixel per cell, `preview/2` one per two by two cells, and so on. Each is a group
of plain arrays (rgb, y, x), uint8, one per modality, 0 where there is no vector, and of their
coordinates, including `rgb`. They are neither sharded nor compressed, so that GDAL 3.12, QGIS and
browsers read them. Red, green and blue are the vectors' three main directions. Beside the levels,
each modality has `A_axes` (rgb, the modality's bands) and `A_stretch` (rgb, 2): the colour of a
unit vector v is 1 + 254 (axes v - low) / (high - low), clipped to 1 and 255, and rounded.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.layout import Layout

GROUP = "preview"
COLOUR = "rgb"
"""Name of the dimension of red, green and blue, and of its coordinate."""
NO_COLOUR = 0
"""Value of a pixel without a vector."""
COLOURS = 254
"""Steps between the darkest and the brightest value, 1 and 255."""


def preview_factors(grid: Grid, layout: Layout) -> tuple[int, ...]:
    """Return the side of a pixel of each level, in cells; the last level fits into one chunk.

    >>> grid = Grid("EPSG:8858", 1000, 0, 0, (1024, 2048))
    >>> preview_factors(grid, Layout(modalities=("aerial",), bands=8))
    (1, 2, 4, 8)
    """
    factors = [1]
    while max(grid.shape) > factors[-1] * layout.shard and layout.shard % (2 * factors[-1]) == 0:
        factors.append(2 * factors[-1])
    return tuple(factors)


def preview_path(factor: int) -> str:
    """Return the path of a level in the store."""
    return f"{GROUP}/{factor}"


def colour_attributes() -> dict[str, Any]:
    """Return the attributes of the coordinate of red, green and blue, which is 0, 1 and 2."""
    return {"long_name": "colour", "flag_values": [0, 1, 2], "flag_meanings": "red green blue"}


def axes_name(modality: str) -> str:
    """Return the name of the array of the directions of red, green and blue."""
    return f"{modality}_axes"


def stretch_name(modality: str) -> str:
    """Return the name of the array of the scores that are darkest and brightest."""
    return f"{modality}_stretch"


def colour(
    scores: Float[np.ndarray, "*cell 3"], stretch: Float[np.ndarray, "3 2"]
) -> UInt8[np.ndarray, "*cell 3"]:
    """Return red, green and blue, 1 to 255, of scores along the axes.

    >>> colour(np.array([[-9.0, 0.5, 9.0]]), np.array([[0.0, 1.0]] * 3))
    array([[  1, 128, 255]], dtype=uint8)
    """
    low, high = stretch[:, 0], stretch[:, 1]
    span = np.where(high > low, high - low, 1.0)  # where all scores are equal
    return np.asarray(1 + np.rint(COLOURS * np.clip((scores - low) / span, 0, 1)), np.uint8)
