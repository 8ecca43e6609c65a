"""Checks of a probe's data: errors where it cannot be scored, warnings where it is thin."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from unigeo.client.probing.feature_rows import FeatureRows
from unigeo.client.probing.folds import Split
from unigeo.client.probing.row_counts import RowCounts
from unigeo.client.probing.table_columns import column_label, column_names, short
from unigeo.client.probing.targets import Labels, Target, target_values
from unigeo.schemas.errors import PointsError, ProbeError, ProbeWarning
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns

POINTS_PER_FOLD = 10
"""Points per fold, below which a target is refused."""
UNITS_PER_FOLD = {"random": 10, "blocked": 10, "grouped": 5}
"""Units per fold by split, below which scores depend on the folds that a few units fall into."""
MAX_LEFT_OUT = 0.1
"""Share of the rows left out, above which the rest may be another population."""
MAX_REPEATED = 0.05
"""Share of the points that share their position with another, above which there is a warning."""
MIN_EFFECTIVE = 0.1
"""Effective number of weighted points / their number, below which there is a warning."""
_UNITS = {"random": "positions", "blocked": "blocks", "grouped": "groups"}
"""Names of the units by split, for messages."""
_MARKS = (-999.0, -9999.0, -99999.0, -32768.0)
"""Numbers that mark missing values in many tables and rasters."""
_MAX_NAMED = 5
"""Targets that a warning names."""
_CLIENT = (str(Path(__file__).parents[1]),)
"""Folders whose lines a warning skips to show the user's line."""


def check_counts(target: str, counts: RowCounts, blocks: int, folds: int, block_km: float) -> None:
    """Refuse a target with too few points or blocks.

    Args:
        target: name of the target.
        counts: counts of the rows that take part, and of the others.
        blocks: number of blocks that the points occupy.
        folds: number of folds of each split.
        block_km: side of a block.

    Raises:
        ProbeError: with the numbers present and the numbers needed.
    """
    if counts.without_target == counts.rows:
        raise ProbeError(f"target {short(target)} is missing in all {counts.rows:,} rows")
    if counts.points < folds * POINTS_PER_FOLD:
        raise ProbeError(
            f"target {short(target)} has {counts}; {folds} folds need at least "
            f"{folds * POINTS_PER_FOLD} points"
        )
    if blocks < folds:
        raise ProbeError(
            f"the {counts.points} points of target {short(target)} lie in {blocks} blocks of "
            f"{block_km:g} km; {folds} folds need at least {folds}: make the blocks smaller"
        )


def check_folds(target: str, has_target: Bool[np.ndarray, " point"], split: Split) -> None:
    """Refuse a split in which a fold has fewer than two points of a target.

    Args:
        target: name of the target.
        has_target: mask of the points that have the target.
        split: split of the points.

    Raises:
        ProbeError: naming the split and the number of points in each fold.
    """
    sizes = np.bincount(split.folds[has_target], minlength=split.folds.max() + 1)
    if sizes.min() < 2:
        raise ProbeError(
            f"the {split.name} folds hold {sizes.tolist()} points with the target {short(target)}, "
            "and each needs 2: make the blocks smaller, ask for fewer folds, or probe it alone"
        )


def check_numbers(target: str, values: Float[np.ndarray, " point"]) -> None:
    """Refuse numbers that do not vary.

    Raises:
        ProbeError: naming the number.
    """
    if np.ptp(values) == 0:
        raise ProbeError(
            f"target {short(target)} is {values[0]:g} everywhere, at {len(values)} points: there "
            "is nothing to predict"
        )


def check_classes(target: str, classes: Sequence[Any], codes: Int[np.ndarray, " point"]) -> None:
    """Refuse classes that are too few, or have too few points.

    Raises:
        ProbeError: if there is only one class, or a class has fewer than two points.
    """
    counts = np.bincount(codes, minlength=len(classes))
    if (counts > 0).sum() < 2:
        raise ProbeError(
            f"target {short(target)} is {short(classes[int(counts.argmax())])} everywhere, at "
            f"{len(codes)} points: there is nothing to predict"
        )
    if counts.min() < 2:
        alone = [name for name, count in zip(classes, counts, strict=True) if count < 2]
        raise ProbeError(
            f"{len(alone)} of the {len(classes)} classes of target {short(target)} have one point "
            f"only or none, such as {short(alone[0])}: merge rare classes or drop them. If it "
            "holds numbers, ask for task='regression'."
        )


