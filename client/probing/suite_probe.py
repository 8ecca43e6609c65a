"""Probes of a suite: every table is scored on the same features, in the same folds."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.baselines import need_sklearn
from unigeo.client.probing.controls import Controls, beside_ranks
from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.feature_rows import FeatureRows, JoinedRows, as_array
from unigeo.client.probing.folding_tables import SEED
from unigeo.client.probing.kernel_option import check_kernel
from unigeo.client.probing.models import chosen_baselines
from unigeo.client.probing.sampled_features import scatter_rows
from unigeo.client.probing.spatial_option import check_spatial
from unigeo.client.probing.suite_numbers import TREES, SuiteNumbers
from unigeo.client.probing.suites import Suite, SuiteTable
from unigeo.client.reading.joined import JOINED, joined_modalities
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.store.layout import COVARIATES

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.shapes.polygon_rings import Polygons

SampleVectors = Callable[[Float[np.ndarray, "point 2"]], Mapping[str, Float[np.ndarray, "point _"]]]
"""Function of WGS 84 longitude and latitude: sets of features, NaN where there is no vector. The
set `covariates` is of plain numbers: it is scored alone and beside each other set."""
AverageVectors = Callable[["Polygons", str | None], Mapping[str, Float[np.ndarray, "polygon _"]]]
"""Function of polygons and weights of cells, as `Field.zonal` takes them: means over the polygons'
cells by set of features, named as by `SampleVectors`."""


def probe_suite(
    suite: Suite,
    data: Path,
    vectors: SampleVectors,
    *,
    averages: AverageVectors | None = None,
    numbers: SuiteNumbers | None = None,
    foldings: int = 1,
    seed: int = 0,
    only: str | None = None,
    **options: Any,
) -> "pd.DataFrame":
    """Probe every table of a suite.

    Args:
        suite: suite to run.
        data: folder of the tables.
        vectors: samples the sets of features; called once for all tables of the same points.
        averages: averages vectors over the cells of polygons, as `[areas] mean_of = "cells"` needs;
            called once. None where there is no store.
        numbers: hand-made numbers, on which a ridge and gradient-boosted trees (beside longitude
            and latitude) are scored in the same folds, at the rows that have both.
        foldings: number of assignments of rows and blocks to folds, each of a seed of its own.
        seed: seed of the first folding; the next ones follow.
        only: set of features that is scored alone, such as `joined`; every one by default.
        options: `folds`, `baselines`, `spatial`, `kernel`, `progress` of `probe_table`.

    Returns:
        The rows of `probe_table`, with the columns `table` and `family` in front, in the suite's
        order; with several foldings those of each, and a column `seed`.

    Raises:
        ProbeError: naming the table, if it cannot be read or probed; or if vectors are means over
            cells and there is no store.
        MissingExtraError: with numbers, `spatial`, or baselines that need it, without scikit-learn.
    """
    import pandas as pd

    if foldings < 1:
        raise ProbeError(f"foldings must be 1 or more, not {foldings}")
    # Before a vector is read: scikit-learn may be missing, and a table may lack its numbers.
    chosen_baselines(options.get("baselines", True), TREES.values())
    check_spatial(options.get("spatial"), {}, ())
    check_kernel(options.get("kernel", False), ())
    if numbers is not None:
        need_sklearn("ensemble")
    tables = list(suite.tables(data))
    beside = [{} if numbers is None else numbers.sets_of(table) for table in tables]
    if averages is not None:
        averages = cache(averages)  # tables of other rows may name the same polygons
    reports: dict[int, pd.DataFrame] = {}
    for members in _by_features(tables):
        features = _features_of(tables[members[0]], vectors, averages)
        if only is not None:
            features = {name: features[name] for name in (only, COVARIATES) if name in features}
        for number in members:
            reports[number] = _probe_foldings(
                tables[number], {**features, **beside[number]}, foldings, seed, **options
            )
    return pd.concat([reports[number] for number in sorted(reports)], ignore_index=True)


def _by_features(tables: Sequence[SuiteTable]) -> list[list[int]]:
    """Group tables that share their vectors, such as health and income of counties."""
    groups: dict[tuple[bool, bytes], list[int]] = {}
    for number, table in enumerate(tables):
        if table.is_of_cells and table.polygon is not None:
            key = True, table.polygon.tobytes()
        else:
            key = False, table.sampled_lonlat.tobytes()
        groups.setdefault(key, []).append(number)
    return list(groups.values())


def _features_of(
    table: SuiteTable, vectors: SampleVectors, averages: AverageVectors | None
) -> dict[str, FeatureRows]:
    """Read the sets of features at the rows of a table, NaN where a row has no vector.

    Raises:
        ProbeError: if they are means over cells, and there is no store.
    """
    if table.is_of_cells and table.over is not None:
        if averages is None:
            raise ProbeError(
                f"table {table.name!r}: [areas] asks for means over the cells of a store, and a "
                "model has none: probe its store by `unigeo probe`, or say `mean_of = 'points'`"
            )
        means = averages(table.over.polygons, table.over.weights)
        return _joined({name: np.asarray(each)[table.polygon] for name, each in means.items()})
    flat = table.sampled_lonlat.reshape(-1, 2)
    has_position = ~np.isnan(flat).any(axis=1)
    features: dict[str, FeatureRows] = {}
    for name, values in vectors(flat[has_position]).items():
        every = as_array(scatter_rows(np.asarray(values), has_position))
        features[name] = _mean_vectors(every, table.sampled_lonlat.shape[1])
    return _joined(features)


def _joined(vectors: Mapping[str, FeatureRows]) -> dict[str, FeatureRows]:
    """Put the modalities of the joined set, if they are there, side by side without a copy."""
    features = dict(vectors)
    if JOINED in features:
        names = tuple(name for name in features if name not in (JOINED, COVARIATES))
        parts = [features[name] for name in joined_modalities(names)]
        if sum(part.shape[1] for part in parts) == features[JOINED].shape[1]:
            features[JOINED] = JoinedRows(parts)
    return features


def _mean_vectors(vectors: Any, count: int) -> Float[np.ndarray, "row _"]:
    """Average the numbers of every `count` points that have them; NaN where none has."""
    each = np.asarray(vectors)
    if count == 1:
        return each
    each = each.reshape(-1, count, each.shape[1])
    known = np.isfinite(each)  # a vector is NaN in all bands or in none, covariates in some
    number = known.sum(axis=1)
    total = np.where(known, each, 0.0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan).astype(each.dtype)


def _probe_foldings(
    table: SuiteTable, features: Mapping[str, Any], foldings: int, seed: int, **options: Any
) -> "pd.DataFrame":
    """Probe one table in each folding; add its name and family to the rows."""
    import pandas as pd

    controls = None
    if COVARIATES in features:
        controls = Controls((COVARIATES,), beside_ranks(features[COVARIATES]), COVARIATES)
    vectors = {name: values for name, values in features.items() if name != COVARIATES}
    reports = []
    for each in range(seed, seed + foldings):
        try:
            report = probe_table(
                vectors,
                table.targets,
                table.lonlat,
                block_km=table.block_km,
                crs=table.crs,
                seed=each,
                trees={name: on for name, on in TREES.items() if on in features},
                controls=controls,
                **options,
            )
        except ProbeError as error:
            raise ProbeError(f"table {table.name!r}: {error}") from error
        if foldings > 1:
            report.insert(0, SEED, each)
        report.insert(0, "table", table.name)
        report.insert(1, "family", table.family)
        reports.append(report)
    return pd.concat(reports, ignore_index=True)
