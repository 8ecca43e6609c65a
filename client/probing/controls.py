"""The user's own variables, beside which vectors are judged by what they add."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.client.probing.checks import warn_of_constant
from unigeo.client.probing.feature_rows import FeatureRows, SideBySide
from unigeo.client.probing.table_columns import chosen_names, label_of, listed, short
from unigeo.client.probing.targets import Labels, Target, codes_of, target_of
from unigeo.schemas.errors import ProbeError

CONTROLS = "controls"
"""The set of features that has the controls alone."""
_MOST_LEVELS = 100  # categories of one control


@dataclass(frozen=True, eq=False, repr=False)
class Controls:
    """Columns of a table as numbers; of categories an indicator each."""

    names: tuple[str, ...]
    """Of the columns."""
    values: Float[np.ndarray, "row control"]
    """NaN where a row lacks one."""

    @property
    def complete(self) -> Bool[np.ndarray, " row"]:
        """Which rows have all of them."""
        return np.isfinite(self.values).all(axis=1)

    def take(self, rows: Bool[np.ndarray, " row"]) -> "Controls":
        """The same of some rows."""
        return Controls(self.names, self.values[rows])

    def __repr__(self) -> str:
        return f"Controls({listed(self.names)}; {len(self.values):,} rows)"


def read_controls(table: Any, names: Any, targets: Any) -> Controls:
    """Read columns of a table as controls.

    Args:
        table: as in `Field.probe`.
        names: of one column, or several: numbers, True and False, or categories.
        targets: what is predicted, by the names of columns.

    Raises:
        ProbeError: if there is no such column, it is a target, it is missing in all rows, or it
            holds neither numbers nor a few categories.
    """
    chosen = chosen_names(table, names, "control")
    predicted = {label_of(name) for name in chosen_names(table, targets)}
    columns = []
    for name in chosen:
        if label_of(name) in predicted:
            raise ProbeError(f"{short(label_of(name))} is a control and a target: it tells itself")
        columns.append(_numbers(target_of(table, name, what="control"), label_of(name)))
    return Controls(tuple(map(label_of, chosen)), np.concatenate(columns, axis=1))


def controlled(
    vectors: Mapping[str, FeatureRows], controls: Controls | None
) -> dict[str, tuple[FeatureRows, Float[np.ndarray, " band"] | float]]:
    """Every set of features, and the strength of its bands in a ridge.

    Beside the sets of vectors stand the controls, and each set with the controls. There the
    controls are made stronger, so that the ridge allows them together as much as all bands: else
    the penalty that hundreds of bands need would hold back a few controls that matter.
    """
    sets: dict[str, tuple[FeatureRows, Float[np.ndarray, " band"] | float]] = {
        name: (values, 1.0) for name, values in vectors.items()
    }
    if controls is None:
        return sets
    if CONTROLS in sets:
        raise ProbeError(f"the features {CONTROLS!r} are named like the controls; rename them")
    sets[CONTROLS] = (controls.values, 1.0)
    own = controls.values.shape[1]
    for name, values in vectors.items():
        bands = values.shape[1]
        strength = np.ones(bands + own)
        strength[bands:] = max(1.0, np.sqrt(bands / own))
        sets[with_controls(name)] = (SideBySide([values, controls.values]), strength)
    return sets


def with_controls(features: str) -> str:
    """Name of a set of features with the controls."""
    return f"{features} + {CONTROLS}"


def _numbers(column: Target, name: str) -> Float[np.ndarray, "row control"]:
    """A column of numbers, or an indicator of each category."""
    if np.isnan(codes_of(column)).all():
        raise ProbeError(f"control {short(name)} is missing in all {len(column):,} rows")
    warn_of_constant(name, column)
    if not isinstance(column, Labels):
        return column[:, None]
    if len(column.classes) > _MOST_LEVELS:
        raise ProbeError(
            f"control {short(name)} has {len(column.classes):,} categories, more than "
            f"{_MOST_LEVELS}: merge them, or make it a number"
        )
    missing = np.isnan(column.codes)
    indicators = np.eye(len(column.classes))[np.where(missing, 0, column.codes).astype(np.int64)]
    indicators[missing] = np.nan
    return np.asarray(indicators)
