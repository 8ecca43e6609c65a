"""What commands answer at points: new columns, and the status of each modality in words."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unigeo.client.commands.table_parts import Answer
from unigeo.client.points.join import check_joinable
from unigeo.client.reading.point_status import NO_POSITION, STATUS_TEXTS
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

if TYPE_CHECKING:
    from unigeo.client.field.field import Field
    from unigeo.client.probing.probe import Probe

Answered = tuple[pd.DataFrame, Mapping[str, np.ndarray]]


def sampled(field: "Field", options: Mapping[str, Any], **more: Any) -> Answer:
    """Answer with the vectors of a field.

    Args:
        field: which.
        options: `modalities`, `method` and `prefix`, as `Field.sample` takes them.
        more: further options of it.
    """
    chosen, prefix = field.chosen(options["modalities"]), options["prefix"]

    def answer(points: Points) -> Answered:
        new = field.sample(points, chosen, method=options["method"], prefix=prefix, **more)
        new = new.reset_index(drop=True)
        return new, {name: new[prefix + status_name(name)].to_numpy(str) for name in chosen}

    return answer


def encoded(field: "Field", prefix: str) -> Answer:
    """Answer with the coordinate encoder of a field."""

    def answer(points: Points) -> Answered:
        new = field.encode(points, prefix=prefix).reset_index(drop=True)
        status = np.where(points.placed, STATUS_TEXTS[Status.VALID], STATUS_TEXTS[NO_POSITION])
        return new, {"coordinate": status}

    return answer


def predicted(probe: "Probe", features: str | None, prefix: str, own: Sequence[str]) -> Answer:
    """Answer with the predictions of a probe.

    Args:
        probe: fitted when it is asked first.
        features: as in `Probe.predict`.
        prefix: put before the new columns' names.
        own: names of the columns that these stand beside.
    """

    def answer(points: Points) -> Answered:
        found = probe.predict(points, features).reset_index(drop=True)
        used = [name for name in probe.modalities if status_name(name) in found]
        status = {name: found[status_name(name)].to_numpy(str) for name in used}
        for target in probe.targets:
            if hasattr(model := probe.model(target, features), "classes"):
                found[target] = found[target].astype(_kind_of(model.classes))
        new = found.add_prefix(prefix)
        check_joinable(pd.DataFrame(columns=list(own)), list(new.columns))
        return new, status

    return answer


def _kind_of(classes: Sequence[Any]) -> Any:
    """A type that holds these labels and missing ones, in whichever part of a table."""
    return _KINDS.get(pd.api.types.infer_dtype(list(classes)), object)


_KINDS = {"string": "string", "boolean": "boolean", "integer": "Int64", "floating": "float64"}
"""Types that have missing values, by what pandas sees in the labels."""


def with_places(answer: Answer) -> Answer:
    """Answer with longitude and latitude before the other columns."""

    def placed(points: Points) -> Answered:
        new, status = answer(points)
        lonlat = pd.DataFrame(points.lonlat, columns=["lon", "lat"])
        return pd.concat([lonlat, new], axis=1), status

    return placed
