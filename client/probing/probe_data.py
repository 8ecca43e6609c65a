"""The data of a probe: the points that have vectors, their targets, and their folds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from unigeo.client.probing.checks import (
    check_folds,
    check_vectors,
    warn_of_left_out,
    warn_of_marks,
    warn_of_repeats,
    warn_of_thin_data,
    warn_of_uneven,
)
from unigeo.client.probing.controls import Controls
from unigeo.client.probing.feature_rows import JoinedRows, row_blocks, select_rows
from unigeo.client.probing.folds import Split, all_splits, position_numbers, spatial_blocks
from unigeo.client.probing.kernel_map import KernelMap
from unigeo.client.probing.kernel_option import add_kernels
from unigeo.client.probing.metrics import Weights
from unigeo.client.probing.models import Vectors
from unigeo.client.probing.probe_inputs import ProbeInputs, check_target
from unigeo.client.probing.row_counts import RowCounts
from unigeo.client.probing.table_columns import listed
from unigeo.client.probing.target_bounds import Bounds
from unigeo.client.probing.targets import LARGEST, Labels, Target, target_values
from unigeo.client.reading.point_status import NO_POSITION, count_reasons
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.store.status import Status


@dataclass(frozen=True, eq=False)
class ProbeData:
    """Points that have a vector in every set, what is predicted at them, and how they are split."""

    targets: Mapping[str, Target]
    """Targets of all rows of the table, as given."""
    known: Mapping[str, Float[np.ndarray, " point"]]
    """Numbers or class numbers of each target at the points; NaN where missing."""
    vectors: Vectors
    """Vectors of each set at the points."""
    lonlat: Float[np.ndarray, "point 2"]
    blocks: Int[np.ndarray, " point"]
    """Number of each point's block."""
    splits: tuple[Split, ...]
    counts: Mapping[str, RowCounts]
    """Counts of the rows that take part, and of the others, by target."""
    crs: str
    """CRS of the blocks."""
    inputs: ProbeInputs
    """Inputs at all rows of the table."""
    rows: Int[np.ndarray, " point"]
    """Row of the table that each point is."""
    controls: Controls | None = None
    """Controls at the points."""
    weights: Weights = None
    """Weight of each point, 1 on average; None if all are 1."""
    kernels: Mapping[str, KernelMap] = field(default_factory=dict)
    """Map of each set of vectors that is the numbers of a kernel."""

    def with_kernels(
        self, seed: int, progress: bool | None, without: Collection[str] = ()
    ) -> "ProbeData":
        """Add the kernel's numbers of each set of vectors; see `kernel_option.add_kernels`."""
        vectors, kernels = add_kernels(self.vectors, seed, progress, without)
        return replace(self, vectors=vectors, kernels=kernels)

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        """Bounds of the targets that have some."""
        return self.inputs.bounds

    def labels(self, target: str) -> Labels | None:
        """Return the labels of a target of classes, None for a target of numbers."""
        given = self.targets[target]
        return given if isinstance(given, Labels) else None

    def has(self, target: str) -> Bool[np.ndarray, " point"]:
        """Mark the points that have the target."""
        return np.isfinite(self.known[target])

    def __repr__(self) -> str:
        return (
            f"ProbeData({listed(list(self.known))} at {len(self.lonlat):,} points; "
            f"features {listed(list(self.vectors))})"
        )


def prepare(
    inputs: ProbeInputs,
    features: Vectors,
    status: UInt8[np.ndarray, " row"] | None = None,
) -> ProbeData:
    """Select the points that can be probed, split them, and warn where they are few.

    Args:
        inputs: inputs that `check_inputs` returned.
        features: vectors of each set (a modality, or several joined) at all rows; a row with NaN
            in any set has no vector and is left out of all sets and baselines alike. May be empty.
        status: reason why a row has no vector, for messages.

    Raises:
        ProbeError: if points, blocks, groups or vectors are too few, or lengths differ.

    Warns:
        ProbeWarning: where they are enough to score and too few to rely on, where many rows take
            no part or repeat a position, where a row has no position, and where a target holds a
            number that may mark missing values.
    """
    lonlat, has_position = inputs.lonlat, inputs.has_position
    if status is None:
        status = np.full(len(lonlat), Status.VALID, np.uint8)
    status = np.where(has_position, status, np.uint8(NO_POSITION))
    usable = _have_vectors(features, has_position)
    if not usable.any():
        why = count_reasons(status)
        raise ProbeError(
            f"none of the {len(lonlat)} points has a vector in all of {listed(list(features))}"
            + (f" ({why})" if why else "")
            + ": look at the points' positions, and at the field's coverage"
        )
    # The counts are of all usable rows; only those that have the controls become points.
    blocks = spatial_blocks(lonlat[usable], inputs.block_km, inputs.crs)
    counts = {name: check_target(inputs, name, usable, status, blocks) for name in inputs.targets}
    valid = usable & inputs.has_controls & inputs.has_weight
    blocks = blocks[valid[usable]]
    groups = None if inputs.groups is None else inputs.groups[valid]
    positions = position_numbers(lonlat[valid])
    splits = all_splits(blocks, groups, inputs.folds, inputs.seed, positions)
    vectors = {name: select_rows(values, valid) for name, values in features.items()}
    known = {name: target_values(target)[valid] for name, target in inputs.targets.items()}
    weights = None if inputs.weights is None else inputs.weights[valid]
    warn_of_left_out(counts)
    for name, target in inputs.targets.items():
        if not isinstance(target, Labels):
            warn_of_marks(name, known[name])
    warn_of_uneven(weights)
    warn_of_repeats(list(inputs.targets), positions, groups)
    for name, values in known.items():
        has_target = np.isfinite(values)
        for split in splits:
            check_folds(name, has_target, split)
        classes = values if isinstance(inputs.targets[name], Labels) else None
        warn_of_thin_data(name, has_target, splits, vectors, classes)
    return ProbeData(
        targets=inputs.targets,
        known=known,
        vectors=vectors,
        lonlat=lonlat[valid],
        blocks=blocks,
        splits=splits,
        counts=counts,
        crs=inputs.crs,
        inputs=inputs,
        rows=np.flatnonzero(valid),
        controls=None if inputs.controls is None else inputs.controls.take(valid),
        weights=None if weights is None else weights / weights.mean(),
    )


def _have_vectors(features: Vectors, rows: Bool[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
    """Mark those of some rows that have a vector without NaN in every set of features."""
    valid = rows.copy()
    for name, values in features.items():
        check_vectors(name, values)
        if values.shape[0] != len(rows):
            raise ProbeError(
                f"features {name!r} have {values.shape[0]} rows for {len(rows)} points"
            )
        if isinstance(values, JoinedRows) and values.consists_of(features.values()):
            continue  # each part is looked at by itself
        for block in row_blocks(np.flatnonzero(rows), values.shape[1]):
            # The sum of a row is NaN if one of its numbers is; infinite or huge likewise.
            sums = values[block].sum(axis=1, dtype=np.float64)
            huge = np.abs(sums) > LARGEST
            if huge.any():
                raise ProbeError(
                    f"features {name!r} are infinite, or beyond {LARGEST:g}, in row "
                    f"{block[int(np.argmax(huge))]}"
                )
            valid[block[np.isnan(sums)]] = False
    return valid
