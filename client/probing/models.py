"""The methods that a probe scores: ridge on each set of features, and the baselines by name.

Each method predicts every point by models that have not seen its fold. `number_methods` and
`class_methods` list the methods for targets of numbers and of classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.band_scaling import BandScaling
from unigeo.client.probing.baselines import (
    boosted_trees,
    lonlat_logistic,
    lonlat_neighbour_shares,
    lonlat_neighbours,
    lonlat_ridge,
    lonlat_tree_classes,
    lonlat_trees,
    need_sklearn,
    training_mean,
    training_shares,
)
from unigeo.client.probing.duration_estimate import (
    baseline_seconds,
    logistic_seconds,
    ridge_seconds,
    trees_seconds,
)
from unigeo.client.probing.feature_rows import FeatureRows, as_array
from unigeo.client.probing.folded_rows import ridge_operations
from unigeo.client.probing.logistic import LogisticProbe
from unigeo.client.probing.metrics import Weights
from unigeo.client.probing.ridge import HeldOut, RidgeProbe
from unigeo.client.probing.table_columns import short
from unigeo.schemas.errors import ProbeError

BASELINES = ("mean", "lonlat ridge", "lonlat kNN", "lonlat IDW", "lonlat trees")
"""Names of the baselines; `mean` of the training rows is the share of each class for classes."""
_NEIGHBOURS = ("lonlat kNN", "lonlat IDW")
"""Baselines that share one search for the nearest points."""
_NEED_SKLEARN = (*_NEIGHBOURS, "lonlat trees")
TREES = {
    "max_iter": 120,
    "max_leaf_nodes": 15,
    "learning_rate": 0.08,
    "early_stopping": False,
}
"""Settings of the trees on a set of features; without early stopping, which holds rows back."""

Folds = Int[np.ndarray, " point"]
Vectors = Mapping[str, FeatureRows]
"""Sets of features by name."""
Sets = Mapping[str, tuple[FeatureRows, BandScaling]]
"""Sets of features, and the scaling of their bands, by name."""
Advance = Callable[[float], None]
"""Callback that adds a newly done share of a method's work to the progress."""


def ignore_progress(share: float) -> None:
    """Drop the progress."""


@dataclass(frozen=True, eq=False)
class RidgeMethod:
    """Ridge on one set of features, for targets of numbers."""

    name: str
    """Name of the set."""
    features: FeatureRows
    scaling: BandScaling
    leave_one_out: bool = False
    """Whether training points are predicted too; see `RidgeProbe.held_out`."""
    weights: Weights = None
    single_threaded = False

    def seconds(self, rows: int, folds: int, columns: int) -> float:
        """Estimate the time of `held_out`; all targets share the factorizations."""
        return ridge_seconds(rows, self.features.shape[1], folds, self.leave_one_out)

    def held_out(
        self,
        targets: Float[np.ndarray, "point target"],
        folds: Folds,
        advance: Advance = ignore_progress,
    ) -> dict[str, HeldOut]:
        """Predict every point, with its difficulty."""
        rows, bands = self.features.shape
        operations = ridge_operations(rows, bands, len(np.unique(folds)), self.leave_one_out)
        held = RidgeProbe().held_out(
            self.features,
            targets,
            folds,
            scaling=self.scaling,
            advance=lambda done: advance(done / operations),
            leave_one_out=self.leave_one_out,
            weights=self.weights,
        )
        return {self.name: held}


@dataclass(frozen=True, eq=False)
class LogisticMethod:
    """Logistic ridge on one set of features, for a target of classes."""

    name: str
    """Name of the set."""
    features: FeatureRows
    scaling: BandScaling
    weights: Weights = None
    single_threaded = False

    def seconds(self, rows: int, folds: int, columns: int) -> float:
        """Estimate the time of `held_out`; columns are classes."""
        return logistic_seconds(rows, self.features.shape[1], folds, columns)

    def held_out(
        self, codes: Int[np.ndarray, " point"], folds: Folds, advance: Advance = ignore_progress
    ) -> dict[str, np.ndarray]:
        """Predict the probability of each class at every point."""
        probabilities = LogisticProbe().held_out(
            self.features,
            codes,
            folds,
            scaling=self.scaling,
            advance=advance,
            weights=self.weights,
        )
        return {self.name: probabilities}


@dataclass(frozen=True, eq=False)
class BaselineMethod:
    """A baseline that predicts from position alone, or from the training rows' targets."""

    name: str
    """One of `BASELINES`."""
    predict: Callable[..., np.ndarray]
    """Function of targets, or class numbers, and folds: held-out predictions."""
    single_threaded: bool = False
    """Whether it keeps one thread busy, mostly with Python, so that it can run beside others."""

    def seconds(self, rows: int, folds: int, columns: int) -> float:
        """Estimate the time of `held_out`."""
        return baseline_seconds(self.name, rows, columns)

    def held_out(
        self, truth: np.ndarray, folds: Folds, advance: Advance = ignore_progress
    ) -> dict[str, np.ndarray]:
        """Predict every point: numbers by target, or probabilities by class."""
        return {self.name: self.predict(truth, folds)}


@dataclass(frozen=True, eq=False)
class NeighboursMethod:
    """The two baselines of nearest points, from one search."""

    names: tuple[str, ...]
    """Names of the baselines that are wanted."""
    predict: Callable[..., Mapping[str, np.ndarray]]
    """Function of targets, or class numbers, and folds: held-out predictions of both."""
    name = "lonlat neighbours"
    single_threaded = True

    def seconds(self, rows: int, folds: int, columns: int) -> float:
        """Estimate the time of `held_out`."""
        return baseline_seconds(self.name, rows, columns)

    def held_out(
        self, truth: np.ndarray, folds: Folds, advance: Advance = ignore_progress
    ) -> dict[str, np.ndarray]:
        """Predict every point: numbers by target, or probabilities by class."""
        predictions = self.predict(truth, folds)
        return {name: predictions[name] for name in self.names}


