"""A stored field: its grid, its arrays and how they are read; the base of `client.Field`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.reading.plain_attributes import with_plain_attributes
from unigeo.client.reading.sampling import Modality
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.attributes import UnigeoAttributes
from unigeo.schemas.store.layout import FUSED, Layout, status_name

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from zarr.abc.store import Store

    from unigeo.client.reading.cell_protocol import Cells


@dataclass(frozen=True, eq=False)
class StoredField:
    """The grid, the layout and the arrays of a field."""

    url: str
    attributes: UnigeoAttributes
    grid: Grid
    layout: Layout
    read: Callable[[str, slice, slice], np.ndarray]
    """Reads a window of an array, by its name and slices of rows and columns."""
    cells: "Callable[[str], Cells]"
    """Returns the cells of an array, by its name, to be read in any order."""
    licence: str
    citation: str
    opened: "Callable[[], xr.Dataset]"
    """Opens the whole field as a lazy Dataset."""
    source: Any = None
    """The store as `schemas.io.stores.open_store` takes it, to open it again; None if unknown."""
    checked: "Callable[[], Store] | None" = None
    """Returns the store, whose reads raise where an object is lost or changed."""
    reopen: tuple[Callable[..., "StoredField"], tuple[Any, ...], dict[str, Any]] | None = None
    """Function, arguments and options by which another process opens the same field."""

    def __reduce__(self) -> Any:
        if self.reopen is None:
            raise TypeError("a field of a Dataset cannot be sent elsewhere; open it by its URL")
        function, values, options = self.reopen
        return partial(function, **options), values

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities that the field holds vectors of."""
        return self.layout.modalities

    @property
    def covariates(self) -> "pd.DataFrame":
        """Plain numbers that the field stores of each cell: their names, units and sources."""
        from unigeo.client.reading.covariates import covariate_table

        return covariate_table(self)

    @property
    def bands(self) -> int:
        """Numbers in one vector of the model; `layout.width` has those of each modality."""
        return self.layout.bands

    def __repr__(self) -> str:
        rows, cols = self.grid.shape
        return (
            f"<Field {self.attributes.region}: {', '.join(self.modalities)}; {rows} x {cols} cells "
            f"of {self.grid.resolution_m:g} m in {self.grid.crs}, "
            f"{self.layout.describe_width('bands')}; {self.url}>"
        )

    def _repr_html_(self) -> str:
        rows, cols = self.grid.shape
        facts = {
            "region": self.attributes.region,
            "modalities": ", ".join(self.modalities),
            "cells": f"{rows} x {cols} of {self.grid.resolution_m:g} m in {self.grid.crs}",
            "bands": str(self.bands),
            "store": self.url,
            "licence": self.licence,
        }
        lines = (f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in facts.items())
        return f"<table><caption>Field</caption>{''.join(lines)}</table>"

    def dataset(self) -> "xr.Dataset":
        """Return the field as a lazy xarray Dataset, int8 as stored; nested attributes are JSON."""
        return with_plain_attributes(self.opened())

    def chosen(self, modalities: str | Iterable[str] | None) -> tuple[str, ...]:
        """Return the chosen modalities: all by default.

        Raises:
            LayoutError: if the field has no such modality.
        """
        if modalities is None:
            return self.modalities
        chosen = (modalities,) if isinstance(modalities, str) else tuple(modalities)
        unknown = [name for name in chosen if name not in self.modalities]
        if unknown or not chosen:
            raise LayoutError(
                f"the field has no modality {', '.join(map(repr, unknown)) or 'named'}; it has "
                f"{', '.join(self.modalities)}"
            )
        return chosen

    @property
    def default_modalities(self) -> tuple[str, ...]:
        """Modalities that are read of points and polygons where none is named.

        `fused` alone where the field holds it: a few hundred numbers for what the others say in
        thousands.
        """
        return (FUSED,) if FUSED in self.modalities else self.modalities

    def leading[F: "StoredField"](self: F, dims: int) -> F:
        """Return the field of the first `dims` numbers of each vector, at unit length.

        The axes of a model's space are turned at random, so that they are a random projection of
        the vectors: fewer bytes for a little accuracy. A modality of fewer numbers keeps all of
        its own.

        Raises:
            LayoutError: if no modality has as many.
        """
        from unigeo.client.reading.leading_bands import leading_field

        leading: F = leading_field(self, dims)
        return leading

    def modality(self, name: str) -> Modality:
        """Return the arrays of one modality, or of the covariates."""
        return Modality(name, self.grid, self.cells(name), self.cells(status_name(name)))

    def known_source(self, verb: str) -> Any:
        """Return the store as `schemas.io.stores.open_store` takes it, to open it again.

        Args:
            verb: what is done with the store, for the message.

        Raises:
            StoreError: if a Dataset does not name its store.
        """
        if self.source is None:
            raise StoreError(
                f"the Dataset does not say which store it came from, so that cannot be {verb}; "
                "open the field with client.open_field(url)"
            )
        return self.source

    def known_store(self, verb: str) -> "Store":
        """Return the store that the field is read from, checked.

        Args:
            verb: what is done with the store, for the message.

        Raises:
            StoreError: if a Dataset does not name its store.
        """
        if self.checked is None:
            self.known_source(verb)
        assert self.checked is not None
        return self.checked()


def check_of_model(field: StoredField, modality: str, what: str) -> None:
    """Check that a modality's vectors lie in the model's space, so that they can be compared.

    Those that do have the model's width as they are stored. In a field of leading numbers all
    modalities may have one width.

    Args:
        field: the field of the vectors.
        modality: the name of the modality.
        what: the vectors that are compared with them, for the message.

    Raises:
        LayoutError: naming the modalities that can be compared.
    """
    layout = field.attributes.field_layout()
    fitting = layout.model_width_modalities
    if modality not in fitting:
        raise LayoutError(
            f"{what} have {layout.bands} numbers, and vectors of {modality!r} have "
            f"{layout.width(modality)}: they cannot be compared. Modalities of the model's width "
            f"are: {', '.join(fitting) or 'none'}"
        )
