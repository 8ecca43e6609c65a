"""One run of `unigeo-produce`: every choice is made once, and stated before any work is done."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from unigeo.producer.encoders.checkpoints import check_checkpoints
from unigeo.producer.encoders.model_folders import model_folder
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.saved_models import check_model_folder, model_hash, read_settings
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.wrapping import only
from unigeo.producer.pipeline.recipe import recipe
from unigeo.producer.publishing.releases import NextRelease, next_release
from unigeo.producer.publishing.updates import refuse_losses
from unigeo.producer.raster.coordinate_interpolation import check_factor
from unigeo.producer.raster.covariate_columns import columns_of, names_of
from unigeo.producer.storage.field_store import check_product
from unigeo.producer.storage.output_checks import check_writable_path
from unigeo.producer.training.processes import default_device
from unigeo.producer.training.run_identity import (
    RunIdentity,
    identity_of_model,
    run_identity,
    trains_the_same,
)
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.train import finished_metrics
from unigeo.schemas.errors import LayoutError, ModelError, ObservationsError, StoreError
from unigeo.schemas.geo.grid import Grid, from_wgs84
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.layout import FUSED, Codec, Layout

_CPU_CELLS = 100_000
"""Number of cells in the region that a laptop encodes in about a minute."""
_ROUND_STEPS = (1.0, 2.0, 2.5, 5.0)
_LAND_SAMPLES = 250_000
"""Number of cells, about, at which land is looked for before a run."""


@dataclass(frozen=True, kw_only=True)
class ProductionRun:
    """One field to produce: its cells and vectors, from which model and observations."""

    region: Region
    grid: Grid
    layout: Layout
    model: Path
    """Folder of the model, which is trained into it if need be."""
    out: str
    """URL of the store."""
    model_settings: ModelSettings | None
    """Settings to train with; None where a finished model is used as it is."""
    training: TrainingSettings
    changes: Mapping[str, str]
    """Settings that differ from the preset's, as texts."""
    interpolate: int = 1
    """Side of the squares of cells of which one coordinate is encoded; 1: every cell is."""
    following: NextRelease | None = None
    """Release to be made of a published field; None where the field has none yet."""
    accept_ground_size: bool = False
    """Whether patches may have another size on the ground than those that the model learned."""


def choose(
    region: Region,
    observations: Observations,
    *,
    model: str | None = None,
    model_out: str | None = None,
    preset: str = "tiny",
    steps: int | None = None,
    resolution_m: float | None = None,
    modalities: str | None = None,
    codec: Codec = "none",
    interpolate: int = 1,
    covariates: bool = True,
    seed: int = 0,
    out: str | None = None,
    changes: Mapping[str, str] | None = None,
    accept_ground_size: bool = False,
    update: bool = False,
    allow_loss: bool = False,
) -> ProductionRun:
    """Turn options into one run; options that are left out are chosen for this machine.

    Args:
        region: cells to fill.
        observations: what is observed there.
        model: folder of a finished model, or the name of an installed field, whose model it is;
            without it one is trained.
        model_out: folder to train into; by default `model` in the region's folder, or beside it
            `model-r2` for an update whose model is another.
        preset: name of the settings to train with.
        steps: training steps, if not the preset's.
        resolution_m: side of a cell.
        modalities: names of the vectors to store, separated by commas.
        codec: compression of the vectors.
        interpolate: side of the squares of cells of which one coordinate is encoded.
        covariates: also store plain numbers of the modalities that are cut from rasters.
        seed: seed of the model and its training.
        out: URL of the store.
        changes: changes to the preset's settings, such as `{"model.coordinate.depth": "6"}`.
        accept_ground_size: encode patches of another size on the ground than the model learned.
        update: make the next release of the field that is published at `out`.
        allow_loss: let that release hold less than the one before.

    Raises:
        UnigeoError: if an option makes no sense.
    """
    changes = dict(changes or {})
    if model is not None and model_out is not None:
        raise ModelError("--model uses a model, --model-out trains one; name one of them")
    if model_out is not None and not model_out.strip():
        raise ModelError("--model-out is empty (was a variable left unset?); leave it out")
    if allow_loss and not update:
        raise StoreError("--allow-loss is about the release that --update makes; leave it out")
    if model is not None and changes:
        raise ModelError(
            f"{model} is used as it is, so {', '.join(changes)} cannot be set; leave out --model "
            "to train one"
        )
    model_settings, training = None, TrainingSettings(seed=seed)
    if model is None:
        chosen_recipe = recipe(preset, observations, seed, changes)
        model_settings, training = chosen_recipe.model, chosen_recipe.training
    if out is not None and not out.strip():
        raise StoreError(
            f"--out is empty (was a variable left unset?); leave it out to write to "
            f"{region.name}/{region.name}.zarr"
        )
    if model_settings is not None:
        observations = only(observations, model_settings.modalities)
    if steps is not None:
        training = replace(training, steps=steps)
    finished = None if model is None else model_folder(model)
    if finished is not None and finished_metrics(finished) is None:
        raise ModelError(f"{model} is no finished model; leave out --model to train one")
    out = f"{region.name}/{region.name}.zarr" if out is None else out
    following = next_release(out, region.name, allow_loss=allow_loss) if update else None
    if finished is not None:
        folder, used = finished, read_settings(finished)
    else:
        assert model_settings is not None, "the recipe has settings"
        used = model_settings
        identity = run_identity(observations, model_settings, training)
        folder = _folder_to_train(Path(region.name) / "model", identity, following)
        folder = folder if model_out is None else Path(model_out)
        if finished_metrics(folder) is None:
            check_writable_path(folder, f"the model {folder}")
            check_model_folder(folder)
            check_checkpoints(model_settings)
    chosen = chosen_modalities(modalities, observations, used)
    dimension = used.dimension
    if resolution_m is None:
        resolution_m = default_resolution(region, default_device())
    grid = region.grid(resolution_m)
    _check_land(region, grid, observations)
    numbers = names_of(columns_of(observations, chosen)) if covariates else ()
    widths = {FUSED: used.fused} if used.fused and FUSED in chosen else {}
    layout = Layout(
        modalities=chosen, bands=dimension, codec=codec, covariates=numbers, widths=widths
    )
    check_factor(interpolate, layout.shard)
    if following is not None:
        refuse_losses(following, grid, layout)
    else:
        check_product(out, region, grid, layout)
    return ProductionRun(
        region=region,
        grid=grid,
        layout=layout,
        model=folder,
        out=out if following is None else following.url,
        model_settings=model_settings,
        training=training,
        changes=changes,
        interpolate=interpolate,
        following=following,
        accept_ground_size=accept_ground_size,
    )


