"""Covariates of a field: which are chosen, what they are, and their numbers at points."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from unigeo.client.reading.sampling import Modality, Sampled, locate_points, missing_reasons
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.covariates import Covariate, read_covariates
from unigeo.schemas.store.layout import COVARIATES
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.reading.stored_field import StoredField

Covariates = bool | str | Iterable[str] | None
"""Covariates that a user asks for: all, none, or some by name."""


@dataclass(frozen=True)
class Selection:
    """What is read of each cell."""

    modalities: tuple[str, ...]
    """Names of the modalities whose vectors are read."""
    covariates: tuple[str, ...] = ()
    """Names of the covariates that are read."""

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays that are read."""
        return self.modalities + ((COVARIATES,) if self.covariates else ())


def select(
    field: "StoredField",
    modalities: str | Iterable[str] | None,
    covariates: Covariates,
    *,
    numbers_only: bool = False,
) -> Selection:
    """Return what is read of each cell; covariates alone where no modality is named, as in `[]`.

    Args:
        field: field to read.
        modalities: as in `StoredField.chosen`; `StoredField.default_modalities` by default.
        covariates: covariates to read.
        numbers_only: leave out the numbers of classes, of which no mean or product has a meaning.

    Raises:
        LayoutError: if the field lacks one of them, or a class is named where numbers are needed.
    """
    names = chosen_covariates(field, covariates, numbers_only=numbers_only)
    if modalities is not None and not isinstance(modalities, str):
        modalities = tuple(modalities)
        if not modalities and names:
            return Selection((), names)
    if modalities is None:
        modalities = field.default_modalities
    return Selection(field.chosen(modalities), names)


def chosen_covariates(
    field: "StoredField", covariates: Covariates, *, numbers_only: bool = False
) -> tuple[str, ...]:
    """Return the names of the covariates that are asked for; see `select`."""
    wanted: tuple[str, ...] = ()
    if isinstance(covariates, str):
        wanted = (covariates,)
    elif covariates is not None and not isinstance(covariates, bool):
        wanted = tuple(covariates)
    if covariates is not True and not wanted:
        return ()
    known = field.layout.covariates
    if not known:
        raise LayoutError(
            f"the field at {field.url} stores no covariates: open one that does, or leave out "
            "covariates"
        )
    classes = {one.name for one in stored_covariates(field) if one.is_class} if numbers_only else ()
    if covariates is True:
        return tuple(name for name in known if name not in classes)
    for name in wanted:
        if name not in known:
            raise LayoutError(f"the field has no covariate {name!r}; it has {', '.join(known)}")
        if name in classes:
            raise LayoutError(
                f"the covariate {name!r} is the number of a class, of which no mean or weight has "
                "a meaning: take the shares of its classes"
            )
    return tuple(dict.fromkeys(wanted))


def stored_covariates(field: "StoredField") -> tuple[Covariate, ...]:
    """Return every covariate of a field with its unit and source."""
    if not field.layout.covariates:
        return ()
    return read_covariates(field.opened()[COVARIATES].attrs, field.layout.covariates)


def covariate_table(field: "StoredField") -> "pd.DataFrame":
    """Return names, units and sources as a table."""
    import pandas as pd

    rows = [(one.name, one.unit, one.source) for one in stored_covariates(field)]
    return pd.DataFrame(rows, columns=["name", "unit", "source"])


def positions(field: "StoredField", names: Iterable[str]) -> Int[np.ndarray, " name"]:
    """Return the position of each name along the dimension of covariates."""
    known = field.layout.covariates
    return np.array([known.index(name) for name in names], np.int64)


def sample_covariates(
    source: Modality, points: Points, columns: Int[np.ndarray, " name"] | slice = slice(None)
) -> Sampled:
    """Read the numbers of the cells that hold the points.

    Numbers are never interpolated: classes and shares have no values between cells.

    Args:
        source: the arrays of covariates.
        points: any; those without a position get no number.
        columns: positions of the covariates to return.

    Raises:
        StoreError: if bytes cannot be read.
        DamagedError: if a cell is valid and its numbers are missing.
    """
    rowcol, status = locate_points(source.grid, *points.metres(source.grid.crs))
    on_grid = np.flatnonzero(status == Status.VALID)
    # All numbers of a cell are read, as they are fewer bytes than a vector and lie together: a cell
    # that lacks some is told apart from one that was lost.
    numbers = np.full((len(points), source.vectors.bands), np.nan, np.float32)
    source.vectors.gather(rowcol[on_grid], numbers, out_rows=on_grid)
    missing = np.isnan(numbers[on_grid]).all(axis=1)
    if missing.any():
        status[on_grid[missing]] = missing_reasons(source, rowcol[on_grid[missing]])
    return Sampled(numbers[:, columns], status)
