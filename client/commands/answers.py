"""What commands answer at points: new columns, and the status of each modality in words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unigeo.client.commands.tables import Answer
from unigeo.client.point_status import NO_POSITION, WORDS
from unigeo.schemas.layout import status_name
from unigeo.schemas.points import Points
from unigeo.schemas.status import Status

if TYPE_CHECKING:
    from unigeo.client.field import Field

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
        status = np.where(points.placed, WORDS[Status.VALID], WORDS[NO_POSITION])
        return new, {"coordinate": status}

    return answer


def with_places(answer: Answer) -> Answer:
    """Answer with longitude and latitude before the other columns."""

    def placed(points: Points) -> Answered:
        new, status = answer(points)
        lonlat = pd.DataFrame(points.lonlat, columns=["lon", "lat"])
        return pd.concat([lonlat, new], axis=1), status

    return placed
