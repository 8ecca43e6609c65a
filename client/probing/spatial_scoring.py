"""The scores of models of vectors and position: held-out predictions, made from those of ridges."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.duration_estimate import kriging_seconds
from unigeo.client.probing.models import Advance, Folds, RidgeMethod, ignore_progress
from unigeo.client.probing.regression_kriging import fit_kriging
from unigeo.client.probing.ridge import HeldOut, complete_targets
from unigeo.client.probing.spatial_option import with_position
from unigeo.client.probing.training_predictions import TrainingPredictions


@dataclass(frozen=True, eq=False)
class PositionMethod:
    """Ridges on several sets of features, each alone and with its residuals kriged.

    One method serves all sets, whose residuals share the kriging weights.
    """

    ridges: tuple[RidgeMethod, ...]
    lonlat: Float[np.ndarray, "point 2"]
    name = "position"
    single_threaded = False

    def seconds(self, rows: int, folds: int, columns: int) -> float:
        """Estimate the time of `held_out`."""
        own = sum(ridge.seconds(rows, folds, columns) for ridge in self.ridges)
        return own + kriging_seconds(rows, folds, columns * len(self.ridges))

    def held_out(
        self,
        targets: Float[np.ndarray, "point target"],
        folds: Folds,
        advance: Advance = ignore_progress,
    ) -> dict[str, HeldOut]:
        """Predict every point by each ridge, then with position added."""
        count, columns = len(np.unique(folds)), targets.shape[1]
        seconds = self.seconds(len(folds), count, columns)
        alone: dict[str, HeldOut] = {}
        for ridge in self.ridges:
            part = ridge.seconds(len(folds), count, columns) / seconds

            def advance_part(share: float, part: float = part) -> None:
                advance(share * part)

            alone |= ridge.held_out(targets, folds, advance_part)
        added = add_position(list(alone.values()), targets, folds, self.lonlat)
        ridges = {name: replace(held, leave_one_out=None) for name, held in alone.items()}
        return ridges | {with_position(name): held for name, held in zip(alone, added, strict=True)}


def add_position(
    held: Sequence[HeldOut],
    targets: Float[np.ndarray, "point target"],
    folds: Int[np.ndarray, " point"],
    lonlat: Float[np.ndarray, "point 2"],
) -> list[HeldOut]:
    """Add position to the held-out predictions of ridges on several sets of features.

    The residuals for a fold are those of models that have not seen it, and covariance and share are
    chosen without it. All ridges share the kriging weights.

    Args:
        held: predictions of each set, with `leave_one_out`.
        targets: targets of all points; NaN where missing.
        folds: fold of each point.
        lonlat: position of each point.
    """
    added = [
        replace(
            each,
            predictions=np.full_like(each.predictions, np.nan),
            leave_two_out=np.full_like(each.leave_two_out, np.nan),
            leave_one_out=None,
        )
        for each in held
    ]
    for rows, columns in complete_targets(targets):
        truth = np.tile(targets[:, columns], len(held))
        for fold in np.unique(folds[rows]):
            inside = rows[folds[rows] == fold]
            trained = TrainingPredictions.concatenate(
                [each.training(int(fold)).select(columns) for each in held]
            )
            kriged = fit_kriging(lonlat, truth, folds, trained)
            ridge = np.concatenate([each.predictions[:, columns] for each in held], axis=1)
            predictions = kriged.residuals.predict(ridge[inside], lonlat[inside])
            for number, each in enumerate(added):
                own = slice(number * len(columns), (number + 1) * len(columns))
                each.predictions[np.ix_(inside, columns)] = predictions[:, own]
                each.leave_two_out[fold][:, columns] = kriged.unseen[:, own]
    return added
