"""Models fitted on all points: of numbers, with intervals, of classes, and with position."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.band_scaling import vector_scaling
from unigeo.client.probing.conformal import (
    INTERVAL_LAYERS,
    conformal_quantile,
    interval_layers,
)
from unigeo.client.probing.feature_rows import row_blocks, select_rows
from unigeo.client.probing.kernel_map import KernelMap
from unigeo.client.probing.logistic import LogisticProbe
from unigeo.client.probing.logistic_path import FittedLogistic
from unigeo.client.probing.position_models import PositionModel, fit_position_models
from unigeo.client.probing.probe_data import ProbeData
from unigeo.client.probing.ridge import FittedRidge, RidgeProbe
from unigeo.client.probing.spatial_option import uses_position, without_position
from unigeo.client.probing.table_columns import listed
from unigeo.client.probing.target_bounds import UNBOUNDED, Bounds


@dataclass(frozen=True, repr=False)
class NumberModel:
    """Ridge on one target of numbers, with intervals."""

    ridge: FittedRidge
    nonconformity: float
    """Half-width of an interval where the difficulty is 1, in the target's unit."""
    bounds: Bounds = UNBOUNDED
    """Bounds that predictions and intervals keep."""
    kernel: KernelMap | None = None
    """Map of the vectors to the ridge's features; None if these are the vectors."""
    layers = INTERVAL_LAYERS
    """Names of the predicted layers."""

    def __repr__(self) -> str:
        return f"NumberModel({self.ridge!r}, nonconformity {self.nonconformity:.4g})"

    def predict(
        self, vectors: Float[np.ndarray, "point band"], layers: tuple[str, ...] = layers
    ) -> dict[str, Float[np.ndarray, " point"]]:
        """Predict some or all layers; the prediction alone takes less work than its interval."""
        if self.kernel is not None:
            vectors = self.kernel.apply(vectors)
        prediction = self.ridge.predict(vectors)[:, 0]
        return interval_layers(
            prediction,
            lambda: self.nonconformity * self.ridge.difficulty(vectors)[:, 0],
            layers,
            self.bounds,
        )


@dataclass(frozen=True, repr=False)
class ClassModel:
    """Logistic ridge on one target of classes."""

    logistic: FittedLogistic
    classes: tuple[Any, ...]
    """Labels in the order of the class numbers."""
    kernel: KernelMap | None = None
    """Map of the vectors to the model's features; None if these are the vectors."""
    layers = ("prediction", "uncertainty")
    """Names of the predicted layers: number of the most probable class, and 1 - its probability."""

    def __repr__(self) -> str:
        return f"ClassModel({self.logistic!r}; {listed(self.classes)})"

    def predict(
        self, vectors: Float[np.ndarray, "point band"], layers: tuple[str, ...] = layers
    ) -> dict[str, Float[np.ndarray, " point"]]:
        """Predict some or all layers."""
        if self.kernel is not None:
            vectors = self.kernel.apply(vectors)
        probabilities = self.logistic.predict(vectors)
        layer_values = {
            "prediction": probabilities.argmax(axis=1).astype(np.float64),
            "uncertainty": 1 - probabilities.max(axis=1),
        }
        return {name: layer_values[name] for name in layers}


Model = NumberModel | ClassModel | PositionModel


def predict_layers(
    model: Model,
    vectors: Float[np.ndarray, "point band"],
    lonlat: Callable[[], Float[np.ndarray, "point 2"]],
    layers: tuple[str, ...] | None = None,
) -> dict[str, Float[np.ndarray, " point"]]:
    """Predict some or all layers of any model.

    The numbers of a kernel take more memory than the vectors, and are of few points at a time.

    Args:
        model: fitted model.
        vectors: vectors of the points.
        lonlat: returns the positions of the points; called if the model needs them.
        layers: names of the layers; all of the model's by default.
    """
    wanted = model.layers if layers is None else layers
    if isinstance(model, PositionModel):
        return model.predict(vectors, lonlat(), wanted)
    if model.kernel is None:
        return model.predict(vectors, wanted)
    numbers = max(vectors.shape[1], len(model.kernel.landmarks))
    blocks = row_blocks(np.arange(len(vectors)), numbers)
    parts = [model.predict(vectors[block], wanted) for block in blocks]
    return {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in wanted}


def fitted_models(data: ProbeData, target: str, features: str, level: float) -> dict[str, Model]:
    """Fit models on all points: of one target of classes, or of all targets of numbers at once.

    Args:
        data: points that were scored; penalties and intervals are chosen on its last split.
        target: target that is needed.
        features: name of a set of vectors, or of its model with position.
        level: share of the points that intervals should hold.

    Returns:
        Models by target.
    """
    models = _models_of_features(data, target, features, level)
    kernel = data.kernels.get(without_position(features))
    return {name: replace(model, kernel=kernel) for name, model in models.items()}


def _models_of_features(
    data: ProbeData, target: str, features: str, level: float
) -> dict[str, Model]:
    """Fit models on the features of a set, which are numbers of a kernel in some."""
    vectors, folds = data.vectors[without_position(features)], data.splits[-1].folds
    if uses_position(features):
        return {**fit_position_models(vectors, data.known, folds, data.lonlat, level, data.bounds)}
    scaling = vector_scaling(vectors)
    labels = data.labels(target)
    if labels is not None:
        has = data.has(target)
        codes = data.known[target][has].astype(np.int64)
        weights = None if data.weights is None else data.weights[has]
        rows = select_rows(vectors, has)
        fitted = LogisticProbe().fit(rows, codes, folds[has], scaling=scaling, weights=weights)
        return {target: ClassModel(fitted, labels.classes)}
    # The targets share the factorizations: fitting all takes hardly longer than fitting one.
    numeric = [name for name in data.known if data.labels(name) is None]
    truth = np.stack([data.known[name] for name in numeric], axis=1)
    ridge = RidgeProbe().fit(vectors, truth, folds, scaling=scaling, weights=data.weights)
    models: dict[str, Model] = {}
    for column, name in enumerate(numeric):
        alone = ridge.only(column)
        known = np.isfinite(alone.nonconformity[:, 0])
        weights = None if data.weights is None else data.weights[known]
        quantile = conformal_quantile(alone.nonconformity[known, 0], level, weights)
        models[name] = NumberModel(alone, quantile, data.bounds.get(name, UNBOUNDED))
    return models
