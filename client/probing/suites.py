"""Suites: the tables and targets of a standard evaluation, named in one TOML file."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.feature_rows import all_of
from unigeo.client.probing.folds import CONUS
from unigeo.client.probing.question import spread_rows
from unigeo.client.probing.score_tables import by_target, mean_scores, to_markdown
from unigeo.client.probing.targets import numbers_of
from unigeo.schemas.errors import PointsError, ProbeError, RegionError
from unigeo.schemas.tables.points import read_points
from unigeo.schemas.tables.table_files import read_table

if TYPE_CHECKING:
    import pandas as pd

Vectors = Callable[[Float[np.ndarray, "point 2"]], Mapping[str, Float[np.ndarray, "point _"]]]
"""Sets of features at WGS 84 longitude and latitude, NaN where there is no vector."""


@dataclass(frozen=True, kw_only=True)
class SuiteEntry:
    """One `[[table]]` of a suite file: targets of one family in one table."""

    file: str
    """Parquet or CSV with columns of longitude and latitude; relative to the data folder."""
    targets: tuple[str, ...]
    """Columns to predict."""
    family: str = ""
    """To average over."""
    block_km: float = 300.0
    """Side of the blocks that the blocked split keeps whole."""
    crs: str = CONUS
    """Of the blocks, in metres."""


@dataclass(frozen=True, kw_only=True)
class SuiteAreas:
    """`[areas]` of a suite file: a row stands for a polygon, not for its point alone."""

    file: str
    """Polygons: GeoJSON, GeoParquet, or what geopandas reads; relative to the data folder."""
    key: str
    """Column of this file and of every table: which polygon is a row's."""
    places: int = 8
    """Of each polygon, spread evenly by area. A row's vector is the mean of theirs."""


@dataclass(frozen=True, repr=False)
class SuiteTable:
    """The points and targets of one entry, read."""

    name: str
    family: str
    lonlat: Float[np.ndarray, "point 2"]
    """NaN where a row has no position."""
    places: Float[np.ndarray, "point place 2"]
    """Where the vectors are taken whose mean is a point's: it alone, or places of its polygon."""
    targets: dict[str, Float[np.ndarray, " point"]]
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
        """Where the vectors are taken, in words."""
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
                targets = {name: numbers_of(frame, name) for name in entry.targets}
                places = points.lonlat[:, None]
                if polygons is not None:
                    places = polygons.of(frame)
            except (PointsError, ProbeError) as error:
                raise ProbeError(f"{where}: {error}") from error
            yield SuiteTable(
                name=Path(entry.file).stem,
                family=entry.family,
                lonlat=points.lonlat,
                places=places,
                targets=targets,
                block_km=entry.block_km,
                crs=entry.crs,
            )


class _AreaPoints:
    """Places by polygon."""

    def __init__(self, suite: Suite, areas: SuiteAreas, data: Path) -> None:
        from unigeo.client.areas.polygon_tables import read_areas
        from unigeo.client.areas.polygons import read_polygons
        from unigeo.client.areas.random_points import places_within

        self._areas = areas
        try:
            known = read_areas(str(data / areas.file))
            if areas.key not in known.own:
                raise RegionError(f"it has no column {areas.key!r}")
            keys = known.own[areas.key]
            if keys.duplicated().any():
                twice = keys[keys.duplicated()].iloc[0]
                raise RegionError(f"two polygons have {areas.key} {twice!r}")
            self._places = places_within(read_polygons(known.polygons), areas.places)
        except RegionError as error:
            raise ProbeError(f"[areas] {areas.file!r} of suite {suite.path}: {error}") from error
        self._numbers = dict(zip(keys, range(len(keys)), strict=True))

    def of(self, frame: "pd.DataFrame") -> Float[np.ndarray, "point place 2"]:
        """Those of each row of a table.

        Raises:
            ProbeError: naming the first row without a polygon.
        """
        key = self._areas.key
        if key not in frame:
            raise ProbeError(f"no column {key!r}, which says which polygon is a row's")
        lost = [value for value in frame[key] if value not in self._numbers]
        if lost:
            raise ProbeError(f"no polygon has {key} {lost[0]!r}")
        return self._places[[self._numbers[value] for value in frame[key]]]


