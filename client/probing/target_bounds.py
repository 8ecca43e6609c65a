"""Known bounds of a target, such as 0 and 1 of a share, which predictions and intervals keep."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.table_columns import column_label, listed, short
from unigeo.client.probing.targets import Labels, Target
from unigeo.schemas.errors import ProbeError


@dataclass(frozen=True)
class Bounds:
    """The least and the largest value of a target; infinite where there is none."""

    low: float = -math.inf
    high: float = math.inf

    def clip(self, values: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """Move values beyond a bound onto it; NaN stays."""
        return np.asarray(np.clip(values, self.low, self.high)) if self.exist else values

    @property
    def exist(self) -> bool:
        """Whether there is a bound on either side."""
        return self != UNBOUNDED

    @classmethod
    def of_pair(cls, pair: tuple[float | None, float | None]) -> "Bounds":
        """Build bounds of two numbers, None where there is none."""
        low, high = pair
        return cls(-math.inf if low is None else low, math.inf if high is None else high)

    def as_pair(self) -> tuple[float | None, float | None]:
        """Return the bounds as JSON has them: None where there is none."""
        low, high = (end if math.isfinite(end) else None for end in (self.low, self.high))
        return low, high

    def __str__(self) -> str:
        return f"({self.low:g}, {self.high:g})"


UNBOUNDED = Bounds()


def read_bounds(given: Any, targets: Mapping[str, Target]) -> dict[str, Bounds]:
    """Read the bounds of targets, and compare the targets with them.

    Args:
        given: `(low, high)` of all targets of numbers, or a mapping of names to such pairs; None
            for no bound, in a pair or for all.
        targets: targets by name.

    Returns:
        Bounds of the targets that have some.

    Raises:
        ProbeError: if a pair is none, a target has no numbers or does not exist, or one of its
            values lies beyond its bounds.
    """
    if given is None:
        return {}
    numbers = [name for name, target in targets.items() if not isinstance(target, Labels)]
    if isinstance(given, Mapping):
        pairs = {column_label(name): pair for name, pair in given.items()}
    else:
        pairs = dict.fromkeys(numbers, given)
        if not numbers:
            raise ProbeError("bounds are those of numbers, and all targets are of classes")
    bounds: dict[str, Bounds] = {}
    for name, pair in pairs.items():
        if name not in numbers:
            why = f"does not exist; there are {listed([*targets])}"
            why = "is of classes" if name in targets else why
            raise ProbeError(f"bounds are given for the target {short(name)}, which {why}")
        bounds[name] = _read_pair(name, pair)
        values = targets[name]
        assert isinstance(values, np.ndarray)
        beyond = (values < bounds[name].low) | (values > bounds[name].high)
        if beyond.any():
            row = int(np.argmax(beyond))
            raise ProbeError(
                f"target {short(name)} is {values[row]:g} in row {row}, beyond the bounds "
                f"{bounds[name]} ({beyond.sum():,} rows are): widen them, or mend the rows"
            )
    return bounds


def _read_pair(name: str, pair: Any) -> Bounds:
    """Read a pair of numbers.

    Raises:
        ProbeError: if it is none, or its first is not below its second.
    """
    try:
        if isinstance(pair, str):
            raise TypeError
        low, high = (None if end is None else float(end) for end in pair)
        bounds = Bounds.of_pair((low, high))
    except (TypeError, ValueError) as error:
        raise ProbeError(
            f"bounds of {short(name)} must be two numbers (low, high), None where there is none, "
            f"not {short(pair)}"
        ) from error
    if not bounds.low < bounds.high:
        raise ProbeError(f"bounds of {short(name)} must be rising numbers, not {bounds}")
    return bounds
