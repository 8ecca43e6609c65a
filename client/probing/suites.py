"""Suites: standard evaluations, whose tables and targets are listed in a TOML file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.feature_rows import as_array
from unigeo.client.probing.folds import CONUS
from unigeo.client.probing.sampled_features import scatter_rows
from unigeo.client.probing.targets import read_numbers
from unigeo.schemas.errors import PointsError, ProbeError, RegionError
from unigeo.schemas.io.toml_files import check_keys, read_toml
from unigeo.schemas.tables.points import read_points
from unigeo.schemas.tables.table_files import read_table

if TYPE_CHECKING:
    import pandas as pd

SampleVectors = Callable[[Float[np.ndarray, "point 2"]], Mapping[str, Float[np.ndarray, "point _"]]]
"""Function of WGS 84 longitude and latitude: sets of features, NaN where there is no vector."""


@dataclass(frozen=True, kw_only=True)
class SuiteEntry:
    """One `[[table]]` of a suite file: targets of one family in one table."""

    file: str
    """Parquet or CSV with columns of longitude and latitude; relative to the data folder."""
    targets: tuple[str, ...]
    """Columns to predict."""
    family: str = ""
    """Name of the family that the targets are averaged with."""
    block_km: float = 300.0
    """Side of the blocks that the blocked split keeps whole."""
    crs: str = CONUS
    """CRS of the blocks, in metres."""


@dataclass(frozen=True, kw_only=True)
class SuiteAreas:
    """`[areas]` of a suite file: each row of a table stands for a polygon, not for its point."""

    file: str
    """File of polygons that geopandas reads, such as GeoJSON; relative to the data folder."""
    key: str
    """Column of this file and of every table that links rows to polygons."""
    places: int = 8
    """Number of points in each polygon, evenly by area, whose mean vector is the row's."""


@dataclass(frozen=True, repr=False)
class SuiteTable:
    """The positions and targets of one entry, read from its table."""

    name: str
    family: str
    lonlat: Float[np.ndarray, "row 2"]
    """Position of each row; NaN if it has none."""
    sampled_lonlat: Float[np.ndarray, "row point 2"]
    """Points whose mean vector is the row's: its position, or points within its polygon."""
    targets: dict[str, Float[np.ndarray, " row"]]
    block_km: float
    crs: str

    def __repr__(self) -> str:
        return f"SuiteTable({self.name}: {len(self.lonlat):,} rows, {len(self.targets)} targets)"


@dataclass(frozen=True)
class Suite:
    """A standard evaluation."""

    name: str
    path: Path
    entries: tuple[SuiteEntry, ...]
    areas: SuiteAreas | None = None

    @property
    def sampling(self) -> str:
        """Description of the points that vectors are sampled at."""
        if self.areas is None:
            return "at the points of the tables"
        return f"the mean of {self.areas.places} places within each polygon of {self.areas.file}"

    def tables(self, data: Path) -> Iterator[SuiteTable]:
        """Read the tables one after the other from the folder `data`.

        Raises:
            ProbeError: naming the file, table and column that is missing or holds no numbers.
            MissingExtraError: for parquet without pyarrow.
        """
        polygons = None if self.areas is None else _AreaPoints(self, self.areas, data)
        for entry in self.entries:
            where = f"table {entry.file!r} of suite {self.path}"
            try:
                frame = read_table(str(data / entry.file))
                points = read_points(frame, missing="keep")
                targets = {name: read_numbers(frame, name) for name in entry.targets}
                sampled = points.lonlat[:, None]
                if polygons is not None:
                    sampled = polygons.points_of(frame)
            except (PointsError, ProbeError) as error:
                raise ProbeError(f"{where}: {error}") from error
            yield SuiteTable(
                name=Path(entry.file).stem,
                family=entry.family,
                lonlat=points.lonlat,
                sampled_lonlat=sampled,
                targets=targets,
                block_km=entry.block_km,
                crs=entry.crs,
            )


class _AreaPoints:
    """Points within polygons, for the rows of tables that name a polygon each."""

    def __init__(self, suite: Suite, areas: SuiteAreas, data: Path) -> None:
        from unigeo.client.areas.polygon_tables import read_areas
        from unigeo.client.areas.polygons import read_polygons
        from unigeo.client.areas.random_points import points_within

        self._areas = areas
        try:
            known = read_areas(str(data / areas.file))
            if areas.key not in known.own:
                raise RegionError(f"it has no column {areas.key!r}")
            keys = known.own[areas.key]
            if keys.duplicated().any():
                twice = keys[keys.duplicated()].iloc[0]
                raise RegionError(f"two polygons have {areas.key} {twice!r}")
            self._points = points_within(read_polygons(known.polygons), areas.places)
        except RegionError as error:
            raise ProbeError(f"[areas] {areas.file!r} of suite {suite.path}: {error}") from error
        self._numbers = dict(zip(keys, range(len(keys)), strict=True))

    def points_of(self, frame: "pd.DataFrame") -> Float[np.ndarray, "row point 2"]:
        """Return the points within each row's polygon.

        Raises:
            ProbeError: naming the first row without a polygon.
        """
        key = self._areas.key
        if key not in frame:
            raise ProbeError(f"no column {key!r}, which says which polygon is a row's")
        unknown = [value for value in frame[key] if value not in self._numbers]
        if unknown:
            raise ProbeError(f"no polygon has {key} {unknown[0]!r}")
        return self._points[[self._numbers[value] for value in frame[key]]]