def load_suite(path: Path | str) -> Suite:
    """Read a suite file. If it has a key `tables_of`, its tables are those of that file beside it.

    Raises:
        ProbeError: naming the file, the table and the key that is unknown, missing or malformed.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProbeError(f"cannot read the suite {path}: {error}") from error
    kinds = {"name": str, "table": list, "tables_of": str, "areas": dict}
    other = "tables_of" in document
    _check_keys(document, kinds, set() if other else {"table"}, f"suite {path}")
    areas = _areas(document["areas"], f"[areas] of suite {path}") if "areas" in document else None
    name = document.get("name", path.stem)
    if other:
        if "table" in document:
            raise ProbeError(f"suite {path} has tables and the key 'tables_of'; leave one out")
        return Suite(name, path, load_suite(path.parent / document["tables_of"]).entries, areas)
    if not document["table"]:
        raise ProbeError(f"suite {path} names no [[table]]")
    entries = tuple(
        _entry(table, f"[[table]] number {number} of suite {path}")
        for number, table in enumerate(document["table"], start=1)
    )
    return Suite(name, path, entries, areas)


def probe_suite(suite: Suite, data: Path, vectors: Vectors, **options: Any) -> "pd.DataFrame":
    """Probe every table of a suite.

    Args:
        suite: what to predict.
        data: folder of the tables.
        vectors: gives the sets of features at places; called once for all tables of the same
            places.
        options: `folds`, `seed`, `baselines`, `progress` of `probe_table`.

    Returns:
        The rows of `probe_table`, with the columns `table` and `family` in front, in the suite's
        order.

    Raises:
        ProbeError: naming the table, if it cannot be read or probed.
    """
    import pandas as pd

    tables = list(suite.tables(data))
    alike: dict[bytes, list[int]] = {}
    for number, table in enumerate(tables):
        alike.setdefault(table.places.tobytes(), []).append(number)
    reports: dict[int, pd.DataFrame] = {}
    for numbers in alike.values():
        places = tables[numbers[0]].places
        flat = places.reshape(-1, 2)
        placed = ~np.isnan(flat).any(axis=1)
        found = vectors(flat[placed])
        features = {
            name: _means(all_of(spread_rows(np.asarray(values), placed)), places.shape[1])
            for name, values in found.items()
        }
        for number in numbers:
            reports[number] = _probed(tables[number], features, **options)
    return pd.concat([reports[number] for number in sorted(reports)], ignore_index=True)


def _means(values: Any, count: int) -> Float[np.ndarray, "point _"]:
    """Mean of the vectors of each point's places, of those that have one; NaN where none has."""
    each = np.asarray(values)
    if count == 1:
        return each
    each = each.reshape(-1, count, each.shape[1])
    known = np.isfinite(each[:, :, :1])
    number = known.sum(axis=1)
    total = np.where(known, each, 0.0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan).astype(each.dtype)


def suite_markdown(report: "pd.DataFrame", facts: Mapping[str, Any]) -> str:
    """Write a suite's report for reading.

    Args:
        report: what `probe_suite` gives.
        facts: what it was run on and how, by name; a list above the tables.
    """
    targets = report.drop_duplicates(["table", "target"])
    counts = targets.set_index("target")[["table", "points", "dropped", "blocks"]]
    parts = [
        f"# Probes of {len(targets)} targets",
        "\n".join(f"- {name}: {value}" for name, value in facts.items()),
        "R2 of held-out predictions. Random: folds of shuffled rows. Blocked: folds of whole "
        "squares of the map, which tells what carries over to unseen country.",
        f"## Mean over {len(targets)} targets",
        to_markdown(mean_scores(report)),
        "## Blocked R2",
        to_markdown(_with_mean(by_target(report, "blocked"))),
        "## Random R2",
        to_markdown(_with_mean(by_target(report, "random"))),
        *_coverage(report),
        "## Points",
        "Dropped: rows that have the target and lack a vector; they are left out of every column "
        "above alike.",
        to_markdown(counts),
    ]
    return "\n\n".join(parts)


def _coverage(report: "pd.DataFrame") -> list[str]:
    """How many held-out places lie inside the intervals that should hold a stated share of them."""
    named = [str(name) for name in report if str(name).startswith("coverage_")]
    if not named:
        return []
    (name,) = named
    stated = report[report[name].notna()]
    return [
        f"## Blocked coverage of {name.removeprefix('coverage_')} % intervals",
        "Share of the held-out places that lie inside their interval. Its width comes from blocks "
        "that took no part in the fit; it is counted on blocks that took part in neither.",
        to_markdown(_with_mean(by_target(stated, "blocked", name))),
    ]


def _probed(table: SuiteTable, features: Mapping[str, Any], **options: Any) -> "pd.DataFrame":
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


def _with_mean(table: "pd.DataFrame") -> "pd.DataFrame":
    longer = table.copy()
    longer.loc["mean"] = table.mean()
    return longer


def _areas(table: dict[str, Any], where: str) -> SuiteAreas:
    _check_keys(table, {"file": str, "key": str, "places": int}, {"file", "key"}, where)
    if table.get("places", 1) < 1:
        raise ProbeError(f"{where}: the key 'places' must be positive, not {table['places']}")
    return SuiteAreas(**table)


def _entry(table: Any, where: str) -> SuiteEntry:
    kinds = {
        "file": str,
        "targets": list,
        "family": str,
        "block_km": int | float,
        "crs": str,
    }
    if not isinstance(table, dict):
        raise ProbeError(f"{where} must be a table of keys")
    _check_keys(table, kinds, {"file", "targets"}, where)
    targets = table["targets"]
    if not targets or not all(isinstance(name, str) for name in targets):
        raise ProbeError(f"{where}: the key 'targets' must list column names, not {targets!r}")
    if len(set(targets)) < len(targets):
        raise ProbeError(f"{where}: the key 'targets' names a column twice")
    if table.get("block_km", 1) <= 0:
        raise ProbeError(f"{where}: the key 'block_km' must be positive, not {table['block_km']}")
    return SuiteEntry(**{**table, "targets": tuple(targets)})


def _check_keys(
    table: Mapping[str, Any], kinds: Mapping[str, Any], needed: set[str], where: str
) -> None:
    for key, value in table.items():
        if key not in kinds:
            raise ProbeError(f"{where} has an unknown key {key!r}; known are {', '.join(kinds)}")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise ProbeError(f"{where}: the key {key!r} cannot be {value!r}")
    missing = sorted(needed - set(table))
    if missing:
        raise ProbeError(f"{where} lacks the key {missing[0]!r}")
