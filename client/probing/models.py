"""What predicts in a probe, by name: ridge on each set of features, and the baselines."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.baselines import (
    lonlat_neighbours,
    lonlat_ridge,
    lonlat_tree_classes,
    lonlat_trees,
    need_sklearn,
    training_mean,
)
from unigeo.client.probing.feature_rows import FeatureRows
from unigeo.client.probing.folded_rows import ridge_operations
from unigeo.client.probing.logistic import LogisticProbe
from unigeo.client.probing.ridge import HeldOut, RidgeProbe
from unigeo.client.probing.table_columns import short
from unigeo.schemas.errors import ProbeError

BASELINES = ("mean", "lonlat ridge", "lonlat kNN", "lonlat IDW", "lonlat trees")
"""`mean` of the training rows, which is the share of each class where there are classes."""

Numbers = Float[np.ndarray, "point target"]
Probabilities = Float[np.ndarray, "point class"]
Push = Callable[[float], None]
"""Callback for the share of a method's work that is newly done."""
NumberMethod = Callable[[Numbers, Int[np.ndarray, " point"], Push], Mapping[str, HeldOut | Numbers]]
"""From targets and folds to held-out predictions by name; several names may share their work."""
ClassMethod = Callable[
    [Int[np.ndarray, " point"], Int[np.ndarray, " point"], Push], Mapping[str, Probabilities]
]
"""From class numbers and folds to held-out probabilities by name."""
Vectors = Mapping[str, FeatureRows]
Sets = Mapping[str, tuple[FeatureRows, Float[np.ndarray, " band"] | float]]
"""Each set of features, and the strength of its bands."""

_NEIGHBOURS = ("lonlat kNN", "lonlat IDW")
BESIDE = ("lonlat neighbours", "lonlat trees")
"""Methods that work alone on one thread, and can be done beside others."""
_LEARNT = (*_NEIGHBOURS, "lonlat trees")
"""Those that scikit-learn computes."""


def chosen_baselines(baselines: bool | Sequence[str], features: Iterable[str]) -> tuple[str, ...]:
    """Names of the baselines that are asked for.

    Args:
        baselines: all, none, or some by name.
        features: names of the sets of features, which must differ.

    Raises:
        ProbeError: if one is unknown, or a set of features has its name.
        MissingExtraError: if one needs scikit-learn and it is not installed.
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
    if set(chosen) & set(_LEARNT):
        need_sklearn()
    return tuple(name for name in BASELINES if name in chosen)


def number_methods(
    sets: Sets,
    lonlat: Float[np.ndarray, "point 2"],
    crs: str,
    seed: int,
    baselines: Sequence[str],
) -> dict[str, NumberMethod]:
    """Methods for numbers: ridge on each set of features, then the baselines."""

    def ridge(name: str) -> NumberMethod:
        values, strength = sets[name]

        def method(y: Numbers, f: Int[np.ndarray, " point"], push: Push) -> Mapping[str, HeldOut]:
            whole = ridge_operations(values.shape[0], values.shape[1], len(np.unique(f)))
            held = RidgeProbe().held_out(
                values, y, f, strength=strength, push=lambda done: push(done / whole)
            )
            return {name: held}

        return method

    def near(y: Numbers, f: Int[np.ndarray, " point"], push: Push) -> Mapping[str, Numbers]:
        return _named(lonlat_neighbours(lonlat, y, f, crs), baselines)

    position: dict[str, NumberMethod] = {
        "mean": lambda y, f, push: {"mean": training_mean(y, f)},
        "lonlat ridge": lambda y, f, push: {"lonlat ridge": lonlat_ridge(lonlat, y, f)},
        "lonlat neighbours": near,
        "lonlat trees": lambda y, f, push: {"lonlat trees": lonlat_trees(lonlat, y, f, seed)},
    }
    return {name: ridge(name) for name in sets} | _wanted(position, baselines)


def class_methods(
    sets: Sets,
    lonlat: Float[np.ndarray, "point 2"],
    crs: str,
    seed: int,
    baselines: Sequence[str],
) -> dict[str, ClassMethod]:
    """The same for classes: logistic ridge in the place of ridge, shares of classes for means."""

    def logistic(
        name: str, values: FeatureRows, strength: Float[np.ndarray, " band"] | float
    ) -> ClassMethod:
        def method(
            c: Int[np.ndarray, " point"], f: Int[np.ndarray, " point"], push: Push
        ) -> Mapping[str, Probabilities]:
            return {name: LogisticProbe().held_out(values, c, f, strength=strength, push=push)}

        return method

    def near(
        c: Int[np.ndarray, " point"], f: Int[np.ndarray, " point"], push: Push
    ) -> Mapping[str, Numbers]:
        found = lonlat_neighbours(lonlat, _indicators(c), f, crs, together=True)
        return _named(found, baselines)

    def trees(
        c: Int[np.ndarray, " point"], f: Int[np.ndarray, " point"], push: Push
    ) -> Mapping[str, Probabilities]:
        return {"lonlat trees": lonlat_tree_classes(lonlat, c, f, seed)}

    position: dict[str, ClassMethod] = {
        "mean": lambda c, f, push: {"mean": training_mean(_indicators(c), f)},
        "lonlat ridge": logistic("lonlat ridge", lonlat, 1.0),
        "lonlat neighbours": near,
        "lonlat trees": trees,
    }
    own = {name: logistic(name, *features) for name, features in sets.items()}
    return own | _wanted(position, baselines)


def _indicators(codes: Int[np.ndarray, " point"]) -> Numbers:
    """One column per class, 1 where a point is of it."""
    return np.asarray(np.eye(int(codes.max()) + 1)[codes])


def _named(found: Mapping[str, Numbers], baselines: Sequence[str]) -> dict[str, Numbers]:
    return {name: values for name, values in found.items() if name in baselines}


def _wanted[M](methods: Mapping[str, M], baselines: Sequence[str]) -> dict[str, M]:
    wanted = set(baselines) | (
        {"lonlat neighbours"} if set(baselines) & set(_NEIGHBOURS) else set()
    )
    return {name: method for name, method in methods.items() if name in wanted}
