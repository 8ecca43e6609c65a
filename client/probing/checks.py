"""What a probe needs of its data: refused where it cannot be scored, warned of where it is thin."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from unigeo.client.probing.folds import Split
from unigeo.schemas.errors import ProbeError

POINTS_PER_FOLD = 10
"""Fewer are refused."""
UNITS_PER_FOLD = {"blocked": 10, "grouped": 5}
"""Blocks and groups; with fewer the scores hang on where a few of them happen to fall."""
MOST_DROPPED = 0.1
"""Share of points without a vector, above which what is left may be another population."""


class ProbeWarning(UserWarning):
    """A probe whose data are thin: its scores stand, and say less than they seem to."""


def check_counts(
    target: str,
    points: int,
    dropped: int,
    blocks: int,
    folds: int,
    block_km: float,
) -> None:
    """Refuse a target with too few points or blocks.

    Args:
        target: its name.
        points: that have the target and a vector.
        dropped: that have the target and no vector.
        blocks: occupied by the points.
        folds: of each split.
        block_km: side of a block.

    Raises:
        ProbeError: with the numbers there are and the numbers needed.
    """
    if folds < 3:
        raise ProbeError(
            f"{folds} folds are too few: with at least 3, the penalty is chosen without the one "
            "that is held out"
        )
    if points < folds * POINTS_PER_FOLD:
        lost = f" ({dropped} more have no vector)" if dropped else ""
        raise ProbeError(
            f"{points} points have the target {target!r} and a vector{lost}; {folds} folds need "
            f"at least {folds * POINTS_PER_FOLD}"
        )
    if blocks < folds:
        raise ProbeError(
            f"the {points} points of target {target!r} lie in {blocks} blocks of {block_km:g} km; "
            f"{folds} folds need at least {folds}: make the blocks smaller"
        )


def check_folds(target: str, has: Bool[np.ndarray, " point"], split: Split) -> None:
    """Refuse a split in which a fold has almost no point of a target.

    Raises:
        ProbeError: naming the split and the points in each fold.
    """
    sizes = np.bincount(split.folds[has], minlength=split.folds.max() + 1)
    if sizes.min() < 2:
        raise ProbeError(
            f"the {split.name} folds hold {sizes.tolist()} points with the target {target!r}, and "
            "each needs 2: make the blocks smaller, ask for fewer folds, or probe it alone"
        )


def check_classes(target: str, classes: Sequence[Any], codes: Int[np.ndarray, " point"]) -> None:
    """Refuse classes that cannot be told apart from one point.

    Raises:
        ProbeError: if there is one class only, or one of them has a single point.
    """
    counts = np.bincount(codes, minlength=len(classes))
    if (counts > 0).sum() < 2:
        raise ProbeError(f"target {target!r} is {classes[int(counts.argmax())]!r} everywhere")
    if counts.min() < 2:
        alone = [str(name) for name, count in zip(classes, counts, strict=True) if count < 2]
        raise ProbeError(
            f"{len(alone)} of the {len(classes)} classes of target {target!r} have one point only, "
            f"such as {alone[0]!r}: merge rare classes or drop them. If it holds numbers, ask for "
            "task='regression'."
        )


def warn_of_thin_data(
    target: str,
    has: Bool[np.ndarray, " point"],
    dropped: int,
    splits: Sequence[Split],
    features: Mapping[str, Float[np.ndarray, "point _"]],
    codes: Num[np.ndarray, " point"] | None = None,
) -> None:
    """Warn of what leaves scores standing on little.

    Args:
        target: its name.
        has: which of the points with a vector have the target.
        dropped: points that have the target and no vector.
        splits: of the points with a vector.
        features: of the same points.
        codes: classes of the same points, for a target of classes.
    """
    points = int(has.sum())
    if dropped > MOST_DROPPED * (points + dropped):
        _warn(
            f"{dropped} of {points + dropped} points with the target {target!r} "
            f"({dropped / (points + dropped):.0%}) have no vector and are left out: the scores are "
            "of the places that are left"
        )
    for split in splits:
        units, folds = len(np.unique(split.units[has])), int(split.folds.max()) + 1
        if units < UNITS_PER_FOLD.get(split.name, 0) * folds:
            what = "blocks" if split.name == "blocked" else "groups"
            _warn(
                f"the {points} points of target {target!r} lie in {units} {what}, about "
                f"{units / folds:.0f} in each of {folds} folds: the {split.name} scores hang on "
                f"which of them fall together; at least {UNITS_PER_FOLD[split.name]} a fold say "
                "more"
            )
        if codes is not None:
            _warn_of_lacking_classes(target, codes, split)
    smallest = min(
        points - int(np.bincount(split.folds[has]).max()) for split in splits
    )  # rows of the smallest training set
    wide = [name for name, values in features.items() if values.shape[1] > smallest]
    if wide:
        _warn(
            f"{wide[0]!r} has {features[wide[0]].shape[1]} bands and target {target!r} "
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
            f"{lacking.sum()} of {len(lacking)} classes of target {target!r} lie in one of the "
            f"{split.name} folds only, and are never learnt where they are asked for"
        )


def _warn(message: str) -> None:
    warnings.warn(message, ProbeWarning, stacklevel=5)
