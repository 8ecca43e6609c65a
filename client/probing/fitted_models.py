"""Models fitted on all points: of numbers with intervals, and of classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.conformal import conformal_quantile
from unigeo.client.probing.feature_rows import some_rows
from unigeo.client.probing.logistic import FittedLogistic, LogisticProbe
from unigeo.client.probing.probe_data import ProbeData
from unigeo.client.probing.ridge import FittedRidge, RidgeProbe
from unigeo.client.probing.table_columns import listed


@dataclass(frozen=True, repr=False)
class NumberModel:
    """Ridge on one target, with intervals."""

    ridge: FittedRidge
    nonconformity: float
    """Half-width of an interval where the difficulty is 1, in the target's unit."""
    layers = ("prediction", "lower", "upper", "uncertainty")
    """`uncertainty` is the half-width of the interval from `lower` to `upper`."""

    def __repr__(self) -> str:
        return f"NumberModel({self.ridge!r}, strangeness {self.nonconformity:.4g})"

    def predict(
        self, vectors: Float[np.ndarray, "point band"], layers: tuple[str, ...] = layers
    ) -> dict[str, Float[np.ndarray, " point"]]:
        """Some or all layers; the prediction alone takes far less work than its interval."""
        found = {"prediction": self.ridge.predict(vectors)[:, 0]}
        if set(layers) - {"prediction"}:
            width = self.nonconformity * self.ridge.difficulty(vectors)[:, 0]
            found["lower"] = found["prediction"] - width
            found["upper"] = found["prediction"] + width
            found["uncertainty"] = width
        return {name: found[name] for name in layers}


@dataclass(frozen=True, repr=False)
class ClassModel:
    """Logistic ridge on one target."""

    logistic: FittedLogistic
    classes: tuple[Any, ...]
    layers = ("prediction", "uncertainty")
    """The number of the most probable class, and 1 - its probability."""

    def __repr__(self) -> str:
        return f"ClassModel({self.logistic!r}; {listed(self.classes)})"

    def predict(
        self, vectors: Float[np.ndarray, "point band"], layers: tuple[str, ...] = layers
    ) -> dict[str, Float[np.ndarray, " point"]]:
        """Some or all layers."""
        probabilities = self.logistic.predict(vectors)
        found = {
            "prediction": probabilities.argmax(axis=1).astype(np.float64),
            "uncertainty": 1 - probabilities.max(axis=1),
        }
        return {name: found[name] for name in layers}


Model = NumberModel | ClassModel


def fitted_models(
    data: ProbeData, target: str, features: str, level: float
) -> dict[str, NumberModel | ClassModel]:
    """Fit all points: models by target, of all targets of numbers at once or of one of classes.

    Args:
        data: what was scored; penalty and intervals are of the folds of its last split.
        target: one that is needed.
        features: name of a set of vectors.
        level: of the intervals.
    """
    vectors, folds = data.vectors[features], data.splits[-1].folds
    labels = data.labels(target)
    if labels is not None:
        has = data.has(target)
        codes = data.known[target][has].astype(np.int64)
        fitted = LogisticProbe().fit(some_rows(vectors, has), codes, folds[has])
        return {target: ClassModel(fitted, labels.classes)}
    numeric = [name for name in data.known if data.labels(name) is None]
    truth = np.stack([data.known[name] for name in numeric], axis=1)
    ridge = RidgeProbe().fit(vectors, truth, folds)
    models: dict[str, NumberModel | ClassModel] = {}
    for column, name in enumerate(numeric):
        alone = ridge.only(column)
        known = alone.nonconformity[np.isfinite(alone.nonconformity)]
        models[name] = NumberModel(alone, conformal_quantile(known, level))
    return models
