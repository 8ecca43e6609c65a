"""From a user's table to a question, and from a field to the vectors that answer it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unigeo.client.probing.checks import warn_of_coordinates
from unigeo.client.probing.controls import read_controls
from unigeo.client.probing.feature_rows import FeatureRows, FiledRows, SideBySide, SpreadRows
from unigeo.client.probing.folds import map_of
from unigeo.client.probing.probe_data import Question, ask
from unigeo.client.probing.table_columns import chosen_names, column_of, is_name, label_of
from unigeo.client.probing.targets import Task, target_of
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points, read_points

if TYPE_CHECKING:
    from unigeo.client.points.at_points import AtPoints
    from unigeo.client.reading.sampling import Method

JOINED = "joined"
"""The set of features that has all modalities side by side."""
_KEPT_NUMBERS = 2**28
"""Of all vectors of a table: 1 GB. More are kept in temporary files."""
_BATCH_POINTS = 20_000


def ask_table(
    table: Any,
    targets: Any,
    *,
    task: Task | None,
    crs: Any,
    columns: tuple[Any, Any] | None,
    otherwise: str,
    groups: Any,
    controls: Any = None,
    **options: Any,
) -> tuple[Question, Points]:
    """Read targets, positions, groups and controls of a table.

    Args:
        table: as in `Field.probe`.
        targets: as in `Field.probe`.
        task: as in `Field.probe`.
        crs: as in `Field.probe`.
        columns: as in `Field.probe`.
        otherwise: CRS of the blocks where most points lie outside the contiguous United States.
        groups: as in `Field.probe`.
        controls: as in `Field.probe`.
        options: `block_km`, `folds` and `seed` of `preparing.ask`.

    Raises:
        ProbeError, PointsError: if the table cannot be read, or cannot support a probe.
    """
    names = chosen_names(table, targets)
    truth = {label_of(name): target_of(table, name, task) for name in names}
    labels = column_of(table, groups) if is_name(table, groups) else groups
    points = read_points(table, crs, columns, missing="keep")
    warn_of_coordinates(table, names, columns)
    placed = points.lonlat[points.placed]
    area = map_of(placed, otherwise) if len(placed) else otherwise
    own = None if controls is None else read_controls(table, controls, targets)
    question = ask(truth, points.lonlat, groups=labels, crs=area, controls=own, **options)
    return question, points


def feature_names(modalities: tuple[str, ...]) -> tuple[str, ...]:
    """Sets of features of some modalities: each alone, and all joined where there are several."""
    return modalities if len(modalities) == 1 else (*modalities, JOINED)


def features_of(
    field: "AtPoints",
    points: Points,
    asked: Bool[np.ndarray, " row"],
    modalities: tuple[str, ...],
    method: "Method",
) -> tuple[dict[str, FeatureRows], UInt8[np.ndarray, " row"]]:
    """Vectors of each set of features at every row of a table, and why a row lacks one.

    More than a gigabyte of them is kept in temporary files, so that memory does not grow.

    Args:
        field: to read.
        points: the table's rows.
        asked: which of them are read; the others have NaN, and the status `VALID`.
        modalities: which, each once.
        method: of sampling.
    """
    found = points.take(asked)
    bands = sum(field.layout.widths_of(modalities).values())
    read = _read_to_files if len(found) * bands > _KEPT_NUMBERS else read_at
    vectors, status = read(field, found, modalities, method)
    features = {name: spread_rows(values, asked) for name, values in vectors.items()}
    if len(modalities) > 1:
        features[JOINED] = SideBySide(list(features.values()))
    reasons = np.full(len(asked), Status.VALID, np.uint8)
    for name in reversed(modalities):  # the first that lacks a vector says why
        lost = np.flatnonzero(asked)[status[name] != Status.VALID]
        reasons[lost] = status[name][status[name] != Status.VALID]
    return features, reasons


def read_at(
    field: "AtPoints", points: Points, modalities: tuple[str, ...], method: "Method"
) -> tuple[dict[str, Float[np.ndarray, "point _"]], dict[str, UInt8[np.ndarray, " point"]]]:
    """Vectors of each modality, NaN where there is none, and the status that says why."""
    sampled = field.sample(points, modalities, method=method, as_="xarray")
    vectors = {name: sampled[name].values for name in modalities}
    return vectors, {name: sampled[status_name(name)].values for name in modalities}


def _read_to_files(
    field: "AtPoints", points: Points, modalities: tuple[str, ...], method: "Method"
) -> tuple[dict[str, FiledRows], dict[str, UInt8[np.ndarray, " point"]]]:
    """As `read_at`, batch by batch into temporary files."""
    vectors = {name: FiledRows() for name in modalities}
    status: dict[str, list[UInt8[np.ndarray, " point"]]] = {name: [] for name in modalities}
    batches = field.sample_batches(
        points, modalities, batch=_BATCH_POINTS, method=method, as_="xarray"
    )
    for batch in batches:
        for name in modalities:
            vectors[name].append(batch[name].values)
            status[name].append(batch[status_name(name)].values)
    return vectors, {name: np.concatenate(parts) for name, parts in status.items()}


def spread_rows(values: FeatureRows, rows: Bool[np.ndarray, " row"]) -> FeatureRows:
    """Vectors of some rows among all, NaN elsewhere."""
    return values if rows.all() else SpreadRows(values, rows)
