"""The public benchmarks by name, and the function that runs one of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.downstream.conus27 import run_conus27
from unigeo.producer.evaluation.downstream.geobench_probes import run_chesapeake, run_pv4ger
from unigeo.producer.evaluation.downstream.mdas import run_mdas
from unigeo.producer.evaluation.downstream.result import BenchmarkResult
from unigeo.schemas.errors import ModelError, ObservationsError


@dataclass(frozen=True)
class Benchmark:
    """One public benchmark."""

    modality: str
    """Modality whose encoder is probed."""
    layout: str
    """Files of its folder, for error messages."""
    run: Callable[..., BenchmarkResult]
    """Function of model, folder, device, and the benchmark's own options."""


_GEOBENCH = "default_partition.json, band_stats.json, NAME.hdf5 per sample"

DOWNSTREAM: dict[str, Benchmark] = {
    "m-pv4ger": Benchmark("aerial", f"{_GEOBENCH} (GEO-Bench 1.0, classification)", run_pv4ger),
    "m-chesapeake": Benchmark(
        "aerial", f"{_GEOBENCH} (GEO-Bench 1.0, segmentation)", run_chesapeake
    ),
    "mdas": Benchmark(
        "dsm", "sub_area_1/3K_DSM_*.tif and osm_landuse_*.tif, the same of 2 and 3", run_mdas
    ),
    "conus27": Benchmark("coordinate", "conus27.csv", run_conus27),
}
"""All benchmarks by name."""


def run(
    name: str, model: UniGeoCLIP, folder: Path | str, device: torch.device, **options: Any
) -> BenchmarkResult:
    """Probe a frozen model on a benchmark.

    Args:
        name: name of the benchmark in `DOWNSTREAM`.
        model: model to probe; it is moved to the device and put into evaluation mode.
        folder: folder with the user's copy of the data.
        device: device of the encoder.
        options: options of the benchmark's own function.

    Raises:
        ObservationsError: if there is no such benchmark or folder, or a file of it is missing.
        ModelError: if the model lacks the encoder.
    """
    if name not in DOWNSTREAM:
        raise ObservationsError(
            f"there is no benchmark {name!r}; there are {', '.join(DOWNSTREAM)}."
        )
    benchmark = DOWNSTREAM[name]
    if benchmark.modality not in model.modalities:
        raise ModelError(
            f"{name} probes the tower of {benchmark.modality!r}; the model has "
            f"{', '.join(model.modalities)}."
        )
    if not Path(folder).exists():
        raise ObservationsError(
            f"{folder} is missing; {name} needs a folder with {benchmark.layout}."
        )
    return benchmark.run(model, folder, device, **options)
