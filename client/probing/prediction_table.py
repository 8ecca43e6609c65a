"""Predictions of a probe at points, as columns of a table."""

from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.probing.fitted_models import ClassModel
from unigeo.client.probing.question import read_at
from unigeo.client.reading.point_status import STATUS_TEXTS, text_positions
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.tables.points import Points

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.probing.probe import Probe


def prediction_table(probe: "Probe", points: Points, features: str | None) -> "pd.DataFrame":
    """Predict every target at points: see `Probe.predict`."""
    import pandas as pd

    (name,) = probe.feature_sets(features)
    used = probe.modalities_of(name)
    found_at, status = read_at(probe.field, points, used, probe.method)
    vectors = np.concatenate([found_at[modality] for modality in used], axis=1)
    valid = np.isfinite(vectors).all(axis=1)
    made: dict[str, Any] = {}
    for target in probe.targets:
        model = probe.model(target, name)
        found = {layer: np.full(len(valid), np.nan) for layer in model.layers}
        for layer, values in model.predict(vectors[valid]).items():
            found[layer][valid] = values
        if isinstance(model, ClassModel):
            labels = np.full(len(valid), None, object)
            for row in np.flatnonzero(valid):  # one by one, as a label may be a tuple
                labels[row] = model.classes[int(found["prediction"][row])]
            made |= {target: labels, f"{target}_probability": 1 - found["uncertainty"]}
        else:
            made[target] = found["prediction"]
            made |= {f"{target}_{side}": found[side] for side in ("lower", "upper")}
    kinds = pd.CategoricalDtype(list(STATUS_TEXTS.values()))
    for modality, codes in status.items():
        positions = text_positions(codes)
        made[status_name(modality)] = pd.Categorical.from_codes(positions, dtype=kinds)
    return pd.DataFrame(made, index=points.index)
