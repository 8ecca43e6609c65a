"""What a probe needs of its data: refused where it cannot be scored, warned of where it is thin."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from unigeo.client.probing.feature_rows import FeatureRows
from unigeo.client.probing.folds import Split
from unigeo.client.probing.row_counts import Count
from unigeo.client.probing.table_columns import column_names, label_of, short
from unigeo.client.probing.targets import Labels, Target, codes_of
from unigeo.schemas.errors import PointsError, ProbeError, ProbeWarning

POINTS_PER_FOLD = 10
"""Fewer are refused."""
UNITS_PER_FOLD = {"random": 10, "blocked": 10, "grouped": 5}
"""With fewer the scores hang on where a few of them happen to fall."""
MOST_LEFT_OUT = 0.1
"""Share of the rows, above which what is left may be another population."""
MOST_REPEATED = 0.05
"""Share of the points whose position stands in the table again, above which it is said."""
_UNITS = {"random": "positions", "blocked": "blocks", "grouped": "groups"}
_MOST_NAMED = 5  # targets in a warning
_CLIENT = (str(Path(__file__).parents[1]),)


def check_counts(target: str, count: Count, blocks: int, folds: int, block_km: float) -> None:
    """Refuse a target with too few points or blocks.

    Args:
        target: its name.
        count: of the rows that take part.
        blocks: occupied by the points.
        folds: of each split.
        block_km: side of a block.

    Raises:
        ProbeError: with the numbers there are and the numbers needed.
    """
    if count.without_target == count.rows:
        raise ProbeError(f"target {short(target)} is missing in all {count.rows:,} rows")
    if count.points < folds * POINTS_PER_FOLD:
        raise ProbeError(
            f"target {short(target)} has {count}; {folds} folds need at least "
            f"{folds * POINTS_PER_FOLD} points"
        )
    if blocks < folds:
        raise ProbeError(
            f"the {count.points} points of target {short(target)} lie in {blocks} blocks of "
            f"{block_km:g} km; {folds} folds need at least {folds}: make the blocks smaller"
        )


def check_folds(target: str, has: Bool[np.ndarray, " point"], split: Split) -> None:
    """Refuse a split in which a fold has almost no point of a target.

    Raises:
        ProbeError: naming the split and the points in each fold.
    """
    sizes = np.bincount(split.folds[has], minlength=split.folds.max() + 1)
    if sizes.min() < 2:
        raise ProbeError(
            f"the {split.name} folds hold {sizes.tolist()} points with the target {short(target)}, "
            "and each needs 2: make the blocks smaller, ask for fewer folds, or probe it alone"
        )


def check_numbers(target: str, values: Float[np.ndarray, " point"]) -> None:
    """Refuse numbers that do not vary.

    Raises:
        ProbeError: with the number.
    """
    if np.ptp(values) == 0:
        raise ProbeError(
            f"target {short(target)} is {values[0]:g} everywhere, at {len(values)} points: there "
            "is nothing to predict"
        )


def check_classes(target: str, classes: Sequence[Any], codes: Int[np.ndarray, " point"]) -> None:
    """Refuse classes that cannot be told apart from one point.

    Raises:
        ProbeError: if there is one class only, or one of them has fewer than two points.
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
    """Refuse vectors that are no table of numbers.

    Raises:
        ProbeError: saying what they are.
    """
    shape: tuple[int, ...] = getattr(values, "shape", ())
    try:
        row = values[np.arange(1)]
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
    """Warn of a control that has one value only, in all rows that have it."""
    codes = codes_of(column)
    known = codes[np.isfinite(codes)]
    if np.ptp(known) == 0:
        value = column.classes[int(known[0])] if isinstance(column, Labels) else known[0]
        shown = f"{value:g}" if isinstance(value, float) else short(value)
        _warn(f"control {short(control)} is {shown} everywhere: it tells nothing of any target")


def warn_of_left_out(counts: Mapping[str, Count]) -> None:
    """Warn of targets of which many rows take no part, or one for want of a position.

    Targets that lack the same rows are named in one warning.
    """
    alike: dict[Count, list[str]] = {}
    for target, count in counts.items():
        left_out = count.rows - count.points
        if left_out > MOST_LEFT_OUT * count.rows or count.without_position:
            alike.setdefault(count, []).append(target)
    for count, targets in alike.items():
        _warn(
            f"the scores of {_named(targets)} are of {count}: they say nothing of the rows that "
            "are left out"
        )


