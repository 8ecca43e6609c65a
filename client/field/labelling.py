"""A map from a few labels: values or classes, their uncertainty, and what to label next."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.field.label_rows import read_label_rows
from unigeo.client.field.similarity import best_cells, check_choice, map_cells
from unigeo.client.probing.label_ridge import (
    BLOCK_M,
    BlockScore,
    LabelRidge,
    block_score,
    fit_labels,
)
from unigeo.client.probing.table_columns import column_label, short
from unigeo.client.probing.targets import Labels, Task, target_values
from unigeo.client.reading.point_status import count_reasons
from unigeo.client.reading.sampling import sample
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS
from unigeo.schemas.geo.projection import equal_earth_m
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from unigeo.client.field.by_likeness import ByLikeness


@dataclass(frozen=True, eq=False)
class Labelled:
    """A ridge on the labels of a table, and the map that it makes of a field."""

    field: "ByLikeness"
    modality: str
    column: str
    classes: tuple[Any, ...]
    """The classes in order; empty if the labels are numbers."""
    ridge: LabelRidge
    score: BlockScore | None
    """Score in blocks of 300 km that were left out; None if the labels are too few to judge."""
    used: int
    """Cells with a label and a vector."""

    def __repr__(self) -> str:
        told = "too few to judge"
        if self.score is not None:
            told = f"{self.score.kind} {self.score.value:.3f} in unseen blocks"
        return f"Labelled({short(self.column)} by {self.modality}: {self.used} labels, {told})"

    def map(self, region: Any = None, *, crs: Any = None) -> "xr.Dataset":
        """Predict every cell of the field, or of a region.

        Returns:
            `value`, the predicted number or the index of the likeliest of `classes`;
            `uncertainty`, the standard deviation of a label; and of classes `share`, the
            probability of the likeliest one. All are float32 over y and x, NaN where a cell has no
            vector.
        """

        def every(vectors: Float[np.ndarray, "cell band"]) -> Float[np.ndarray, "cell layer"]:
            wide = vectors.astype(np.float64)
            predicted, deviation = self.ridge.predict(wide), self.ridge.deviation(wide)
            if not self.classes:
                return np.stack([predicted[:, 0], deviation], axis=1)
            shares = self.ridge.shares(predicted, deviation).max(axis=1)
            return np.stack([predicted.argmax(axis=1), deviation, shares], axis=1)

        names = ("value", "uncertainty", *(("share",) if self.classes else ()))
        layers = map_cells(self.field, self.modality, every, names, region, crs)
        if self.classes:
            layers["value"].attrs["classes"] = [str(one) for one in self.classes]
        return layers

    def suggest(self, count: int = 10, *, apart_km: float | None = None) -> "pd.DataFrame":
        """Return the cells whose labels would be the least certain, some distance apart.

        Args:
            count: the largest number of cells.
            apart_km: least great-circle distance between two; by default half the distance of as
                many points spread evenly over the field.

        Returns:
            Longitude, latitude and uncertainty of each cell, the most uncertain first.
        """
        check_choice(count, 0.0 if apart_km is None else apart_km)
        uncertainty = self.map()["uncertainty"]
        if apart_km is None:
            cells = int(np.isfinite(uncertainty.values).sum())
            apart_km = float(np.sqrt(cells / count)) / 2 * self.field.grid.resolution_m / 1000
        best = best_cells(self.field, uncertainty, count, apart_km)
        return best.rename(columns={"similarity": "uncertainty"})


def label_field(
    field: "ByLikeness",
    table: Any,
    column: Any,
    modality: str,
    crs: Any = None,
    columns: CoordinateColumns | None = None,
    task: Task | None = None,
) -> Labelled:
    """Fit a ridge to the labels of a table; see `Field.label`.

    Raises:
        ProbeError: if the labels are too few, or all alike.
        PointsError, RegionError: if the coordinates or the polygons cannot be read.
    """
    rows = read_label_rows(table, column, field.grid, crs, columns, task)
    target, points = rows.target, rows.points
    values = target_values(target)[rows.row]
    sampled = sample(field.modality(modality), points, dtype="int8")
    usable = (sampled.status == Status.VALID) & ~np.isnan(values)
    name = short(column_label(column))
    if usable.sum() < 2:
        raise ProbeError(
            f"{usable.sum()} of {len(values)} cells with a {name} have a {modality} vector "
            f"({count_reasons(sampled.status)}); label two cells at least"
        )
    values = values[usable]
    if np.ptp(values) == 0:
        raise ProbeError(f"every label of {name} is the same: label two classes, or two numbers")
    classes: tuple[Any, ...] = ()
    targets = values[:, None]
    if isinstance(target, Labels):
        present = np.unique(values).astype(int)
        classes = tuple(target.classes[one] for one in present)
        targets = (values[:, None] == present).astype(np.float64)
    # Not as sampled in float32: the page computes in float64, and both shall agree.
    vectors = sampled.vectors[usable].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ridge = fit_labels(vectors, targets)
    x, y = equal_earth_m(points.lonlat[usable], CENTRAL_MERIDIANS[field.grid.crs])
    blocks = np.floor(np.stack([y, x], axis=1) / BLOCK_M).astype(np.int64)
    score = block_score(vectors, targets, blocks, ridge.penalty, bool(classes))
    return Labelled(field, modality, column_label(column), classes, ridge, score, int(usable.sum()))
