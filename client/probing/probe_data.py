"""What a probe is asked of a table: checked before a vector is read, and split when they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from unigeo.client.probing.checks import (
    check_classes,
    check_counts,
    check_folds,
    check_numbers,
    check_vectors,
    warn_of_left_out,
    warn_of_repeats,
    warn_of_thin_data,
)
from unigeo.client.probing.controls import Controls
from unigeo.client.probing.feature_rows import SideBySide, row_blocks, some_rows
from unigeo.client.probing.folds import (
    CONUS,
    Split,
    all_splits,
    check_units,
    group_numbers,
    position_numbers,
    spatial_blocks,
)
from unigeo.client.probing.models import Vectors
from unigeo.client.probing.row_counts import Count
from unigeo.client.probing.table_columns import listed, short
from unigeo.client.probing.targets import LARGEST, Labels, Target, codes_of, read_targets
from unigeo.client.reading.point_status import NO_POSITION, count_reasons
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import check_lonlat


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked, of all rows of a table."""

    targets: Mapping[str, Target]
    lonlat: Float[np.ndarray, "row 2"]
    """NaN where a row has no position."""
    groups: Int[np.ndarray, " row"] | None
    block_km: float
    crs: str
    folds: int
    seed: int
    controls: Controls | None = None

    @property
    def placed(self) -> Bool[np.ndarray, " row"]:
        """Which rows have a position."""
        return ~np.isnan(self.lonlat).any(axis=1)

    @property
    def controlled(self) -> Bool[np.ndarray, " row"]:
        """Which rows have every control."""
        return np.ones(len(self.lonlat), bool) if self.controls is None else self.controls.complete

    @property
    def asked(self) -> Bool[np.ndarray, " row"]:
        """Which rows need a vector: they have a position, a target and the controls."""
        return np.asarray(self.placed & _any_target(self.targets) & self.controlled)

    def __repr__(self) -> str:
        return f"Question({listed(list(self.targets))} of {len(self.lonlat):,} rows)"


@dataclass(frozen=True, eq=False)
class ProbeData:
    """Points that have a vector in every set, what is predicted at them, and how they are split."""

    targets: Mapping[str, Target]
    """As given; of all rows."""
    known: Mapping[str, Float[np.ndarray, " point"]]
    """The targets' numbers, or class numbers, at the points; NaN where missing."""
    vectors: Vectors
    lonlat: Float[np.ndarray, "point 2"]
    blocks: Int[np.ndarray, " point"]
    splits: tuple[Split, ...]
    counts: Mapping[str, Count]
    """Of each target: rows that take part, and why the others do not."""
    crs: str
    question: Question
    """What was asked, of all rows."""
    rows: Int[np.ndarray, " point"]
    """Row of the table that each point is."""
    controls: Controls | None = None
    """At the points."""

    def labels(self, target: str) -> Labels | None:
        """The labels of a target of classes, None for one of numbers."""
        found = self.targets[target]
        return found if isinstance(found, Labels) else None

    def has(self, target: str) -> Bool[np.ndarray, " point"]:
        """Which points have the target."""
        return np.isfinite(self.known[target])

    def __repr__(self) -> str:
        return (
            f"ProbeData({listed(list(self.known))} at {len(self.lonlat):,} points; "
            f"features {listed(list(self.vectors))})"
        )


def ask(
    targets: Mapping[str, Any],
    lonlat: Float[np.ndarray, "row 2"],
    *,
    groups: Any = None,
    block_km: float = 300.0,
    crs: str = CONUS,
    folds: int = 5,
    seed: int = 0,
    controls: Controls | None = None,
) -> Question:
    """Check what can be checked without a vector.

    Args:
        targets: what to predict: numbers, NaN where missing, or `Labels`; each by itself.
        lonlat: WGS 84 degrees, longitude first; NaN where a row has no position, which then takes
            no part.
        groups: label of each row, to hold whole groups out in a third split.
        block_km: side of the squares that the blocked split keeps whole.
        crs: CRS in metres, best equal-area, of the blocks and of the nearest neighbours.
        folds: at least 3: the penalty is chosen in the folds that are not held out.
        seed: of the folds.
        controls: the user's own variables; a row that lacks one takes no part.

    Raises:
        ProbeError: if rows, blocks or groups are too few, a target is constant, or an option is no
            such number.
        PointsError: if a position is none on the globe.
    """
    _check_options(folds, seed)
    found = read_targets(targets, len(lonlat))
    placed = ~np.isnan(lonlat).any(axis=1)
    if not placed.any():
        raise ProbeError(
            f"none of the table's {len(lonlat)} rows has a position: look at its coordinates"
        )
    check_lonlat(lonlat[placed])
    numbers = None
    if controls is not None and len(controls.values) != len(lonlat):
        raise ProbeError(f"{len(controls.values)} rows of controls for {len(lonlat)} points")
    if groups is not None:
        needed = placed & _any_target(found) & (True if controls is None else controls.complete)
        numbers = group_numbers(groups, len(lonlat), needed)
        check_units(len(np.unique(numbers[needed])), folds, "groups")
    blocks = spatial_blocks(lonlat[placed], block_km, crs)
    question = Question(
        found, lonlat, numbers, float(block_km), crs, int(folds), int(seed), controls
    )
    status = np.where(placed, np.uint8(Status.VALID), np.uint8(NO_POSITION))
    for name in found:
        _check_target(question, name, placed, status, blocks)
    return question


