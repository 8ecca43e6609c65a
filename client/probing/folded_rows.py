"""The rows of a ridge cut into folds: read in blocks, summed by fold, combined to equations."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.band_scaling import BandScaling
from unigeo.client.probing.feature_rows import FeatureRows, row_blocks
from unigeo.client.probing.leverage import TrainingSpread
from unigeo.client.probing.normal_equations import (
    DualEquations,
    Moments,
    PrimalEquations,
    RidgeSolution,
    prefers_primal,
)
from unigeo.client.threads import Run, workers
from unigeo.schemas.errors import ProbeError

_ORIGIN_ROWS = 512
"""Rows, about, that the origin and the scale of the sums are estimated from."""
_ROUNDING = 1e-12
"""Deviation / value of a band, below which the band is taken for constant."""
_PENALTIES_TRIED = 6
"""Penalties that are tried in most cases, of 19; for estimates of time."""

Advance = Callable[[float], None]
"""Callback that adds newly done floating-point operations to the progress."""
Block = dict[int, tuple[np.ndarray, np.ndarray]]
"""Row numbers and features of each fold that has rows in a block."""


class FoldedRows:
    """The rows of some targets, cut into folds, as deviations from one origin in one scale.

    The training sets of a cross-validation overlap: each is all folds but one or two. So sums over
    the rows are taken once per fold, and those of a training set are the sums of its folds. Each
    training set is then standardized by itself; origin and scale only keep the sums exact, since
    the square of a mean that is far larger than the deviation would take up all digits.

    Rows become float64 a block at a time.
    """

    def __init__(
        self,
        features: FeatureRows,
        targets: Float[np.ndarray, "point target"],
        folds: Int[np.ndarray, " point"],
        rows: Int[np.ndarray, " row"],
        columns: Int[np.ndarray, " column"],
        scaling: BandScaling,
        advance: Advance,
        weights: Float[np.ndarray, " point"] | None = None,
    ) -> None:
        """Cut rows into folds.

        Args:
            features: vectors of all points.
            targets: targets of all points.
            folds: fold number of each point; the numbers may have gaps.
            rows: points to use, at which every target in `columns` is known.
            columns: targets to use.
            scaling: scale of each band.
            advance: called with newly done floating-point operations.
            weights: positive weight of each point; 1 by default.

        Raises:
            ProbeError: if there are fewer than two folds, or one of them has no row.
        """
        self.labels = np.unique(folds)
        self.count = len(self.labels)
        self.folds = np.searchsorted(self.labels, folds)  # index of each point's fold in `labels`
        self.sizes = np.bincount(self.folds[rows], minlength=self.count)
        if self.count < 2 or self.sizes.min() == 0:
            raise ProbeError(
                f"each of at least 2 folds must hold rows with a target, but target number "
                f"{columns[0]} has {self.sizes.tolist()} rows in the folds"
            )
        self.features, self.rows, self.columns = features, rows, columns
        self.targets, self.weights = targets, weights
        self.bands = features.shape[1]
        self.scaling, self.advance = scaling, advance
        self.origin, self.scale, self.constant = self._origin_and_scale()
        self.target_origin = targets[np.ix_(rows, columns)].mean(axis=0)
        self._moments: list[Moments] | None = None
        self.kept: dict[tuple[tuple[int, ...], int], tuple[RidgeSolution, TrainingSpread]] = {}
        """Models by training set and number of the penalty, kept for the step that follows."""

    def workers(self) -> AbstractContextManager[Run]:
        """Start threads for the factorizations of this data."""
        operations = ridge_operations(len(self.rows), self.bands, self.count)
        size = min(self.bands, len(self.rows))
        # About three float64 matrices each: that of the equations, its factor, and copies.
        return workers(operations, 3 * 8 * size**2)

    def all_but(self, *folds: int) -> list[int]:
        """Return the other folds."""
        return [fold for fold in range(self.count) if fold not in folds]

    def blocks(self, folds: Sequence[int]) -> Iterator[Block]:
        """Read the rows of some folds in blocks, in their order, each cut by fold."""
        wanted = self.rows[np.isin(self.folds[self.rows], folds)]
        for block in row_blocks(wanted, self.bands):
            values = self.features[block] - self.origin
            # Rounding must not look like variation once a constant band is standardized.
            for band in self.constant:
                values[np.abs(values[:, band]) <= _ROUNDING * np.abs(self.origin[band]), band] = 0
            values /= self.scale
            fold_of = self.folds[block]
            present = np.unique(fold_of).tolist()
            if len(present) == 1:  # no copy of a block that lies in one fold
                yield {present[0]: (block, values)}
            else:
                yield {fold: (block[fold_of == fold], values[fold_of == fold]) for fold in present}

    def centred_targets(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row column"]:
        """Return the targets of some rows, as deviations from their own origin."""
        return self.targets[np.ix_(rows, self.columns)] - self.target_origin

    def weights_of(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, " row"] | None:
        """Return the weights of some rows; None if all are 1."""
        return None if self.weights is None else self.weights[rows]

    def moments(self, run: Run) -> list[Moments]:
        """Sum over the rows of each fold, on the first call only."""
        if self._moments is None:
            sums = [Moments.zeros(self.bands, len(self.columns)) for _ in range(self.count)]
            for block in self.blocks(range(self.count)):
                # A thread per fold of the block: no two add to the same sums.
                def add(fold: int, block: Block = block) -> None:
                    rows, values = block[fold]
                    sums[fold].add(values, self.centred_targets(rows), self.weights_of(rows))

                list(run(add, block))
                self.advance(sum(len(rows) for rows, _ in block.values()) * float(self.bands) ** 2)
            self._moments = sums
        return self._moments

    def equations(self, train: Sequence[int]) -> PrimalEquations | DualEquations:
        """Build the normal equations of a training set, from its folds."""
        if self._moments is not None and self.is_primal(train):
            total = Moments.total([self._moments[fold] for fold in train])
            return PrimalEquations(total, self.scaling)
        parts = [part for block in self.blocks(train) for part in block.values()]
        rows, values = (np.concatenate(side) for side in zip(*parts, strict=True))
        targets, weights = self.centred_targets(rows), self.weights_of(rows)
        return DualEquations(values, targets, self.scaling, weights)

    def errors(
        self, fold: int, solutions: Sequence[RidgeSolution]
    ) -> Float[np.ndarray, "solution column"]:
        """Sum the squared errors of solutions on a fold."""
        together = RidgeSolution.concatenate(solutions)  # one product for all
        if self._moments is not None:
            sums = self._moments[fold].errors(together)
        else:
            sums = np.zeros(len(together.intercepts))
            for block in self.blocks([fold]):
                rows, values = block[fold]
                truth = np.tile(self.centred_targets(rows), len(solutions))
                squares, weights = (together.predict(values) - truth) ** 2, self.weights_of(rows)
                sums += squares.sum(axis=0) if weights is None else weights @ squares
        return sums.reshape(len(solutions), -1)

    def is_primal(self, train: Sequence[int]) -> bool:
        """Return whether the equations of a training set are those of the bands."""
        return prefers_primal(int(self.sizes[list(train)].sum()), self.bands)

    def factor_operations(self, omitted: Sequence[int]) -> float:
        """Estimate the operations of one Cholesky factor of the set that omits some folds."""
        rows = int(self.sizes[self.all_but(*omitted)].sum())
        return float(min(self.bands, rows)) ** 3 / 3

    def _origin_and_scale(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Estimate mean and scale of each band from some rows; find the constant bands.

        The deviation of a constant can be of the size of rounding, and would blow that up to 1:
        such a band has scale 1.
        """
        step = max(1, len(self.rows) // _ORIGIN_ROWS)
        some = np.asarray(self.features[self.rows[::step]], np.float64)
        moved = some - some[0]  # exactly 0 in a constant band, as its mean then is
        mean = moved.mean(axis=0)
        deviation = (moved - mean).std(axis=0)
        origin = some[0] + mean
        constant = np.flatnonzero(deviation <= _ROUNDING * np.abs(origin))
        deviation[constant] = 0
        scale = np.sqrt(self.scaling.shared(deviation**2))
        return origin, np.where(scale > 0, scale, 1.0), constant


def ridge_operations(rows: int, bands: int, folds: int, leave_one_out: bool = False) -> float:
    """Estimate the floating-point operations of `RidgeProbe.held_out`: sums, factors, leverages."""
    pairs = folds * (folds - 1) / 2
    size = min(bands, (folds - 1) * rows // folds)
    factors = (_PENALTIES_TRIED + 2) * pairs + 1.5 * folds
    predicted = float(folds)  # times that all rows are predicted
    if leave_one_out:
        predicted += folds - 1
    return rows * bands * min(bands, rows) + factors * size**3 / 3 + predicted * rows * bands**2 / 2
