"""The classes of a categorical raster: which number of its files stands for which class."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from unigeo.producer.observations.folder.description import ClassesDescription
from unigeo.producer.observations.raster_files.raster_blocks import BLOCK, BlockReader
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.schemas.errors import ObservationsError

MOST_CLASSES = 255
"""Largest number of classes; 0 stands for no data in a byte."""
MOST_PIXELS = 1 << 28
"""Largest number of pixels that are searched for the numbers of classes."""

Classes = dict[int, str]
"""Name of each class by its number in the files."""


def with_classes(
    sources: Sequence[RasterSource], about: ClassesDescription, table: str
) -> tuple[RasterSource, ...]:
    """Return the files of a categorical raster with the numbers of their classes.

    Args:
        sources: the files.
        about: the table that describes them.
        table: name of the table, for messages.

    Raises:
        ObservationsError: if there is more than one band or not one class, or a name is used twice.
    """
    if len(about.bands) != 1:
        raise ObservationsError(
            f"table [{table}], key 'bands': one band of classes is needed, not {about.bands}."
        )
    classes = describe_classes(about, table) or _search(sources, table)
    if not 0 < len(classes) <= MOST_CLASSES:
        raise ObservationsError(
            f"table [{table}]: 1 to {MOST_CLASSES} classes are needed, and there are "
            f"{len(classes)}. Name them by the key `classes`, or read the raster as an image."
        )
    numbers, names = tuple(classes), tuple(classes.values())
    return tuple(replace(one, classes=numbers, class_names=names) for one in sources)


def describe_classes(about: ClassesDescription, table: str) -> Classes:
    """Return the classes that a table names; empty if it names none.

    Raises:
        ObservationsError: if no class is named, a number is no whole number or stands there twice,
            or a name stands for two classes.
    """
    if about.classes is None:
        return {}
    named = about.classes
    if not named:
        raise ObservationsError(
            f"table [{table}], key 'classes': no class is named; leave the key out, and every "
            "number that the files hold is a class."
        )
    if not isinstance(named, dict):
        named = {str(number): name for number, name in enumerate(named)}
    classes: Classes = {}
    for number, name in named.items():
        try:
            code = int(number)
        except ValueError as error:
            raise ObservationsError(
                f"table [{table}], key 'classes': {number!r} is no whole number."
            ) from error
        if code in classes:
            raise ObservationsError(
                f"table [{table}], key 'classes': the number {code} is named twice."
            )
        if not name or name in classes.values():
            raise ObservationsError(
                f"table [{table}], key 'classes': each class needs a name of its own, and "
                f"{number} is named {name!r}."
            )
        classes[code] = name
    return dict(sorted(classes.items()))


def _search(sources: Sequence[RasterSource], table: str) -> Classes:
    """Find every number that the files hold, each of which is a class named by its number."""
    pixels = sum(source.shape[0] * source.shape[1] for source in sources)
    if pixels > MOST_PIXELS:
        raise ObservationsError(
            f"table [{table}]: the files hold {pixels:,} pixels, too many to search them for "
            "classes. Name them by the key `classes`."
        )
    found: set[int] = set()
    for source in sources:
        with closing(BlockReader(source, keep=1)) as blocks:
            for row in range(-(-source.shape[0] // BLOCK)):
                for col in range(-(-source.shape[1] // BLOCK)):
                    block = blocks.block((1, 1), row, col)
                    found |= set(np.unique(block.values[0][block.data]).astype(int).tolist())
                    if len(found) > MOST_CLASSES:
                        return {number: str(number) for number in found}  # refused by the caller
    return {number: str(number) for number in sorted(found)}
