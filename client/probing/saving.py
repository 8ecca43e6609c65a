"""A probe as a folder: `weights.safetensors`, and `probe.json`, which says what they are of."""

import json
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unigeo.client.probing.columns import short
from unigeo.client.probing.counting import Count
from unigeo.client.probing.evaluating import Evaluation
from unigeo.client.probing.leverage import Spread
from unigeo.client.probing.logistic import FittedLogistic
from unigeo.client.probing.models import ClassModel, Model, NumberModel
from unigeo.client.probing.probe_folders import (
    FACTS,
    WEIGHTS,
    check_probe_place,
    local_folder,
    safetensors_numpy,
)
from unigeo.client.probing.ridge import FittedRidge
from unigeo.schemas.errors import ProbeError, StoreError

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.field import Field as EmbeddingField
    from unigeo.client.probing.probes import Probe

FORMAT = 1
_KINDS = ("float64", "int64", "object")  # of columns; others are as pandas reads them


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True)  # keys of later versions are skipped


class _ModelFacts(_Facts):
    """The model that made the vectors."""

    name: str
    sha256: str


class _Table(_Facts):
    """A table by columns; NaN is null, and infinity a text."""

    types: dict[str, str]
    columns: dict[str, list[str | float | int | None]]


class _FittedFacts(_Facts):
    """One fitted model; its arrays are `models/<number>/...`."""

    target: str
    features: str
    penalty: float = Field(gt=0)
    strangeness: float | Literal["inf"] | None = None
    """Of numbers: half-width of an interval where the difficulty is 1."""
    spread: int | None = None
    """Of numbers: which of `spreads`."""
    classes: list[str | bool | int | float] | None = None


class _SpreadFacts(_Facts):
    """The spread of training vectors; its arrays are `spreads/<number>/...`."""

    penalty: float = Field(gt=0)
    count: int = Field(gt=0)


class ProbeFacts(_Facts):
    """What `probe.json` says."""

    format: int
    unigeo: str
    """Version that wrote it."""
    model: _ModelFacts
    """Whose vectors the probe reads."""
    field: dict[str, Any]
    """On which it was fitted: region, CRS and cells."""
    modalities: dict[str, int] = Field(min_length=1)
    """Sampled, and the bands of each."""
    method: Literal["nearest", "bilinear", "bicubic"]
    level: float = Field(gt=0, lt=1)
    targets: dict[str, Count] = Field(min_length=1)
    """Predicted, and how many rows took part."""
    features: list[str] = Field(min_length=1)
    """Sets of vectors that were scored."""
    controls: list[str]
    splits: dict[str, Any]
    """Number of folds, seed, side and CRS of the blocks; the fold of each row is an array."""
    models: list[_FittedFacts] = Field(min_length=1)
    spreads: list[_SpreadFacts]
    scores: _Table
    fold_scores: _Table
    gains: _Table


def save_probe(probe: "Probe", path: Any, features: Any, overwrite: bool) -> Path:
    """Write a probe: see `Probe.save`."""
    from importlib.metadata import version

    from unigeo.client.probing.map_files import put

    place = check_probe_place(path, overwrite)
    chosen = probe.feature_sets(features)
    arrays: dict[str, np.ndarray] = {}
    spreads: list[Spread] = []
    models: list[_FittedFacts] = []
    for name in chosen:
        for target in probe.targets:
            model = probe.model(target, name)
            models.append(_facts_of(model, target, name, len(models), arrays, spreads))
    for number, spread in enumerate(spreads):
        arrays |= _spread_arrays(spread, f"spreads/{number}")
    for split, folds in probe.folds.items():
        arrays[f"folds/{split}"] = folds
    arrays["rows"] = probe.rows
    own = probe.field.attributes
    grid = probe.field.grid
    facts = ProbeFacts(
        format=FORMAT,
        unigeo=version("unigeo"),
        model=_ModelFacts(name=own.model.name, sha256=own.model.sha256),
        field={"region": own.region, "crs": grid.crs, "resolution_m": grid.resolution_m},
        modalities=dict(probe.bands),
        method=probe.method,
        level=probe.level,
        targets=dict(probe.counts),
        features=list(probe.sets),
        controls=list(probe.controls),
        splits=dict(probe.splits),
        models=models,
        spreads=[_SpreadFacts(penalty=one.penalty, count=one.count) for one in spreads],
        scores=_table_of(probe.scores),
        fold_scores=_table_of(probe.fold_scores),
        gains=_table_of(probe.gains),
    )
    to_bytes = safetensors_numpy().save
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=".part", dir=place.parent))
        try:
            whole = aside / place.name
            whole.mkdir()
            made = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
            (whole / WEIGHTS).write_bytes(to_bytes(made))
            text = json.dumps(facts.model_dump(mode="json"), indent=1, allow_nan=False)
            (whole / FACTS).write_text(text + "\n", encoding="utf-8")
            put(whole, place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"cannot write the probe {place}: {error}") from error
    return place


