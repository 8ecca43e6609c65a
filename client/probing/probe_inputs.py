"""The inputs of a probe: what a user's table says, checked before a vector is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from unigeo.client.probing.checks import (
    check_classes,
    check_counts,
    check_numbers,
    warn_of_coordinates,
)
from unigeo.client.probing.controls import Controls, read_controls
from unigeo.client.probing.folds import (
    CONUS,
    blocks_crs,
    check_units,
    group_numbers,
    spatial_blocks,
)
from unigeo.client.probing.row_counts import RowCounts
from unigeo.client.probing.table_columns import column_label, listed, short
from unigeo.client.probing.target_bounds import Bounds, read_bounds
from unigeo.client.probing.targets import (
    Labels,
    Target,
    Task,
    check_weights,
    read_target,
    read_targets,
    target_values,
)
from unigeo.client.probing.wanted_columns import probed_table, row_values, wanted_columns
from unigeo.client.reading.point_status import NO_POSITION
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns
from unigeo.schemas.tables.points import Points, check_lonlat, read_points


@dataclass(frozen=True, eq=False)
class ProbeInputs:
    """Targets, positions, groups and controls of all rows of a table, and how to split them."""

    targets: Mapping[str, Target]
    lonlat: Float[np.ndarray, "row 2"]
    """Position of each row; NaN if it has none."""
    groups: Int[np.ndarray, " row"] | None
    """Number of each row's group, if there are groups."""
    block_km: float
    """Side of the blocks."""
    crs: str
    """CRS of the blocks."""
    folds: int
    """Number of folds of each split."""
    seed: int
    """Seed of the folds."""
    controls: Controls | None = None
    weights: Float[np.ndarray, " row"] | None = None
    """Weight of each row; 0 for a row that takes no part."""
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    """Bounds of the targets that have some."""

    @property
    def has_position(self) -> Bool[np.ndarray, " row"]:
        """Mask of the rows that have a position."""
        return ~np.isnan(self.lonlat).any(axis=1)

    @property
    def has_controls(self) -> Bool[np.ndarray, " row"]:
        """Mask of the rows that have every control."""
        return np.ones(len(self.lonlat), bool) if self.controls is None else self.controls.complete

    @property
    def has_weight(self) -> Bool[np.ndarray, " row"]:
        """Mask of the rows whose weight is above 0."""
        return np.ones(len(self.lonlat), bool) if self.weights is None else self.weights > 0

    @property
    def needs_vector(self) -> Bool[np.ndarray, " row"]:
        """Mask of the rows to read a vector for: they have all else that a point needs."""
        complete = self.has_position & self.has_controls & self.has_weight
        return np.asarray(complete & _any_target(self.targets))

    def __repr__(self) -> str:
        return f"ProbeInputs({listed(list(self.targets))} of {len(self.lonlat):,} rows)"


def read_inputs(
    table: Any,
    targets: Any,
    *,
    task: Task | None,
    crs: Any,
    columns: CoordinateColumns | None,
    otherwise: str,
    groups: Any,
    controls: Any = None,
    weights: Any = None,
    **options: Any,
) -> tuple[ProbeInputs, Points]:
    """Read targets, positions, groups and controls of a table.

    Args:
        table: table as in `Field.probe`.
        targets: names as in `Field.probe`.
        task: task as in `Field.probe`.
        crs: CRS as in `Field.probe`.
        columns: names as in `Field.probe`.
        otherwise: CRS of the blocks if most points lie outside the contiguous United States.
        groups: column or labels as in `Field.probe`.
        controls: names as in `Field.probe`.
        weights: column or numbers as in `Field.probe`.
        options: `block_km`, `folds`, `seed` and `bounds` of `check_inputs`.

    Returns:
        The inputs, and the positions of all rows.

    Raises:
        ProbeError, PointsError: if the table cannot be read, or cannot support a probe.
    """
    table = probed_table(table)
    source, names = wanted_columns(table, targets)
    truth = {column_label(name): read_target(source, name, task) for name in names}
    points = read_points(table, crs, columns, missing="keep")
    if source is table:
        warn_of_coordinates(table, names, columns)
    known = points.lonlat[~np.isnan(points.lonlat).any(axis=1)]
    blocks = blocks_crs(known, otherwise) if len(known) else otherwise
    beside = None if controls is None else read_controls(table, controls, truth)
    inputs = check_inputs(
        truth,
        points.lonlat,
        groups=row_values(table, groups, "groups"),
        crs=blocks,
        controls=beside,
        weights=row_values(table, weights, "weights"),
        **options,
    )
    return inputs, points


