"""Image files of a folder, each with the location at which it was taken."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps

from unigeo.producer.observations.folder.location_tables import LocationTable
from unigeo.schemas.errors import ObservationsError

CHECKED = 1000
"""Largest number of images whose header is checked at opening."""


@dataclass(frozen=True, eq=False)
class LocatedImages:
    """Image files and their locations; `open_images` makes one."""

    paths: tuple[Path, ...]
    locations: LocationTable
    """One row per file."""
    size: int
    """Rows and columns of the images returned."""

    def read(self, row: int) -> UInt8[np.ndarray, "3 row col"] | None:
        """Read one image, its central square scaled to `size`; None if it is damaged."""
        try:
            with Image.open(self.paths[row]) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
                square = ImageOps.fit(upright, (self.size, self.size), Image.Resampling.LANCZOS)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None
        return np.moveaxis(np.asarray(square), 2, 0).copy()


def open_images(
    folder: Path, names: list[str], locations: LocationTable, size: int, label: str
) -> LocatedImages:
    """Check that the files exist and are images.

    Args:
        folder: folder that the names are relative to.
        names: one file name per row of `locations`.
        locations: where the images were taken.
        size: rows and columns to scale them to.
        label: name of the table in error messages.

    Raises:
        ObservationsError: a file is missing, outside the folder, or not an image.
    """
    root = folder.resolve()
    paths = tuple((folder / name).resolve() for name in names)
    for row, path in enumerate(paths):
        if not path.is_relative_to(root):
            raise ObservationsError(
                f"{label}, row {row}: {names[row]!r} is outside the folder {folder}."
            )
        if not path.is_file():
            raise ObservationsError(
                f"{label}, row {row}: there is no photograph {names[row]!r} in {folder}. Drop the "
                "row or fetch the file."
            )
    for row in _rows_to_check(len(paths)):
        try:
            with Image.open(paths[row]) as image:
                image.verify()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ObservationsError(
                f"{label}, row {row}: {names[row]!r} is not a readable image ({error}). Drop the "
                "row or fetch the file again."
            ) from error
    return LocatedImages(paths, locations, size)


def _rows_to_check(count: int) -> Int[np.ndarray, " row"]:
    return np.unique(np.linspace(0, count - 1, min(count, CHECKED)).astype(np.int64))
