"""`conus27.csv` by the coordinate encoder: 27 numbers of postal codes and counties.

The table has the columns place, county, state, latitude, longitude, Count_Person, one number column
per target, and imputation_split, extrapolation_split, superresolution_split ("train" or "test").

Source: Agarwal et al. (2024), "General Geospatial Inference with a Population Dynamics Foundation
Model", arXiv 2411.07207; data/benchmarks of google-research/population-dynamics.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int

from unigeo.client.folds import CONUS, all_splits, random_folds, spatial_blocks
from unigeo.client.methods import number_methods
from unigeo.client.ridge import HeldOut
from unigeo.client.scoring import r2_score
from unigeo.client.threads import one_thread
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.downstream.inputs import vectors_of
from unigeo.producer.evaluation.downstream.result import Result
from unigeo.schemas.errors import ObservationsError

FILE = "conus27.csv"
SPLITS = ("imputation", "extrapolation", "superresolution")
"""The table's own, each a column of "train" and "test"."""
BASELINES = ("mean", "lonlat kNN", "lonlat IDW")
_ABOUT = ("place", "county", "state", "latitude", "longitude", "Count_Person")

_Part = tuple[str, Int[np.ndarray, " point"], Bool[np.ndarray, " point"]]
"""Name of a split, fold of each point, and which points are scored."""


def run_conus27(
    model: UniGeoCLIP,
    folder: Any,
    device: torch.device,
    *,
    block_km: float = 300.0,
    folds: int = 5,
    seed: int = 0,
) -> Result:
    """Probe the coordinate encoder by ridge, beside what neighbours on the map tell.

    Args:
        model: with a coordinate encoder.
        folder: that holds `conus27.csv`, or the file itself.
        device: to encode on.
        block_km: side of the squares that the blocked split holds out whole.
        folds: of the random and of the blocked split, and those in which penalties are chosen.
        seed: of the folds.

    Returns:
        Mean R2 of all targets under each split, `r2_SPLIT` (random and blocked folds, and the
        table's own splits), and of each family of targets, `r2_SPLIT_FAMILY`; the table has the R2
        of each target, split and method.

    Raises:
        ObservationsError: if the file or a column is missing, or a place has no position.
        ProbeError: if a split leaves too few places.
    """
    table = _read(Path(folder))
    lonlat = table[["longitude", "latitude"]].to_numpy(np.float64)
    own = [f"{name}_split" for name in SPLITS]
    targets = table.drop(columns=[*own, *_ABOUT], errors="ignore").select_dtypes("number")
    vectors = {"coordinate": vectors_of(model, "coordinate", lonlat, device).astype(np.float64)}
    methods = number_methods(vectors, lonlat, CONUS, seed, BASELINES)
    truth = targets.to_numpy(np.float64)
    rows = []
    for split, numbers, scored in _parts(table, lonlat, block_km, folds, seed):
        for method in methods.values():
            with one_thread():
                found = method(truth, numbers)
            for name, guess in found.items():
                values = guess.predictions if isinstance(guess, HeldOut) else guess
                rows += [
                    {
                        "split": split,
                        "features": name,
                        "target": target,
                        "family": family(target),
                        "r2": _r2(truth[scored, column], values[scored, column]),
                    }
                    for column, target in enumerate(targets.columns)
                ]
    report = pd.DataFrame(rows)
    mine = report[report["features"] == "coordinate"]
    means = mine.groupby("split", sort=False)["r2"].mean().to_dict()
    for (split, kind), r2 in mine.groupby(["split", "family"], sort=False)["r2"].mean().items():
        means[f"{split}_{kind}"] = r2
    return Result(
        name="conus27",
        metrics={f"r2_{split}": float(value) for split, value in means.items()},
        table=report,
        facts={"places": len(table), "targets": targets.shape[1], "block_km": block_km}
        | {"folds": folds, "seed": seed},
    )


def family(target: str) -> str:
    """Sort a target into `health`, `environment` or `socio-economic`, by its name."""
    name = target.lower()
    if name.startswith("percent_person"):
        return "health"
    natural = any(word in name for word in ("elevation", "tree_cover", "night_lights"))
    return "environment" if natural else "socio-economic"


def _parts(
    table: pd.DataFrame, lonlat: np.ndarray, block_km: float, folds: int, seed: int
) -> Iterator[_Part]:
    """Every split as folds; the table's own have fold 0 for testing, and train on the others."""
    everywhere = np.ones(len(table), bool)
    for split in all_splits(spatial_blocks(lonlat, block_km, CONUS), None, folds, seed):
        yield split.name, split.folds, everywhere
    for name in SPLITS:
        test = (table[f"{name}_split"] == "test").to_numpy()
        numbers = np.zeros(len(table), np.int64)
        numbers[~test] = 1 + random_folds(int((~test).sum()), folds, seed)
        yield name, numbers, test


def _r2(truth: np.ndarray, guess: np.ndarray) -> float:
    known = np.isfinite(truth)
    return r2_score(truth[known], guess[known])


def _read(folder: Path) -> pd.DataFrame:
    path = folder / FILE if folder.is_dir() else folder
    if not path.is_file():
        raise ObservationsError(
            f"{path} is missing. Copy it from data/benchmarks of google-research/"
            f"population-dynamics."
        )
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise ObservationsError(f"{path} is no table: {error}. Copy it again.") from error
    own = [f"{name}_split" for name in SPLITS]
    missing = [name for name in ("longitude", "latitude", *own) if name not in table]
    if missing:
        raise ObservationsError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns[:8])}, ..."
        )
    for name in own:
        values = set(table[name].unique())
        if values != {"train", "test"}:
            raise ObservationsError(
                f"{path}: column {name} must say train or test, but says "
                f"{', '.join(sorted(map(str, values)))}. Copy it again."
            )
    unplaced = table[["longitude", "latitude"]].isna().any(axis=1).sum()
    if unplaced:
        raise ObservationsError(f"{path}: {unplaced} places have no position. Copy it again.")
    return table
