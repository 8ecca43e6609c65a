"""The command `join --by`: vectors by keys of states, counties or cells instead of coordinates."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pandas as pd

from unigeo.client.areas.keyed_tables import MeansByKey, keyed_columns
from unigeo.client.commands.options import format_for, shows_progress
from unigeo.client.commands.result_columns import ColumnsAndStatus, sampled_columns
from unigeo.client.commands.table_parts import NewColumns, table_parts, write_each_part
from unigeo.client.points.join import check_joinable, joined_columns
from unigeo.client.points.keys import Keys, read_keys
from unigeo.client.reading.covariates import select
from unigeo.schemas.errors import PointsError, StoreError
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.tables.points import Points
from unigeo.schemas.tables.rows import Rows
from unigeo.schemas.tables.table_files import PIPE, format_of

if TYPE_CHECKING:
    from unigeo.client.field.field import Field

_WITH_POINTS = ("geojson", "gpkg", "fgb")
"""Formats in which each row has a point."""


def join_by_keys(
    field: "Field",
    path: str,
    by: str,
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    options: dict[str, Any],
) -> None:
    """Write a table with vectors beside its columns, each row's by its key.

    Args:
        field: field to read.
        path: path of the table, or `-`.
        by: name of the column of keys.
        out: path of the output, or `-`.
        format: format of what goes through pipes.
        quiet: print no progress bar and no summary.
        options: those of the command.

    Raises:
        PointsError: if there is no such column, or its keys are of no kind that is known.
        StoreError: if the output cannot be written.
    """
    with table_parts(field, path, format, options, quiet, positions=False) as table:
        if by not in table.names:
            listed = ", ".join(table.names[:20])
            raise PointsError(f"there is no column {by!r} among {listed}")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            keys = read_keys({key for rows in table for key in rows.column_texts(by)}, by)
        for warning in caught:
            click.echo(f"Warning: {warning.message}", err=True)
        if keys.outlines:
            _refuse_options_of_points(options, out, format)
            columns = _means(field, keys, by, quiet, options)
        else:
            columns = _at_centres(field, keys, by, options)
        check_joinable(pd.DataFrame(columns=list(table.names)), columns.names)
        write_each_part(
            table,
            columns.compute,
            options,
            out,
            format,
            quiet,
            keep_columns=True,
            points_of=columns.points_of,
        )


@dataclass(frozen=True)
class _KeyedColumns:
    """The new columns of rows with keys."""

    names: list[str]
    compute: NewColumns
    points_of: Callable[[Rows], Points]
    """Returns what `compute` takes: positions, or the keys themselves as the index."""


def _at_centres(field: "Field", keys: Keys, by: str, options: dict[str, Any]) -> _KeyedColumns:
    """Describe the vectors at the centres of the cells that the keys name."""
    snaps, means = options["snap_km"] is not None, options["radius_m"] is not None
    chosen = select(field, options["modalities"], options["covariates"], numbers_only=means)
    widths = field.layout.widths_of(chosen.modalities)
    names = joined_columns(widths, options["prefix"], chosen.covariates, shares=means, snaps=snaps)
    return _KeyedColumns(
        names,
        sampled_columns(field, options),
        lambda rows: keys.points(map(str.strip, rows.column_texts(by))),
    )


def _means(
    field: "Field", keys: Keys, by: str, quiet: bool, options: dict[str, Any]
) -> _KeyedColumns:
    """Describe the means over the outlines that the keys name."""
    chosen = select(field, options["modalities"], options["covariates"], numbers_only=True)
    prefix = options["prefix"]

    @cache
    def means() -> MeansByKey:
        return MeansByKey(field, keys, chosen, prefix, shows_progress(quiet))

    def points_of(rows: Rows) -> Points:
        labels = np.array(rows.column_texts(by), object)
        return Points(np.full((len(labels), 2), np.nan), labels)

    def compute(points: Points) -> ColumnsAndStatus:
        new = means().rows(list(points.index))
        return new, {name: new[prefix + status_name(name)].to_numpy(str) for name in chosen.arrays}

    return _KeyedColumns(keyed_columns(field.layout, chosen, prefix), compute, points_of)


def _refuse_options_of_points(
    options: dict[str, Any],
    out: str | None,
    format: str | None,  # noqa: A002
) -> None:
    """Refuse what goes with points and not with outlines.

    Raises:
        StoreError: if each row of the output would need a point.
        UsageError: if an option is one of sampling at points.
    """
    if format_of(out or PIPE, format_for(out, format), "write") in _WITH_POINTS:
        raise StoreError(
            f"cannot write {out}: states and counties are no points; write CSV or Parquet, or give "
            "their polygons to unigeo zonal"
        )
    if options["method"] != "nearest" or options["radius_m"] or options["snap_km"]:
        raise click.UsageError(
            "--by of states and counties goes with neither --method, --radius-m nor --snap-km"
        )
