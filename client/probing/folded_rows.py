"""The rows of a ridge cut into folds: read in blocks, summed by fold, put together as equations."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.feature_rows import FeatureRows, row_blocks
from unigeo.client.probing.leverage import Spread
from unigeo.client.probing.normal_equations import Dual, Moments, Primal, Solution, by_bands
from unigeo.client.threads import Run, workers
from unigeo.schemas.errors import ProbeError

_ORIGIN_ROWS = 512
"""Rows that the origin and the scale of sums are taken from."""
_ROUNDING = 1e-12
"""A deviation this small beside the value is that of a constant."""
_PENALTIES_TRIED = 6
"""Of the 19 in most cases, for estimates."""

Push = Callable[[float], None]
"""Callback for the number of floating-point operations that are newly done."""
Block = dict[int, tuple[np.ndarray, np.ndarray]]
"""Row numbers and features of each fold that has rows in a block."""


class FoldedRows:
    """The rows of some targets, cut into folds, seen from one origin in one scale.

    Origin and scale only keep sums exact (each training set is standardized by itself). Rows become
    float64 a block at a time.
    """

    def __init__(
        self,
        features: FeatureRows,
        targets: Float[np.ndarray, "point target"],
        folds: Int[np.ndarray, " point"],
        rows: Int[np.ndarray, " row"],
        columns: Int[np.ndarray, " column"],
        strength: Float[np.ndarray, " band"] | float,
        push: Push,
    ) -> None:
        self.labels = np.unique(folds)
        self.count = len(self.labels)
        self.folds = np.searchsorted(self.labels, folds)
        self.sizes = np.bincount(self.folds[rows], minlength=self.count)
        if self.count < 2 or self.sizes.min() == 0:
            raise ProbeError(
                f"each of at least 2 folds must hold rows with a target, but target number "
                f"{columns[0]} has {self.sizes.tolist()} rows in the folds"
            )
        self.features, self.rows, self.columns = features, rows, columns
        self.targets = targets
        self.bands = features.shape[1]
        self.strength, self.push = strength, push
        self.origin, self.scale = self._origin_and_scale()
        self.target_origin = targets[np.ix_(rows, columns)].mean(axis=0)
        self._moments: list[Moments] | None = None
        self.kept: dict[tuple[tuple[int, ...], int], tuple[Solution, Spread]] = {}
        """Models by training set and number of the penalty, for who needs them next."""

    def workers(self) -> AbstractContextManager[Run]:
        """Threads for the factorizations of this data."""
        work = ridge_operations(len(self.rows), self.bands, self.count)
        size = min(self.bands, len(self.rows))
        return workers(work, 3 * 8 * size**2)

    def all_but(self, *folds: int) -> list[int]:
        """The other folds."""
        return [fold for fold in range(self.count) if fold not in folds]

    def blocks(self, folds: Sequence[int]) -> Iterator[Block]:
        """Rows of some folds, in order: for each fold of a block, their numbers and features."""
        wanted = self.rows[np.isin(self.folds[self.rows], folds)]
        for block in row_blocks(wanted, self.bands):
            values = self.features[block] - self.origin
            for band in self.constant:
                values[np.abs(values[:, band]) <= _ROUNDING * np.abs(self.origin[band]), band] = 0
            values /= self.scale
            own = self.folds[block]
            present = np.unique(own).tolist()
            if len(present) == 1:
                yield {present[0]: (block, values)}
            else:
                yield {fold: (block[own == fold], values[own == fold]) for fold in present}

    def truth(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row column"]:
        """Targets of some rows, from their own origin."""
        return self.targets[np.ix_(rows, self.columns)] - self.target_origin

    def moments(self, run: Run) -> list[Moments]:
        """Sums over the rows of each fold."""
        if self._moments is None:
            sums = [Moments.zero(self.bands, len(self.columns)) for _ in range(self.count)]
            for block in self.blocks(range(self.count)):

                def add(fold: int, block: Block = block) -> None:
                    rows, values = block[fold]
                    sums[fold].add(values, self.truth(rows))

                list(run(add, block))
                self.push(sum(len(rows) for rows, _ in block.values()) * float(self.bands) ** 2)
            self._moments = sums
        return self._moments

    def training(self, train: Sequence[int]) -> Primal | Dual:
        """The equations of some folds."""
        if self._moments is not None and self.has_bands(train):
            return Primal(Moments.total([self._moments[fold] for fold in train]), self.strength)
        parts = [part for block in self.blocks(train) for part in block.values()]
        rows, values = (np.concatenate(side) for side in zip(*parts, strict=True))
        return Dual(values, self.truth(rows), self.strength)

    def errors(
        self, fold: int, solutions: Sequence[Solution]
    ) -> Float[np.ndarray, "solution column"]:
        """Sums of squared errors on a fold."""
        together = Solution.together(solutions)
        if self._moments is not None:
            found = self._moments[fold].errors(together)
        else:
            found = np.zeros(len(together.intercepts))
            for block in self.blocks([fold]):
                rows, values = block[fold]
                truth = np.tile(self.truth(rows), len(solutions))
                found += ((together.predict(values) - truth) ** 2).sum(axis=0)
        return found.reshape(len(solutions), -1)

    def has_bands(self, train: Sequence[int]) -> bool:
        """Whether the equations of a training set are those of the bands."""
        return by_bands(int(self.sizes[list(train)].sum()), self.bands)

    def factor_operations(self, left: Sequence[int]) -> float:
        """Operations of one Cholesky factor of the set that leaves some folds out."""
        rows = int(self.sizes[self.all_but(*left)].sum())
        return float(min(self.bands, rows)) ** 3 / 3

    def _origin_and_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of some of the rows; of a constant band its value and 1.

        The deviation of a constant can be of the size of rounding: such a band is marked, and what
        differs from its origin no more than that is set to 0 where rows are read.
        """
        step = max(1, len(self.rows) // _ORIGIN_ROWS)
        some = np.asarray(self.features[self.rows[::step]], np.float64)
        moved = some - some[0]  # exactly 0 in a constant band, as its mean then is
        mean = moved.mean(axis=0)
        deviation = (moved - mean).std(axis=0)
        origin = some[0] + mean
        self.constant = np.flatnonzero(deviation <= _ROUNDING * np.abs(origin))
        deviation[self.constant] = 1.0
        return origin, deviation


def ridge_operations(rows: int, bands: int, folds: int) -> float:
    """About how many floating-point operations `RidgeProbe.held_out` takes."""
    sets = folds * (folds - 1) / 2
    size = min(bands, (folds - 1) * rows // folds)
    factors = (_PENALTIES_TRIED + 2) * sets + 1.5 * folds
    return rows * bands * min(bands, rows) + factors * size**3 / 3 + folds * rows * bands**2 / 2
