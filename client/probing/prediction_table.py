"""Predictions of a probe at points, as columns of a table."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.probing.fitted_models import ClassModel, predict_layers
from unigeo.client.probing.sampled_features import sample_vectors
from unigeo.client.reading.point_status import STATUS_TEXTS, text_positions
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.tables.points import Points

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.probing.probe import Probe


def prediction_table(probe: "Probe", points: Points, features: str | None) -> "pd.DataFrame":
    """Predict every target at points; see `Probe.predict`."""
    import pandas as pd

    if features is not None:
        (features,) = probe.feature_sets(features)
    by_target = {target: features or probe.default_features(target) for target in probe.targets}
    read = {name: probe.modalities_of(name) for name in dict.fromkeys(by_target.values())}
    wanted = {modality for names in read.values() for modality in names}
    modalities = tuple(name for name in probe.modalities if name in wanted)
    sampled, status = sample_vectors(probe.field, points, modalities, probe.method)
    columns: dict[str, Any] = {}
    for target, name in by_target.items():
        model = probe.model(target, name)
        vectors = np.concatenate([sampled[modality] for modality in read[name]], axis=1)
        valid = np.isfinite(vectors).all(axis=1)
        predicted = {layer: np.full(len(valid), np.nan) for layer in model.layers}
        layers = predict_layers(model, vectors[valid], partial(points.lonlat.__getitem__, valid))
        for layer, values in layers.items():
            predicted[layer][valid] = values
        if isinstance(model, ClassModel):
            labels = np.full(len(valid), None, object)
            for row in np.flatnonzero(valid):  # one by one, as a label may be a tuple
                labels[row] = model.classes[int(predicted["prediction"][row])]
            columns |= {target: labels, f"{target}_probability": 1 - predicted["uncertainty"]}
        else:
            columns[target] = predicted["prediction"]
            columns |= {f"{target}_{side}": predicted[side] for side in ("lower", "upper")}
    kinds = pd.CategoricalDtype(list(STATUS_TEXTS.values()))
    for modality, codes in status.items():
        positions = text_positions(codes)
        columns[status_name(modality)] = pd.Categorical.from_codes(positions, dtype=kinds)
    return pd.DataFrame(columns, index=points.index)
