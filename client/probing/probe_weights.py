"""The arrays of a saved probe: models and spreads to named arrays, and back."""

import math
from dataclasses import replace

import numpy as np

from unigeo.client.probing.fitted_models import ClassModel, Model, NumberModel
from unigeo.client.probing.kernel_map import KernelMap
from unigeo.client.probing.kernel_option import uses_kernel, without_kernel
from unigeo.client.probing.kriging import Covariance
from unigeo.client.probing.leverage import TrainingSpread
from unigeo.client.probing.logistic_path import FittedLogistic
from unigeo.client.probing.position_models import PositionModel
from unigeo.client.probing.probe_facts import (
    FittedFacts,
    KernelFacts,
    ProbeFacts,
    ResidualFacts,
    to_json_value,
)
from unigeo.client.probing.regression_kriging import KrigedResiduals
from unigeo.client.probing.ridge import FittedRidge
from unigeo.client.probing.spatial_option import uses_position, without_position
from unigeo.client.probing.target_bounds import UNBOUNDED, Bounds
from unigeo.client.reading.joined import joined_modalities

_KERNEL = ("centre", "scale", "landmarks")
"""Arrays of a kernel, by the name of its attribute."""
_LINEAR = ("centre", "weights", "intercepts")
"""Arrays that every fitted model has, by the name of its attribute."""


def model_facts(
    model: Model,
    target: str,
    features: str,
    number: int,
    arrays: dict[str, np.ndarray],
    spreads: list[TrainingSpread],
    kernels: dict[str, KernelMap],
) -> FittedFacts:
    """Describe a model for `probe.json`, and add its arrays to the others.

    Args:
        model: fitted model.
        target: name of its target.
        features: name of its set of features.
        number: number that its arrays are named by.
        arrays: arrays to save, which gain those of the model.
        spreads: spreads to save, which gain that of the model; models of one fit share theirs.
        kernels: kernels to save by set of vectors, which gain that of the model.
    """
    kernel = None
    if model.kernel is not None:
        name = without_kernel(without_position(features))
        kernels[name] = model.kernel
        kernel = list(kernels).index(name)
    linear = model.logistic if isinstance(model, ClassModel) else model.ridge
    for name in _LINEAR:
        arrays[f"models/{number}/{name}"] = getattr(linear, name)
    if isinstance(model, ClassModel):
        labels = [to_json_value(label) for label in model.classes]
        penalty = model.logistic.penalty
        return FittedFacts(
            target=target, features=features, penalty=penalty, classes=labels, kernel=kernel
        )
    ((_, spread),) = model.ridge.spreads
    index = next((n for n, known in enumerate(spreads) if known is spread), len(spreads))
    if index == len(spreads):
        spreads.append(spread)
    half_width = "inf" if math.isinf(model.nonconformity) else model.nonconformity
    return FittedFacts(
        target=target,
        features=features,
        penalty=float(model.ridge.penalties[0]),
        nonconformity=half_width,  # type: ignore[arg-type]
        spread=index,
        bounds=model.bounds.as_pair() if model.bounds.exist else None,
        kernel=kernel,
    )


def kernel_facts(
    kernel: KernelMap, features: str, number: int, arrays: dict[str, np.ndarray]
) -> KernelFacts:
    """Describe a kernel for `probe.json`, and add its arrays to the others.

    Args:
        kernel: map of a set of vectors.
        features: name of the set.
        number: number that its arrays are named by.
        arrays: arrays to save, which gain those of the kernel.
    """
    for name in _KERNEL:
        arrays[f"kernels/{number}/{name}"] = getattr(kernel, name)
    return KernelFacts(features=features, width=kernel.width)


def _read_kernel(arrays: dict[str, np.ndarray], number: int, facts: ProbeFacts) -> KernelMap:
    """Rebuild the kernel of a number.

    Raises:
        KeyError, IndexError: if it, or one of its arrays, is missing.
        ValueError: if the arrays have other shapes than those of its set of vectors.
    """
    described = facts.kernels[number]
    centre, scale, landmarks = (arrays[f"kernels/{number}/{name}"] for name in _KERNEL)
    bands = _bands_of(described.features, facts)
    if landmarks.ndim != 2 or {centre.shape, scale.shape, landmarks.shape[1:]} != {(bands,)}:
        raise ValueError(f"kernel {number} is not of the {bands} bands of {described.features}")
    return KernelMap(centre, scale, described.width, landmarks)


def _bands_of(features: str, facts: ProbeFacts) -> int:
    """Return the number of bands of a set of vectors: a modality by its name, or `joined`."""
    known = facts.modalities
    read = (features,) if features in known else joined_modalities(tuple(known))
    return sum(known[one] for one in read)


