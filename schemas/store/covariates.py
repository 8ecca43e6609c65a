"""Covariates: plain numbers of a cell, each with its name, its unit and its source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.layout import COVARIATES, check_covariates

CLASS_UNIT = "class"
"""Unit of a covariate that is the number of a class, of which no mean has a meaning."""


@dataclass(frozen=True)
class Covariate:
    """One number of each cell."""

    name: str
    unit: str
    """Unit, such as `m`; `1` of shares, `class` of the number of a class."""
    source: str
    """Data that the number was computed from."""

    @property
    def is_class(self) -> bool:
        """Whether the number names a class."""
        return self.unit == CLASS_UNIT


def covariate_attributes(covariates: Sequence[Covariate]) -> dict[str, Any]:
    """Return what the array's attributes say: lists, as nested attributes break `to_netcdf`."""
    check_covariates(tuple(one.name for one in covariates))
    return {
        "names": [one.name for one in covariates],
        "units": [one.unit for one in covariates],
        "sources": [one.source for one in covariates],
    }


def read_covariates(attributes: Mapping[str, Any], names: Sequence[str]) -> tuple[Covariate, ...]:
    """Read what `covariate_attributes` returned.

    Args:
        attributes: attributes of the array.
        names: names as the root's layout lists them.

    Raises:
        LayoutError: if the attributes have other names, or not one unit and source for each.
    """
    columns = [_texts(attributes.get(key)) for key in ("names", "units", "sources")]
    if columns[0] != list(names) or any(len(column) != len(names) for column in columns):
        raise LayoutError(
            f"the attributes of {COVARIATES!r} name other numbers than the field's layout, or lack "
            "their units or sources: the store is damaged. Copy it anew."
        )
    return tuple(Covariate(*one) for one in zip(*columns, strict=True))


def _texts(value: Any) -> list[str]:
    """Return a list of texts; xarray and netCDF turn a list of one text into the text."""
    one = [value] if isinstance(value, str) else value
    return [str(text) for text in one] if isinstance(one, Sequence) else []
