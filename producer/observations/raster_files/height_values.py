"""Conversion of a surface model's numbers to metres, and checks that they are heights.

A number that no terrain has, such as -9999, stands for a void. If nothing declares it as nodata it
would pass for a height, and once averaged with other pixels it could not be recognized. So the
file's own pixels are checked, and such numbers are refused.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Shaped
from pydantic import AfterValidator, Field

from unigeo.producer.observations.raster_files.band_facts import (
    BandFacts,
    MeaningError,
    number_kind,
    scale_and_offset,
)

LOWEST_M, HIGHEST_M = -500.0, 9_000.0
"""No land lies lower than 431 m below the sea, and none higher than 8,849 m above it."""
UNITS = {"m": 1.0, "ft": 0.3048, "us-ft": 1200 / 3937}
"""Metres per unit of height."""
_UNIT_NAMES = {
    "m": ("m", "metre", "metres", "meter", "meters"),
    "ft": ("ft", "foot", "feet", "international foot", "international feet"),
    "us-ft": ("us-ft", "us_ft", "ftus", "us ft", "us survey foot", "us survey feet",
              "foot_us", "u.s. survey foot", "survey foot"),
}  # fmt: skip
_NO_UNIT = ("", "unknown", "none", "1", "unitless")


def _not_zero(scale: float) -> float:
    if scale == 0:
        raise ValueError("a scale of 0 makes every value the same")
    return scale


Scale = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_not_zero)]
"""Factor from numbers to values; negative where the numbers are depths."""


@dataclass(frozen=True, kw_only=True)
class HeightDescription:
    """What the user states about the heights of a surface model, beside the file's own metadata."""

    table: str
    """Table of the settings that states it, for messages."""
    units: str | None = None
    """Unit of height: m, ft or us-ft; None if it is not stated."""
    scale: float | None = None
    offset: float | None = None
    """A height is scale x number + offset, where the file does not declare it itself."""
    lowest_m: float = LOWEST_M
    highest_m: float = HIGHEST_M
    """Limits of the heights that are accepted, in metres."""


@dataclass(frozen=True)
class HeightConversion:
    """Conversion of a surface model's numbers to metres: factor x number + shift."""

    factor: float
    shift: float
    lowest_m: float
    highest_m: float
    table: str
    """Table of the settings that describes the surface model, for messages."""
    declared: float | None
    """Nodata value that the file or the table declares."""

    @property
    def is_identity(self) -> bool:
        """Whether the numbers are metres."""
        return (self.factor, self.shift) == (1.0, 0.0)

    def to_metres(self, numbers: Shaped[np.ndarray, "*pixel"]) -> Shaped[np.ndarray, "*pixel"]:
        """Return heights in metres, the same array where the numbers are metres."""
        if self.is_identity:
            return numbers
        return numbers.astype(np.float64) * self.factor + self.shift

    def check(
        self, numbers: Shaped[np.ndarray, "*pixel"], data: Bool[np.ndarray, "*pixel"], label: str
    ) -> None:
        """Refuse numbers that are no heights.

        Args:
            numbers: pixels of the file.
            data: which of them are not nodata.
            label: name of the file in the message, with the table that lists it.

        Raises:
            MeaningError: the message has the number, how many pixels hold it, and the key to
                declare.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            metres = self.to_metres(numbers)
            bad = data & ((metres < self.lowest_m) | (metres > self.highest_m))
        if not bad.any():
            return
        # A single number that is most of the bad ones is probably an undeclared nodata value; many
        # different ones are rather heights in another unit.
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
        height = "" if self.is_identity else f" ({float(self.to_metres(values)[most]):g} m)"
        raise MeaningError(
            f"{label}: {bad.sum():,} of {data.sum():,} pixels looked at ({share:.2g} %) hold what "
            f"no terrain has, below {self.lowest_m:g} m or above {self.highest_m:g} m: {value}"
            f"{height} in {count:,} of them. {remedy} in table [{self.table}]. If they are true, "
            "as at the bottom of the sea, widen `lowest_m` or `highest_m` there."
        )


def _number(value: float) -> str:
    """Write a number as in TOML, with all its digits."""
    is_integer = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return repr(int(value) if is_integer else value)


def height_conversion(
    facts: BandFacts,
    band: int,
    vertical_unit: str,
    nodata: float | None,
    described: HeightDescription,
    label: str,
) -> HeightConversion:
    """Combine what the file and the user state about a band's numbers.

    Args:
        facts: what the file declares.
        band: band, counted from 1.
        vertical_unit: unit of the raster's vertical CRS; empty without one.
        nodata: nodata value that the user states.
        described: what else the user states.
        label: name of the file in messages, with the table that lists it.

    Raises:
        MeaningError: file and user contradict each other, or the unit is no length.
    """
    if number_kind(facts, band) not in "iuf":
        raise MeaningError(f"{label} holds {facts.dtypes[band - 1]}; heights are real numbers.")
    scale, offset = scale_and_offset(
        facts, band, described.scale, described.offset, described.table, label
    )
    unit = UNITS[_unit(facts.units[band - 1] or vertical_unit, described, label)]
    declared = facts.nodatavals[band - 1] if nodata is None else nodata
    limits = (described.lowest_m, described.highest_m)
    return HeightConversion(scale * unit, offset * unit, *limits, described.table, declared)


def _unit(name: str, described: HeightDescription, label: str) -> str:
    """Return the unit of the file, or else the stated one, or else metres.

    A unit that the file declares must be stated too, unless it is the metre: a mistake by a factor
    of 3.28 would otherwise pass unnoticed.
    """
    name = name.strip().lower()
    known = next((unit for unit, names in _UNIT_NAMES.items() if name in names), None)
    if known is None and name not in _NO_UNIT and described.units is None:
        raise MeaningError(
            f"{label} declares the unit {name!r}. If its numbers are heights, declare theirs: "
            f"`units` in table [{described.table}], one of {', '.join(UNITS)}."
        )
    stated = described.units or "m"
    if known is not None and known != stated:
        raise MeaningError(
            f"{label} declares heights in {known}, table [{described.table}] in {stated}. "
            f"Declare `units = {known!r}` there, or correct the file if that is wrong."
        )
    return described.units or known or "m"
