"""`conus27.csv` by the coordinate encoder: 27 numbers of postal codes and counties.

The table has the columns place, county, state, latitude, longitude, Count_Person, one number column
per target, and imputation_split, extrapolation_split, superresolution_split ("train" or "test").

Source: Agarwal et al. (2024), "General Geospatial Inference with a Population Dynamics Foundation
Model", arXiv 2411.07207; data/benchmarks of google-research/population-dynamics.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from unigeo.client.probing.folds import CONUS, all_splits, random_folds, spatial_blocks
from unigeo.client.probing.metrics import r2_score
from unigeo.client.probing.models import number_methods
from unigeo.client.probing.ridge import HeldOut
from unigeo.client.threads import one_thread
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.downstream.inputs import vectors_of
from unigeo.producer.evaluation.downstream.result import Result
from unigeo.schemas.errors import ObservationsError

FILE = "conus27.csv"
OWN = ("imputation", "extrapolation", "superresolution")
"""The table's own splits, each a column of "train" and "test"."""
SPLITS = ("random", "blocked", *OWN)
BASELINES = ("mean", "lonlat kNN", "lonlat IDW")
_ABOUT = ("place", "county", "state", "latitude", "longitude", "Count_Person")

TEST, UNUSED = 0, -1
"""Folds of places that a split of the table tests on, and leaves out."""


def run_conus27(
    model: UniGeoCLIP,
    folder: Any,
    device: torch.device,
    *,
    block_km: float = 300.0,
    folds: int = 5,
    seed: int = 0,
    splits: tuple[str, ...] = SPLITS,
) -> Result:
    """Probe the coordinate encoder by ridge, beside what neighbours on the map tell.

    Args:
        model: with a coordinate encoder.
        folder: that holds `conus27.csv`, or the file itself.
        device: to encode on.
        block_km: side of the squares that the blocked split holds out whole.
        folds: of the random and of the blocked split, and those in which penalties are chosen.
        seed: of the folds.
        splits: some of `SPLITS`.

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
    own = [f"{name}_split" for name in OWN]
    targets = table.drop(columns=[*own, *_ABOUT], errors="ignore").select_dtypes("number")
    vectors = {"coordinate": vectors_of(model, "coordinate", lonlat, device).astype(np.float64)}
    truth = targets.to_numpy(np.float64)
    report = pd.concat(
        [
            _scores(truth, vectors, lonlat, numbers, split in OWN, seed).assign(split=split)
            for split, numbers in _splits(table, lonlat, block_km, folds, seed)
            if split in splits
        ],
        ignore_index=True,
    )
    report["target"] = targets.columns[report["column"]]
    report["family"] = report["target"].map(family)
    report = report[["split", "features", "target", "family", "r2"]]
    mine = report[report["features"] == "coordinate"]
    means = mine.groupby("split", sort=False)["r2"].mean().to_dict()
    for kind, part in mine.groupby("family", sort=False):
        kinds = part.groupby("split", sort=False)["r2"].mean()
        means |= {f"{split}_{kind}": r2 for split, r2 in kinds.items()}
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


def _scores(
    truth: Float[np.ndarray, "place target"],
    vectors: Mapping[str, Float[np.ndarray, "place _"]],
    lonlat: Float[np.ndarray, "place 2"],
    numbers: Int[np.ndarray, " place"],
    test_only: bool,
    seed: int,
) -> pd.DataFrame:
    """Score every method under one split: `features`, `column` of the target, `r2`."""
    used = numbers != UNUSED
    truth, numbers = truth[used], numbers[used]
    seen = {name: (values[used], 1.0) for name, values in vectors.items()}
    scored = numbers == TEST if test_only else np.ones(len(numbers), bool)
    rows = []
    for method in number_methods(seen, lonlat[used], CONUS, seed, BASELINES).values():
        with one_thread():
            found = method(truth, numbers, lambda share: None)
        for name, guess in found.items():
            values = guess.predictions if isinstance(guess, HeldOut) else guess
            for column in range(truth.shape[1]):
                known = scored & np.isfinite(truth[:, column])
                r2 = r2_score(truth[known, column], values[known, column])
                rows.append({"features": name, "column": column, "r2": r2})
    return pd.DataFrame(rows)


def _splits(
    table: pd.DataFrame, lonlat: np.ndarray, block_km: float, folds: int, seed: int
) -> Iterator[tuple[str, Int[np.ndarray, " place"]]]:
    """Every split as a fold of each place; of the table's own, fold `TEST` alone is scored."""
    for split in all_splits(spatial_blocks(lonlat, block_km, CONUS), None, folds, seed):
        yield split.name, split.folds
    for name in OWN:
        train = (table[f"{name}_split"] == "train").to_numpy()
        numbers = np.where(table[f"{name}_split"] == "test", TEST, UNUSED)
        numbers[train] = 1 + random_folds(int(train.sum()), folds, seed)
        yield name, numbers


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
    own = [f"{name}_split" for name in OWN]
    missing = [name for name in ("longitude", "latitude", *own) if name not in table]
    if missing:
        raise ObservationsError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns[:8])}, ..."
        )
    for name in own:
        if not {"train", "test"} <= set(table[name]):
            raise ObservationsError(
                f"{path}: column {name} must say train or test, but says "
                f"{', '.join(sorted(map(str, set(table[name]))))}. Copy it again."
            )
    unplaced = table[["longitude", "latitude"]].isna().any(axis=1).sum()
    if unplaced:
        raise ObservationsError(f"{path}: {unplaced} places have no position. Copy it again.")
    return table