def _folder_to_train(folder: Path, identity: RunIdentity, following: NextRelease | None) -> Path:
    """Return the folder to train into: for an update one beside those of other models.

    Args:
        folder: folder of the first release's model.
        identity: identity of the training.
        following: the release to be made; None for the first.
    """
    if following is None:
        return folder
    numbers = range(int(following.release), 1, -1)
    beside = [folder.with_name(f"{folder.name}-r{number}") for number in numbers]
    for one in (*beside, folder):
        metrics = finished_metrics(one)
        if metrics is not None and trains_the_same(identity_of_model(metrics, one), identity):
            return one
    return beside[0] if finished_metrics(folder) is not None else folder


def describe(run: ProductionRun, observations: Observations) -> Iterator[str]:
    """Say what will be done, in a few lines."""
    rows, cols = run.grid.shape
    shards = int(np.prod(run.layout.shards(run.grid))) * len(run.layout.arrays)
    yield f"region        {run.region.name}, {run.grid.crs}"
    yield (
        f"cells         {run.grid.resolution_m:g} m; {rows} x {cols} in all, {shards} shards of "
        f"{', '.join(run.layout.arrays)}"
    )
    count = len(run.layout.covariates)
    yield f"covariates    {f'{count} plain numbers of each cell' if count else 'none'}"
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
    after = run.following
    if after is not None and (before := after.previous_model) != _weights_of(run.model):
        remedy = (
            "" if run.model_settings is None else "; --model FOLDER uses the model of that folder"
        )
        yield (
            f"warning       release {after.previous} was made by another model ({before[:12]}), so "
            f"every shard is made anew{remedy}"
        )
    told = "" if after is None else f", release {after.release}, after {after.previous_url}"
    yield f"store         {run.out}{told}"


def _weights_of(folder: Path) -> str | None:
    """Return the SHA-256 of a model's weights; None where it is not trained yet."""
    return None if finished_metrics(folder) is None else model_hash(folder)


def _check_land(region: Region, grid: Grid, observations: Observations) -> None:
    """Refuse a region in which the observations know no land, before any work is done."""
    # Every `step`-th cell of every `step`-th row, from the middle of the first step.
    step = max(1, math.isqrt(grid.shape[0] * grid.shape[1] // _LAND_SAMPLES))
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


def default_resolution(region: Region, device: torch.device) -> float:
    """Return the region's resolution on a GPU, on a CPU the finest round one that is fast."""
    if device.type == "cuda":
        return region.resolution_m
    area = _area_m2(region)
    for exponent in range(1, 7):
        for step in _ROUND_STEPS:
            size = step * 10**exponent
            if size >= region.resolution_m and area / size**2 <= _CPU_CELLS:
                return float(size)
    return 1e7


def chosen_modalities(
    names: str | None, observations: Observations, model: ModelSettings
) -> tuple[str, ...]:
    """Return the modalities that are named, or every one that is observed everywhere on land.

    Args:
        names: names separated by commas.
        observations: what is observed.
        model: settings of the model, which must encode the modalities.

    Raises:
        LayoutError: if one of them is not observed, or the model does not encode it.
    """
    possible = [name for name in observations.modalities if name in model.modalities]
    if names is None:
        covering = tuple(name for name in possible if observations.covers_land(name))
        if len(covering) > 1:
            covering += (FUSED,)
        if not covering:
            raise LayoutError(
                f"the model encodes nothing that {observations.name} shows everywhere on land; "
                f"name what to store by --modalities, some of {', '.join(possible) or 'nothing'}"
            )
        return covering
    possible.append(FUSED)
    chosen = tuple(name.strip() for name in names.split(",") if name.strip())
    if not chosen:
        raise LayoutError(
            f"no modality is named to store (was a variable left unset?); name some of "
            f"{', '.join(possible)}, or leave the option out"
        )
    unknown = [name for name in chosen if name not in possible]
    if unknown:
        raise LayoutError(
            f"cannot store {', '.join(unknown)}; a field is made of some of {', '.join(possible)}, "
            f"which {observations.name} shows and the model encodes"
        )
    if set(chosen) == {FUSED}:
        raise LayoutError(
            f"{FUSED} is made of the stored vectors of other modalities; name some of "
            f"{', '.join(possible[:-1])} beside it"
        )
    return chosen


def _area_m2(region: Region) -> float:
    """Return the area of the region's rings, by the shoelace formula on the equal-area map."""
    area: float = 0.0
    for ring in region.rings:
        x, y = from_wgs84(region.crs).transform(ring[:, 0], ring[:, 1])
        area += abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2
    return area
