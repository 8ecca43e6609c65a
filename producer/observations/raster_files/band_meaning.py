"""What the numbers of a raster's bands mean to the encoder that reads their patches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyproj

from unigeo.producer.observations.raster_files.band_facts import (
    BandFacts,
    MeaningError,
    Stated,
    number_kind,
    scale_and_offset,
)
from unigeo.producer.observations.raster_files.height_values import (
    HeightConversion,
    HeightDescription,
    height_conversion,
)
from unigeo.schemas.errors import ObservationsError


@dataclass(frozen=True)
class BandMeaning:
    """Meaning of some bands of a file; its fields are those of `RasterSource`."""

    dtype: str
    heights: HeightConversion | None = None
    scales: tuple[tuple[float, float], ...] = ()
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


def check_bands(facts: BandFacts, bands: Sequence[int], label: str) -> None:
    """Refuse bands that a file lacks.

    Raises:
        ObservationsError: with the bands that it has.
    """
    count = len(facts.dtypes)
    lacking = [band for band in bands if not 1 <= band <= count]
    if lacking:
        raise ObservationsError(
            f"{label} has bands 1 to {count}, no band {lacking[0]}. Correct the key `bands`."
        )


def band_meaning(
    facts: BandFacts,
    bands: Sequence[int],
    nodata: float | None,
    unit: str,
    described: HeightDescription | None,
    stated: Stated,
    label: str,
) -> BandMeaning:
    """Combine what a file declares about its bands with what the observations state.

    Args:
        facts: what the file declares.
        bands: bands to read, counted from 1.
        nodata: nodata value that the observations state.
        unit: unit of the raster's vertical CRS; empty without one.
        described: description of a surface model.
        stated: what else the observations state.
        label: name of the file in messages, with the table that lists it.

    Raises:
        MeaningError: the numbers are not what the encoder reads, or file and observations
            contradict each other.
    """
    names = tuple(facts.descriptions[band - 1] for band in bands)
    units = tuple(facts.units[band - 1] for band in bands)
    kinds = {facts.dtypes[band - 1] for band in bands}
    dtype = " and ".join(sorted(kinds))
    if stated.encoder == "surface":
        assert described is not None
        heights = height_conversion(facts, bands[0], unit, nodata, described, label)
        return BandMeaning(dtype, heights, names=names, units=("m",))
    if stated.encoder == "classes":
        for band in bands:
            _check_codes(facts, band, label)
        if (stated.scale, stated.offset) != (None, None):
            raise MeaningError(
                f"table [{stated.table}] declares `scale` or `offset`, and codes of classes have "
                "none. Leave them out."
            )
        return BandMeaning(np.result_type(*kinds).name, names=names)
    for band in bands:
        if number_kind(facts, band) not in "iuf":
            raise MeaningError(
                f"{label}, band {band}, holds {facts.dtypes[band - 1]}; real numbers are read. "
                "Write the magnitude, or the real and the imaginary part as two bands."
            )
    scales = tuple(
        scale_and_offset(facts, band, stated.scale, stated.offset, stated.table, label)
        for band in bands
    )
    plain = all(scale == (1.0, 0.0) for scale in scales)
    return BandMeaning(dtype, scales=() if plain else scales, names=names, units=units)


def _check_codes(facts: BandFacts, band: int, label: str) -> None:
    """Refuse numbers that are no codes of classes."""
    if number_kind(facts, band) not in "iu":
        raise MeaningError(
            f"{label}, band {band}, holds {facts.dtypes[band - 1]}; codes of classes are integers. "
            'Convert it with `gdal_translate -ot Byte`, or declare `encoder = "image"`.'
        )
    if (facts.scales[band - 1], facts.offsets[band - 1]) != (1.0, 0.0):
        raise MeaningError(
            f"{label}, band {band}, declares scale {facts.scales[band - 1]:g} and offset "
            f"{facts.offsets[band - 1]:g}, and codes of classes have none. Declare "
            '`encoder = "image"` if its numbers are measured.'
        )


def vertical_unit(crs: pyproj.CRS) -> str:
    """Return the unit of height of a compound CRS; empty for other CRSs."""
    axes = [axis for part in crs.sub_crs_list if part.is_vertical for axis in part.axis_info]
    return axes[0].unit_name if axes else ""