def warn_of_repeats(
    targets: Sequence[str],
    positions: Int[np.ndarray, " point"],
    groups: Int[np.ndarray, " point"] | None,
) -> None:
    """Warn where many rows share their position with another, or with another group.

    Args:
        targets: their names.
        positions: number of each point's position.
        groups: number of each point's group, where there are groups.
    """
    of = f"points of {_named(targets)}"
    repeated = np.bincount(positions)[positions] > 1
    if repeated.mean() > MOST_REPEATED:
        _warn(
            f"{repeated.sum():,} of {len(positions):,} {of} ({repeated.mean():.0%}) have the "
            f"position of another row ({len(np.unique(positions)):,} positions in all): the rows "
            "of one position stay together in one fold"
        )
    if groups is None:
        return
    pairs = np.unique(np.stack([positions, groups], axis=1), axis=0)
    several = (np.bincount(pairs[:, 0]) > 1)[positions]
    if several.mean() > MOST_REPEATED:
        _warn(
            f"{several.sum():,} of {len(positions):,} {of} ({several.mean():.0%}) have the "
            "position of a row of another group: the grouped scores and the intervals are of "
            "positions that are known from other groups"
        )


def warn_of_coordinates(table: Any, names: Sequence[Any], columns: tuple[Any, Any] | None) -> None:
    """Warn of targets that are coordinates of the table's own points."""
    from unigeo.schemas.tables.points import find_columns

    try:
        coordinates = find_columns(column_names(table), columns)
    except PointsError:
        return  # the points have a geometry
    for name in names:
        if label_of(name) in map(label_of, coordinates):
            _warn(
                f"target {short(label_of(name))} is a coordinate of the points: position alone "
                "predicts it, and the baselines know it"
            )


def warn_of_thin_data(
    target: str,
    has: Bool[np.ndarray, " point"],
    splits: Sequence[Split],
    features: Mapping[str, FeatureRows],
    codes: Num[np.ndarray, " point"] | None = None,
) -> None:
    """Warn of what leaves scores standing on little.

    Args:
        target: its name.
        has: which of the points with a vector have the target.
        splits: of the points with a vector.
        features: of the same points.
        codes: classes of the same points, for a target of classes.
    """
    points = int(has.sum())
    for split in splits:
        units, folds = len(np.unique(split.units[has])), int(split.folds.max()) + 1
        if units < UNITS_PER_FOLD.get(split.name, 0) * folds:
            _warn(
                f"the {points} points of target {short(target)} lie in {units} "
                f"{_UNITS[split.name]}, about {units / folds:.0f} in each of {folds} folds: the "
                f"{split.name} scores hang on which of them fall together; at least "
                f"{UNITS_PER_FOLD[split.name]} a fold say more"
            )
        if codes is not None:
            _warn_of_lacking_classes(target, codes, split)
    smallest = min(
        points - int(np.bincount(split.folds[has]).max()) for split in splits
    )  # rows of the smallest training set
    wide = [name for name, values in features.items() if values.shape[1] > smallest]
    if wide:
        _warn(
            f"{wide[0]!r} has {features[wide[0]].shape[1]} bands and target {short(target)} "
            f"{smallest} training rows in its smallest fold: what is learnt is what the penalty "
            "lets through"
        )


def _warn_of_lacking_classes(target: str, codes: Num[np.ndarray, " point"], split: Split) -> None:
    has = np.isfinite(codes)
    folds = split.folds[has]
    counts = np.zeros((int(folds.max()) + 1, int(codes[has].max()) + 1))
    np.add.at(counts, (folds, codes[has].astype(np.int64)), 1)
    lacking = ((counts == counts.sum(axis=0)) & (counts > 0)).any(axis=0)  # all in one fold
    if lacking.any():
        _warn(
            f"{lacking.sum()} of {len(lacking)} classes of target {short(target)} lie in one of "
            f"the {split.name} folds only, and are never learnt where they are asked for"
        )


def _named(targets: Sequence[str]) -> str:
    shown = ", ".join(map(short, targets[:_MOST_NAMED]))
    return shown + (f" and {len(targets) - _MOST_NAMED} more" if targets[_MOST_NAMED:] else "")


def _warn(message: str) -> None:
    # The line that is shown is the user's: the first one outside of the client.
    warnings.warn(message, ProbeWarning, skip_file_prefixes=_CLIENT, stacklevel=2)
