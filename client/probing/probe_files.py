"""Saved probes: a folder of `weights.safetensors`, and `probe.json`, which describes them."""

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.probing.cross_validation import ProbeEvaluation
from unigeo.client.probing.kernel_map import KernelMap
from unigeo.client.probing.kernel_option import holds_locations
from unigeo.client.probing.leverage import TrainingSpread
from unigeo.client.probing.position_models import PositionModel
from unigeo.client.probing.probe_facts import (
    FORMAT_OF_BOUNDS,
    FORMAT_OF_KERNELS,
    FORMAT_OF_PLAIN,
    FORMAT_OF_RESIDUALS,
    FittedFacts,
    ProbeFacts,
    ResidualFacts,
    SourceFacts,
    SpreadFacts,
    read_facts,
    to_dataframe,
    to_facts_table,
)
from unigeo.client.probing.probe_folders import (
    FACTS,
    WEIGHTS,
    check_probe_path,
    local_folder,
    safetensors_numpy,
)
from unigeo.client.probing.probe_weights import (
    check_finite,
    kernel_facts,
    model_facts,
    read_models,
    read_spread,
    residual_facts,
    spread_arrays,
)
from unigeo.client.probing.spatial_option import with_position, without_position
from unigeo.client.probing.table_columns import short
from unigeo.schemas.errors import ProbeError, ProbeWarning, StoreError
from unigeo.schemas.io.atomic_files import folder_beside

if TYPE_CHECKING:
    from unigeo.client.points.at_points import AtPoints
    from unigeo.client.probing.probe import Probe


def save_probe(
    probe: "Probe", path: Any, features: Any, overwrite: bool, locations: bool = True
) -> Path:
    """Write a probe; see `Probe.save`."""
    from importlib.metadata import version

    folder = check_probe_path(path, overwrite)
    arrays: dict[str, np.ndarray] = {}
    spreads: list[TrainingSpread] = []
    kernels: dict[str, KernelMap] = {}
    models: list[FittedFacts] = []
    residuals: list[ResidualFacts] = []
    for name in _saved_features(probe, features, locations):
        for target in probe.targets:
            model = probe.model(target, name)
            if isinstance(model, PositionModel):
                residuals.append(residual_facts(model, len(models), arrays))
            models.append(model_facts(model, target, name, len(models), arrays, spreads, kernels))
    for number, spread in enumerate(spreads):
        arrays |= spread_arrays(spread, f"spreads/{number}")
    described = [
        kernel_facts(kernel, name, number, arrays)
        for number, (name, kernel) in enumerate(kernels.items())
    ]
    for split, folds in probe.folds.items():
        arrays[f"folds/{split}"] = folds
    arrays["rows"] = probe.rows
    written = FORMAT_OF_RESIDUALS if residuals else FORMAT_OF_PLAIN
    if any(model.bounds is not None for model in models):
        written = FORMAT_OF_BOUNDS
    if kernels:
        written = FORMAT_OF_KERNELS
    attributes, grid = probe.field.attributes, probe.field.grid
    facts = ProbeFacts(
        format=written,
        unigeo=version("unigeo"),
        model=SourceFacts(name=attributes.model.name, sha256=attributes.model.sha256),
        field={"region": attributes.region, "crs": grid.crs, "resolution_m": grid.resolution_m},
        modalities=dict(probe.bands),
        method=probe.method,
        level=probe.level,
        targets=dict(probe.counts),
        features=list(probe.sets),
        controls=list(probe.controls),
        splits=dict(probe.splits),
        models=models,
        spreads=[SpreadFacts(penalty=one.penalty, count=one.count) for one in spreads],
        spatial=probe.spatial,
        weighted=probe.weighted,
        residuals=residuals,
        kernels=described,
        scores=to_facts_table(probe.scores),
        fold_scores=to_facts_table(probe.fold_scores),
        gains=to_facts_table(probe.gains),
    )
    to_bytes = safetensors_numpy().save
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(folder, unique=True, overwrite=True) as complete:
            # safetensors writes the bytes of an array's memory, whatever their order.
            ordered = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
            (complete / WEIGHTS).write_bytes(to_bytes(ordered))
            text = json.dumps(
                facts.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False
            )
            (complete / FACTS).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write the probe {folder}: {error}") from error
    return folder


