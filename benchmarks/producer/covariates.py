"""Time what covariates add to the raster task: the same shards with them and without, in one run.

    python -m benchmarks.producer.covariates --data ../shared/data [--preset tiny] [--repeat 5]

It takes the observations of docs/examples/conus_open.toml and a model that was not trained, and
encodes one shard of each raster modality in a memory store. Runs with and without covariates
alternate; the figure is the median of their ratios, in seconds of the processors, which another
process beside it disturbs less than those of the clock. `anew` is the time of the covariates alone
where every patch is cut again, as after a kill. On a busy machine set OMP_NUM_THREADS=1. Prints one
JSON line.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from zarr.storage import MemoryStore

from benchmarks.producer.raster import attributes
from unigeo.producer.encoders import presets
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.protocol import forms_of
from unigeo.producer.raster.covariate_columns import columns_of, describe_columns, names_of
from unigeo.producer.raster.encoding import ModelEncoder, encoder_of
from unigeo.producer.raster.local_executor import rasterize
from unigeo.producer.raster.raster_job import Equipment, RasterJob
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.storage.field_store import create_field
from unigeo.producer.storage.object_io import delete
from unigeo.producer.storage.objects import list_objects
from unigeo.producer.training.processes import default_device
from unigeo.schemas.geo.regions import Region, region_of_bbox
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.status import Status

WHERE = region_of_bbox((-100.0, 38.0, -97.5, 40.0), "plains")
EXAMPLE = Path(__file__).parents[2] / "docs/examples/conus_open.toml"


def run(
    encoder: ModelEncoder,
    modalities: tuple[str, ...],
    resolution_m: float,
    covariates: bool,
    *,
    again: bool = False,
) -> tuple[float, float, int]:
    """Processor seconds of all tasks, and of the covariates anew; the number of valid cells."""
    columns = columns_of(encoder.observations, modalities) if covariates else ()
    bands = encoder.model.settings.dimension
    layout = Layout(modalities=modalities, bands=bands, covariates=names_of(columns))
    grid = WHERE.grid(resolution_m)
    described = describe_columns(columns, {})
    store: Any = MemoryStore()
    about = attributes(WHERE, grid, layout)
    group = create_field(store, grid, layout, about, covariates=described)
    equipment = Equipment(encoder, encoder.observations.land)
    where: Region = WHERE
    job = RasterJob(
        url="memory", region=where, grid=grid, layout=layout, open_equipment=lambda: equipment
    )
    begin = time.process_time()
    report = rasterize(group, OpenedJob(job, equipment), progress=False)
    seconds, anew = time.process_time() - begin, 0.0
    if again:
        for key in list_objects(group.store, "covariates"):
            if "/c/" in key:
                delete(group.store, key)
        begin = time.process_time()
        rasterize(group, OpenedJob(job, equipment), progress=False)
        anew = time.process_time() - begin
    return seconds, anew, report.cells[Status.VALID]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--resolution", type=float, default=5000.0)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    observations = open_observations(EXAMPLE, options.data)
    modalities = tuple(name for name in observations.modalities if observations.rasters_of(name))
    device = default_device()
    model = UniGeoCLIP(getattr(presets, options.preset)(forms_of(observations)))
    encoder = encoder_of(model, observations, device)
    run(encoder, modalities, options.resolution, True)  # warms up
    ratios, plain = [], []
    for number in range(options.repeat):
        order = (False, True) if number % 2 else (True, False)
        seconds = {}
        for covariates in order:
            seconds[covariates], _, cells = run(encoder, modalities, options.resolution, covariates)
        ratios.append(seconds[True] / seconds[False])
        plain.append(seconds[False])
    _, anew, _ = run(encoder, modalities, options.resolution, True, again=True)
    found = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "preset": options.preset,
        "modalities": modalities,
        "valid cells": cells,
        "covariates": len(names_of(columns_of(observations, modalities))),
        "CPU seconds without": round(statistics.median(plain), 3),
        "ratio with to without": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "CPU seconds of covariates anew": round(anew, 3),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
