"""Controls: variables that are known without vectors, which vectors are compared with.

They are columns of the user's table, covariates of the field, or both. Columns are taken as they
are; a covariate as it is and by its rank, since many are skewed, as light at night is: few bright
places would decide the slope of all others.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.client.probing.band_scaling import (
    EACH_BAND,
    BandScaling,
    beside_vectors,
    vector_scaling,
)
from unigeo.client.probing.checks import warn_of_constant
from unigeo.client.probing.feature_rows import FeatureRows, JoinedRows
from unigeo.client.probing.table_columns import column_label, listed, short
from unigeo.client.probing.targets import Labels, Target, read_target, target_values
from unigeo.client.probing.wanted_columns import wanted_columns
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.store.layout import COVARIATES

CONTROLS = "controls"
"""Name of the set of features that holds the controls alone; `COVARIATES` if they are those."""
_MAX_CATEGORIES = 100
"""Categories of one control."""


@dataclass(frozen=True, eq=False, repr=False)
class Controls:
    """Columns of a table as numbers; each category is an indicator."""

    names: tuple[str, ...]
    """Names of the columns."""
    values: Float[np.ndarray, "row control"]
    """Numbers and indicators of all columns; NaN where a row lacks the column."""
    label: str = CONTROLS
    """Name of the set of features that holds them alone."""

    @property
    def complete(self) -> Bool[np.ndarray, " row"]:
        """Mask of the rows that have all controls."""
        return np.isfinite(self.values).all(axis=1)

    def take(self, rows: Bool[np.ndarray, " row"]) -> "Controls":
        """Return the controls of the marked rows."""
        return Controls(self.names, self.values[rows], self.label)

    def __repr__(self) -> str:
        return f"Controls({listed(self.names)}; {len(self.values):,} rows)"


def read_controls(table: Any, names: Any, targets: Collection[str]) -> Controls:
    """Read columns of a table as controls.

    Args:
        table: table as in `Field.probe`.
        names: one column or several, of numbers, True and False, or categories, as in
            `wanted_columns`.
        targets: names of the columns that are predicted.

    Raises:
        ProbeError: if a column does not exist, is a target, is missing in all rows, or holds
            neither numbers nor at most 100 categories.
    """
    source, chosen = wanted_columns(table, names, "control")
    columns = []
    for name in chosen:
        label = column_label(name)
        if label in targets:
            raise ProbeError(f"{short(label)} is a control and a target: it tells itself")
        columns.append(_control_values(read_target(source, name, what="control"), label))
    return Controls(tuple(map(column_label, chosen)), np.concatenate(columns, axis=1))


def with_covariates(
    controls: Controls | None,
    names: tuple[str, ...],
    values: Float[np.ndarray, "row covariate"],
    wanted: Bool[np.ndarray, " row"],
) -> Controls:
    """Add covariates of the field to the controls, if there are any.

    Args:
        controls: columns of the table.
        names: names of the covariates.
        values: numbers of all rows, NaN where there is none.
        wanted: mask of the rows that take part otherwise.

    Raises:
        ProbeError: if a covariate is missing in all of them, or named like a control.
    """
    missing = np.isnan(values[wanted]).all(axis=0)
    for name, lacks in zip(names, missing.tolist(), strict=True):
        if lacks:
            raise ProbeError(
                f"covariate {short(name)} is missing in all rows; name others, by covariates=[...]"
            )
        if controls is not None and name in controls.names:
            raise ProbeError(f"{short(name)} is a control and a covariate; rename the column")
    numbers = beside_ranks(values)
    if controls is None:
        return Controls(names, numbers, COVARIATES)
    joined = np.concatenate([controls.values, numbers], axis=1)
    return Controls((*controls.names, *names), joined, f"{CONTROLS} and {COVARIATES}")


def beside_ranks(
    values: Float[np.ndarray, "row number"],
) -> Float[np.ndarray, "row number_and_rank"]:
    """Return the numbers, and beside them the rank of each in its column, from 0 to 1.

    Equal numbers have the mean of their ranks, and missing ones, NaN, have none. The numbers alone
    are ranked, no target is seen.
    """
    ranked = np.full(values.shape, np.nan)
    for column, numbers in enumerate(values.T):
        known = np.isfinite(numbers)
        _, number, count = np.unique(numbers[known], return_inverse=True, return_counts=True)
        middle = np.cumsum(count) - (count + 1) / 2
        ranked[known, column] = middle[number] / max(known.sum() - 1, 1)
    return np.concatenate([values.astype(np.float64), ranked], axis=1)


def add_controls(
    vectors: Mapping[str, FeatureRows],
    controls: Controls | None,
    alone: Collection[str] = (),
) -> dict[str, tuple[FeatureRows, BandScaling]]:
    """Add the controls alone, and each set of vectors with the controls, to the sets of vectors.

    Vectors keep the proportions of their bands, and controls are standardized each; see
    `band_scaling`.

    Args:
        vectors: sets of vectors by name.
        controls: controls, if there are any.
        alone: names of sets of plain columns, each standardized by itself, without controls beside
            them.

    Returns:
        Every set of features, and the scaling of its bands, by name.
    """
    sets: dict[str, tuple[FeatureRows, BandScaling]] = {
        name: (values, EACH_BAND if name in alone else vector_scaling(values))
        for name, values in vectors.items()
    }
    if controls is None:
        return sets
    label = controls.label
    if label in sets:
        raise ProbeError(f"the features {label!r} are named like the controls; rename them")
    sets[label] = (controls.values, EACH_BAND)
    count = controls.values.shape[1]
    for name, values in vectors.items():
        if name not in alone:
            together = JoinedRows([values, controls.values])
            sets[with_controls(name, label)] = (together, beside_vectors(values, count))
    return sets


def with_controls(features: str, label: str = CONTROLS) -> str:
    """Name a set of features to which the controls of a label are added."""
    return f"{features} + {label}"


def _control_values(column: Target, name: str) -> Float[np.ndarray, "row control"]:
    """Convert a column to one column of numbers, or to an indicator of each category."""
    if np.isnan(target_values(column)).all():
        raise ProbeError(f"control {short(name)} is missing in all {len(column):,} rows")
    warn_of_constant(name, column)
    if not isinstance(column, Labels):
        return column[:, None]
    if len(column.classes) > _MAX_CATEGORIES:
        raise ProbeError(
            f"control {short(name)} has {len(column.classes):,} categories, more than "
            f"{_MAX_CATEGORIES}: merge them, or make it a number"
        )
    # A missing code takes the first row of the identity matrix, and is NaN afterwards.
    missing = np.isnan(column.codes)
    indicators = np.eye(len(column.classes))[np.where(missing, 0, column.codes).astype(np.int64)]
    indicators[missing] = np.nan
    return np.asarray(indicators)