def check_vectors(name: str, values: Any) -> None:
    """Refuse vectors that are no array of real numbers, row by band, nor read like one.

    Raises:
        ProbeError: naming type and shape.
    """
    shape: tuple[int, ...] = getattr(values, "shape", ())
    try:
        row = values[np.arange(1)]  # as blocks are read, by an array of row numbers
    except (TypeError, KeyError, IndexError):
        row = None
    plain = isinstance(row, np.ndarray) and not isinstance(row, np.ma.MaskedArray)
    if len(shape) != 2 or not shape[1] or not plain or row.dtype.kind not in "biuf":
        kind = f" of {row.dtype}" if plain else ""
        raise ProbeError(
            f"features {name!r} must be an array of real numbers, row by band, or what gives one "
            f"by row numbers, such as an array of h5py; not a {type(values).__name__}{kind} of the "
            f"shape {tuple(shape)}"
        )


def warn_of_constant(control: str, column: Target) -> None:
    """Warn of a control that has the same value in all rows that have it."""
    codes = target_values(column)
    known = codes[np.isfinite(codes)]
    if np.ptp(known) == 0:
        value = column.classes[int(known[0])] if isinstance(column, Labels) else known[0]
        shown = f"{value:g}" if isinstance(value, float) else short(value)
        _warn(f"control {short(control)} is {shown} everywhere: it tells nothing of any target")


def warn_of_left_out(counts: Mapping[str, RowCounts]) -> None:
    """Warn of targets of which many rows take no part, or any row has no position.

    Targets with equal counts are named in one warning.
    """
    alike: dict[RowCounts, list[str]] = {}
    for target, count in counts.items():
        left_out = count.rows - count.points
        if left_out > MAX_LEFT_OUT * count.rows or count.without_position:
            alike.setdefault(count, []).append(target)
    for count, targets in alike.items():
        _warn(
            f"the scores of {_list_targets(targets)} are of {count}: they say nothing of the rows "
            "that are left out"
        )


def warn_of_uneven(weights: Float[np.ndarray, " point"] | None) -> None:
    """Warn of weights of which a few make up most.

    Source: Kish (1965), "Survey Sampling", section 11.7: the effective number of points.
    """
    if weights is None:
        return
    effective = weights.sum() ** 2 / (weights**2).sum()
    if effective < MIN_EFFECTIVE * len(weights):
        _warn(
            f"the weights of {len(weights):,} points are so uneven that scores are as sure as "
            f"those of {effective:,.0f}: the few that weigh most decide"
        )


def warn_of_repeats(
    targets: Sequence[str],
    positions: Int[np.ndarray, " point"],
    groups: Int[np.ndarray, " point"] | None,
) -> None:
    """Warn where many rows share their position with another, or with another group.

    Args:
        targets: names of the targets.
        positions: number of each point's position.
        groups: number of each point's group, if there are groups.
    """
    among = f"points of {_list_targets(targets)}"
    repeated = np.bincount(positions)[positions] > 1
    if repeated.mean() > MAX_REPEATED:
        _warn(
            f"{repeated.sum():,} of {len(positions):,} {among} ({repeated.mean():.0%}) have the "
            f"position of another row ({len(np.unique(positions)):,} positions in all): the rows "
            "of one position stay together in one fold"
        )
    if groups is None:
        return
    # Distinct pairs of position and group: a position in several pairs has several groups.
    pairs = np.unique(np.stack([positions, groups], axis=1), axis=0)
    several = (np.bincount(pairs[:, 0]) > 1)[positions]
    if several.mean() > MAX_REPEATED:
        _warn(
            f"{several.sum():,} of {len(positions):,} {among} ({several.mean():.0%}) have the "
            "position of a row of another group: the grouped scores and the intervals are of "
            "positions that are known from other groups"
        )


