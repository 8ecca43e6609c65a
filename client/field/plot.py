"""A field's picture in a notebook: matplotlib's Axes, or a PNG where it is not installed."""

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from unigeo.client.field.preview import draw_panel, principal_colours, stored_colours

if TYPE_CHECKING:
    from unigeo.client.field.field import Field

_LEAST_PIXELS = 600
"""Length of the longer side, up to which pixels are repeated to be seen."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Picture:
    """Red, green and blue of each cell; a notebook shows it as PNG."""

    def __init__(self, rgb: UInt8[np.ndarray, "row col 3"], title: str) -> None:
        self.rgb = rgb
        self.title = title

    def __repr__(self) -> str:
        rows, cols, _ = self.rgb.shape
        return f"Picture({self.title}: {rows} x {cols} pixels; axes need matplotlib)"

    def _repr_png_(self) -> bytes:
        repeats = max(1, _LEAST_PIXELS // max(self.rgb.shape))
        return png_of(self.rgb.repeat(repeats, axis=0).repeat(repeats, axis=1))


def plot_field(field: "Field", modality: str, axes: Any = None) -> Any:
    """Draw one modality; see `Field.plot`.

    Raises:
        LayoutError: if no cell has a vector.
    """
    panels, extent_km = stored_colours(field, modality) or principal_colours(field, modality)
    try:
        from matplotlib import pyplot
    except ImportError:
        return Picture(_bytes_of(panels[0]), f"{field.attributes.region}: {modality}")
    if axes is None:
        _, axes = pyplot.subplots(layout="constrained")
    draw_panel(axes, field, modality, panels[0], extent_km)
    return axes


def _bytes_of(rgb: Float[np.ndarray, "row col 3"]) -> UInt8[np.ndarray, "row col 3"]:
    return np.rint(255 * rgb).astype(np.uint8)


def png_of(rgb: UInt8[np.ndarray, "row col 3"]) -> bytes:
    """Return an image as PNG.

    Source: W3C, "Portable Network Graphics (PNG) Specification", third edition.
    """
    rows, cols, _ = rgb.shape
    lines = np.zeros((rows, 1 + 3 * cols), np.uint8)  # each line begins with its filter, none
    lines[:, 1:] = rgb.reshape(rows, -1)
    header = struct.pack(">IIBBBBB", cols, rows, 8, 2, 0, 0, 0)  # 8 bits of red, green and blue
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return _PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
