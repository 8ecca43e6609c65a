"""What a run will take, stage by stage, measured in a few seconds; and what it took."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.wrapping import only
from unigeo.producer.pipeline.production_run import ProductionRun
from unigeo.producer.pipeline.stages import RunModel, open_job, open_run_model, root_of
from unigeo.producer.publishing.phrases import phrases_for
from unigeo.producer.publishing.rehearsal import concepts_seconds, rehearse_publication
from unigeo.producer.publishing.releases import unchanged_tasks
from unigeo.producer.publishing.terms import Terms
from unigeo.producer.raster.coordinate_interpolation import cells_per_node
from unigeo.producer.raster.cost_estimate import (
    ModalityPlan,
    ProcessSpeed,
    calibrate,
    cell_flops,
    estimate,
    land_share,
    looking_seconds,
)
from unigeo.producer.raster.encoding import ModelEncoder, check_fit, encoder_of
from unigeo.producer.raster.planning import Tasks, planned
from unigeo.producer.raster.run import ExecutionOptions
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.training.processes import default_device
from unigeo.producer.training.run_identity import run_identity
from unigeo.producer.training.train import finished_metrics, finished_steps
from unigeo.producer.training.training_cost import TrainingCost, rehearse_training
from unigeo.schemas.io.durations import format_duration
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.attributes import read_attributes
from unigeo.schemas.store.layout import COVARIATES, FUSED

OBSERVING, TRAINING, RASTERIZING = "observing", "training", "rasterizing"
DERIVING, PUBLISHING = "deriving", "publishing"
STAGES = (OBSERVING, TRAINING, RASTERIZING, DERIVING, PUBLISHING)
"""Stages of a run in their order; deriving makes all that is made of stored vectors."""


_LONG_STEPS = 50
_LONG_CELLS = 1_000_000
_COMPARED_SHARDS = 1000
"""Number of shards of one array that are compared with the previous release in a few seconds."""


def is_long(run: ProductionRun) -> bool:
    """Return whether what is left of a run is worth a few seconds to predict its time.

    One of several processes of torchrun is not measured: alone it cannot do a step.
    """
    is_trained = run.model_settings is None or finished_metrics(run.model) is not None
    steps = 0 if is_trained else run.training.steps
    cells = len(planned(run.out, run.grid, run.layout)) * run.layout.shard**2
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    return alone and (steps >= _LONG_STEPS or cells >= _LONG_CELLS)


@dataclass(frozen=True, eq=False)
class Forecast:
    """What is left of a run, and how long it will take."""

    encoder: ModelEncoder
    opened: OpenedJob
    plans: list[ModalityPlan]
    flops: Mapping[str, int]
    """Floating-point operations of one cell, by modality."""
    speeds: Mapping[str, ProcessSpeed | None]
    """Measured speed of one process, by modality that is to be encoded; None where it is
    unknown."""
    taken_over: int
    """Number of shards that are copied from the previous release."""
    seconds: Mapping[str, float] | None
    """Predicted seconds by stage; None where a speed is unknown."""
    measured_s: float
    """Seconds that the measurement took."""


def steps_before(run: ProductionRun, observations: Observations) -> int:
    """Return the steps of a run's training that earlier runs did; 0 where the model is finished.

    Raises:
        ModelError: if its folder holds a model or a checkpoint of another training.
    """
    settings = run.model_settings
    if settings is None:
        return 0
    used = only(observations, settings.modalities)
    return finished_steps(run.model, run_identity(used, settings, run.training))


def forecast(
    run: ProductionRun,
    observations: Observations,
    workers: int = 1,
    loaded: RunModel | None = None,
) -> Forecast:
    """Do a little of each stage of a run, and scale it; nothing is kept.

    Args:
        run: the run.
        observations: what is observed.
        workers: number of processes that rasterize.
        loaded: the run's model, where it is finished and opened already.

    Raises:
        UnigeoError: if the run would be refused.
    """
    start = time.perf_counter()
    device = default_device()
    cost = TrainingCost(0.0, 0.0)
    model: UniGeoCLIP
    tokenizer: Any
    settings = run.model_settings
    first = steps_before(run, observations)
    tasks, taken = planned(run.out, run.grid, run.layout), 0
    if settings is None or finished_metrics(run.model) is not None:
        loaded = loaded or open_run_model(run, observations)
        model, tokenizer = loaded.model, loaded.tokenizer
        tasks, taken = _without_unchanged(run, observations, loaded, tasks)
    else:
        used = only(observations, settings.modalities)
        rehearsed = rehearse_training(used, settings, run.training, device, first=first)
        cost, model, tokenizer = rehearsed.cost, rehearsed.model.cpu(), rehearsed.tokenizer
        fits = {"accept_ground_size": run.accept_ground_size}
        check_fit(model, observations, run.layout.modalities, **fits)
    encoder = encoder_of(model, observations, device, run.interpolate, tokenizer=tokenizer)
    opened = open_job(run, observations, encoder, ExecutionOptions())
    gains = dict.fromkeys(run.layout.modalities, 1.0)
    if COORDINATE in gains:
        gains[COORDINATE] = cells_per_node(run.interpolate, run.layout.shard)
    plans = estimate(opened, tasks)
    speeds = {
        each.modality: calibrate(
            opened, each.modality, overlap=device.type == "cuda", gain=gains[each.modality]
        )
        for each in plans
        if each.cells and each.modality != COVARIATES
    }
    encoding = _encoding_seconds(plans, speeds, workers)
    seconds = None
    if encoding is not None:
        share = land_share(opened)
        shards = int((share > 0).sum())
        published = rehearse_publication(
            run.layout,
            run.grid.crs,
            run.grid.resolution_m,
            shards,
            float(share[share > 0].mean()) if shards else 0.0,
        )
        looking_s = looking_seconds(opened, tasks) / workers
        concepts_s = concepts_seconds(model, tokenizer, phrases_for(observations, model.settings))
        seconds = {
            OBSERVING: cost.observing,
            TRAINING: cost.training,
            RASTERIZING: encoding[0] + looking_s,
            DERIVING: encoding[1] + published.deriving + concepts_s,
            PUBLISHING: published.publishing,
        }
    flops = {name: round(cell_flops(model, name) / gains[name]) for name in run.layout.modalities}
    measured_s = time.perf_counter() - start
    return Forecast(encoder, opened, plans, flops, speeds, taken, seconds, measured_s)


def _without_unchanged(
    run: ProductionRun, observations: Observations, loaded: RunModel, tasks: Tasks
) -> tuple[Tasks, int]:
    """Return the tasks that are left where a release takes over others, and how many it does.

    In a field of more than `_COMPARED_SHARDS` shards it is not looked for.
    """
    if run.following is None or tasks.missing[0].size > _COMPARED_SHARDS:
        return tasks, 0
    attributes = read_attributes(root_of(run, observations, loaded, Terms()), run.out)
    previous, missing = open_group(run.following.previous_url), tasks.missing.copy()
    unchanged = unchanged_tasks(previous, attributes, tasks, run.region, observations.land)
    for task, _, _ in unchanged:
        missing[tasks.modalities.index(task.modality), task.shard_row, task.shard_col] = False
    return Tasks(tasks.modalities, missing), int(tasks.missing.sum() - missing.sum())


def _encoding_seconds(
    plans: list[ModalityPlan], speeds: Mapping[str, ProcessSpeed | None], workers: int
) -> tuple[float, float] | None:
    """Return the seconds of encoding and of fusing; None where a speed is unknown."""
    spent = {True: 0.0, False: 0.0}
    for each in plans:
        if each.modality == COVARIATES or each.cells == 0:
            continue
        speed = speeds[each.modality]
        if speed is None:
            return None
        spent[each.modality == FUSED] += each.cells / speed.cells / workers
    return spent[False], spent[True]


def format_stages(seconds: Mapping[str, float]) -> str:
    """Write the time of each stage, and its share of the whole."""
    whole = max(sum(seconds.values()), 1e-9)
    parts = (
        f"{name} {format_duration(seconds[name])} ({100 * seconds[name] / whole:.0f} %)"
        for name in STAGES
        if seconds.get(name, 0.0) > 0
    )
    return ", ".join(parts)


def compare_times(taken: Mapping[str, float], predicted: Mapping[str, float]) -> str:
    """Write what a run took beside what was predicted."""
    parts = (
        f"{name} {taken.get(name, 0.0):.0f} of {predicted[name]:.0f} s"
        for name in STAGES
        if taken.get(name, 0.0) + predicted[name] >= 0.5
    )
    return (
        f"{sum(taken.values()):.0f} s of {sum(predicted.values()):.0f} s predicted: "
        f"{', '.join(parts)}"
    )
