"""Photographs taken at places: the nearest one stands for a place."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps

from unigeo.producer.observations.folder.location_tables import LocationTable
from unigeo.schemas.errors import ObservationsError

CHECKED = 1000
"""Photographs, at most, whose header is read at opening."""


@dataclass(frozen=True, eq=False)
class StreetImages:
    """Image files with a place each."""

    paths: tuple[Path, ...]
    places: LocationTable
    """One row per file."""
    size: int
    """Rows and columns of what is returned."""

    def read(self, row: int) -> UInt8[np.ndarray, "3 row col"] | None:
        """Read one photograph, its middle square scaled to the size; None if it is damaged."""
        try:
            with Image.open(self.paths[row]) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
                square = ImageOps.fit(upright, (self.size, self.size), Image.Resampling.LANCZOS)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None
        return np.moveaxis(np.asarray(square), 2, 0).copy()


def open_street_images(
    folder: Path, names: list[str], places: LocationTable, size: int, shown: str
) -> StreetImages:
    """Check that the photographs are there and are images.

    Args:
        folder: that the names are relative to.
        names: one per row of `places`.
        places: where they were taken.
        size: rows and columns to scale them to.
        shown: how errors name the table.

    Raises:
        ObservationsError: a file is missing, outside the folder, or not an image.
    """
    root = folder.resolve()
    paths = tuple((folder / name).resolve() for name in names)
    for row, path in enumerate(paths):
        if not path.is_relative_to(root):
            raise ObservationsError(
                f"{shown}, row {row}: {names[row]!r} is outside the folder {folder}."
            )
        if not path.is_file():
            raise ObservationsError(
                f"{shown}, row {row}: there is no photograph {names[row]!r} in {folder}. Drop the "
                "row or fetch the file."
            )
    for row in _spread(len(paths)):
        try:
            with Image.open(paths[row]) as image:
                image.verify()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ObservationsError(
                f"{shown}, row {row}: {names[row]!r} is not a readable image ({error}). Drop the "
                "row or fetch the file again."
            ) from error
    return StreetImages(paths, places, size)


def _spread(count: int) -> Int[np.ndarray, " row"]:
    return np.unique(np.linspace(0, count - 1, min(count, CHECKED)).astype(np.int64))
