"""The arrays of a saved probe: models and spreads to arrays by name, and back."""

import math

import numpy as np

from unigeo.client.probing.fitted_models import ClassModel, Model, NumberModel
from unigeo.client.probing.leverage import Spread
from unigeo.client.probing.logistic import FittedLogistic
from unigeo.client.probing.probe_facts import FittedFacts, ProbeFacts, plain
from unigeo.client.probing.ridge import FittedRidge


def facts_of(
    model: Model,
    target: str,
    features: str,
    number: int,
    arrays: dict[str, np.ndarray],
    spreads: list[Spread],
) -> FittedFacts:
    """What is said of a model, whose arrays join the others."""
    where = f"models/{number}"
    if isinstance(model, ClassModel):
        fitted = model.logistic
        arrays[f"{where}/centre"], arrays[f"{where}/weights"] = fitted.centre, fitted.weights
        arrays[f"{where}/intercepts"] = fitted.intercepts
        labels = [plain(label) for label in model.classes]
        return FittedFacts(target=target, features=features, penalty=fitted.penalty, classes=labels)
    ridge = model.ridge
    arrays[f"{where}/centre"], arrays[f"{where}/weights"] = ridge.centre, ridge.weights
    arrays[f"{where}/intercepts"] = ridge.intercepts
    ((_, spread),) = ridge.spreads
    at = next((n for n, known in enumerate(spreads) if known is spread), len(spreads))
    if at == len(spreads):
        spreads.append(spread)
    half_width = "inf" if math.isinf(model.nonconformity) else model.nonconformity
    return FittedFacts(
        target=target,
        features=features,
        penalty=float(ridge.penalties[0]),
        nonconformity=half_width,  # type: ignore[arg-type]
        spread=at,
    )


def models_of(
    arrays: dict[str, np.ndarray], facts: ProbeFacts, spreads: list[Spread]
) -> dict[tuple[str, str], Model]:
    """Every model, by its target and features.

    Raises:
        ValueError: if one is lacking, or of another number of bands than its modalities have.
    """
    found: dict[tuple[str, str], Model] = {}
    for number, one in enumerate(facts.models):
        bands = facts.modalities.get(one.features, sum(facts.modalities.values()))
        if len(arrays[f"models/{number}/centre"]) != bands:
            raise ValueError(f"model {number} is not of the {bands} bands of {one.features}")
        found[one.target, one.features] = _model_of(arrays, number, one, spreads)
    fitted = {features for _, features in found}
    if not fitted <= set(facts.features):
        raise ValueError("models are of features that were not scored")
    if set(found) != {(target, features) for target in facts.targets for features in fitted}:
        raise ValueError("a target lacks a model, or a model its target")
    return found


def check_finite(arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays with NaN or infinity.

    Raises:
        ValueError: naming the first.
    """
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds numbers that are not finite")


def _model_of(
    arrays: dict[str, np.ndarray], number: int, facts: FittedFacts, spreads: list[Spread]
) -> Model:
    names = ("centre", "weights", "intercepts")
    centre, weights, intercepts = (arrays[f"models/{number}/{name}"] for name in names)
    columns = 1
    if facts.classes is not None:
        columns = 1 if len(facts.classes) == 2 else len(facts.classes)
    if weights.shape != (len(centre), columns) or intercepts.shape != (columns,):
        raise ValueError(f"model {number} has weights of the shape {weights.shape}")
    if facts.classes is not None:
        logistic = FittedLogistic(
            centre=centre, weights=weights, intercepts=intercepts, penalty=facts.penalty
        )
        return ClassModel(logistic, tuple(facts.classes))
    spread = spreads[facts.spread if facts.spread is not None else len(spreads)]
    if len(spread.mean) != len(centre) or facts.nonconformity is None:
        raise ValueError(f"model {number} has no intervals")
    ridge = FittedRidge(
        centre=centre,
        weights=weights,
        intercepts=intercepts,
        penalties=np.array([facts.penalty]),
        spreads=((np.array([0]), spread),),
        nonconformity=np.empty((0, 1)),
    )
    return NumberModel(ridge, float(facts.nonconformity))


def spread_arrays(spread: Spread, where: str) -> dict[str, np.ndarray]:
    """Arrays of a spread, under a prefix."""
    arrays = {f"{where}/mean": spread.mean, f"{where}/inverse": spread.inverse}
    if spread.seen is not None:
        return arrays | {f"{where}/seen": spread.seen}
    assert spread.factor is not None
    return arrays | {f"{where}/factor": np.tril(spread.factor)}


def spread_of(arrays: dict[str, np.ndarray], number: int, facts: ProbeFacts) -> Spread:
    """The spread of a number.

    Raises:
        KeyError, ValueError: if arrays are lacking, or of other shapes.
    """
    where, own = f"spreads/{number}", facts.spreads[number]
    mean, inverse = arrays[f"{where}/mean"], arrays[f"{where}/inverse"]
    factor, seen = arrays.get(f"{where}/factor"), arrays.get(f"{where}/seen")
    bands = len(mean)
    if inverse.shape != (bands,) or (factor is None) == (seen is None):
        raise ValueError(f"spread {number} is incomplete")
    if (factor is not None and factor.shape != (bands, bands)) or (
        seen is not None and (seen.ndim != 2 or len(seen) != bands)
    ):
        raise ValueError(f"spread {number} has another number of bands")
    ordered = None if factor is None else np.asfortranarray(factor)  # as LAPACK reads it
    return Spread(mean, inverse, own.penalty, own.count, ordered, seen)
