"""Sets of features from a field, at the rows of a table: each modality, and all joined."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unigeo.client.probing.feature_rows import FeatureRows, FileRows, JoinedRows, ScatteredRows
from unigeo.client.reading.joined import JOINED, joined_modalities
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

if TYPE_CHECKING:
    from unigeo.client.points.at_points import AtPoints
    from unigeo.client.reading.sampling import Method

_MAX_NUMBERS_IN_MEMORY = 2**28
"""Numbers of all vectors of a table, 1 GB, above which they are kept in temporary files."""
_BATCH_POINTS = 20_000


def feature_set_names(modalities: tuple[str, ...]) -> tuple[str, ...]:
    """Name the sets of features: each modality alone, and all joined if there are several."""
    return modalities if len(modalities) == 1 else (*modalities, JOINED)


def sample_features(
    field: "AtPoints",
    points: Points,
    wanted: Bool[np.ndarray, " row"],
    modalities: tuple[str, ...],
    method: "Method",
) -> tuple[dict[str, FeatureRows], UInt8[np.ndarray, " row"]]:
    """Sample the vectors of each set of features at the rows of a table.

    More than a gigabyte of vectors is kept in temporary files, so that memory does not grow.

    Args:
        field: field to read.
        points: position of each row of the table.
        wanted: mask of the rows to read; the others have NaN, and the status `VALID`.
        modalities: modalities to read, each once.
        method: method of sampling.

    Returns:
        Vectors of each set at every row, and the status of the first modality that a row lacks.
    """
    sampled = points.take(wanted)
    bands = sum(field.layout.widths_of(modalities).values())
    in_memory = len(sampled) * bands <= _MAX_NUMBERS_IN_MEMORY
    sample = sample_vectors if in_memory else _sample_to_files
    vectors, status = sample(field, sampled, modalities, method)
    features = {name: scatter_rows(values, wanted) for name, values in vectors.items()}
    if len(modalities) > 1:
        features[JOINED] = JoinedRows([features[name] for name in joined_modalities(modalities)])
    reasons = np.full(len(wanted), Status.VALID, np.uint8)
    for name in reversed(modalities):  # the first that lacks a vector is written last
        missing = np.flatnonzero(wanted)[status[name] != Status.VALID]
        reasons[missing] = status[name][status[name] != Status.VALID]
    return features, reasons


def sample_vectors(
    field: "AtPoints", points: Points, modalities: tuple[str, ...], method: "Method"
) -> tuple[dict[str, Float[np.ndarray, "point _"]], dict[str, UInt8[np.ndarray, " point"]]]:
    """Sample the vectors of each modality, NaN where there is none, and the status of each."""
    sampled = field.sample(points, modalities, method=method, as_="xarray")
    vectors = {name: sampled[name].values for name in modalities}
    return vectors, {name: sampled[status_name(name)].values for name in modalities}


def scatter_rows(values: FeatureRows, rows: Bool[np.ndarray, " row"]) -> FeatureRows:
    """Scatter vectors of the marked rows among all rows, NaN elsewhere, without a copy."""
    return values if rows.all() else ScatteredRows(values, rows)


def _sample_to_files(
    field: "AtPoints", points: Points, modalities: tuple[str, ...], method: "Method"
) -> tuple[dict[str, FileRows], dict[str, UInt8[np.ndarray, " point"]]]:
    """Sample as `sample_vectors` does, batch by batch into temporary files."""
    vectors = {name: FileRows() for name in modalities}
    status: dict[str, list[UInt8[np.ndarray, " point"]]] = {name: [] for name in modalities}
    batches = field.sample_batches(
        points, modalities, batch=_BATCH_POINTS, method=method, as_="xarray"
    )
    for batch in batches:
        for name in modalities:
            vectors[name].append(batch[name].values)
            status[name].append(batch[status_name(name)].values)
    return vectors, {name: np.concatenate(parts) for name, parts in status.items()}
