"""`evaluate_model`: draw the hold-outs, compute each part of the evaluation, return one report."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from unigeo.client.probing.suites import load_suite
from unigeo.producer.encoders.saved_models import load_model, model_hash
from unigeo.producer.evaluation import retrieval_sections, vector_sections
from unigeo.producer.evaluation.downstream.benchmarks import DOWNSTREAM
from unigeo.producer.evaluation.holdouts import (
    TrainedOn,
    acquisition_dates,
    out_of_region_hold_out,
    random_hold_out,
    spatial_hold_out,
    temporal_hold_out,
)
from unigeo.producer.evaluation.html_report import EvaluationReport, Section
from unigeo.producer.evaluation.model_under_test import EvaluationContext, HoldOut, ModelUnderTest
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.train import default_device, finished_metrics
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.regions import Region

PARTS: Mapping[str, Callable[[EvaluationContext], Section]] = {
    "retrieval": retrieval_sections.retrieval,
    "ensemble": retrieval_sections.ensemble,
    "geocells": retrieval_sections.geocells,
    "sets": retrieval_sections.sets,
    "robustness": vector_sections.robustness,
    "probes": vector_sections.probes,
    "downstream": vector_sections.downstream,
    "maps": vector_sections.maps,
}
"""Parts of an evaluation by name, in the order of the report; each computes a section."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """The parts of an evaluation, their data and their sizes."""

    parts: tuple[str, ...] = tuple(PARTS)
    """Names of `PARTS` to compute."""
    locations: int = 1024
    """Locations of each hold-out; all of them form the gallery."""
    later: Observations | None = None
    """Observations of the same area in another year, for the temporal hold-out."""
    other: Observations | None = None
    """Observations of another area, for the hold-out out of region."""
    other_region: Region | None = None
    """Part of the map in which the hold-out out of region is drawn."""
    suite: Path | None = None
    """Suite file with targets for the probes; the embedded world has its own targets."""
    suite_data: Path = Path()
    """Folder of the suite's tables."""
    downstream: Mapping[str, Path] = field(default_factory=dict)
    """Folders of public benchmarks by name, see `downstream.benchmarks`."""
    seed: int = 0
    """Seed of folds, of shift directions and of the t-SNE layout."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.parts) - set(PARTS))
        if unknown or not self.parts:
            what = f"there is no part {unknown[0]!r}" if unknown else "no part is asked for"
            raise ModelError(f"evaluation: {what}; parts are {', '.join(PARTS)}")
        unknown = sorted(set(self.downstream) - set(DOWNSTREAM))
        if unknown:
            raise ModelError(
                f"evaluation: there is no benchmark {unknown[0]!r}; there are "
                f"{', '.join(DOWNSTREAM)}"
            )
        if self.locations < 64:
            raise ModelError(f"evaluation: at least 64 places are needed, not {self.locations}")


def evaluate_model(
    folder: Path,
    observations: Observations,
    plan: EvaluationPlan | None = None,
    *,
    device: torch.device | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> EvaluationReport:
    """Evaluate a trained model.

    Args:
        folder: folder of the model.
        observations: observations that the model was trained on.
        plan: parts and sizes; all parts by default.
        device: by default CUDA if available, else the CPU.
        log: called with a line for each step that is done.

    Raises:
        ModelError: if there is no finished model, or it does not fit the observations.
        ObservationsError: if too few locations are observed in every modality.
    """
    plan = plan or EvaluationPlan()
    metrics = finished_metrics(folder)
    if metrics is None:
        raise ModelError(f"{folder} is no finished model; train one with unigeo-produce")
    model, tokenizer = load_model(folder)
    device = device or default_device()
    model_under_test = ModelUnderTest(model.to(device), tokenizer, device)
    trained = TrainedOn.from_metrics(metrics)
    suite = None if plan.suite is None else load_suite(plan.suite)
    start = time.monotonic()
    hold_outs = _hold_outs(model_under_test, observations, trained, plan)
    log(f"{'hold-outs':12}{time.monotonic() - start:6.1f} s")
    context = EvaluationContext(
        model_under_test=model_under_test,
        observations=observations,
        hold_outs=hold_outs,
        suite=suite,
        suite_data=plan.suite_data,
        downstream=plan.downstream,
        seed=plan.seed,
        prefixes=tuple(metrics["training"].get("contrast", {}).get("prefixes", ())),
    )
    report = EvaluationReport(
        title=f"Evaluation of {folder.name}",
        facts={
            "model": f"{folder}, weights {model_hash(folder)[:12]}, {model.settings.dimension} "
            f"dimensions, {', '.join(model.modalities)}",
            "trained on": f"{metrics['observations'].get('name')}",
            "observations": f"{observations.name}; {acquisition_dates(observations)}",
            "hold-outs": "; ".join(f"{h.name}: {len(h):,} places" for h in hold_outs.values()),
        },
        warnings=[*_warnings(metrics, observations), *_left_out(plan)],
    )
    for part in plan.parts:
        part_start = time.monotonic()
        report.sections.append(PARTS[part](context))
        log(f"{part:12}{time.monotonic() - part_start:6.1f} s")
    report.facts["unigeo"] = f"{version('unigeo')}, seed {plan.seed}"
    report.facts["seconds"] = f"{time.monotonic() - start:.0f} on {device}"
    return report


def _hold_outs(
    model_under_test: ModelUnderTest,
    observations: Observations,
    trained: TrainedOn,
    plan: EvaluationPlan,
) -> dict[str, HoldOut]:
    """Draw the hold-outs of the plan, the spatial one first."""
    count = plan.locations
    hold_outs = [spatial_hold_out(model_under_test, observations, trained, count)]
    if "retrieval" in plan.parts:
        hold_outs.append(random_hold_out(model_under_test, observations, trained, count))
        if plan.later is not None:
            hold_outs.append(
                temporal_hold_out(model_under_test, observations, plan.later, trained, count)
            )
        if plan.other is not None or plan.other_region is not None:
            other = plan.other or observations
            hold_outs.append(
                out_of_region_hold_out(model_under_test, other, plan.other_region, trained, count)
            )
    return {hold_out.name: hold_out for hold_out in hold_outs}


def _left_out(plan: EvaluationPlan) -> list[str]:
    """List the hold-outs that the report lacks, and the option that adds each."""
    if "retrieval" not in plan.parts:
        return []
    lines = []
    if plan.later is None:
        lines.append(
            "No temporal hold-out: the observations are of one date each. Give those of another "
            "year with --later."
        )
    if plan.other is None and plan.other_region is None:
        lines.append(
            "No hold-out out of region: give observations of another country with --other, or a "
            "part of the map that training left out with --other-region."
        )
    return lines


def _warnings(metrics: Mapping[str, Any], observations: Observations) -> list[str]:
    """Warn if the provenance of the observations differs from that of training."""
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
