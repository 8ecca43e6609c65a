"""Means over the states or counties that a table's rows name, one row for each row of the table."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.areas.statistic_names import parse_statistics, zonal_columns
from unigeo.client.points.keys import Keys
from unigeo.client.reading.covariates import Selection
from unigeo.schemas.errors import RegionWarning

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.areas.over_areas import OverAreas
    from unigeo.schemas.store.layout import Layout


def keyed_columns(layout: "Layout", chosen: Selection, prefix: str) -> list[str]:
    """Return the names of the columns of `means_by_key`."""
    return zonal_columns(layout, chosen, parse_statistics("mean"), prefix, weighted=False)


class MeansByKey:
    """Mean vectors of the outlines of keys, computed once for each outline."""

    def __init__(
        self, field: "OverAreas", keys: Keys, chosen: Selection, prefix: str, progress: bool = False
    ) -> None:
        titles = sorted({title for title in keys.outlines.values() if title is not None})
        row_of = {title: row for row, title in enumerate(titles)}
        # The last row, of no shape, is that of keys without an outline.
        self.row_of_key = {
            key: len(titles) if title is None else row_of[title]
            for key, title in keys.outlines.items()
        }
        self.no_outline = len(titles)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RegionWarning)  # of the row without a shape
            self.means: pd.DataFrame = field.zonal(
                [*titles, None],
                chosen.modalities,
                covariates=chosen.covariates,
                prefix=prefix,
                progress=progress,
            )

    def rows(self, keys: Sequence[str]) -> "pd.DataFrame":
        """Return one row for each key."""
        number = [self.row_of_key.get(key.strip(), self.no_outline) for key in keys]
        return self.means.iloc[np.array(number, np.int64)].reset_index(drop=True)


def valid_rows(means: "pd.DataFrame", names: Sequence[str]) -> Any:
    """Return which rows have a vector in every array, by the names of their status."""
    return np.logical_and.reduce([means[name].to_numpy(str) == "valid" for name in names])
