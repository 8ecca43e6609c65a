"""The new columns that commands write for points: vectors, encodings or predictions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unigeo.client.commands.table_parts import NewColumns
from unigeo.client.points.join import check_joinable
from unigeo.client.reading.covariates import select
from unigeo.client.reading.point_status import NO_POSITION, STATUS_TEXTS
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

if TYPE_CHECKING:
    from unigeo.client.field.field import Field
    from unigeo.client.probing.probe import Probe

ColumnsAndStatus = tuple[pd.DataFrame, Mapping[str, np.ndarray]]
"""New columns, and the status of each row as text, by modality."""


def sampled_columns(field: "Field", options: Mapping[str, Any], **more: Any) -> NewColumns:
    """Make the function that samples a field at points.

    Args:
        field: field to sample.
        options: `modalities`, `covariates`, `method`, `radius_m`, `snap_km`, `prefix` of `sample`.
        more: further arguments of `Field.sample`.
    """
    means = options["radius_m"] is not None
    chosen = select(field, options["modalities"], options["covariates"], numbers_only=means)
    prefix = options["prefix"]

    def new_columns(points: Points) -> ColumnsAndStatus:
        how = {name: options[name] for name in ("method", "radius_m", "snap_km", "prefix")}
        names = chosen.covariates
        new = field.sample(points, chosen.modalities, covariates=names, **how, **more)
        new = new.reset_index(drop=True)
        return new, {name: new[prefix + status_name(name)].to_numpy(str) for name in chosen.arrays}

    return new_columns


def encoded_columns(field: "Field", prefix: str) -> NewColumns:
    """Make the function that encodes points by the coordinate encoder of a field."""

    def new_columns(points: Points) -> ColumnsAndStatus:
        new = field.encode(points, prefix=prefix).reset_index(drop=True)
        status = np.where(
            points.has_position, STATUS_TEXTS[Status.VALID], STATUS_TEXTS[NO_POSITION]
        )
        return new, {"coordinate": status}

    return new_columns


def predicted_columns(
    probe: "Probe", features: str | None, prefix: str, existing: Sequence[str]
) -> NewColumns:
    """Make the function that predicts the targets of a probe at points.

    Args:
        probe: probe, which is fitted by the first prediction.
        features: feature set, as in `Probe.predict`.
        prefix: prefix of the new columns' names.
        existing: names of the columns to which the new ones are joined.
    """

    def new_columns(points: Points) -> ColumnsAndStatus:
        predictions = probe.predict(points, features).reset_index(drop=True)
        used = [name for name in probe.modalities if status_name(name) in predictions]
        status = {name: predictions[status_name(name)].to_numpy(str) for name in used}
        for target in probe.targets:
            if hasattr(model := probe.model(target, features), "classes"):
                predictions[target] = predictions[target].astype(_nullable_type(model.classes))
        new = predictions.add_prefix(prefix)
        check_joinable(pd.DataFrame(columns=list(existing)), list(new.columns))
        return new, status

    return new_columns


def _nullable_type(classes: Sequence[Any]) -> Any:
    """Return the dtype of labels and missing values, the same in every part of a table.

    The type inferred from the values of a part would depend on whether one is missing there.
    """
    return _NULLABLE_TYPES.get(pd.api.types.infer_dtype(list(classes)), object)


_NULLABLE_TYPES = {
    "string": "string", "boolean": "boolean", "integer": "Int64", "floating": "float64",
}  # fmt: skip
"""Types that have missing values, by the kind of labels that pandas infers."""


def with_lonlat(new_columns: NewColumns) -> NewColumns:
    """Put longitude and latitude before the other columns."""

    def lonlat_first(points: Points) -> ColumnsAndStatus:
        new, status = new_columns(points)
        lonlat = pd.DataFrame(points.lonlat, columns=["lon", "lat"])
        return pd.concat([lonlat, new], axis=1), status

    return lonlat_first
