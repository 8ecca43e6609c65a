"""What the numbers of a surface model mean: metres, by scale, offset and unit; and what none is.

A number that no terrain has, such as -9999, stands for a void. Where nothing declares it, it would
pass for a height, and among the mean of several pixels it could not be told from one. So it is
looked for among the file's own pixels, and refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Shaped
from pydantic import AfterValidator, Field

from unigeo.schemas.errors import ObservationsError

LOWEST_M, HIGHEST_M = -500.0, 9_000.0
"""No land lies lower than 431 m below the sea, and none higher than 8,849 m above it."""
UNITS = {"m": 1.0, "ft": 0.3048, "us-ft": 1200 / 3937}
"""Metres per unit of height."""
_NAMES = {
    "m": ("m", "metre", "metres", "meter", "meters"),
    "ft": ("ft", "foot", "feet", "international foot", "international feet"),
    "us-ft": ("us-ft", "us_ft", "ftus", "us ft", "us survey foot", "us survey feet",
              "foot_us", "u.s. survey foot", "survey foot"),
}  # fmt: skip
_UNKNOWN = ("", "unknown", "none", "1", "unitless")


def _not_zero(scale: float) -> float:
    if scale == 0:
        raise ValueError("a scale of 0 makes every height the same")
    return scale


Scale = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_not_zero)]
"""Factor of a number; negative where numbers are depths."""


class MeaningError(ObservationsError):
    """Pixels that do not mean what they are taken for."""


@dataclass(frozen=True, kw_only=True)
class HeightDescription:
    """What is said of a surface model beside its file."""

    table: str
    """That says it, for messages."""
    units: str | None = None
    """m, ft, us-ft; None where nothing is said."""
    scale: float | None = None
    offset: float | None = None
    """A height is scale x number + offset, where the file does not say it itself."""
    lowest_m: float = LOWEST_M
    highest_m: float = HIGHEST_M


@dataclass(frozen=True)
class HeightConversion:
    """From the numbers of a surface model to metres."""

    factor: float
    shift: float
    lowest_m: float
    highest_m: float
    table: str
    declared: float | None
    """The number without meaning, by the file or the table."""

    @property
    def plain(self) -> bool:
        """Whether the numbers are metres."""
        return (self.factor, self.shift) == (1.0, 0.0)

    def of(self, numbers: Shaped[np.ndarray, "*pixel"]) -> Shaped[np.ndarray, "*pixel"]:
        """Heights in metres, the numbers themselves where they are that."""
        return numbers if self.plain else numbers.astype(np.float64) * self.factor + self.shift

    def check(
        self, numbers: Shaped[np.ndarray, "*pixel"], data: Bool[np.ndarray, "*pixel"], shown: str
    ) -> None:
        """Refuse numbers that are no heights.

        Args:
            numbers: of a file.
            data: which of them are to mean something.
            shown: how the message names the file and the place that lists it.

        Raises:
            MeaningError: naming the number, how many pixels have it, and the key to declare.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            metres = self.of(numbers)
            bad = data & ((metres < self.lowest_m) | (metres > self.highest_m))
        if not bad.any():
            return
        values, counts = np.unique(numbers[bad], return_counts=True)
        most = int(counts.argmax())
        value, count = _number(values[most].item()), int(counts[most])
        if counts[most] < 0.5 * bad.sum():
            remedy = "If they are of another scale or unit, declare `scale`, `offset` and `units`"
        elif self.declared is None:
            remedy = f"If nothing was measured there, declare `nodata = {value}`"
        else:
            remedy = (
                f"If nothing was measured there, give them the number that stands for that "
                f"already, {_number(self.declared)}, or declare `nodata = {value}`"
            )
        share = 100 * bad.sum() / data.sum()
        told = "" if self.plain else f" ({float(self.of(values)[most]):g} m)"
        raise MeaningError(
            f"{shown}: {bad.sum():,} of {data.sum():,} pixels looked at ({share:.2g} %) hold what "
            f"no terrain has, below {self.lowest_m:g} m or above {self.highest_m:g} m: {value}"
            f"{told} in {count:,} of them. {remedy} in table [{self.table}]. If they are true, as "
            "at the bottom of the sea, widen `lowest_m` or `highest_m` there."
        )


