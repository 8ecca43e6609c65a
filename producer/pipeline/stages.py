"""The stages of a run: train, begin the store, open the job, publish. Each returns what it made."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import zarr

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import to_json
from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.pipeline.production_run import ProductionRun
from unigeo.producer.publishing.announce import announce
from unigeo.producer.publishing.concepts import concepts_of
from unigeo.producer.publishing.coordinate_encoder import coordinate_settings, coordinate_weights
from unigeo.producer.publishing.phrases import phrases_for
from unigeo.producer.publishing.publish import publish
from unigeo.producer.publishing.rehearsal import StageClock
from unigeo.producer.publishing.terms import Terms
from unigeo.producer.raster.coordinate_detail import detail_of
from unigeo.producer.raster.coordinate_interpolation import (
    SAMPLES,
    InterpolationErrors,
    check_errors,
    measured_errors,
)
from unigeo.producer.raster.cost_estimate import sample_cells
from unigeo.producer.raster.covariate_columns import columns_of, describe_columns
from unigeo.producer.raster.encoding import ModelEncoder, check_fit
from unigeo.producer.raster.identity import VectorIdentity, identity_of
from unigeo.producer.raster.model_equipment import equipment_opener, open_model
from unigeo.producer.raster.observed_detail import observed_detail
from unigeo.producer.raster.planning import plan
from unigeo.producer.raster.raster_job import Equipment, RasterJob
from unigeo.producer.raster.run import ExecutionOptions
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.raster.store_lease import StoreLease
from unigeo.producer.storage.code_identity import check_code
from unigeo.producer.storage.field_store import check_layout, create_field
from unigeo.producer.training.processes import is_first_rank
from unigeo.producer.training.train import train
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.attributes import DetailAttributes, read_attributes, root_attributes
from unigeo.schemas.store.covariates import Covariate
from unigeo.schemas.store.manifest import GROUP as MANIFEST

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, eq=False)
class RunModel:
    """The model of a run in memory, and the identity of the vectors it makes."""

    model: UniGeoCLIP
    tokenizer: "Tokenizer | None"
    weights: str
    """SHA-256 of the weights."""
    identity: VectorIdentity


def train_model(
    run: ProductionRun, observations: Observations, device: torch.device, *, progress: bool
) -> dict[str, Any] | None:
    """Train the run's model, or find it trained.

    Returns:
        Its metrics; None in a process of torchrun that only trains along: the first process
        produces the field.
    """
    assert run.model_settings is not None
    metrics = train(
        observations, run.model_settings, run.training, run.model, device=device, progress=progress
    )
    return metrics if is_first_rank() else None


def open_run_model(run: ProductionRun, observations: Observations) -> RunModel:
    """Load the run's model.

    Raises:
        ModelError: if it cannot encode what is observed.
    """
    model, tokenizer, weights = open_model(run.model)
    check_fit(
        model,
        observations,
        run.layout.modalities,
        accept_ground_size=run.accept_ground_size,
    )
    identity = identity_of(weights, model.settings, observations, run.interpolate)
    return RunModel(model, tokenizer, weights, identity)


def begin_store(
    run: ProductionRun,
    observations: Observations,
    lease: StoreLease,
    *,
    attributes: dict[str, Any],
    terms: Terms,
) -> tuple[zarr.Group, bool]:
    """Create the run's store, or open it as an earlier run left it.

    Args:
        run: the run.
        observations: what is observed.
        lease: coordination with other runs.
        attributes: attributes of the root, from `root_of`.
        terms: terms of publication, which a published store must have.

    Returns:
        The root, and whether the store is complete: published, and no shard is missing.

    Raises:
        StoreError: if another product stands there, or the terms contradict what is published.
        OtherIdentityError: if shards are missing that other code made.
    """
    redo = partial(lease.redo, observations, run.grid, run.layout)
    group = create_field(
        run.out,
        run.grid,
        run.layout,
        attributes,
        lease.damaged_files(),
        redo,
        covariates=_covariates(run, observations),
    )
    state: Any = group.attrs["unigeo"]
    if state["state"] != "published":
        return group, False
    if lost := plan(group, run.grid, run.layout):
        check_layout(state, run.out)
        check_code(state, attributes["unigeo"], run.out)
        lease.redo_lost(lost)
        return group, False
    terms.check(dict(group.attrs), run.out)
    return group, True


def root_of(
    run: ProductionRun, observations: Observations, loaded: RunModel, terms: Terms
) -> dict[str, Any]:
    """Return the attributes of the root of the run's store.

    Raises:
        StoreError: if the terms contradict each other.
    """
    attributes = loaded.identity.mark(
        root_attributes(
            region=run.region.name,
            outline_sha256=run.region.outline_sha256,
            grid=run.grid,
            layout=run.layout,
            model_name="unigeoclip",
            model_sha256=loaded.weights,
            model_settings=to_json(loaded.model.settings),
            observations=observations.provenance(),
            seed=run.training.seed,
            code_version=loaded.identity.version,
            coordinate_detail=_detail(run, loaded.model),
            observed_detail=observed_detail(observations, run.layout.modalities, run.region.middle),
        )
    )
    before = None
    if run.following is not None:
        attributes = run.following.mark(attributes)
        before = dict(open_group(run.following.previous_url).attrs)
    return terms.mark(attributes, before)


def _covariates(run: ProductionRun, observations: Observations) -> tuple[Covariate, ...]:
    """Return the run's covariates with units and sources."""
    if not run.layout.covariates:
        return ()
    columns = columns_of(observations, run.layout.modalities)
    return describe_columns(columns, observations.provenance())


