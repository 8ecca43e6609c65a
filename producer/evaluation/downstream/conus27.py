"""The CONUS27 benchmark: 27 targets of postal codes and counties, by the coordinate encoder.

The table `conus27.csv` has the columns place, county, state, latitude, longitude, Count_Person, one
numeric column per target, and imputation_split, extrapolation_split, superresolution_split ("train"
or "test").

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

from unigeo.client.probing.band_scaling import EACH_BAND
from unigeo.client.probing.folds import CONUS, all_splits, random_folds, spatial_blocks
from unigeo.client.probing.metrics import r2_score
from unigeo.client.probing.models import number_methods
from unigeo.client.probing.ridge import HeldOut
from unigeo.client.threads import one_thread
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.downstream.inputs import encode_vectors
from unigeo.producer.evaluation.downstream.result import BenchmarkResult
from unigeo.schemas.errors import ObservationsError

FILE = "conus27.csv"
TABLE_SPLITS = ("imputation", "extrapolation", "superresolution")
"""Splits that the table defines, each in a column of "train" and "test"."""
SPLITS = ("random", "blocked", *TABLE_SPLITS)
BASELINES = ("mean", "lonlat kNN", "lonlat IDW")
_DESCRIPTIVE = ("place", "county", "state", "latitude", "longitude", "Count_Person")

TEST, UNUSED = 0, -1
"""Fold numbers of the rows that a split of the table tests on, and of those it leaves out."""


def run_conus27(
    model: UniGeoCLIP,
    folder: Any,
    device: torch.device,
    *,
    block_km: float = 300.0,
    folds: int = 5,
    seed: int = 0,
    splits: tuple[str, ...] = SPLITS,
) -> BenchmarkResult:
    """Probe the coordinate encoder by ridge regression, next to baselines of the coordinates alone.

    Args:
        model: model with a coordinate encoder.
        folder: folder with `conus27.csv`, or the file itself.
        device: device of the encoder.
        block_km: side of the square blocks of the blocked split.
        folds: number of folds of the random and blocked splits, and for choosing penalties.
        seed: seed of the folds.
        splits: names of `SPLITS` to score.

    Returns:
        Mean R2 over all targets for each split, `r2_SPLIT`, and over each family of targets,
        `r2_SPLIT_FAMILY`; the table has the R2 of each target, split and method.

    Raises:
        ObservationsError: if the file or a column is missing, or a row has no coordinates.
        ProbeError: if a split leaves too few rows.
    """
    table = _read_table(Path(folder))
    lonlat = table[["longitude", "latitude"]].to_numpy(np.float64)
    split_columns = [f"{name}_split" for name in TABLE_SPLITS]
    targets = table.drop(columns=[*split_columns, *_DESCRIPTIVE], errors="ignore")
    targets = targets.select_dtypes("number")
    vectors = {"coordinate": encode_vectors(model, "coordinate", lonlat, device).astype(np.float64)}
    truth = targets.to_numpy(np.float64)
    report = pd.concat(
        [
            _score_split(
                truth, vectors, lonlat, numbers, test_only=split in TABLE_SPLITS, seed=seed
            ).assign(split=split)
            for split, numbers in _all_splits(table, lonlat, block_km, folds, seed)
            if split in splits
        ],
        ignore_index=True,
    )
    report["target"] = targets.columns[report["column"]]
    report["family"] = report["target"].map(family)
    report = report[["split", "features", "target", "family", "r2"]]
    encoder = report[report["features"] == "coordinate"]
    means = encoder.groupby("split", sort=False)["r2"].mean().to_dict()
    for name, part in encoder.groupby("family", sort=False):
        by_split = part.groupby("split", sort=False)["r2"].mean()
        means |= {f"{split}_{name}": r2 for split, r2 in by_split.items()}
    return BenchmarkResult(
        name="conus27",
        metrics={f"r2_{split}": float(value) for split, value in means.items()},
        table=report,
        facts={"places": len(table), "targets": targets.shape[1], "block_km": block_km}
        | {"folds": folds, "seed": seed},
    )


def family(target: str) -> str:
    """Return the family of a target by its name: health, environment or socio-economic."""
    name = target.lower()
    if name.startswith("percent_person"):
        return "health"
    environment = any(part in name for part in ("elevation", "tree_cover", "night_lights"))
    return "environment" if environment else "socio-economic"


def _score_split(
    truth: Float[np.ndarray, "location target"],
    vectors: Mapping[str, Float[np.ndarray, "location _"]],
    lonlat: Float[np.ndarray, "location 2"],
    folds: Int[np.ndarray, " location"],
    *,
    test_only: bool,
    seed: int,
) -> pd.DataFrame:
    """Score every method under one split.

    Returns:
        One row per method and target: `features`, `column` of the target, `r2`.
    """
    used = folds != UNUSED
    truth, folds = truth[used], folds[used]
    features = {name: (values[used], EACH_BAND) for name, values in vectors.items()}
    scored = folds == TEST if test_only else np.ones(len(folds), bool)
    rows = []
    for method in number_methods(features, lonlat[used], CONUS, seed, BASELINES):
        with one_thread():
            predictions = method.held_out(truth, folds)
        for name, held in predictions.items():
            values = held.predictions if isinstance(held, HeldOut) else held
            for column in range(truth.shape[1]):
                known = scored & np.isfinite(truth[:, column])
                r2 = r2_score(truth[known, column], values[known, column])
                rows.append({"features": name, "column": column, "r2": r2})
    return pd.DataFrame(rows)


def _all_splits(
    table: pd.DataFrame, lonlat: np.ndarray, block_km: float, folds: int, seed: int
) -> Iterator[tuple[str, Int[np.ndarray, " location"]]]:
    """Yield each split's name and the fold of each row."""
    for split in all_splits(spatial_blocks(lonlat, block_km, CONUS), None, folds, seed):
        yield split.name, split.folds
    for name in TABLE_SPLITS:
        train = (table[f"{name}_split"] == "train").to_numpy()
        numbers = np.where(table[f"{name}_split"] == "test", TEST, UNUSED)
        # A model that predicts fold TEST is trained on all others; these folds serve the inner
        # cross-validation of the penalty, and their own predictions are not scored.
        numbers[train] = 1 + random_folds(int(train.sum()), folds, seed)
        yield name, numbers


def _read_table(folder: Path) -> pd.DataFrame:
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
    split_columns = [f"{name}_split" for name in TABLE_SPLITS]
    missing = [name for name in ("longitude", "latitude", *split_columns) if name not in table]
    if missing:
        raise ObservationsError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns[:8])}, ..."
        )
    for name in split_columns:
        if not {"train", "test"} <= set(table[name]):
            raise ObservationsError(
                f"{path}: column {name} must say train or test, but says "
                f"{', '.join(sorted(map(str, set(table[name]))))}. Copy it again."
            )
    missing_rows = table[["longitude", "latitude"]].isna().any(axis=1).sum()
    if missing_rows:
        raise ObservationsError(f"{path}: {missing_rows} places have no position. Copy it again.")
    return table
