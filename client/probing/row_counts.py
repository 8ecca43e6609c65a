"""Counts of the rows that a probe uses, and of those that it leaves out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from unigeo.client.reading.point_status import NO_POSITION, count_reasons


@dataclass(frozen=True)
class RowCounts:
    """Counts of a table's rows in the probe of one target."""

    rows: int
    """Rows of the table."""
    points: int
    """Rows that take part: they have the target, a vector, the controls and a weight."""
    without_target: int
    """Rows that lack the target."""
    without_vector: int
    """Rows that have the target, the controls and a weight, and no vector."""
    without_position: int = 0
    """Rows that lack a vector because they have no position."""
    reasons: str = ""
    """Reasons for lacking a vector, counted; empty if they are not known."""
    without_control: int = 0
    """Rows that have the target and lack a control."""
    without_weight: int = 0
    """Rows that have the target and the controls, and a weight of 0 or none."""

    @classmethod
    def of(
        cls,
        has_target: Bool[np.ndarray, " row"],
        has_vector: Bool[np.ndarray, " row"],
        status: UInt8[np.ndarray, " row"],
        has_controls: Bool[np.ndarray, " row"] | bool = True,
        has_weight: Bool[np.ndarray, " row"] | bool = True,
    ) -> "RowCounts":
        """Count the rows.

        Args:
            has_target: which rows have the target.
            has_vector: which rows have a vector.
            status: reason why a row has no vector; `VALID` if it is not known.
            has_controls: which rows have every control.
            has_weight: which rows have a weight above 0.
        """
        complete = has_target & has_controls & has_weight
        without_vector = complete & ~has_vector
        return cls(
            rows=len(has_target),
            points=int((complete & has_vector).sum()),
            without_target=int((~has_target).sum()),
            without_vector=int(without_vector.sum()),
            without_position=int((status[without_vector] == NO_POSITION).sum()),
            reasons=count_reasons(status[without_vector]),
            without_control=int((has_target & ~np.asarray(has_controls)).sum()),
            without_weight=int((has_target & has_controls & ~np.asarray(has_weight)).sum()),
        )

    def __str__(self) -> str:
        """Return the counts as text.

        >>> str(RowCounts(10, 6, 1, 3, 1, "2 water, 1 no position"))
        '6 points of 10 rows (1 without the target, 3 without a vector: 2 water, 1 no position)'
        """
        parts = []
        if self.without_target:
            parts.append(f"{self.without_target:,} without the target")
        if self.without_control:
            parts.append(f"{self.without_control:,} without a control")
        if self.without_weight:
            parts.append(f"{self.without_weight:,} without a weight above 0")
        if self.without_vector:
            alone = self.reasons.removeprefix(f"{self.without_vector:,} ")  # one reason for all
            why = f": {alone}" if alone else ""
            parts.append(f"{self.without_vector:,} without a vector{why}")
        left_out = f" ({', '.join(parts)})" if parts else ""
        return f"{self.points:,} points of {self.rows:,} rows{left_out}"
