"""Models of vectors and position, fitted on all points, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.band_scaling import vector_scaling
from unigeo.client.probing.conformal import (
    INTERVAL_LAYERS,
    conformal_quantile,
    interval_layers,
)
from unigeo.client.probing.feature_rows import FeatureRows
from unigeo.client.probing.kernel_map import KernelMap
from unigeo.client.probing.regression_kriging import KrigedResiduals, fit_kriging
from unigeo.client.probing.ridge import FittedRidge, RidgeProbe, complete_targets
from unigeo.client.probing.target_bounds import UNBOUNDED, Bounds


@dataclass(frozen=True, repr=False)
class PositionModel:
    """Ridge on one target of numbers, and its kriged residuals, with intervals."""

    ridge: FittedRidge
    residuals: KrigedResiduals
    nonconformity: float
    """Half-width of an interval where the difficulty is 1, in the target's unit."""
    bounds: Bounds = UNBOUNDED
    """Bounds that predictions and intervals keep."""
    kernel: KernelMap | None = None
    """Map of the vectors to the ridge's features; None if these are the vectors."""
    layers = INTERVAL_LAYERS
    """Names of the predicted layers."""

    def __repr__(self) -> str:
        return f"PositionModel({self.ridge!r}, {self.residuals!r})"

    def predict(
        self,
        vectors: Float[np.ndarray, "point band"],
        lonlat: Float[np.ndarray, "point 2"],
        layers: tuple[str, ...] = layers,
    ) -> dict[str, Float[np.ndarray, " point"]]:
        """Predict some or all layers at points of given position."""
        if self.kernel is not None:
            vectors = self.kernel.apply(vectors)
        prediction = self.residuals.predict(self.ridge.predict(vectors), lonlat)[:, 0]
        return interval_layers(
            prediction,
            lambda: self.nonconformity * self.ridge.difficulty(vectors)[:, 0],
            layers,
            self.bounds,
        )


def fit_position_models(
    features: FeatureRows,
    targets: Mapping[str, Float[np.ndarray, " point"]],
    folds: Int[np.ndarray, " point"],
    lonlat: Float[np.ndarray, "point 2"],
    level: float,
    bounds: Mapping[str, Bounds] = MappingProxyType({}),
) -> dict[str, PositionModel]:
    """Fit the models of vectors and position on all points.

    Args:
        features: vectors of all points.
        targets: values of each target by name; NaN where missing.
        folds: fold of each point, by which penalty, covariance and share are chosen and intervals
            calibrated.
        lonlat: position of each point.
        level: share of the points that intervals should hold.
        bounds: bounds of the targets that have some.

    Returns:
        Models by target.
    """
    truth = np.stack(list(targets.values()), axis=1)
    scaling = vector_scaling(features)
    ridge = RidgeProbe().fit(features, truth, folds, scaling=scaling, leave_one_out=True)
    assert ridge.trained is not None and ridge.difficulty_unseen is not None
    models: dict[str, PositionModel] = {}
    names = list(targets)
    for _, columns in complete_targets(truth):
        kriged = fit_kriging(lonlat, truth[:, columns], folds, ridge.trained.select(columns))
        for number, column in enumerate(columns):
            errors = np.abs(truth[:, column] - kriged.unseen[:, number])
            ratios = errors / ridge.difficulty_unseen[:, column]
            quantile = conformal_quantile(ratios[np.isfinite(ratios)], level)
            residuals = kriged.residuals.only(number)
            models[names[column]] = PositionModel(
                ridge.only(int(column)), residuals, quantile, bounds.get(names[column], UNBOUNDED)
            )
    return models