def _saved_features(probe: "Probe", features: Any, locations: bool) -> tuple[str, ...]:
    """Return the names of the models to save.

    Raises:
        ProbeError: if there is no such model, or one with position is named without `locations`.
    """
    if features is None:
        best = [probe.default_features(name, locations=locations) for name in probe.targets]
        sets = dict.fromkeys(map(without_position, best))
        beside = map(with_position, sets) if locations else ()
        return (*sets, *(name for name in beside if name in probe.fitted))
    names = probe.feature_sets(features)
    for name in names:
        if holds_locations(name) and not locations:
            raise ProbeError(
                f"the model {name!r} holds locations that it was fitted on: save it with "
                "locations=True, or name another"
            )
    return names


def load_probe(path: Any, field: "AtPoints") -> "Probe":
    """Read a probe; see `Probe.load`."""
    from unigeo.client.probing.probe import Probe

    folder = local_folder(path, "read", ProbeError)
    facts = read_facts(folder)
    check_model(field, facts.model.name, facts.model.sha256, f"the probe {folder}")
    check_bands(field, facts.modalities, f"the probe {folder}")
    safe = safetensors_numpy()
    try:
        arrays = safe.load_file(folder / WEIGHTS)
    except Exception as error:  # safetensors has error classes of its own
        raise ProbeError(f"cannot read the weights of the probe {folder}: {error}") from error
    try:
        check_finite(arrays)
        spreads = [read_spread(arrays, n, facts) for n in range(len(facts.spreads))]
        models = read_models(arrays, facts, spreads)
        tables = (facts.scores, facts.fold_scores, facts.gains)
        evaluation = ProbeEvaluation(*(to_dataframe(table) for table in tables))
        rows = arrays["rows"]
        splits = evaluation.scores["split"].unique().tolist()
        folds = {split: arrays[f"folds/{split}"] for split in splits}
        if any(fold_of.shape != rows.shape for fold_of in folds.values()):
            raise ValueError("the folds are of other rows")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ProbeError(
            f"{folder}: {FACTS} and {WEIGHTS} do not belong together ({short(error, 200)}): save "
            "the probe again"
        ) from error
    probe = Probe(
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
        spatial=facts.spatial,
        weighted=facts.weighted,
        _models=models,
    )
    lost = any(map(holds_locations, probe.features))
    if lost and not any(map(holds_locations, probe.fitted)):
        warnings.warn(
            f"the probe {folder} was scored with position or a kernel and saved without its "
            "locations: it predicts by linear models of the vectors",
            ProbeWarning,
            stacklevel=3,
        )
    return probe


def check_model(field: "AtPoints", name: str, sha256: str, what: str) -> None:
    """Refuse a field of another model than the one whose vectors a probe was fitted on.

    Args:
        field: field to read.
        name: name of the model that the probe was fitted on.
        sha256: hash of that model.
        what: name of the probe, for messages.

    Raises:
        ProbeError: naming both models; or if `field` is an address.
    """
    if isinstance(field, str | os.PathLike):
        raise ProbeError(f"{field} is an address: open the field first, client.open_field(...)")
    other = field.attributes.model
    if other.sha256 != sha256:
        raise ProbeError(
            f"{what} was fitted on vectors of the model {name} ({sha256}), and the field "
            f"{field.url} holds those of {other.name} ({other.sha256}): bands of two models mean "
            "different things. Open a field of the first, or probe this one anew."
        )


def check_bands(field: "AtPoints", modalities: dict[str, int], what: str) -> None:
    """Refuse a field that lacks a modality, or has another number of its bands.

    Args:
        field: field to read.
        modalities: number of bands of each modality that the probe reads.
        what: name of the probe, for messages.

    Raises:
        ProbeError: naming the modality.
    """
    for name, bands in modalities.items():
        if name not in field.modalities:
            raise ProbeError(
                f"{what} reads the modality {name}, which the field {field.url} lacks; it has "
                f"{', '.join(field.modalities)}"
            )
        if (width := field.layout.width(name)) != bands:
            raise ProbeError(f"{what} reads {bands} bands of {name}, and the field has {width}")
