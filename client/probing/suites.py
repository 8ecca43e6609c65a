"""Suites: standard evaluations, whose tables and targets are listed in a TOML file."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.folds import CONUS
from unigeo.client.probing.suite_areas import SuiteAreas, SuitePolygons, parse_areas
from unigeo.client.probing.targets import read_numbers
from unigeo.schemas.errors import PointsError, ProbeError
from unigeo.schemas.io.toml_files import check_keys, read_toml
from unigeo.schemas.tables.points import read_points
from unigeo.schemas.tables.table_files import read_table

if TYPE_CHECKING:
    import pandas as pd


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
    areas: bool = True
    """Whether rows stand for polygons where the suite has `[areas]`; else they are points."""
    note: str = ""
    """What a reader of the scores has to know, such as which inputs give targets away."""


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
    key: "pd.Series | None" = None
    """Key of each row's polygon, under the column's name; None where rows are points."""
    polygon: Int[np.ndarray, " row"] | None = None
    """Number of each row's polygon; None where rows are points."""
    over: SuitePolygons | None = None
    """Polygons that the numbers count; None where rows are points."""

    @property
    def has_areas(self) -> bool:
        """Whether rows stand for polygons."""
        return self.over is not None

    @property
    def is_of_cells(self) -> bool:
        """Whether a row's vector is the mean over the cells of its polygon."""
        return self.over is not None and self.over.areas.mean_of == "cells"

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
        """Description of what a row's vector is."""
        if self.areas is None:
            return "at the points of the tables"
        points = [Path(entry.file).stem for entry in self.entries if not entry.areas]
        beside = f"; at the points of {', '.join(points)}" if points else ""
        return f"{self.areas.sampling}{beside}"

    @property
    def notes(self) -> dict[str, str]:
        """Notes on tables, by the table's name."""
        return {Path(entry.file).stem: entry.note for entry in self.entries if entry.note}

    def tables(self, data: Path) -> Iterator[SuiteTable]:
        """Read the tables one after the other from the folder `data`.

        Raises:
            ProbeError: naming the file, table and column that is missing or holds no numbers.
            MissingExtraError: for parquet without pyarrow.
        """
        known = None if self.areas is None else SuitePolygons(self.areas, data, str(self.path))
        for entry in self.entries:
            where = f"table {entry.file!r} of suite {self.path}"
            polygons = known if entry.areas else None
            try:
                frame = read_table(str(data / entry.file))
                points = read_points(frame, missing="keep")
                targets = {name: read_numbers(frame, name) for name in entry.targets}
                polygon = None if polygons is None else polygons.numbers_of(frame)
            except (PointsError, ProbeError) as error:
                raise ProbeError(f"{where}: {error}") from error
            sampled, key = points.lonlat[:, None], None
            if polygons is not None and polygon is not None:
                sampled, key = polygons.points_of(polygon), frame[polygons.areas.key]
            yield SuiteTable(
                name=Path(entry.file).stem,
                family=entry.family,
                lonlat=points.lonlat,
                sampled_lonlat=sampled,
                targets=targets,
                block_km=entry.block_km,
                crs=entry.crs,
                key=key,
                polygon=polygon,
                over=polygons,
            )


def load_suite(path: Path | str) -> Suite:
    """Read a suite file; with the key `tables_of` its tables are those of another suite file.

    Raises:
        ProbeError: naming the file, the table and the key that is unknown, missing or malformed;
            or if files take their tables from each other.
    """
    return _load_suite(Path(path), ())


def _load_suite(path: Path, referring: tuple[Path, ...]) -> Suite:
    """Read a suite file that others, if any, take their tables from."""
    if path.resolve() in referring:
        raise ProbeError(f"suite {path} takes its tables from itself: name [[table]] in it")
    document = read_toml(path, "the suite", ProbeError)
    kinds = {"name": str, "table": list, "tables_of": str, "areas": dict}
    refers = "tables_of" in document
    check_keys(document, kinds, f"suite {path}", ProbeError, () if refers else ("table",))
    areas = None
    if "areas" in document:
        areas = parse_areas(document["areas"], f"[areas] of suite {path}")
    name = document.get("name", path.stem)
    if refers:
        if "table" in document:
            raise ProbeError(f"suite {path} has tables and the key 'tables_of'; leave one out")
        other = _load_suite(path.parent / document["tables_of"], (*referring, path.resolve()))
        return Suite(name, path, other.entries, areas)
    if not document["table"]:
        raise ProbeError(f"suite {path} names no [[table]]")
    entries = tuple(
        _parse_entry(table, f"[[table]] number {number} of suite {path}")
        for number, table in enumerate(document["table"], start=1)
    )
    return Suite(name, path, entries, areas)


def _parse_entry(table: Any, where: str) -> SuiteEntry:
    kinds = {
        "file": str,
        "targets": list,
        "family": str,
        "block_km": int | float,
        "crs": str,
        "areas": bool,
        "note": str,
    }
    check_keys(table, kinds, where, ProbeError, ("file", "targets"))
    targets = table["targets"]
    if not targets or not all(isinstance(name, str) for name in targets):
        raise ProbeError(f"{where}: the key 'targets' must list column names, not {targets!r}")
    if len(set(targets)) < len(targets):
        raise ProbeError(f"{where}: the key 'targets' names a column twice")
    if not 0 < table.get("block_km", 1) < math.inf:
        raise ProbeError(
            f"{where}: the key 'block_km' must be positive and finite, not {table['block_km']}"
        )
    return SuiteEntry(**{**table, "targets": tuple(targets)})
