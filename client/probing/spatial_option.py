"""The option `spatial` of a probe, and the names of models of vectors and position.

With `spatial="residuals"` each set of vectors, such as `joined`, gains a model `joined + position`:
its ridge, and the ridge's residuals at known points spread by kriging; see `regression_kriging`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from unigeo.client.probing.baselines import need_sklearn
from unigeo.client.probing.table_columns import short
from unigeo.client.probing.targets import Labels, Target
from unigeo.schemas.errors import ProbeError

Spatial = Literal["residuals"]
_SUFFIX = " + position"


def with_position(features: str) -> str:
    """Name the model of a set of features to which position is added."""
    return features + _SUFFIX


def without_position(features: str) -> str:
    """Return the name of the set of features that a model, with or without position, is of."""
    return features.removesuffix(_SUFFIX)


def uses_position(features: str) -> bool:
    """Return whether a name is that of a model with position."""
    return features.endswith(_SUFFIX)


def check_spatial(
    spatial: Any, targets: Mapping[str, Target], features: Iterable[str], weighted: bool = False
) -> None:
    """Refuse what `spatial` cannot do.

    Args:
        spatial: option of `Field.probe`.
        targets: targets by name.
        features: names of the sets of features.
        weighted: whether rows have weights.

    Raises:
        ProbeError: if it is neither None nor `residuals`, a target is of classes, rows have
            weights, or a set of features has the name of a model with position.
        MissingExtraError: without scikit-learn, if it is `residuals`.
    """
    if spatial is None:
        return
    if spatial != "residuals":
        raise ProbeError(f"spatial must be 'residuals' or None, not {short(spatial)}")
    if weighted:
        raise ProbeError(
            "spatial='residuals' spreads the residuals of rows that count alike: probe without "
            "spatial or without weights"
        )
    for name, target in targets.items():
        if isinstance(target, Labels):
            raise ProbeError(
                f"spatial='residuals' spreads the residuals of numbers, and the target "
                f"{short(name)} is of classes: probe it without spatial"
            )
    for name in features:
        if uses_position(name):
            raise ProbeError(
                f"the features {short(name)} are named like a model with position; rename them"
            )
    need_sklearn()
