"""The whole way, from a few options to a published store: train, rasterize, publish."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unigeo.producer.encoders.model import UniGeoCLIP, load_model
from unigeo.producer.encoders.settings import to_json
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.wrapping import only
from unigeo.producer.pipeline.recipe import (
    ProductionRun,
    chosen_modalities,
    default_resolution,
    recipe,
)
from unigeo.producer.publishing.announce import announce
from unigeo.producer.publishing.concepts import concepts_of
from unigeo.producer.publishing.phrases import phrases_for
from unigeo.producer.publishing.publish import publish
from unigeo.producer.publishing.releases import NextRelease, take_over
from unigeo.producer.publishing.terms import Terms
from unigeo.producer.raster.coordinate_detail import describe_detail, detail_of
from unigeo.producer.raster.coordinate_interpolation import (
    SAMPLES,
    cells_per_node,
    check_errors,
    check_factor,
    measured_errors,
)
from unigeo.producer.raster.cost_estimate import (
    calibrate,
    cell_flops,
    estimate,
    format_estimate,
    sample_cells,
)
from unigeo.producer.raster.encoding import ModelEncoder, check_fit, encoder_of
from unigeo.producer.raster.identity import identity_of
from unigeo.producer.raster.planning import plan, planned
from unigeo.producer.raster.run import (
    ExecutionOptions,
    StoreLease,
    fill,
    model_source,
    open_model,
    refuse_failures,
    sharing,
)
from unigeo.producer.raster.shard_task import RasterJob
from unigeo.producer.storage.code_identity import check_code
from unigeo.producer.storage.field_store import check_layout, check_writable, create_field
from unigeo.producer.training.processes import default_device, is_first_rank
from unigeo.producer.training.train import finished_metrics, train
from unigeo.schemas.errors import ModelError, ObservationsError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.geo.window import Window
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.attributes import DetailAttributes, root_attributes
from unigeo.schemas.store.layout import Codec, Layout
from unigeo.schemas.store.status import Status


def choose(
    region: Region,
    observations: Observations,
    *,
    model: str | None = None,
    preset: str = "tiny",
    steps: int | None = None,
    resolution_m: float | None = None,
    modalities: str | None = None,
    codec: Codec = "none",
    interpolate: int = 1,
    seed: int = 0,
    out: str | None = None,
    changes: Mapping[str, str] | None = None,
) -> ProductionRun:
    """Turn options into one run; what is left open is chosen for the machine at hand.

    `changes` are of the preset's settings, such as `{"model.coordinate.depth": "6"}`.

    Raises:
        UnigeoError: if an option means nothing.
    """
    changes = dict(changes or {})
    if model is not None and changes:
        raise ModelError(
            f"{model} is used as it is, so {', '.join(changes)} cannot be set; leave out --model "
            "to train one"
        )
    chosen_recipe = recipe(preset, observations, seed, changes)
    model_settings, training = chosen_recipe.model, chosen_recipe.training
    if model is None:
        observations = only(observations, model_settings.modalities)
    if steps is not None:
        training = replace(training, steps=steps)
    if model is not None and finished_metrics(Path(model)) is None:
        raise ModelError(f"{model} is no finished model; leave out --model to train one")
    chosen = chosen_modalities(modalities, observations)
    if model is not None:
        dimension = load_model(model)[0].settings.dimension
    else:
        dimension = model_settings.dimension
    size = (
        resolution_m if resolution_m is not None else default_resolution(region, default_device())
    )
    grid = region.grid(size)
    _check_land(region, grid, observations)
    layout = Layout(modalities=chosen, bands=dimension, codec=codec)
    check_factor(interpolate, layout.shard)
    return ProductionRun(
        region=region,
        grid=grid,
        layout=layout,
        model=Path(model) if model is not None else Path(region.name) / "model",
        out=out or f"{region.name}/{region.name}.zarr",
        model_settings=None if model is not None else model_settings,
        training=training,
        changes=changes,
        interpolate=interpolate,
    )


def _check_land(region: Region, grid: Grid, observations: Observations) -> None:
    """Refuse a region of which the observations know no land, before any work is done."""
    step = max(1, math.isqrt(grid.shape[0] * grid.shape[1] // 250_000))
    lonlat = np.concatenate(
        [
            grid.centres(Window(row, 0, 1, grid.shape[1]))[0, step // 2 :: step]
            for row in range(step // 2, grid.shape[0], step)
        ]
    )
    inside = lonlat[region.contains(lonlat)]
    if not observations.land(inside).any():
        raise ObservationsError(
            f"{observations.name} knows no land in {region.name}, so there is nothing to encode; "
            "give observations of that region, or a finer --resolution if it is small"
        )


def describe(run: ProductionRun, observations: Observations) -> Iterator[str]:
    """What will be done, in a few lines."""
    rows, cols = run.grid.shape
    shards = int(np.prod(run.layout.shards(run.grid))) * len(run.layout.modalities)
    yield f"region        {run.region.name}, {run.grid.crs}"
    yield (
        f"cells         {run.grid.resolution_m:g} m; {rows} x {cols} in all, {shards} shards of "
        f"{', '.join(run.layout.modalities)}"
    )
    yield f"observations  {observations.name}: {', '.join(observations.modalities)}"
    if run.model_settings is None:
        yield f"model         {run.model}, as it is"
    elif finished_metrics(run.model) is not None:
        yield f"model         {run.model}, trained before"
    else:
        yield (
            f"model         {run.model}, to be trained: {run.training.steps} steps of "
            f"{run.training.batch} places, {run.layout.bands} dimensions, on {default_device()}"
        )
    for key, value in run.changes.items():
        yield f"setting       {key} = {value}"
    yield f"store         {run.out}"


def carry_out(
    run: ProductionRun,
    observations: Observations,
    *,
    progress: bool,
    code_version: str,
    running: ExecutionOptions | None = None,
    following: NextRelease | None = None,
    terms: Terms | None = None,
) -> Iterator[str]:
    """Train, rasterize and publish; yields a line after each stage.

    Raises:
        UnigeoError: naming the stage, what happened and what to do; finished parts are kept.
    """
    running = running or ExecutionOptions(progress=progress)
    check_writable(run.out)
    with sharing(run.out) as shared:
        yield from _stages(
            run, observations, running, shared, code_version, following, terms or Terms()
        )


def _stages(
    run: ProductionRun,
    observations: Observations,
    running: ExecutionOptions,
    shared: StoreLease,
    code_version: str,
    following: NextRelease | None,
    terms: Terms,
) -> Iterator[str]:
    device = default_device()
    if run.model_settings is not None:
        observations = only(observations, run.model_settings.modalities)
        metrics = train(
            observations,
            run.model_settings,
            run.training,
            run.model,
            device=device,
            progress=running.progress,
        )
        if not is_first_rank():
            return  # started by torchrun to train along; the first process makes the field
        recall, chance = metrics["mean"]["R@10"], metrics["chance"]["R@10"]
        yield (
            f"trained       mean R@10 {100 * recall:.1f} % on held-out blocks "
            f"(chance {100 * chance:.2f} %); {run.model}/card.md"
        )
    model, tokenizer, weights = open_model(run.model)
    check_fit(model, observations, run.layout.modalities)
    identity = identity_of(weights, model.settings, observations, run.interpolate)
    attributes = root_attributes(
        region=run.region.name,
        grid=run.grid,
        layout=run.layout,
        model_name="unigeoclip",
        model_sha256=weights,
        model_settings=to_json(model.settings),
        observations=observations.provenance(),
        seed=run.training.seed,
        code_version=code_version,
        coordinate_detail=_detail(run, model),
    )
    attributes = identity.mark(attributes)
    before = None
    if following is not None:
        attributes = following.mark(attributes)
        before = dict(open_group(following.previous_url).attrs)
    attributes = terms.mark(attributes, before)
    again = partial(shared.note_again, observations, run.grid, run.layout)
    group = create_field(run.out, run.grid, run.layout, attributes, shared.damaged(), again)
    state: Any = group.attrs["unigeo"]
    if state["state"] == "published" and plan(group, run.grid, run.layout):
        check_layout(state, run.out)
        check_code(state, attributes["unigeo"], run.out)  # shards that were lost are made again
    elif state["state"] == "published":
        terms.check(dict(group.attrs), run.out)
        shared.tidy_up()
        announce(run.out, model_card=card_of(run.model))
        yield f"published     {run.out}, as it was"
        return
    if following is not None:
        taken = take_over(following.previous_url, group, run.region, observations.land)
        yield f"taken over    {taken} shards of release {following.previous}, unchanged"
    work = _work(run, observations, encoder_of(model, observations, device, run.interpolate))
    yield from _interpolated(work)
    source = model_source(run.model, running, run.interpolate)
    report = fill(group, work, run.out, source, running, shared, identity)
    counts = ", ".join(f"{count:,} {code.label}" for code, count in sorted(report.cells.items()))
    yield f"rasterized    {report.shards} shards in {report.seconds:.0f} s: {counts or 'all there'}"
    for message, count in report.failures.items():
        yield f"failed        {count:,} cells, {message}"
    for modality, reasons in observations.gaps().items():
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        yield f"gaps          {modality}: {listed or 'none'}"
    refuse_failures(run.out, report, shared, running)
    if not shared.my_turn_to_publish(group):
        yield f"published     {run.out}, by another run"
        return
    publish(
        group,
        encoder=coordinate_weights(model),
        encoder_settings=_coordinate_settings(model),
        concepts=concepts_of(model, tokenizer, phrases_for(observations)),
        previous=None if following is None else following.previous_url,
        progress=running.progress,
    )
    announce(run.out, model_card=card_of(run.model))
    yield f"published     {run.out}: {report.cells[Status.VALID]:,} vectors"


def _detail(run: ProductionRun, model: UniGeoCLIP) -> DetailAttributes | None:
    settings = model.settings.coordinate
    if settings is None or "coordinate" not in run.layout.modalities:
        return None
    return detail_of(settings, run.grid.resolution_m, run.interpolate)


def _interpolated(work: RasterJob) -> Iterator[str]:
    """Say what interpolation costs in accuracy, where there is any.

    Raises:
        ModelError: if it shows.
    """
    encoder: ModelEncoder = work.encode
    if encoder.interpolate == 1 or "coordinate" not in work.layout.modalities:
        return
    cells = sample_cells(work, SAMPLES)
    errors = measured_errors(
        encoder.encode_cells, encoder.device, work.grid, encoder.interpolate, cells
    )
    check_errors(errors, encoder.interpolate)
    yield (
        f"interpolated  one of {encoder.interpolate**2} coordinates encoded; on {len(cells)} cells "
        f"an error of {errors}"
    )


def _work(run: ProductionRun, observations: Observations, encode: Any) -> RasterJob:
    return RasterJob(run.grid, run.layout, run.region, observations.land, encode)


def foresee(
    run: ProductionRun,
    observations: Observations,
    *,
    workers: int = 1,
    price_per_hour: float | None = None,
) -> Iterator[str]:
    """Say what a run will cost: cells, shards, bytes, operations, time and money; writes nothing.

    The speed is measured here, on cells of one shard. A model that is not trained yet is as fast as
    it will be.
    """
    device = default_device()
    if run.model_settings is None or finished_metrics(run.model) is not None:
        model = load_model(run.model)[0]
    else:
        model = UniGeoCLIP(run.model_settings, pretrained=False)
    check_fit(model, observations, run.layout.modalities)
    work = _work(run, observations, encoder_of(model, observations, device, run.interpolate))
    if model.settings.coordinate is not None and "coordinate" in run.layout.modalities:
        told_detail = describe_detail(model.settings.coordinate, run.grid.resolution_m)
        yield f"detail        {told_detail}"
    yield from _interpolated(work)
    gains = dict.fromkeys(run.layout.modalities, 1.0)
    if "coordinate" in gains:
        gains["coordinate"] = cells_per_node(run.interpolate, run.layout.shard)
    tasks = planned(run.out, run.grid, run.layout)
    yield from format_estimate(
        estimate(work, tasks),
        {name: round(cell_flops(model, name) / gains[name]) for name in run.layout.modalities},
        {
            name: calibrate(work, name, overlap=device.type == "cuda", gain=gains[name])
            for name in run.layout.modalities
        },
        workers=workers,
        price_per_hour=price_per_hour,
    )


def card_of(model: Path) -> str | None:
    """The card in a model's folder, if there is one."""
    path = model / "card.md"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def coordinate_weights(model: UniGeoCLIP) -> dict[str, np.ndarray]:
    """The coordinate encoder and the rotation after it, as arrays by name."""
    weights = {
        name: value.detach().cpu().numpy()
        for name, value in model.encoders["coordinate"].state_dict().items()
    }
    return weights | {"rotation": model.rotation.detach().cpu().numpy()}


def _coordinate_settings(model: UniGeoCLIP) -> dict[str, Any]:
    settings: dict[str, Any] = to_json(model.settings)["coordinate"]
    return settings | {"dimension": model.settings.dimension}