def load_probe(path: Any, field: "EmbeddingField") -> "Probe":
    """Read a probe: see `Probe.load`."""
    from unigeo.client.probing.probes import Probe

    place = local_folder(path, "read", ProbeError)
    facts = _read_facts(place)
    check_model(field, facts.model.name, facts.model.sha256, f"the probe {place}")
    check_bands(field, facts.modalities, f"the probe {place}")
    safe = safetensors_numpy()
    try:
        arrays = safe.load_file(place / WEIGHTS)
    except Exception as error:  # the library's own errors are no OSErrors
        raise ProbeError(f"cannot read the weights of the probe {place}: {error}") from error
    try:
        _check_finite(arrays)
        spreads = [_spread_of(arrays, n, facts) for n in range(len(facts.spreads))]
        models = _models_of(arrays, facts, spreads)
        tables = (facts.scores, facts.fold_scores, facts.gains)
        evaluation = Evaluation(*(_frame_of(table) for table in tables))
        rows = arrays["rows"]
        splits = evaluation.scores["split"].unique().tolist()
        folds = {split: arrays[f"folds/{split}"] for split in splits}
        if any(own.shape != rows.shape for own in folds.values()):
            raise ValueError("the folds are of other rows")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ProbeError(
            f"{place}: {FACTS} and {WEIGHTS} do not belong together ({short(error, 200)}): save "
            "the probe again"
        ) from error
    return Probe(
        field=field,
        evaluation=evaluation,
        modalities=tuple(facts.modalities),
        method=facts.method,
        level=facts.level,
        sets=tuple(facts.features),
        counts=facts.targets,
        controls=tuple(facts.controls),
        splits=facts.splits,
        folds=folds,
        rows=rows,
        data=None,
        _models=models,
    )


def check_model(field: "EmbeddingField", name: str, sha256: str, what: str) -> None:
    """Refuse a field of another model than vectors were learned on.

    Raises:
        ProbeError: naming both; or if it is the address of a field.
    """
    if isinstance(field, str | os.PathLike):
        raise ProbeError(f"{field} is an address: open the field first, client.open_field(...)")
    own = field.attributes.model
    if own.sha256 != sha256:
        raise ProbeError(
            f"{what} was fitted on vectors of the model {name} ({sha256}), and the field "
            f"{field.url} holds those of {own.name} ({own.sha256}): bands of two models mean "
            "different things. Open a field of the first, or probe this one anew."
        )


def check_bands(field: "EmbeddingField", modalities: dict[str, int], what: str) -> None:
    """Refuse a field that lacks a modality, or has another number of bands.

    Raises:
        ProbeError: naming the modality.
    """
    for name, bands in modalities.items():
        if name not in field.modalities:
            raise ProbeError(
                f"{what} reads the modality {name}, which the field {field.url} lacks; it has "
                f"{', '.join(field.modalities)}"
            )
        if (own := field.layout.width(name)) != bands:
            raise ProbeError(f"{what} reads {bands} bands of {name}, and the field has {own}")


