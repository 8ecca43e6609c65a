"""Tables of vectors: their columns, and their place beside a user's own."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from unigeo.schemas.errors import PointsError
from unigeo.schemas.layout import status_name
from unigeo.schemas.status import Status

if TYPE_CHECKING:
    import pandas as pd

Missing = Literal["nan", "raise", "drop"]
MISSING = ("nan", "raise", "drop")


def column_names(modality: str, bands: int, prefix: str = "") -> list[str]:
    """Names of a modality's columns, numbered so that they sort.

    >>> column_names("aerial", 2, "ug_")
    ['ug_aerial_000', 'ug_aerial_001']
    """
    width = max(3, len(str(bands - 1)))
    return [f"{prefix}{modality}_{band:0{width}d}" for band in range(bands)]


def table_of(
    vectors: dict[str, Float[np.ndarray, "point band"]],
    status: dict[str, UInt8[np.ndarray, " point"]],
    index: Any = None,
    prefix: str = "",
) -> "pd.DataFrame":
    """One float32 column per modality and band, then one status column per modality, in words."""
    import pandas as pd

    names = [name for key, v in vectors.items() for name in column_names(key, v.shape[1], prefix)]
    values = np.concatenate(list(vectors.values()), axis=1)
    table = pd.DataFrame(values, index=index, columns=names, copy=False)
    kinds = pd.CategoricalDtype([code.words for code in Status])
    reasons = {
        prefix + status_name(modality): pd.Categorical.from_codes(
            codes.astype(np.int64), dtype=kinds
        )
        for modality, codes in status.items()
    }
    return pd.concat([table, pd.DataFrame(reasons, index=table.index)], axis=1)


def refuse_missing(status: dict[str, UInt8[np.ndarray, " point"]]) -> None:
    """Raise if a point lacks a vector.

    Raises:
        PointsError: with the count of each reason and the first such point.
    """
    for modality, codes in status.items():
        bad = codes != Status.VALID
        if bad.any():
            counts = ", ".join(
                f"{(codes == code).sum()} {code.words}"
                for code in Status
                if code != Status.VALID and (codes == code).any()
            )
            raise PointsError(
                f"{bad.sum()} of {len(codes)} points have no {modality} vector ({counts}), the "
                f"first in row {int(np.flatnonzero(bad)[0])}. Pass missing='nan' to keep their "
                "rows empty, or missing='drop' to leave them out."
            )


def beside(table: Any, sampled: "pd.DataFrame") -> Any:
    """Put the sampled columns to the right of a table's own; index, order and dtypes stay.

    Raises:
        PointsError: if a column of that name is there already.
    """
    import pandas as pd

    clash = [name for name in sampled.columns if name in table.columns]
    if clash:
        raise PointsError(
            f"the table already has {len(clash)} of the columns to be joined, such as "
            f"{clash[0]!r}; choose another prefix, or drop them first"
        )
    return pd.concat([table, sampled.set_axis(table.index)], axis=1)
