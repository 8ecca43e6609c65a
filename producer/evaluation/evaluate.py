"""Evaluate a model: draw the hold-outs, judge it part by part, write one report."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from unigeo.client.probing.suites import load_suite
from unigeo.producer.encoders.model import load_model, model_hash
from unigeo.producer.evaluation import retrieval_sections as finding
from unigeo.producer.evaluation import vector_sections as vectors
from unigeo.producer.evaluation.downstream.suites import DOWNSTREAM
from unigeo.producer.evaluation.holdouts import (
    TrainedOn,
    dates,
    out_of_region,
    random,
    spatial,
    temporal,
)
from unigeo.producer.evaluation.html_report import EvaluationReport, Section
from unigeo.producer.evaluation.model_under_test import EvaluationSubject, HoldOut, ModelUnderTest
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.train import default_device, finished_metrics
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.regions import Region

PARTS: Mapping[str, Callable[[EvaluationSubject], Section]] = {
    "retrieval": finding.retrieval,
    "ensemble": finding.ensemble,
    "geocells": finding.geocells,
    "sets": finding.sets,
    "robustness": vectors.robustness,
    "probes": vectors.probes,
    "downstream": vectors.downstream,
    "maps": vectors.maps,
}
"""What can be judged, in the order of the report."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """What is judged, on what, and how thoroughly."""

    parts: tuple[str, ...] = tuple(PARTS)
    """Some of `PARTS`."""
    places: int = 1024
    """Places of each hold-out; a gallery holds them all."""
    later: Observations | None = None
    """Of the same country in another year, for the temporal hold-out."""
    other: Observations | None = None
    """Of another country, for the hold-out out of region."""
    other_region: Region | None = None
    """Part of the map whose places make the hold-out out of region."""
    suite: Path | None = None
    """File of a suite of targets for the probes; the embedded world brings its own."""
    suite_data: Path = Path()
    """Folder of the suite's tables."""
    downstream: Mapping[str, Path] = field(default_factory=dict)
    """Folders of public benchmarks by name, see `downstream.running`."""
    seed: int = 0
    """Of folds and directions."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.parts) - set(PARTS))
        if unknown or not self.parts:
            what = f"there is no part {unknown[0]!r}" if unknown else "no part is asked for"
            raise ModelError(f"evaluation: {what}; parts are {', '.join(PARTS)}")
        strange = sorted(set(self.downstream) - set(DOWNSTREAM))
        if strange:
            raise ModelError(
                f"evaluation: there is no benchmark {strange[0]!r}; there are "
                f"{', '.join(DOWNSTREAM)}"
            )
        if self.places < 64:
            raise ModelError(f"evaluation: at least 64 places are needed, not {self.places}")


def evaluate_model(
    folder: Path,
    observations: Observations,
    settings: EvaluationPlan | None = None,
    *,
    device: torch.device | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> EvaluationReport:
    """Judge a finished model.

    Args:
        folder: of the model.
        observations: those it was trained on.
        settings: parts and sizes; everything by default.
        device: CUDA where there is one, else the CPU.
        say: is told what is being done.

    Raises:
        ModelError: if there is no finished model, or it does not fit the observations.
        ObservationsError: if too few places are observed in every modality.
    """
    settings = settings or EvaluationPlan()
    metrics = finished_metrics(folder)
    if metrics is None:
        raise ModelError(f"{folder} is no finished model; train one with unigeo-produce")
    model, tokenizer = load_model(folder)
    device = device or default_device()
    judge = ModelUnderTest(model.to(device), tokenizer, device)
    trained = TrainedOn.of(metrics)
    suite = None if settings.suite is None else load_suite(settings.suite)
    start = time.monotonic()
    hold_outs = _hold_outs(judge, observations, trained, settings)
    say(f"{'hold-outs':12}{time.monotonic() - start:6.1f} s")
    subject = EvaluationSubject(
        judge=judge,
        observations=observations,
        hold_outs=hold_outs,
        suite=suite,
        suite_data=settings.suite_data,
        downstream=settings.downstream,
        seed=settings.seed,
        prefixes=tuple(metrics["training"].get("contrast", {}).get("prefixes", ())),
    )
    report = EvaluationReport(
        title=f"Evaluation of {folder.name}",
        facts={
            "model": f"{folder}, weights {model_hash(folder)[:12]}, {model.settings.dimension} "
            f"dimensions, {', '.join(model.modalities)}",
            "trained on": f"{metrics['observations'].get('name')}",
            "observations": f"{observations.name}; {dates(observations)}",
            "hold-outs": "; ".join(f"{h.name}: {len(h):,} places" for h in hold_outs.values()),
        },
        warnings=[*_warnings(metrics, observations), *_left_out(settings)],
    )
    for part in settings.parts:
        begun = time.monotonic()
        report.sections.append(PARTS[part](subject))
        say(f"{part:12}{time.monotonic() - begun:6.1f} s")
    report.facts["unigeo"] = f"{version('unigeo')}, seed {settings.seed}"
    report.facts["seconds"] = f"{time.monotonic() - start:.0f} on {device}"
    return report


def _hold_outs(
    judge: ModelUnderTest,
    observations: Observations,
    trained: TrainedOn,
    settings: EvaluationPlan,
) -> dict[str, HoldOut]:
    """The hold-outs that can be drawn, the spatial one first."""
    count = settings.places
    found = [spatial(judge, observations, trained, count)]
    if "retrieval" in settings.parts:
        found.append(random(judge, observations, trained, count))
        if settings.later is not None:
            found.append(temporal(judge, observations, settings.later, trained, count))
        if settings.other is not None or settings.other_region is not None:
            other = settings.other or observations
            found.append(out_of_region(judge, other, settings.other_region, trained, count))
    return {hold_out.name: hold_out for hold_out in found}


def _left_out(settings: EvaluationPlan) -> list[str]:
    """What the report does not say, and what would make it."""
    if "retrieval" not in settings.parts:
        return []
    lines = []
    if settings.later is None:
        lines.append(
            "No temporal hold-out: the observations are of one date each. Give those of another "
            "year with --later."
        )
    if settings.other is None and settings.other_region is None:
        lines.append(
            "No hold-out out of region: give observations of another country with --other, or a "
            "part of the map that training left out with --other-region."
        )
    return lines


def _warnings(metrics: Mapping[str, Any], observations: Observations) -> list[str]:
    """Whether the observations are those of training, by their hashes."""
    same = json.dumps(metrics["observations"], sort_keys=True) == json.dumps(
        observations.provenance(), sort_keys=True
    )
    if same:
        return []
    return [
        f"The observations ({observations.name}) are not those that the model was trained on "
        f"({metrics['observations'].get('name')}): names, files or hashes differ. The hold-outs "
        "are then drawn from other places than training held out, and some may have been trained "
        "on."
    ]