def residual_facts(
    model: PositionModel, number: int, arrays: dict[str, np.ndarray]
) -> ResidualFacts:
    """Describe the residuals of a model for `probe.json`, and add their arrays to the others.

    Args:
        model: fitted model.
        number: number of the model.
        arrays: arrays to save, which gain those of the residuals.
    """
    kriged = model.residuals
    arrays[f"residuals/{number}/lonlat"] = kriged.lonlat
    arrays[f"residuals/{number}/values"] = kriged.residuals[:, 0]
    (covariance,) = kriged.covariances
    return ResidualFacts(
        model=number,
        mean=float(kriged.mean[0]),
        share=float(kriged.share[0]),
        range_m=covariance.range_m,
        nugget=covariance.nugget,
    )


def _add_residuals(
    model: Model, arrays: dict[str, np.ndarray], number: int, facts: ResidualFacts
) -> PositionModel:
    """Rebuild a model with position from its ridge and its residuals.

    Raises:
        KeyError, ValueError: if arrays are missing, have other shapes, or the model has classes.
    """
    lonlat, values = (arrays[f"residuals/{number}/{name}"] for name in ("lonlat", "values"))
    if not isinstance(model, NumberModel) or lonlat.shape != (len(values), 2) or values.ndim != 1:
        raise ValueError(f"the residuals of model {number} have other shapes")
    residuals = KrigedResiduals(
        lonlat,
        values[:, None],
        np.array([facts.mean]),
        np.array([facts.share]),
        (Covariance(facts.range_m, facts.nugget),),
    )
    return PositionModel(model.ridge, residuals, model.nonconformity, model.bounds, model.kernel)


def read_models(
    arrays: dict[str, np.ndarray], facts: ProbeFacts, spreads: list[TrainingSpread]
) -> dict[tuple[str, str], Model]:
    """Rebuild every model, by its target and features.

    Raises:
        KeyError, IndexError: if an array or a spread is missing.
        ValueError: if a model is missing, or its arrays have another number of bands than its
            modalities.
    """
    models: dict[tuple[str, str], Model] = {}
    residuals = {described.model: described for described in facts.residuals}
    kernels = [_read_kernel(arrays, number, facts) for number in range(len(facts.kernels))]
    for number, described in enumerate(facts.models):
        name = without_position(described.features)
        kernel = None if described.kernel is None else kernels[described.kernel]
        if (kernel is not None) != uses_kernel(name):
            raise ValueError(f"model {number} of {described.features} is at odds with its kernel")
        bands = _bands_of(name, facts) if kernel is None else len(kernel.landmarks)
        if len(arrays[f"models/{number}/centre"]) != bands:
            raise ValueError(f"model {number} is not of the {bands} bands of {described.features}")
        model = replace(_read_model(arrays, number, described, spreads), kernel=kernel)
        if uses_position(described.features):
            model = _add_residuals(model, arrays, number, residuals[number])
        models[described.target, described.features] = model
    fitted = {features for _, features in models}
    if not set(map(without_position, fitted)) <= set(facts.features):
        raise ValueError("models are of features that were not scored")
    if set(models) != {(target, features) for target in facts.targets for features in fitted}:
        raise ValueError("a target lacks a model, or a model its target")
    return models


def check_finite(arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays with NaN or infinity.

    Raises:
        ValueError: naming the first such array.
    """
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds numbers that are not finite")


def _read_model(
    arrays: dict[str, np.ndarray], number: int, facts: FittedFacts, spreads: list[TrainingSpread]
) -> Model:
    centre, weights, intercepts = (arrays[f"models/{number}/{name}"] for name in _LINEAR)
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
    bounds = UNBOUNDED if facts.bounds is None else Bounds.of_pair(facts.bounds)
    return NumberModel(ridge, float(facts.nonconformity), bounds)


def spread_arrays(spread: TrainingSpread, prefix: str) -> dict[str, np.ndarray]:
    """Name the arrays of a spread, under a prefix."""
    arrays = {f"{prefix}/mean": spread.mean, f"{prefix}/inverse": spread.band_scale}
    if spread.whitened is not None:
        return arrays | {f"{prefix}/seen": spread.whitened}
    assert spread.factor is not None
    # Above the diagonal of a factor stands what was in memory before.
    return arrays | {f"{prefix}/factor": np.tril(spread.factor)}


def read_spread(arrays: dict[str, np.ndarray], number: int, facts: ProbeFacts) -> TrainingSpread:
    """Rebuild the spread of a number.

    Raises:
        KeyError, ValueError: if arrays are missing, or have other shapes.
    """
    prefix, described = f"spreads/{number}", facts.spreads[number]
    mean, band_scale = arrays[f"{prefix}/mean"], arrays[f"{prefix}/inverse"]
    factor, whitened = arrays.get(f"{prefix}/factor"), arrays.get(f"{prefix}/seen")
    bands = len(mean)
    if band_scale.shape != (bands,) or (factor is None) == (whitened is None):
        raise ValueError(f"spread {number} is incomplete")
    if (factor is not None and factor.shape != (bands, bands)) or (
        whitened is not None and (whitened.ndim != 2 or len(whitened) != bands)
    ):
        raise ValueError(f"spread {number} has another number of bands")
    ordered = None if factor is None else np.asfortranarray(factor)  # as LAPACK reads it
    return TrainingSpread(mean, band_scale, described.penalty, described.count, ordered, whitened)