def _number(value: float) -> str:
    """A number as TOML has it, with all its digits."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return repr(int(value) if whole else value)


def height_conversion(
    dataset: Any,
    band: int,
    vertical_unit: str,
    nodata: float | None,
    about: HeightDescription,
    shown: str,
) -> HeightConversion:
    """How the numbers of a band become metres.

    Args:
        dataset: an open raster.
        band: counted from 1.
        vertical_unit: of the raster's CRS; empty where it has none.
        nodata: what the table says that means nothing.
        about: what else it says.
        shown: how messages name the file and the place that lists it.

    Raises:
        MeaningError: file and table contradict each other, or the unit is no length.
    """
    if np.dtype(dataset.dtypes[band - 1].replace("_int", "")).kind not in "iuf":
        raise MeaningError(f"{shown} holds {dataset.dtypes[band - 1]}; heights are real numbers.")
    scale, offset = _scaling(dataset, band, about, shown)
    unit = UNITS[_unit(dataset.units[band - 1] or vertical_unit, about, shown)]
    declared = dataset.nodatavals[band - 1] if nodata is None else nodata
    limits = (about.lowest_m, about.highest_m)
    return HeightConversion(scale * unit, offset * unit, *limits, about.table, declared)


def _scaling(dataset: Any, band: int, about: HeightDescription, shown: str) -> tuple[float, float]:
    """Scale and offset of the file, or else of the table."""
    file = float(dataset.scales[band - 1]), float(dataset.offsets[band - 1])
    said = (
        1.0 if about.scale is None else about.scale,
        0.0 if about.offset is None else about.offset,
    )
    if not np.isfinite(file).all() or file[0] == 0:
        raise MeaningError(f"{shown} declares scale {file[0]:g} and offset {file[1]:g}: no number "
                           "of it can be a height. Write it again.")  # fmt: skip
    if (about.scale, about.offset) == (None, None) or file == said:
        return file
    if file != (1.0, 0.0):
        raise MeaningError(
            f"{shown} declares scale {file[0]:g} and offset {file[1]:g}, table [{about.table}] "
            f"scale {said[0]:g} and offset {said[1]:g}. Leave out `scale` and `offset`: what the "
            "file declares is applied."
        )
    return said


def _unit(word: str, about: HeightDescription, shown: str) -> str:
    """The unit of the file, or else of the table; metres where neither says one."""
    word = word.strip().lower()
    known = next((unit for unit, names in _NAMES.items() if word in names), None)
    if known is None and word not in _UNKNOWN and about.units is None:
        raise MeaningError(
            f"{shown} declares the unit {word!r}. If its numbers are heights, declare theirs: "
            f"`units` in table [{about.table}], one of {', '.join(UNITS)}."
        )
    if known is not None and known != (about.units or "m"):
        raise MeaningError(
            f"{shown} declares heights in {known}, table [{about.table}] in {about.units or 'm'}. "
            f"Declare `units = {known!r}` there, or correct the file if that is wrong."
        )
    return about.units or known or "m"


def check_unscaled(dataset: Any, bands: Sequence[int], shown: str) -> None:
    """Refuse numbers that are scaled where they are taken as they are, as those of a picture.

    Raises:
        MeaningError: naming scale and offset, and what to do.
    """
    for band in bands:
        scale, offset = float(dataset.scales[band - 1]), float(dataset.offsets[band - 1])
        if (scale, offset) != (1.0, 0.0):
            raise MeaningError(
                f"{shown}, band {band}, declares scale {scale:g} and offset {offset:g}, and its "
                "numbers are taken as they are. Write it anew with `gdal_translate -unscale`, and "
                "`-ot Byte -scale` if it is a picture."
            )