def prepare(
    question: Question,
    features: Vectors,
    status: UInt8[np.ndarray, " row"] | None = None,
) -> ProbeData:
    """Take the points that can be probed, split them, and say where they are too few.

    Args:
        question: what `ask` gives.
        features: vectors of each set (a modality, or several joined) at all rows; a row with NaN
            in any set has no vector and is left out of all sets and baselines alike. May be empty.
        status: why a row has no vector, for messages.

    Raises:
        ProbeError: if points, blocks, groups or vectors are too few, or lengths differ.

    Warns:
        ProbeWarning: where they are enough to score and too few to rely on, where many rows take
            no part or repeat a position, and where a row has no position.
    """
    lonlat, placed, folds = question.lonlat, question.placed, question.folds
    if status is None:
        status = np.full(len(lonlat), Status.VALID, np.uint8)
    status = np.where(placed, status, np.uint8(NO_POSITION))
    usable = _have_vectors(features, placed)
    if not usable.any():
        why = count_reasons(status)
        raise ProbeError(
            f"none of the {len(lonlat)} points has a vector in all of {listed(list(features))}"
            + (f" ({why})" if why else "")
            + ": look at the points' positions, and at the field's coverage"
        )
    blocks = spatial_blocks(lonlat[usable], question.block_km, question.crs)
    counts = {
        name: _check_target(question, name, usable, status, blocks) for name in question.targets
    }
    valid = usable & question.controlled
    blocks = blocks[valid[usable]]
    numbers = None if question.groups is None else question.groups[valid]
    positions = position_numbers(lonlat[valid])
    splits = all_splits(blocks, numbers, folds, question.seed, positions)
    vectors = {name: some_rows(values, valid) for name, values in features.items()}
    known = {name: codes_of(target)[valid] for name, target in question.targets.items()}
    warn_of_left_out(counts)
    warn_of_repeats(list(question.targets), positions, numbers)
    for name, values in known.items():
        has = np.isfinite(values)
        for split in splits:
            check_folds(name, has, split)
        classes = values if isinstance(question.targets[name], Labels) else None
        warn_of_thin_data(name, has, splits, vectors, classes)
    controls = None if question.controls is None else question.controls.take(valid)
    return ProbeData(
        question.targets,
        known,
        vectors,
        lonlat[valid],
        blocks,
        splits,
        counts,
        question.crs,
        question,
        np.flatnonzero(valid),
        controls,
    )


def _check_target(
    question: Question,
    name: str,
    usable: Bool[np.ndarray, " row"],
    status: UInt8[np.ndarray, " row"],
    blocks: Int[np.ndarray, " point"],
) -> Count:
    """Refuse a target with too few usable rows, or that is alike in all of them."""
    target = question.targets[name]
    codes = codes_of(target)
    has = np.isfinite(codes)
    controlled = question.controlled
    count = Count.of(has, usable, status, controlled)
    used = len(np.unique(blocks[(has & controlled)[usable]]))
    check_counts(name, count, used, question.folds, question.block_km)
    values = codes[has & usable & controlled]
    if isinstance(target, Labels):
        check_classes(name, target.classes, values.astype(np.int64))
    else:
        check_numbers(name, values)
    return count


def _check_options(folds: Any, seed: Any) -> None:
    """Refuse options that are no such numbers.

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
    found: Bool[np.ndarray, " row"] = np.any(
        [np.isfinite(codes_of(target)) for target in targets.values()], axis=0
    )
    return found


def _have_vectors(features: Vectors, rows: Bool[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
    """Which of some rows are whole in every set of features."""
    valid = rows.copy()
    for name, values in features.items():
        check_vectors(name, values)
        if values.shape[0] != len(rows):
            raise ProbeError(
                f"features {name!r} have {values.shape[0]} rows for {len(rows)} points"
            )
        if isinstance(values, SideBySide) and values.is_of(features.values()):
            continue  # each part is looked at by itself
        for block in row_blocks(np.flatnonzero(rows), values.shape[1]):
            sums = values[block].sum(axis=1, dtype=np.float64)
            huge = np.abs(sums) > LARGEST
            if huge.any():
                raise ProbeError(
                    f"features {name!r} are infinite, or beyond {LARGEST:g}, in row "
                    f"{block[int(np.argmax(huge))]}"
                )
            valid[block[np.isnan(sums)]] = False
    return valid
