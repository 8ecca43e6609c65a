"""Suites: the tables and targets of a standard evaluation, named in one TOML file."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.evaluating import numbers_of, probe_table
from unigeo.client.probing.folds import CONUS
from unigeo.client.probing.reporting import by_target, mean_scores, to_markdown
from unigeo.schemas.errors import PointsError, ProbeError
from unigeo.schemas.points import read_points
from unigeo.schemas.tables import read_table

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
            try:
                frame = read_table(str(data / entry.file))
                points = read_points(frame)
                targets = {name: numbers_of(frame, name) for name in entry.targets}
            except (PointsError, ProbeError) as error:
                raise ProbeError(f"{where}: {error}") from error
            yield SuiteTable(
                name=Path(entry.file).stem,
                family=entry.family,
                lonlat=points.lonlat,
                targets=targets,
                block_km=entry.block_km,
                crs=entry.crs,
            )


def load_suite(path: Path | str) -> Suite:
    """Read a suite file.

    Raises:
        ProbeError: naming the file, the table and the key that is unknown, missing or malformed.
    """
    path = Path(path)
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
        vectors: gives the sets of features at a table's points; called once for all tables of the
            same points.
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
        alike.setdefault(table.lonlat.tobytes(), []).append(number)
    reports: dict[int, pd.DataFrame] = {}
    for numbers in alike.values():
        features = vectors(tables[numbers[0]].lonlat)
        for number in numbers:
            reports[number] = _probed(tables[number], features, **options)
    return pd.concat([reports[number] for number in sorted(reports)], ignore_index=True)


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