def _read_facts(place: Path) -> ProbeFacts:
    try:
        document = json.loads((place / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProbeError(f"{place} is no probe: it has no {FACTS}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ProbeError(f"cannot read the probe {place}: {error}") from error
    told = document.get("format") if isinstance(document, dict) else None
    if isinstance(told, int) and told > FORMAT:
        raise ProbeError(
            f"the probe {place} has format {told}; this unigeo reads up to {FORMAT}: upgrade it"
        )
    try:
        return ProbeFacts.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or FACTS
        raise ProbeError(
            f"the probe {place} is damaged: {key} in {FACTS}: {first['msg']}"
        ) from error


def _facts_of(
    model: Model,
    target: str,
    features: str,
    number: int,
    arrays: dict[str, np.ndarray],
    spreads: list[Spread],
) -> _FittedFacts:
    """What is said of a model, whose arrays join the others."""
    where = f"models/{number}"
    if isinstance(model, ClassModel):
        fitted = model.logistic
        arrays[f"{where}/centre"], arrays[f"{where}/weights"] = fitted.centre, fitted.weights
        arrays[f"{where}/intercepts"] = fitted.intercepts
        labels = [_plain(label) for label in model.classes]
        return _FittedFacts(
            target=target, features=features, penalty=fitted.penalty, classes=labels
        )
    ridge = model.ridge
    arrays[f"{where}/centre"], arrays[f"{where}/weights"] = ridge.centre, ridge.weights
    arrays[f"{where}/intercepts"] = ridge.intercepts
    ((_, spread),) = ridge.spreads
    at = next((n for n, known in enumerate(spreads) if known is spread), len(spreads))
    if at == len(spreads):
        spreads.append(spread)
    half_width = "inf" if math.isinf(model.strangeness) else model.strangeness
    return _FittedFacts(
        target=target,
        features=features,
        penalty=float(ridge.penalties[0]),
        strangeness=half_width,  # type: ignore[arg-type]
        spread=at,
    )


def _models_of(
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


def _check_finite(arrays: dict[str, np.ndarray]) -> None:
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds numbers that are not finite")


def _model_of(
    arrays: dict[str, np.ndarray], number: int, facts: _FittedFacts, spreads: list[Spread]
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
    if len(spread.mean) != len(centre) or facts.strangeness is None:
        raise ValueError(f"model {number} has no intervals")
    ridge = FittedRidge(
        centre=centre,
        weights=weights,
        intercepts=intercepts,
        penalties=np.array([facts.penalty]),
        spreads=((np.array([0]), spread),),
        strangeness=np.empty((0, 1)),
    )
    return NumberModel(ridge, float(facts.strangeness))


def _spread_arrays(spread: Spread, where: str) -> dict[str, np.ndarray]:
    arrays = {f"{where}/mean": spread.mean, f"{where}/inverse": spread.inverse}
    if spread.seen is not None:
        return arrays | {f"{where}/seen": spread.seen}
    assert spread.factor is not None
    return arrays | {f"{where}/factor": np.tril(spread.factor)}


def _spread_of(arrays: dict[str, np.ndarray], number: int, facts: ProbeFacts) -> Spread:
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


def _table_of(frame: "pd.DataFrame") -> _Table:
    columns = {
        str(name): [_plain(value) for value in frame[name].tolist()] for name in frame.columns
    }
    types = {str(name): str(frame[name].dtype) for name in frame.columns}
    return _Table(types=types, columns=columns)


def _frame_of(table: _Table) -> "pd.DataFrame":
    import pandas as pd

    found = pd.DataFrame(table.columns)
    numbers = {name: kind for name, kind in table.types.items() if kind in _KINDS}
    return found.astype(numbers)


def _plain(value: Any) -> Any:
    """A label or number as JSON holds it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if isinstance(value, bool | int | float | str) else str(value)
