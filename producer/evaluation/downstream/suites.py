"""Every benchmark by name: which tower it needs, what its folder holds, and what runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.downstream.conus27 import run_conus27
from unigeo.producer.evaluation.downstream.geobench_probes import run_chesapeake, run_pv4ger
from unigeo.producer.evaluation.downstream.mdas import run_mdas
from unigeo.producer.evaluation.downstream.result import Result
from unigeo.schemas.errors import ModelError, ObservationsError


@dataclass(frozen=True)
class Benchmark:
    """One public benchmark."""

    modality: str
    """Whose tower is probed."""
    layout: str
    """What its folder holds."""
    run: Callable[..., Result]
    """Takes model, folder, device, and options."""


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
"""Benchmarks by name."""


def run(
    name: str, model: UniGeoCLIP, folder: Path | str, device: torch.device, **options: Any
) -> Result:
    """Probe a frozen model by a benchmark that lies in a folder.

    Args:
        name: one of `DOWNSTREAM`.
        model: frozen; it is put on the device and into evaluation mode.
        folder: the user's copy.
        device: to encode on.
        options: of the benchmark's own function.

    Raises:
        ObservationsError: if there is no such benchmark or folder, or a file of it is missing.
        ModelError: if the model lacks the tower.
    """
    if name not in DOWNSTREAM:
        raise ObservationsError(
            f"there is no benchmark {name!r}; there are {', '.join(DOWNSTREAM)}."
        )
    runner = DOWNSTREAM[name]
    if runner.modality not in model.modalities:
        raise ModelError(
            f"{name} probes the tower of {runner.modality!r}; the model has "
            f"{', '.join(model.modalities)}."
        )
    if not Path(folder).exists():
        raise ObservationsError(f"{folder} is missing; {name} needs a folder with {runner.layout}.")
    return runner.run(model, folder, device, **options)
