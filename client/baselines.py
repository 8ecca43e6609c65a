"""What position alone predicts: the scores that a field's vectors have to beat.

Each baseline predicts every row from the other folds, as the probe does, and chooses what it has
to choose (a penalty, a number of neighbours) inside them.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.folds import CONUS, project
from unigeo.client.ridge import RidgeProbe, complete_targets
from unigeo.schemas.errors import MissingExtraError, ProbeError

NEIGHBOURS = (1, 2, 3, 5, 8, 12, 20, 30, 50)
"""Numbers of nearest neighbours to choose from."""

Predictions = Float[np.ndarray, "point target"]
"""Held-out predictions; NaN where the target is missing."""


def lonlat_ridge(
    lonlat: Float[np.ndarray, "point 2"],
    targets: Float[np.ndarray, "point target"],
    folds: Int[np.ndarray, " point"],
) -> Predictions:
    """Ridge on longitude and latitude: a plane over the map."""
    return RidgeProbe().held_out(lonlat, targets, folds).predictions


def lonlat_knn(
    lonlat: Float[np.ndarray, "point 2"],
    targets: Float[np.ndarray, "point target"],
    folds: Int[np.ndarray, " point"],
    crs: str = CONUS,
    neighbours: Sequence[int] = NEIGHBOURS,
) -> Predictions:
    """Plain mean of the k nearest training points on the map of `crs`.

    k is chosen for each target by the errors on every other fold of models without both folds.

    Raises:
        ProbeError: with fewer than three folds.
        MissingExtraError: without scikit-learn.
    """
    xy = project(lonlat, crs)
    predictions = np.full(targets.shape, np.nan)
    labels = np.unique(folds)
    if len(labels) < 3:
        raise ProbeError(f"{len(labels)} folds leave none to choose k in: at least 3 are needed")
    for rows, columns in complete_targets(targets):
        truth = targets[np.ix_(rows, columns)]
        parts = [np.flatnonzero(folds[rows] == label) for label in labels]

        def means(held: int, *left_out: int) -> Float[np.ndarray, "k row column"]:
            train = np.concatenate(
                [part for f, part in enumerate(parts) if f not in (held, *left_out)]  # noqa: B023
            )
            return _neighbour_means(
                xy[rows[train]],  # noqa: B023
                truth[train],  # noqa: B023
                xy[rows[parts[held]]],  # noqa: B023
                neighbours,
            )

        errors = np.zeros((len(labels), len(neighbours), len(columns)))
        for one, other in combinations(range(len(labels)), 2):
            errors[one] += ((means(other, one) - truth[parts[other]]) ** 2).sum(axis=1)
            errors[other] += ((means(one, other) - truth[parts[one]]) ** 2).sum(axis=1)
        for fold, part in enumerate(parts):
            best = errors[fold].argmin(axis=0)
            chosen = np.take_along_axis(means(fold), best[None, None, :], axis=0)[0]
            predictions[np.ix_(rows[part], columns)] = chosen
    return predictions


def lonlat_trees(
    lonlat: Float[np.ndarray, "point 2"],
    targets: Float[np.ndarray, "point target"],
    folds: Int[np.ndarray, " point"],
    seed: int = 0,
) -> Predictions:
    """Gradient-boosted trees on longitude and latitude, in scikit-learn's default settings.

    Raises:
        MissingExtraError: without scikit-learn.
    """
    ensemble = _sklearn("ensemble")
    predictions = np.full(targets.shape, np.nan)
    for column, truth in enumerate(targets.T):
        known = np.isfinite(truth)
        for fold in np.unique(folds[known]):
            train, held = known & (folds != fold), known & (folds == fold)
            model = ensemble.HistGradientBoostingRegressor(random_state=seed)
            model.fit(lonlat[train], truth[train])
            predictions[held, column] = model.predict(lonlat[held])
    return predictions


def _neighbour_means(
    known_xy: Float[np.ndarray, "known 2"],
    known: Float[np.ndarray, "known target"],
    xy: Float[np.ndarray, "row 2"],
    neighbours: Sequence[int],
) -> Float[np.ndarray, "k row target"]:
    """Mean of the nearest k known values, for every k (all known ones where they are fewer)."""
    most = min(max(neighbours), len(known))
    finder = _sklearn("neighbors").NearestNeighbors(n_neighbors=most).fit(known_xy)
    nearest = finder.kneighbors(xy, return_distance=False)
    sums = known[nearest].cumsum(axis=1)
    ks = np.minimum(neighbours, most)
    return np.stack([sums[:, k - 1] / k for k in ks])


def _sklearn(module: str) -> Any:
    try:
        from importlib import import_module

        return import_module(f"sklearn.{module}")
    except ImportError as error:
        raise MissingExtraError(
            "the nearest-neighbour and tree baselines need scikit-learn: "
            "pip install 'unigeo[probe]', or ask for the probe without baselines"
        ) from error