def warn_of_coordinates(
    table: Any, names: Sequence[Any], columns: CoordinateColumns | None
) -> None:
    """Warn of targets that are coordinates of the table's own points."""
    from unigeo.schemas.tables.points import find_columns

    try:
        coordinates = find_columns(column_names(table), columns)
    except PointsError:
        return  # the points have a geometry
    for name in names:
        if column_label(name) in map(column_label, coordinates):
            _warn(
                f"target {short(column_label(name))} is a coordinate of the points: position alone "
                "predicts it, and the baselines know it"
            )


def warn_of_thin_data(
    target: str,
    has_target: Bool[np.ndarray, " point"],
    splits: Sequence[Split],
    features: Mapping[str, FeatureRows],
    codes: Num[np.ndarray, " point"] | None = None,
) -> None:
    """Warn where scores depend on few units, a class lies in one fold, or bands outnumber rows.

    Args:
        target: name of the target.
        has_target: mask of the points with a vector that have the target.
        splits: splits of the points.
        features: sets of features at the points.
        codes: class number of each point, for a target of classes.
    """
    points = int(has_target.sum())
    for split in splits:
        units, folds = len(np.unique(split.units[has_target])), int(split.folds.max()) + 1
        if units < UNITS_PER_FOLD.get(split.name, 0) * folds:
            _warn(
                f"the {points} points of target {short(target)} lie in {units} "
                f"{_UNITS[split.name]}, about {units / folds:.0f} in each of {folds} folds: the "
                f"{split.name} scores hang on which of them fall together; at least "
                f"{UNITS_PER_FOLD[split.name]} a fold say more"
            )
        if codes is not None:
            _warn_of_lacking_classes(target, codes, split)
    # The training set without the largest fold is the smallest.
    smallest = min(points - int(np.bincount(split.folds[has_target]).max()) for split in splits)
    wide = [name for name, values in features.items() if values.shape[1] > smallest]
    if wide:
        _warn(
            f"{wide[0]!r} has {features[wide[0]].shape[1]} bands and target {short(target)} "
            f"{smallest} training rows in its smallest fold: what is learnt is what the penalty "
            "lets through"
        )


def _warn_of_lacking_classes(target: str, codes: Num[np.ndarray, " point"], split: Split) -> None:
    """Warn of classes that lie in one fold alone, whose training sets lack them."""
    has_target = np.isfinite(codes)
    folds = split.folds[has_target]
    counts = np.zeros((int(folds.max()) + 1, int(codes[has_target].max()) + 1))
    np.add.at(counts, (folds, codes[has_target].astype(np.int64)), 1)
    lacking = ((counts == counts.sum(axis=0)) & (counts > 0)).any(axis=0)
    if lacking.any():
        _warn(
            f"{lacking.sum()} of {len(lacking)} classes of target {short(target)} lie in one of "
            f"the {split.name} folds only, and are never learnt where they are asked for"
        )


def warn_of_marks(name: str, values: Float[np.ndarray, " point"]) -> None:
    """Warn of a number that marks missing values elsewhere, and lies far below all others."""
    known = values[np.isfinite(values)]
    rest = known[known > known.min()] if len(known) else known
    if not len(rest) or known.min() not in _MARKS:
        return
    least, most = float(rest.min()), float(rest.max())
    if least - known.min() > most - least:
        _warn(
            f"target {short(name)} is {known.min():g} in {(known == known.min()).sum():,} rows and "
            f"{least:g} to {most:g} in all others: if it marks missing values, make them NaN"
        )


def _list_targets(targets: Sequence[str]) -> str:
    """List the first targets by name, and count the others."""
    shown = ", ".join(map(short, targets[:_MAX_NAMED]))
    return shown + (f" and {len(targets) - _MAX_NAMED} more" if targets[_MAX_NAMED:] else "")


def _warn(message: str) -> None:
    """Warn at the first line of the call stack that is outside of the client."""
    warnings.warn(message, ProbeWarning, skip_file_prefixes=_CLIENT, stacklevel=2)
