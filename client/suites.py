"""Suites: the tables and targets of a standard evaluation, named in one TOML file."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.probing import probe_table
from unigeo.schemas.errors import MissingExtraError, PointsError, ProbeError
from unigeo.schemas.points import read_points

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
    crs: str = "EPSG:5070"
    """Of the blocks, in metres."""


@dataclass(frozen=True)
class SuiteTable:
    """The points and targets of one entry, read."""

    name: str
    family: str
    lonlat: Float[np.ndarray, "point 2"]
    targets: dict[str, Float[np.ndarray, " point"]]
    block_km: float
    crs: str


@dataclass(frozen=True)
class Suite:
    """A standard evaluation."""

    name: str
    path: Path
    entries: tuple[SuiteEntry, ...]

    def tables(self, data: Path) -> Iterator[SuiteTable]:
        """Read the tables one after the other from the folder `data`.

        Raises:
            ProbeError: naming the file, table and column that is missing or holds no numbers.
            MissingExtraError: for parquet without pyarrow.
        """
        for entry in self.entries:
            where = f"table {entry.file!r} of suite {self.path}"
            frame = _read(data / entry.file, [*entry.targets], where)
            try:
                points = read_points(frame)
            except PointsError as error:
                raise ProbeError(f"{where}: {error}") from error
            yield SuiteTable(
                name=Path(entry.file).stem,
                family=entry.family,
                lonlat=points.lonlat,
                targets={name: _numbers(frame, name, where) for name in entry.targets},
                block_km=entry.block_km,
                crs=entry.crs,
            )


def load_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises:
        ProbeError: naming the file, the table and the key that is unknown, missing or malformed.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProbeError(f"cannot read the suite {path}: {error}") from error
    _check_keys(document, {"name": str, "table": list}, {"table"}, f"suite {path}")
    if not document["table"]:
        raise ProbeError(f"suite {path} names no [[table]]")
    entries = tuple(
        _entry(table, f"[[table]] number {number} of suite {path}")
        for number, table in enumerate(document["table"], start=1)
    )
    return Suite(document.get("name", path.stem), path, entries)


def probe_suite(suite: Suite, data: Path, vectors: Vectors, **options: Any) -> "pd.DataFrame":
    """Probe every table of a suite.

    Args:
        suite: what to predict.
        data: folder of the tables.
        vectors: gives the sets of features at a table's points; called once per distinct places.
        options: `folds`, `seed`, `baselines`, `progress` of `probe_table`.

    Returns:
        The rows of `probe_table`, with the columns `table` and `family` in front.
    """
    import pandas as pd

    reports = []
    lonlat, features = np.empty((0, 2)), None
    for table in suite.tables(data):
        if features is None or not np.array_equal(lonlat, table.lonlat):
            lonlat, features = table.lonlat, vectors(table.lonlat)
        report = probe_table(
            features,
            table.targets,
            table.lonlat,
            block_km=table.block_km,
            crs=table.crs,
            **options,
        )
        report.insert(0, "table", table.name)
        report.insert(1, "family", table.family)
        reports.append(report)
    return pd.concat(reports, ignore_index=True)


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


def _read(path: Path, targets: list[str], where: str) -> "pd.DataFrame":
    import pandas as pd

    if path.suffix not in (".parquet", ".csv"):
        raise ProbeError(f"{where}: a table is a .parquet or .csv file, not {path.name}")
    if not path.is_file():
        raise ProbeError(f"{where}: there is no file {path}; name the folder that holds the data")
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except ImportError as error:
        raise MissingExtraError(
            f"{where} is parquet, which needs pyarrow: pip install 'unigeo[tables]'"
        ) from error
    except (OSError, ValueError) as error:
        raise ProbeError(f"{where}: cannot read {path}: {error}") from error
    for name in targets:
        if name not in frame.columns:
            raise ProbeError(
                f"{where}: no column {name!r} in {path}; there are {', '.join(frame.columns)}"
            )
    return frame


def _numbers(frame: "pd.DataFrame", name: str, where: str) -> Float[np.ndarray, " point"]:
    try:
        return frame[name].to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ProbeError(f"{where}: the column {name!r} must hold numbers: {error}") from error
