"""Functions for notebooks and programs: train a model, encode with it, and produce a field.

    model = train(observations, "model")
    run = plan("conus", observations, model="model", resolution_m=10_000)
    rasterize(run, observations)
    url = publish(run, observations)

Each stage resumes where an earlier call stopped, as `unigeo-produce` does, and calls the same code.
"""

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unigeo.producer.encoders.classes import ClassesEncoder
from unigeo.producer.encoders.coordinates import CoordinateEncoder
from unigeo.producer.encoders.embedder import Embedder
from unigeo.producer.encoders.images import ImageEncoder
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.surface import SurfaceEncoder
from unigeo.producer.encoders.text import TextEncoder
from unigeo.producer.observations.open_conus import DESCRIPTION
from unigeo.producer.observations.open_named import open_named
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.wrapping import only
from unigeo.producer.pipeline.overrides import to_text
from unigeo.producer.pipeline.pipeline import carry_out
from unigeo.producer.pipeline.production_run import ProductionRun, choose
from unigeo.producer.pipeline.recipe import recipe
from unigeo.producer.publishing.terms import Terms
from unigeo.producer.raster.run import ExecutionOptions
from unigeo.producer.training import train as training
from unigeo.producer.training.location_dataset import LocationDataset
from unigeo.schemas.errors import ModelError, ObservationsError
from unigeo.schemas.geo.region_forms import read_region
from unigeo.schemas.geo.regions import Region

__all__ = [
    "ClassesEncoder",
    "CoordinateEncoder",
    "Embedder",
    "ImageEncoder",
    "LocationDataset",
    "SurfaceEncoder",
    "TextEncoder",
    "UniGeoCLIP",
    "open_observations",
    "plan",
    "publish",
    "rasterize",
    "train",
]


def open_observations(
    path: str | Path | None = None, data: str | Path | None = None
) -> Observations:
    """Open what is observed.

    Args:
        path: an `observations.toml`, the folder or address of a set, or `world` for the synthetic
            world; by default the open data of the contiguous United States that come with unigeo.
        data: folder of the files that an `observations.toml` names; its own by default.

    Raises:
        ObservationsError: if it cannot be read.
    """
    return open_named(str(path or DESCRIPTION), None if data is None else str(data))


def train(
    observations: Observations,
    folder: str | Path,
    *,
    preset: str = "tiny",
    seed: int = 0,
    changes: Mapping[str, object] | None = None,
    progress: bool = False,
) -> Embedder:
    """Train a model into a folder, or resume where an earlier call stopped.

    Args:
        observations: where locations are observed.
        folder: folder of the model, with `metrics.json` and `card.md`.
        preset: settings to start from: `tiny`, `small` or `base`.
        seed: seed of the model and its training.
        changes: changed settings, such as `{"training.steps": 500, "model.street": "none"}`.
        progress: show bars on stderr.

    Returns:
        The trained model.

    Raises:
        ModelError: if a setting makes no sense, or the folder holds another model.
    """
    _check_observations(observations)
    changes = {} if changes is None else changes
    if not isinstance(changes, Mapping) or not all(isinstance(key, str) for key in changes):
        raise ModelError(
            "changes are a dict of settings by name, such as {'training.steps': 500}, not "
            f"{changes!r}"
        )
    texts = {key: to_text(value) for key, value in changes.items()}
    chosen = recipe(preset, observations, seed, texts)
    used = only(observations, chosen.model.modalities)
    training.train(used, chosen.model, chosen.training, Path(folder), progress=progress)
    return UniGeoCLIP.from_pretrained(folder)


def plan(
    region: Region | str | tuple[float, float, float, float],
    observations: Observations,
    *,
    model: str | Path,
    resolution_m: float,
    out: str | Path,
    modalities: str | Sequence[str] | None = None,
    **options: Any,
) -> ProductionRun:
    """Plan a field that a finished model makes.

    Args:
        region: cells to fill: a name, a file of polygons, a box in degrees, or a region.
        observations: what is observed there.
        model: folder of the model, or the name of an installed field, whose model it is.
        resolution_m: side of a cell in metres.
        out: URL of the store.
        modalities: names of the vectors to store, as a list or with commas between; those that
            are observed everywhere on land by default.
        options: further options of `unigeo.producer.pipeline.production_run.choose`, such as
            `codec="zstd"`.

    Raises:
        UnigeoError: if the run could not be finished.
    """
    _check_observations(observations)
    where = region if isinstance(region, Region) else read_region(region)
    names = (
        modalities if modalities is None or isinstance(modalities, str) else ",".join(modalities)
    )
    return choose(
        where,
        observations,
        model=str(model),
        resolution_m=resolution_m,
        out=str(out),
        modalities=names,
        **options,
    )


def rasterize(
    run: ProductionRun,
    observations: Observations,
    *,
    options: ExecutionOptions | None = None,
    terms: Terms | None = None,
) -> str:
    """Write the vectors of every cell into a store, which is not published yet.

    Args:
        run: the field, from `plan`.
        observations: what is observed.
        options: how the work is done; in this process and without bars by default.
        terms: licence, citation and providers of the field; its observations' by default.

    Returns:
        URL of the store.

    Raises:
        UnigeoError: naming what happened and what to do; finished shards are kept.
    """
    return _finish(run, observations, options, terms, publishes=False)


def publish(
    run: ProductionRun,
    observations: Observations,
    *,
    options: ExecutionOptions | None = None,
    terms: Terms | None = None,
) -> str:
    """Publish a rasterized store: overviews, preview, concepts, manifest, catalogue and page.

    Shards that the store lacks are written first. The arguments are those of `rasterize`.

    Returns:
        URL of the store, which `unigeo.client.open_field` opens.

    Raises:
        UnigeoError: naming what happened and what to do; finished parts are kept.
    """
    return _finish(run, observations, options, terms, publishes=True)


def _check_observations(observations: object) -> None:
    if not hasattr(observations, "locations"):
        raise ObservationsError(
            f"observations are what open_observations returns, not a {type(observations).__name__}"
        )


def _finish(
    run: ProductionRun,
    observations: Observations,
    options: ExecutionOptions | None,
    terms: Terms | None,
    *,
    publishes: bool,
) -> str:
    if run.model_settings is not None:
        raise ModelError("train the model first, and plan the field with its folder")
    options = options or ExecutionOptions(progress=False)
    lines: Generator[str, None, str] = carry_out(
        run, observations, options=options, terms=terms, publishes=publishes
    )
    while True:
        try:
            next(lines)
        except StopIteration as end:
            return str(end.value)
