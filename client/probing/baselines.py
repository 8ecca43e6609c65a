"""Predictions from position alone: the scores that a field's vectors have to beat.

Each baseline predicts every row from the other folds, as the probe does, and chooses what it has
to choose (a penalty, a number of neighbours) inside them.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.folds import CONUS, project
from unigeo.client.probing.logistic import LogisticProbe
from unigeo.client.probing.metrics import Weights
from unigeo.client.probing.ridge import RidgeProbe, complete_targets
from unigeo.schemas.errors import MissingExtraError, ProbeError

NEIGHBOURS = (1, 2, 3, 5, 8, 12, 20, 30, 50)
"""Numbers of nearest neighbours to choose from, for their plain mean."""
WEIGHTED_NEIGHBOURS = (8, 20, 50)
"""Numbers of nearest neighbours to choose from, for their mean weighted by inverse distance."""
POWERS = (1, 2, 3)
"""Powers of the inverse distance to choose from."""

_MIN_DISTANCE_M = 1.0
"""Lower bound of distances: a point at the same position would have an infinite weight."""

Predictions = Float[np.ndarray, "point target"]
"""Held-out predictions; NaN where the target is missing."""
_Means = Callable[
    [
        Float[np.ndarray, "row near"],
        Float[np.ndarray, "row near target"],
        Float[np.ndarray, "row near"],
    ],
    Float[np.ndarray, "option row target"],
]
"""Function of distances, values and weights of the nearest points: predictions, by option."""


def training_mean(
    targets: Float[np.ndarray, "point target"],
    folds: Int[np.ndarray, " point"],
    weights: Weights = None,
) -> Predictions:
    """Predict the mean of the training rows: what is known without a position."""
    predictions = np.full(targets.shape, np.nan)
    known = np.isfinite(targets)
    each = np.ones(len(targets)) if weights is None else weights
    for fold in np.unique(folds):
        held = folds == fold
        counted = np.where(held, 0.0, each)[:, None] * known
        predictions[held] = np.nansum(counted * targets, axis=0) / counted.sum(axis=0)
    predictions[~known] = np.nan
    return predictions


def training_shares(
    codes: Int[np.ndarray, " point"],
    folds: Int[np.ndarray, " point"],
    weights: Weights = None,
) -> Float[np.ndarray, "point class"]:
    """Predict the share of each class in the training rows."""
    return training_mean(_indicators(codes), folds, weights)


def lonlat_ridge(
    lonlat: Float[np.ndarray, "point 2"],
    targets: Float[np.ndarray, "point target"],
    folds: Int[np.ndarray, " point"],
    weights: Weights = None,
) -> Predictions:
    """Predict by ridge on longitude and latitude: a plane over the map."""
    return RidgeProbe().held_out(lonlat, targets, folds, weights=weights).predictions


def lonlat_logistic(
    lonlat: Float[np.ndarray, "point 2"],
    codes: Int[np.ndarray, " point"],
    folds: Int[np.ndarray, " point"],
    weights: Weights = None,
) -> Float[np.ndarray, "point class"]:
    """Predict the probability of each class by logistic ridge on longitude and latitude."""
    return LogisticProbe().held_out(lonlat, codes, folds, weights=weights)


def lonlat_neighbours(
    lonlat: Float[np.ndarray, "point 2"],
    targets: Float[np.ndarray, "point target"],
    folds: Int[np.ndarray, " point"],
    crs: str = CONUS,
    *,
    together: bool = False,
    weights: Weights = None,
) -> dict[str, Predictions]:
    """Predict by means of the nearest training points on the map of `crs`, from one search.

    `lonlat kNN` is their plain mean, `lonlat IDW` that weighted by distance to a negative power.
    The number of points and the power are chosen by the errors on every other fold of models
    without both folds: for each target by itself, or one choice for all of them `together`.

    Raises:
        ProbeError: with fewer than three folds.
        MissingExtraError: without scikit-learn.
    """
    xy = project(lonlat, crs)
    labels = np.unique(folds)
    if len(labels) < 3:
        raise ProbeError(f"{len(labels)} folds leave none to choose k in: at least 3 are needed")
    each = np.ones(len(targets)) if weights is None else weights
    kinds: dict[str, _Means] = {"lonlat kNN": _plain_means, "lonlat IDW": _weighted_means}
    predictions = {name: np.full(targets.shape, np.nan) for name in kinds}
    for rows, columns in complete_targets(targets):
        truth, counted = targets[np.ix_(rows, columns)], each[rows]
        parts = [np.flatnonzero(folds[rows] == label) for label in labels]
        # Squared errors of each option and target, by which the option for a fold is chosen.
        errors: dict[str, Any] = {name: [0.0] * len(labels) for name in kinds}
        for held, left_out, distance, near in _searches(xy[rows], parts):
            for name, means in kinds.items():
                guesses = means(distance, truth[near], counted[near])
                if left_out is not None:
                    squares = (guesses - truth[parts[held]]) ** 2
                    error = np.einsum("r,ort->ot", counted[parts[held]], squares)
                    errors[name][left_out] = errors[name][left_out] + error
                    continue
                # All searches with a fold left out came before, so the errors are complete.
                error = errors[name][held]
                if together:
                    error = np.broadcast_to(error.sum(axis=1, keepdims=True), error.shape)
                best = error.argmin(axis=0)  # an option per target
                chosen = np.take_along_axis(guesses, best[None, None, :], axis=0)[0]
                predictions[name][np.ix_(rows[parts[held]], columns)] = chosen
    return predictions


def lonlat_neighbour_shares(
    lonlat: Float[np.ndarray, "point 2"],
    codes: Int[np.ndarray, " point"],
    folds: Int[np.ndarray, " point"],
    crs: str = CONUS,
    weights: Weights = None,
) -> dict[str, Float[np.ndarray, "point class"]]:
    """Predict classes by their shares among the nearest points; see `lonlat_neighbours`."""
    return lonlat_neighbours(lonlat, _indicators(codes), folds, crs, together=True, weights=weights)


def lonlat_trees(
    lonlat: Float[np.ndarray, "point 2"],
    targets: Float[np.ndarray, "point target"],
    folds: Int[np.ndarray, " point"],
    seed: int = 0,
    weights: Weights = None,
) -> Predictions:
    """Predict by gradient-boosted trees on longitude and latitude, in scikit-learn's defaults.

    Raises:
        MissingExtraError: without scikit-learn.
    """
    return boosted_trees(lonlat, targets, folds, weights, random_state=seed)


def boosted_trees(
    features: Float[np.ndarray, "point feature"],
    targets: Float[np.ndarray, "point target"],
    folds: Int[np.ndarray, " point"],
    weights: Weights = None,
    **settings: Any,
) -> Predictions:
    """Predict by gradient-boosted trees on any features.

    Args:
        features: numbers of each point; NaN is a value of its own.
        targets: values to predict.
        folds: fold of each point.
        weights: weight of each point; 1 by default.
        settings: of scikit-learn's `HistGradientBoostingRegressor`.

    Raises:
        MissingExtraError: without scikit-learn.
    """
    ensemble = need_sklearn("ensemble")
    predictions = np.full(targets.shape, np.nan)
    for column, truth in enumerate(targets.T):
        known = np.isfinite(truth)
        for fold in np.unique(folds[known]):
            train, held = known & (folds != fold), known & (folds == fold)
            model = ensemble.HistGradientBoostingRegressor(**settings)
            model.fit(features[train], truth[train], _of_rows(weights, train))
            predictions[held, column] = model.predict(features[held])
    return predictions


def lonlat_tree_classes(
    lonlat: Float[np.ndarray, "point 2"],
    codes: Int[np.ndarray, " point"],
    folds: Int[np.ndarray, " point"],
    seed: int = 0,
    weights: Weights = None,
) -> Float[np.ndarray, "point class"]:
    """Predict the probability of each class by gradient-boosted trees; see `lonlat_trees`.

    Raises:
        MissingExtraError: without scikit-learn.
    """
    ensemble = need_sklearn("ensemble")
    probabilities = np.zeros((len(codes), int(codes.max()) + 1))
    for fold in np.unique(folds):
        train, held = folds != fold, folds == fold
        seen = np.unique(codes[train])
        if len(seen) == 1:  # scikit-learn would give two columns, of one class
            probabilities[held, seen[0]] = 1.0
            continue
        model = ensemble.HistGradientBoostingClassifier(random_state=seed)
        model.fit(lonlat[train], codes[train], _of_rows(weights, train))
        probabilities[np.ix_(held, model.classes_)] = model.predict_proba(lonlat[held])
    return probabilities


def need_sklearn(module: str = "neighbors") -> Any:
    """Import a module of scikit-learn.

    Raises:
        MissingExtraError: if scikit-learn is not installed.
    """
    try:
        from importlib import import_module

        return import_module(f"sklearn.{module}")
    except ImportError as error:
        raise MissingExtraError(
            "the nearest-neighbour and tree baselines need scikit-learn: "
            "pip install 'unigeo[probe]', or ask for the probe without baselines"
        ) from error


def _of_rows(weights: Weights, rows: Bool[np.ndarray, " point"]) -> np.ndarray | None:
    """Return the weights of the marked rows."""
    return None if weights is None else weights[rows]


def _indicators(codes: Int[np.ndarray, " point"]) -> Float[np.ndarray, "point class"]:
    """Return one column per class, 1 where a point has it."""
    return np.asarray(np.eye(int(codes.max()) + 1)[codes])


def _searches(
    xy: Float[np.ndarray, "row 2"], parts: list[Int[np.ndarray, " _"]]
) -> Iterator[
    tuple[
        int,
        int | None,
        Float[np.ndarray, "_ near"],
        Int[np.ndarray, "_ near"],
    ]
]:
    """Search for the nearest rows of each fold among the rows of other folds.

    Args:
        xy: positions in metres.
        parts: row numbers of each fold.

    Yields:
        The fold, another that is left out as well or None, distances in metres and row numbers,
        the nearest first. Those with a fold left out come before those without.
    """
    neighbors = need_sklearn("neighbors")

    def search(held: list[int], *out: int) -> Iterator[Any]:
        train = np.concatenate([part for fold, part in enumerate(parts) if fold not in out])
        count = min(max(*NEIGHBOURS, *WEIGHTED_NEIGHBOURS), len(train))
        finder = neighbors.NearestNeighbors(n_neighbors=count).fit(xy[train])
        for fold in held:
            distance, near = finder.kneighbors(xy[parts[fold]])
            yield fold, distance, train[near]

    for one, other in combinations(range(len(parts)), 2):  # one index of points serves both folds
        for fold, distance, near in search([one, other], one, other):
            yield fold, other if fold == one else one, distance, near
    for fold in range(len(parts)):
        for _, distance, near in search([fold], fold):
            yield fold, None, distance, near


def _plain_means(
    distance: Float[np.ndarray, "row near"],
    values: Float[np.ndarray, "row near target"],
    weights: Float[np.ndarray, "row near"],
) -> Float[np.ndarray, "option row target"]:
    """Compute the mean of the nearest k values, for every k (all of them if they are fewer)."""
    counts = weights.cumsum(axis=1)[:, :, None]
    means = (weights[:, :, None] * values).cumsum(axis=1) / counts
    return np.stack([means[:, k - 1] for k in np.minimum(NEIGHBOURS, values.shape[1])])


def _weighted_means(
    distance: Float[np.ndarray, "row near"],
    values: Float[np.ndarray, "row near target"],
    weights: Float[np.ndarray, "row near"],
) -> Float[np.ndarray, "option row target"]:
    """Compute the means of the nearest k values weighted by distance^-power, by power and k."""
    ks = np.minimum(WEIGHTED_NEIGHBOURS, values.shape[1])
    nearness = 1 / np.maximum(distance, _MIN_DISTANCE_M)
    means = []
    for power in POWERS:
        near = (weights * nearness**power)[:, :, None]
        for k in ks:
            weighted = np.einsum("rko,rkt->rt", near[:, :k], values[:, :k])
            means.append(weighted / near[:, :k].sum(axis=1))
    return np.stack(means)