def check_inputs(
    targets: Mapping[str, Any],
    lonlat: Float[np.ndarray, "row 2"],
    *,
    groups: Any = None,
    block_km: float = 300.0,
    crs: str = CONUS,
    folds: int = 5,
    seed: int = 0,
    controls: Controls | None = None,
    weights: Any = None,
    bounds: Any = None,
) -> ProbeInputs:
    """Check what can be checked without a vector.

    Args:
        targets: values to predict: numbers, NaN where missing, or `Labels`; each by itself.
        lonlat: WGS 84 degrees, longitude first; NaN for a row without a position, which then takes
            no part.
        groups: label of each row; whole groups are then held out in a third split.
        block_km: side of the squares that the blocked split keeps whole.
        crs: CRS in metres, best equal-area, of the blocks and of the nearest neighbours.
        folds: at least 3: the penalty is chosen in the folds that are not held out.
        seed: seed of the folds.
        controls: the user's own variables; a row that lacks one takes no part.
        weights: weight of each row, 0 or more; a row whose weight is 0 or missing takes no part.
        bounds: least and largest value of targets; see `target_bounds.read_bounds`.

    Raises:
        ProbeError: if rows, blocks or groups are too few, a target is constant, or an option is not
            a number of its kind.
        PointsError: if a position does not lie on the globe.
    """
    _check_options(folds, seed)
    known = read_targets(targets, len(lonlat))
    has_position = ~np.isnan(lonlat).any(axis=1)
    if not has_position.any():
        raise ProbeError(
            f"none of the table's {len(lonlat)} rows has a position: look at its coordinates"
        )
    check_lonlat(lonlat[has_position])
    if controls is not None and len(controls.values) != len(lonlat):
        raise ProbeError(f"{len(controls.values)} rows of controls for {len(lonlat)} points")
    inputs = ProbeInputs(
        known,
        lonlat,
        None,
        float(block_km),
        crs,
        int(folds),
        int(seed),
        controls,
        None if weights is None else check_weights(weights, len(lonlat)),
        read_bounds(bounds, known),
    )
    if groups is not None:
        needed = inputs.needs_vector
        numbers = group_numbers(groups, len(lonlat), needed)
        check_units(len(np.unique(numbers[needed])), folds, "groups")
        inputs = replace(inputs, groups=numbers)
    blocks = spatial_blocks(lonlat[has_position], block_km, crs)
    status = np.where(has_position, np.uint8(Status.VALID), np.uint8(NO_POSITION))
    for name in known:
        check_target(inputs, name, has_position, status, blocks)
    return inputs


def check_target(
    inputs: ProbeInputs,
    name: str,
    usable: Bool[np.ndarray, " row"],
    status: UInt8[np.ndarray, " row"],
    blocks: Int[np.ndarray, " point"],
) -> RowCounts:
    """Refuse a target that has too few usable rows, or one value in all of them.

    Args:
        inputs: all rows of the table.
        name: name of the target.
        usable: mask of the rows that have a vector, as far as is known.
        status: reason why a row is not usable.
        blocks: block of each usable row.

    Returns:
        The counts of its rows.

    Raises:
        ProbeError: naming the target.
    """
    target = inputs.targets[name]
    values = target_values(target)
    has_target, has_controls = np.isfinite(values), inputs.has_controls
    counts = RowCounts.of(has_target, usable, status, has_controls, inputs.has_weight)
    complete = has_target & has_controls & inputs.has_weight
    occupied = len(np.unique(blocks[complete[usable]]))
    check_counts(name, counts, occupied, inputs.folds, inputs.block_km)
    values = values[complete & usable]
    if isinstance(target, Labels):
        check_classes(name, target.classes, values.astype(np.int64))
    else:
        check_numbers(name, values)
    return counts


def _check_options(folds: Any, seed: Any) -> None:
    """Refuse numbers of folds and seeds that cannot be used.

    Raises:
        ProbeError: naming the option.
    """
    for option, value in (("folds", folds), ("seed", seed)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            raise ProbeError(f"{option} must be a whole number, not {short(value)}")
    if folds < 3:
        raise ProbeError(
            f"{folds} folds are too few: with at least 3, the penalty is chosen without the one "
            "that is held out"
        )
    if seed < 0:
        raise ProbeError(f"seed must be 0 or more, not {seed}")


def _any_target(targets: Mapping[str, Target]) -> Bool[np.ndarray, " row"]:
    """Mark the rows that have a target."""
    known = [np.isfinite(target_values(target)) for target in targets.values()]
    marked: Bool[np.ndarray, " row"] = np.any(known, axis=0)
    return marked