def load_suite(path: Path | str) -> Suite:
    """Read a suite file; with the key `tables_of` its tables are those of another suite file.

    Raises:
        ProbeError: naming the file, the table and the key that is unknown, missing or malformed.
    """
    path = Path(path)
    document = read_toml(path, "the suite", ProbeError)
    kinds = {"name": str, "table": list, "tables_of": str, "areas": dict}
    refers = "tables_of" in document
    check_keys(document, kinds, f"suite {path}", ProbeError, () if refers else ("table",))
    areas = None
    if "areas" in document:
        areas = _parse_areas(document["areas"], f"[areas] of suite {path}")
    name = document.get("name", path.stem)
    if refers:
        if "table" in document:
            raise ProbeError(f"suite {path} has tables and the key 'tables_of'; leave one out")
        return Suite(name, path, load_suite(path.parent / document["tables_of"]).entries, areas)
    if not document["table"]:
        raise ProbeError(f"suite {path} names no [[table]]")
    entries = tuple(
        _parse_entry(table, f"[[table]] number {number} of suite {path}")
        for number, table in enumerate(document["table"], start=1)
    )
    return Suite(name, path, entries, areas)


def probe_suite(suite: Suite, data: Path, vectors: SampleVectors, **options: Any) -> "pd.DataFrame":
    """Probe every table of a suite.

    Args:
        suite: suite to run.
        data: folder of the tables.
        vectors: samples the sets of features; called once for all tables of the same points.
        options: `folds`, `seed`, `baselines`, `progress` of `probe_table`.

    Returns:
        The rows of `probe_table`, with the columns `table` and `family` in front, in the suite's
        order.

    Raises:
        ProbeError: naming the table, if it cannot be read or probed.
    """
    import pandas as pd

    tables = list(suite.tables(data))
    # Tables of the same points, such as health and income of counties, share their vectors.
    by_points: dict[bytes, list[int]] = {}
    for number, table in enumerate(tables):
        by_points.setdefault(table.sampled_lonlat.tobytes(), []).append(number)
    reports: dict[int, pd.DataFrame] = {}
    for numbers in by_points.values():
        lonlat = tables[numbers[0]].sampled_lonlat
        flat = lonlat.reshape(-1, 2)
        has_position = ~np.isnan(flat).any(axis=1)
        features = {}
        for name, values in vectors(flat[has_position]).items():
            every = as_array(scatter_rows(np.asarray(values), has_position))
            features[name] = _mean_vectors(every, lonlat.shape[1])
        for number in numbers:
            reports[number] = _probe_table(tables[number], features, **options)
    return pd.concat([reports[number] for number in sorted(reports)], ignore_index=True)


def _mean_vectors(vectors: Any, count: int) -> Float[np.ndarray, "row _"]:
    """Average the vectors of every `count` points that have one; NaN where none has."""
    each = np.asarray(vectors)
    if count == 1:
        return each
    each = each.reshape(-1, count, each.shape[1])
    known = np.isfinite(each[:, :, :1])  # a vector is NaN in all bands or in none
    number = known.sum(axis=1)
    total = np.where(known, each, 0.0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan).astype(each.dtype)


def _probe_table(table: SuiteTable, features: Mapping[str, Any], **options: Any) -> "pd.DataFrame":
    """Probe one table; add its name and family to the rows."""
    try:
        report = probe_table(
            features,
            table.targets,
            table.lonlat,
            block_km=table.block_km,
            crs=table.crs,
            **options,
        )
    except ProbeError as error:
        raise ProbeError(f"table {table.name!r}: {error}") from error
    report.insert(0, "table", table.name)
    report.insert(1, "family", table.family)
    return report


def _parse_areas(table: dict[str, Any], where: str) -> SuiteAreas:
    kinds = {"file": str, "key": str, "places": int}
    check_keys(table, kinds, where, ProbeError, ("file", "key"))
    if table.get("places", 1) < 1:
        raise ProbeError(f"{where}: the key 'places' must be positive, not {table['places']}")
    return SuiteAreas(**table)


def _parse_entry(table: Any, where: str) -> SuiteEntry:
    kinds = {
        "file": str,
        "targets": list,
        "family": str,
        "block_km": int | float,
        "crs": str,
    }
    check_keys(table, kinds, where, ProbeError, ("file", "targets"))
    targets = table["targets"]
    if not targets or not all(isinstance(name, str) for name in targets):
        raise ProbeError(f"{where}: the key 'targets' must list column names, not {targets!r}")
    if len(set(targets)) < len(targets):
        raise ProbeError(f"{where}: the key 'targets' names a column twice")
    if table.get("block_km", 1) <= 0:
        raise ProbeError(f"{where}: the key 'block_km' must be positive, not {table['block_km']}")
    return SuiteEntry(**{**table, "targets": tuple(targets)})
