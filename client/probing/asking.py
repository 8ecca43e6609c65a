"""From a user's table to a question, and from a field to the vectors that answer it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unigeo.client.point_status import NO_POSITION
from unigeo.client.probing.checks import warn_of_coordinates
from unigeo.client.probing.columns import chosen_names, column_of, is_name, label_of
from unigeo.client.probing.folds import map_of
from unigeo.client.probing.preparing import Question, ask
from unigeo.client.probing.targets import Task, target_of
from unigeo.schemas.layout import status_name
from unigeo.schemas.points import Points, read_points
from unigeo.schemas.status import Status

if TYPE_CHECKING:
    from unigeo.client.field import Field
    from unigeo.client.reading.sampling import Method

JOINED = "joined"
"""The set of features that has all modalities side by side."""


def ask_table(
    table: Any,
    targets: Any,
    *,
    task: Task | None,
    crs: str | None,
    columns: tuple[Any, Any] | None,
    otherwise: str,
    groups: Any,
    **options: Any,
) -> Question:
    """Read targets, positions and groups of a table.

    Args:
        table: as in `Field.probe`.
        targets: as in `Field.probe`.
        task: as in `Field.probe`.
        crs: as in `Field.probe`.
        columns: as in `Field.probe`.
        otherwise: CRS of the blocks where most points lie outside the contiguous United States.
        groups: as in `Field.probe`.
        options: `block_km`, `folds` and `seed` of `preparing.ask`.

    Raises:
        ProbeError, PointsError: if the table cannot be read, or cannot support a probe.
    """
    names = chosen_names(table, targets)
    truth = {label_of(name): target_of(table, name, task) for name in names}
    labels = column_of(table, groups) if is_name(table, groups) else groups
    lonlat = read_points(table, crs, columns, missing="keep").lonlat
    warn_of_coordinates(table, names, columns)
    placed = lonlat[~np.isnan(lonlat).any(axis=1)]
    area = map_of(placed, otherwise) if len(placed) else otherwise
    return ask(truth, lonlat, groups=labels, crs=area, **options)


def feature_names(modalities: tuple[str, ...]) -> tuple[str, ...]:
    """Sets of features of some modalities: each alone, and all joined where there are several."""
    return modalities if len(modalities) == 1 else (*modalities, JOINED)


def features_of(
    field: "Field", question: Question, modalities: tuple[str, ...], method: "Method"
) -> tuple[dict[str, Float[np.ndarray, "row _"]], UInt8[np.ndarray, " row"]]:
    """Vectors of each set of features at every row, and why a row lacks one.

    Rows without a position or a target are not read; they have NaN.
    """
    asked = question.asked
    found, status = read_at(field, Points(question.lonlat[asked]), modalities, method)
    features = {name: spread_rows(values, asked) for name, values in found.items()}
    if len(modalities) > 1:
        features[JOINED] = np.concatenate(list(features.values()), axis=1)
    reasons = np.full(len(asked), Status.VALID, np.uint8)
    for codes in reversed(status.values()):  # the first modality that lacks a vector says why
        own = _spread_codes(codes, asked)
        reasons = np.where(own == Status.VALID, reasons, own)
    return features, reasons


def read_at(
    field: "Field", points: Points, modalities: tuple[str, ...], method: "Method"
) -> tuple[dict[str, Float[np.ndarray, "point _"]], dict[str, UInt8[np.ndarray, " point"]]]:
    """Vectors and status of each modality; a point without a position has NaN and `NO_POSITION`."""
    placed = ~np.isnan(points.lonlat).any(axis=1)
    sampled = field.sample(Points(points.lonlat[placed]), modalities, method=method, as_="xarray")
    vectors = {name: spread_rows(sampled[name].values, placed) for name in modalities}
    status = {
        name: np.where(
            placed,
            _spread_codes(sampled[status_name(name)].values, placed),
            np.uint8(NO_POSITION),
        )
        for name in modalities
    }
    return vectors, status


def spread_rows(
    values: Float[np.ndarray, "some band"], rows: Bool[np.ndarray, " row"]
) -> Float[np.ndarray, "row band"]:
    """Vectors of some rows among all, NaN elsewhere."""
    if rows.all():
        return values
    found = np.full((len(rows), values.shape[1]), np.nan, values.dtype)
    found[rows] = values
    return found


def _spread_codes(
    codes: UInt8[np.ndarray, " some"], rows: Bool[np.ndarray, " row"]
) -> UInt8[np.ndarray, " row"]:
    found = np.full(len(rows), Status.VALID, np.uint8)
    found[rows] = codes
    return found
