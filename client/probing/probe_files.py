"""A probe as a folder: `weights.safetensors`, and `probe.json`, which says what they are of."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.probing.cross_validation import ProbeEvaluation
from unigeo.client.probing.leverage import Spread
from unigeo.client.probing.probe_facts import (
    FORMAT,
    FittedFacts,
    ProbeFacts,
    SourceFacts,
    SpreadFacts,
    frame_of,
    read_facts,
    table_of,
)
from unigeo.client.probing.probe_folders import (
    FACTS,
    WEIGHTS,
    check_probe_place,
    local_folder,
    safetensors_numpy,
)
from unigeo.client.probing.probe_weights import (
    check_finite,
    facts_of,
    models_of,
    spread_arrays,
    spread_of,
)
from unigeo.client.probing.table_columns import short
from unigeo.schemas.errors import ProbeError, StoreError
from unigeo.schemas.io.atomic_files import folder_beside

if TYPE_CHECKING:
    from unigeo.client.points.at_points import AtPoints
    from unigeo.client.probing.probe import Probe


def save_probe(probe: "Probe", path: Any, features: Any, overwrite: bool) -> Path:
    """Write a probe: see `Probe.save`."""
    from importlib.metadata import version

    place = check_probe_place(path, overwrite)
    chosen = probe.feature_sets(features)
    arrays: dict[str, np.ndarray] = {}
    spreads: list[Spread] = []
    models: list[FittedFacts] = []
    for name in chosen:
        for target in probe.targets:
            model = probe.model(target, name)
            models.append(facts_of(model, target, name, len(models), arrays, spreads))
    for number, spread in enumerate(spreads):
        arrays |= spread_arrays(spread, f"spreads/{number}")
    for split, folds in probe.folds.items():
        arrays[f"folds/{split}"] = folds
    arrays["rows"] = probe.rows
    own = probe.field.attributes
    grid = probe.field.grid
    facts = ProbeFacts(
        format=FORMAT,
        unigeo=version("unigeo"),
        model=SourceFacts(name=own.model.name, sha256=own.model.sha256),
        field={"region": own.region, "crs": grid.crs, "resolution_m": grid.resolution_m},
        modalities=dict(probe.bands),
        method=probe.method,
        level=probe.level,
        targets=dict(probe.counts),
        features=list(probe.sets),
        controls=list(probe.controls),
        splits=dict(probe.splits),
        models=models,
        spreads=[SpreadFacts(penalty=one.penalty, count=one.count) for one in spreads],
        scores=table_of(probe.scores),
        fold_scores=table_of(probe.fold_scores),
        gains=table_of(probe.gains),
    )
    to_bytes = safetensors_numpy().save
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(place, unique=True, overwrite=True) as part:
            made = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
            (part / WEIGHTS).write_bytes(to_bytes(made))
            text = json.dumps(facts.model_dump(mode="json"), indent=1, allow_nan=False)
            (part / FACTS).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write the probe {place}: {error}") from error
    return place


def load_probe(path: Any, field: "AtPoints") -> "Probe":
    """Read a probe: see `Probe.load`."""
    from unigeo.client.probing.probe import Probe

    place = local_folder(path, "read", ProbeError)
    facts = read_facts(place)
    check_model(field, facts.model.name, facts.model.sha256, f"the probe {place}")
    check_bands(field, facts.modalities, f"the probe {place}")
    safe = safetensors_numpy()
    try:
        arrays = safe.load_file(place / WEIGHTS)
    except Exception as error:  # the library's own errors are no OSErrors
        raise ProbeError(f"cannot read the weights of the probe {place}: {error}") from error
    try:
        check_finite(arrays)
        spreads = [spread_of(arrays, n, facts) for n in range(len(facts.spreads))]
        models = models_of(arrays, facts, spreads)
        tables = (facts.scores, facts.fold_scores, facts.gains)
        evaluation = ProbeEvaluation(*(frame_of(table) for table in tables))
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


def check_model(field: "AtPoints", name: str, sha256: str, what: str) -> None:
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


def check_bands(field: "AtPoints", modalities: dict[str, int], what: str) -> None:
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
