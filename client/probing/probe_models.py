"""The models of a probe: their names, and the model of a target, fitted when it is needed."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from unigeo.client.probing.cross_validation import ProbeEvaluation
from unigeo.client.probing.fitted_models import Model, fitted_models
from unigeo.client.probing.kernel_option import holds_locations, uses_kernel, without_kernel
from unigeo.client.probing.probe_data import ProbeData
from unigeo.client.probing.row_counts import RowCounts
from unigeo.client.probing.spatial_option import (
    Spatial,
    with_position,
    without_position,
)
from unigeo.client.probing.table_columns import column_label, listed, short
from unigeo.client.reading.joined import joined_modalities
from unigeo.client.threads import one_thread
from unigeo.schemas.errors import ProbeError


class ProbeModels:
    """The part of `Probe` that names and fits its models; `Probe` describes the attributes."""

    evaluation: ProbeEvaluation
    modalities: tuple[str, ...]
    level: float
    sets: tuple[str, ...]
    counts: Mapping[str, RowCounts]
    folds: Mapping[str, Int[np.ndarray, " point"]]
    data: ProbeData | None
    spatial: Spatial | None
    _models: dict[tuple[str, str], Model]

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets."""
        return tuple(self.counts)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the models: the sets of vectors, then those with position if there are any."""
        return self.sets if self.spatial is None else (*self.sets, *map(with_position, self.sets))

    @property
    def fitted(self) -> tuple[str, ...]:
        """Names of the models that can predict: all of them, or those that were saved."""
        every = tuple({name: 0 for _, name in self._models})
        return self.features if self.data is not None else every

    def model(self, target: Any = None, features: str | None = None) -> Model:
        """Return the model of one target on one set of features, fitted on all points.

        Args:
            target: name of the target; needed if there are several.
            features: a modality or `joined`, or one of them with position, such as
                `joined + position`; by default the one with the best score, see `default_features`.

        Raises:
            ProbeError: if there is no such target or set, or several targets and none is named.
        """
        target = self._target(target)
        features = self.default_features(target) if features is None else self._features(features)
        # One fit serves all targets of numbers, so their models are kept together.
        if (target, features) not in self._models:
            if self.data is None:
                raise ProbeError(
                    f"the loaded probe has no model of the features {features}, only of "
                    f"{listed(self.fitted)}: save it with them"
                )
            with one_thread():
                fitted = fitted_models(self.data, target, features, self.level)
            self._models.update({(name, features): model for name, model in fitted.items()})
        return self._models[target, features]

    def feature_sets(self, features: Any = None) -> tuple[str, ...]:
        """Return the names of models that are named: by default those with the best scores.

        Raises:
            ProbeError: if there is no such set, or the collection is empty.
        """
        if features is None:
            return tuple(dict.fromkeys(map(self.default_features, self.targets)))
        several = isinstance(features, Iterable) and not isinstance(features, str)
        if several and not features:
            raise ProbeError(f"no features are named; the probe has {listed(self.sets)}")
        return tuple(dict.fromkeys(map(self._features, features if several else [features])))

    def _target(self, target: Any) -> str:
        """Return the name of a target as text, as the scores have it."""
        known = list(self.targets)
        if target is None and len(known) == 1:
            return known[0]
        label = column_label(target)
        if target is None or label not in known:
            what = "name one" if target is None else f"there is no target {short(label)}"
            raise ProbeError(f"{what}: the probe has {listed(known)}")
        return label

    def _features(self, features: str) -> str:
        """Return the name of a model, which must be one of the probe's."""
        known = list(self.features)
        if features not in known and features in set(self.evaluation.scores["features"]):
            raise ProbeError(
                f"{short(features)} are scored to be compared with vectors, and no model of "
                f"them is kept; predict by {listed(known)}"
            )
        if features not in known:
            raise ProbeError(f"the probe has no features {short(features)}; it has {listed(known)}")
        return features

    def default_features(self, target: str, *, locations: bool = True) -> str:
        """Return the name of the model that predicts a target where none is named.

        It is the one with the best score under the last split, which is `grouped` if there are
        groups, else `blocked`; of equal scores that of `joined`. Sets with controls or covariates,
        and baselines, do not count: no model of them is kept.

        Args:
            target: name of the target.
            locations: whether models count that hold locations of rows; see `holds_locations`.
        """
        names = [name for name in self.fitted if locations or not holds_locations(name)]
        if len(names) == 1:
            return names[0]
        scores = self.evaluation.scores
        split = scores["split"] == list(self.folds)[-1]
        of_target = scores[(scores["target"] == target) & split]
        score_of = dict(zip(of_target["features"], of_target["score"], strict=True))
        # `joined` is the last of the vectors themselves.
        last = [name for name in self.sets if not uses_kernel(name)][-1]
        names.sort(key=lambda name: name != last)
        return max(names, key=lambda name: np.nan_to_num(score_of.get(name, np.nan), nan=-np.inf))

    def modalities_of(self, features: str) -> tuple[str, ...]:
        """Return the modalities that a model reads."""
        name = without_kernel(without_position(features))
        return (name,) if name in self.modalities else joined_modalities(self.modalities)