def _detail(run: ProductionRun, model: UniGeoCLIP) -> DetailAttributes | None:
    settings = model.settings.coordinate
    if settings is None or COORDINATE not in run.layout.modalities:
        return None
    return detail_of(settings, run.grid.resolution_m, run.interpolate)


def open_job(
    run: ProductionRun,
    observations: Observations,
    encoder: ModelEncoder,
    options: ExecutionOptions,
    identity: VectorIdentity | None = None,
) -> OpenedJob:
    """Describe the run's vectors as a job, opened in this process with an encoder it has already.

    Args:
        run: the run.
        observations: what is observed, in this process.
        encoder: model and observations.
        options: what workers open instead.
        identity: identity of the store's vectors; this code alone without it.
    """
    identity = identity or VectorIdentity()
    job = RasterJob(
        url=run.out,
        region=run.region,
        grid=run.grid,
        layout=run.layout,
        open_equipment=equipment_opener(
            run.model, options.observations, options.data, run.interpolate, options.workers
        ),
        identity=identity,
        patience_s=options.patience_s,
    )
    return OpenedJob(job, Equipment(encoder, observations.land, identity))


def interpolation_errors(
    encoder: ModelEncoder, opened: OpenedJob
) -> tuple[InterpolationErrors, int] | None:
    """Measure what interpolation costs in accuracy; None where every coordinate is encoded.

    Returns:
        The errors, and the number of cells that they are measured on.

    Raises:
        ModelError: if the loss shows beside that of int8.
    """
    if encoder.interpolate == 1 or COORDINATE not in opened.job.layout.modalities:
        return None
    cells = sample_cells(opened, SAMPLES)
    errors = measured_errors(
        encoder.encode_cells, encoder.device, opened.job.grid, encoder.interpolate, cells
    )
    check_errors(errors, encoder.interpolate)
    return errors, len(cells)


def publish_store(
    run: ProductionRun,
    observations: Observations,
    loaded: RunModel,
    group: zarr.Group,
    lease: StoreLease,
    *,
    progress: bool,
    clock: StageClock,
) -> bool:
    """Publish a filled store and list it in its catalogue; False if another run has done it."""
    if not lease.wait_to_publish(group):
        return False
    following = run.following
    has_coordinates = COORDINATE in loaded.model.modalities
    with clock.stage("concepts"):
        stored = read_attributes(dict(group.attrs), str(group.store)).layout.modalities
        phrases = phrases_for(observations, loaded.model.settings)
        concepts = concepts_of(loaded.model, loaded.tokenizer, phrases, stored)
    publish(
        group,
        encoder=coordinate_weights(loaded.model) if has_coordinates else None,
        encoder_settings=coordinate_settings(loaded.model) if has_coordinates else None,
        concepts=concepts,
        previous=None if following is None else following.previous_url,
        allow_loss=following is not None and following.allow_loss,
        progress=progress,
        stage=clock.stage,
    )
    announce_run(run)
    return True


def count_vectors(group: zarr.Group) -> int:
    """Count the vectors of a published store, by its manifest."""
    layout = read_attributes(dict(group.attrs), str(group.store)).field_layout()
    arrays = (group.get(f"{MANIFEST}/{name}_valid_cells") for name in layout.modalities)
    return sum(
        int(np.asarray(array[...]).sum()) for array in arrays if isinstance(array, zarr.Array)
    )


def announce_run(run: ProductionRun) -> None:
    """List the run's store in the catalogue beside it, with the model's card."""
    announce(run.out, model_card=_card_of(run.model))


def _card_of(model: Path) -> str | None:
    """Return the card in a model's folder, if there is one."""
    path = model / "card.md"
    return path.read_text(encoding="utf-8") if path.is_file() else None