@dataclass(frozen=True, eq=False)
class TreesMethod:
    """Gradient-boosted trees on one set of features, longitude and latitude, for numbers."""

    name: str
    features: FeatureRows
    lonlat: Float[np.ndarray, "point 2"]
    seed: int
    weights: Weights = None
    single_threaded = True

    def seconds(self, rows: int, folds: int, columns: int) -> float:
        """Estimate the time of `held_out`."""
        return trees_seconds(rows, self.features.shape[1] + 2, folds, columns)

    def held_out(
        self,
        targets: Float[np.ndarray, "point target"],
        folds: Folds,
        advance: Advance = ignore_progress,
    ) -> dict[str, np.ndarray]:
        """Predict every point."""
        features = np.concatenate([as_array(self.features), self.lonlat], axis=1)
        settings = {**TREES, "random_state": self.seed}
        predictions = boosted_trees(features, targets, folds, self.weights, **settings)
        return {self.name: predictions}


Baseline = BaselineMethod | NeighboursMethod
NumberMethod = RidgeMethod | TreesMethod | Baseline
ClassMethod = LogisticMethod | Baseline


def chosen_baselines(baselines: bool | Sequence[str], features: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the wanted baselines, in the order of `BASELINES`.

    Args:
        baselines: all, none, or some by name.
        features: names of the sets of features, which must differ.

    Raises:
        ProbeError: if a baseline is unknown, or a set of features has its name.
        MissingExtraError: if a baseline needs scikit-learn and it is not installed.
    """
    if not isinstance(baselines, bool | Iterable | None) or isinstance(baselines, str):
        raise ProbeError(
            f"baselines must be True, False or a list of names, not {short(baselines)}; there are "
            f"{', '.join(BASELINES)}"
        )
    chosen = BASELINES if baselines is True else tuple(baselines or ())
    unknown = [name for name in chosen if name not in BASELINES]
    if unknown:
        raise ProbeError(
            f"there is no baseline {short(unknown[0])}; there are {', '.join(BASELINES)}"
        )
    clash = sorted(set(chosen) & set(features))
    if clash:
        raise ProbeError(f"the features {clash[0]!r} are named like the baseline; rename them")
    if not chosen and not list(features):
        raise ProbeError("there is nothing to score: name modalities or baselines")
    if set(chosen) & set(_NEED_SKLEARN):
        need_sklearn()
    return tuple(name for name in BASELINES if name in chosen)


def number_methods(
    sets: Sets,
    lonlat: Float[np.ndarray, "point 2"],
    crs: str,
    seed: int,
    baselines: Sequence[str],
    trees: Mapping[str, str] | None = None,
    weights: Weights = None,
) -> list[NumberMethod]:
    """List the methods for numbers: ridge on each set of features, trees, then the baselines.

    Args:
        sets: sets of features at the points.
        lonlat: position of each point.
        crs: CRS in metres, for the nearest neighbours.
        seed: seed of the trees.
        baselines: names of the wanted baselines.
        trees: name of each set of features that trees are fitted on too, by the trees' name.
        weights: weight of each point; 1 by default.
    """
    on_features = [RidgeMethod(name, *features, weights=weights) for name, features in sets.items()]
    grown = [
        TreesMethod(name, sets[on][0], lonlat, seed, weights) for name, on in (trees or {}).items()
    ]
    return [
        *on_features,
        *grown,
        *_wanted_baselines(
            baselines,
            mean=partial(training_mean, weights=weights),
            ridge=partial(lonlat_ridge, lonlat, weights=weights),
            neighbours=partial(lonlat_neighbours, lonlat, crs=crs, weights=weights),
            trees=partial(lonlat_trees, lonlat, seed=seed, weights=weights),
        ),
    ]


def class_methods(
    sets: Sets,
    lonlat: Float[np.ndarray, "point 2"],
    crs: str,
    seed: int,
    baselines: Sequence[str],
    weights: Weights = None,
) -> list[ClassMethod]:
    """List the methods for classes: logistic ridge on each set of features, then the baselines.

    Args as in `number_methods`.
    """
    on_features = [
        LogisticMethod(name, *features, weights=weights) for name, features in sets.items()
    ]
    return [
        *on_features,
        *_wanted_baselines(
            baselines,
            mean=partial(training_shares, weights=weights),
            ridge=partial(lonlat_logistic, lonlat, weights=weights),
            neighbours=partial(lonlat_neighbour_shares, lonlat, crs=crs, weights=weights),
            trees=partial(lonlat_tree_classes, lonlat, seed=seed, weights=weights),
        ),
    ]


def _wanted_baselines(
    names: Sequence[str],
    mean: Callable[..., np.ndarray],
    ridge: Callable[..., np.ndarray],
    neighbours: Callable[..., Mapping[str, np.ndarray]],
    trees: Callable[..., np.ndarray],
) -> list[Baseline]:
    """List the baselines that are wanted by name, from the functions that predict."""
    nearest = tuple(name for name in _NEIGHBOURS if name in names)
    methods: list[tuple[bool, Baseline]] = [
        ("mean" in names, BaselineMethod("mean", mean)),
        ("lonlat ridge" in names, BaselineMethod("lonlat ridge", ridge)),
        (bool(nearest), NeighboursMethod(nearest, neighbours)),
        ("lonlat trees" in names, BaselineMethod("lonlat trees", trees, single_threaded=True)),
    ]
    return [method for wanted, method in methods if wanted]
