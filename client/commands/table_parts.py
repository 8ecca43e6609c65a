"""Processing of a table of points in parts: read, compute new columns, write.

Memory does not depend on the number of points. Of a table's own columns only the coordinates are
parsed; the others are written as they were read.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from unigeo.client.commands.missing_rows import MissingRows, name_options
from unigeo.client.commands.options import format_for, shows_progress
from unigeo.client.reading.covariates import select
from unigeo.schemas.errors import PointsError
from unigeo.schemas.tables.points import Points, read_points

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.field.field import Field
    from unigeo.schemas.tables.part_readers import TableParts
    from unigeo.schemas.tables.rows import Rows

PART_BYTES = 50_000_000
"""Size of the vectors of a part; writing makes some copies of them."""
MIN_ROWS, MAX_ROWS = 1_000, 200_000
"""Limits of the number of rows in a part."""

NewColumns = Callable[[Points], "tuple[pd.DataFrame, Mapping[str, np.ndarray]]"]
"""Function from points to their new columns, and to the status of each row as text, by modality."""


@contextmanager
def table_parts(
    field: "Field",
    path: str,
    format: str | None,  # noqa: A002
    options: Mapping[str, Any],
    quiet: bool = True,
    bands: int | None = None,
    positions: bool = True,
) -> Iterator["TableParts"]:
    """Open a table in parts whose vectors have about `PART_BYTES`.

    Args:
        field: field that is sampled.
        path: path of the table, or `-`.
        format: format of the table, if it is read from a pipe.
        options: `columns`, `crs` and `modalities` as the field's methods take them.
        quiet: do not print how the table was read.
        bands: numbers per row; by default those of the vectors of `modalities`.
        positions: whether rows need coordinates.
    """
    from unigeo.schemas.tables.part_readers import read_parts

    if not bands:
        chosen = select(field, options.get("modalities"), options.get("covariates"))
        bands = sum(field.layout.widths_of(chosen.arrays).values())
    rows = PART_BYTES // (4 * bands)
    rows = min(max(rows, MIN_ROWS), MAX_ROWS)
    path_format, coordinates = format_for(path, format), (options["columns"], options["crs"])
    with (
        _named_by_options(),
        read_parts(path, path_format, rows, *coordinates, positions=positions) as table,
    ):
        if table.note and not quiet:
            click.echo(f"Note: {table.note}", err=True)
        yield table


def read_part_points(rows: "Rows", options: Mapping[str, Any]) -> Points:
    """Read the coordinates of some rows, NaN for a row without any.

    Raises:
        PointsError: naming the first bad row by its number in the full table.
    """
    with _named_by_options():
        columns = rows.points()  # its errors already have the row numbers of the table
        with _row_numbers_of_table(rows):
            return read_points(columns, options["crs"], options["columns"], missing="keep")


def write_each_part(
    table: "TableParts",
    new_columns: NewColumns,
    options: Mapping[str, Any],
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    *,
    keep_columns: bool,
    points_of: "Callable[[Rows], Points] | None" = None,
) -> None:
    """Compute and write the new columns part by part, then print how many rows lack a vector.

    Args:
        table: table in parts.
        new_columns: computes the new columns of a part.
        options: `columns` and `crs` of the coordinates; `missing` as `Field.sample` takes it.
        out: path of the output, or `-`.
        format: format of the output, if it is written to a pipe.
        quiet: print no progress bar and no summary.
        keep_columns: write the table's own columns to the left of the new ones.
        points_of: returns the positions of rows; those that they have by default.
    """
    from unigeo.client.progress import late_bars, progress_bar
    from unigeo.schemas.tables.part_writers import write_parts

    reasons = MissingRows(options["missing"])
    rows_on_terminal = out in (None, "-") and sys.stdout.isatty()  # a bar would overwrite them
    with_bar = shows_progress(quiet) and not rows_on_terminal
    with (
        late_bars(False),
        progress_bar("points", len(table), "rows", with_bar) as push,
        write_parts(out, format_for(out, format), table) as write,
    ):
        for rows in table:
            count = len(rows)
            points = read_part_points(rows, options) if points_of is None else points_of(rows)
            with _row_numbers_of_table(rows), reasons.collect_warnings():
                new, status = new_columns(points)
            keep = reasons.rows_to_write(rows.first, status)
            if not keep.all():
                rows, points, new = rows.take(keep), points.take(keep), new[keep]
            write(new, rows if keep_columns else None, points.lonlat)
            push(count)
    reasons.print_summary(quiet)


@contextmanager
def _row_numbers_of_table(rows: "Rows") -> Iterator[None]:
    """Convert row numbers in error messages from those of the part to those of the table."""
    first, last = rows.first, rows.first + len(rows) - 1

    def shifted(match: re.Match[str]) -> str:
        return f"{match[1]} {int(match[2]) + first}"

    try:
        yield
    except PointsError as error:
        if not first:
            raise
        message = re.sub(r"\b(row|feature) (\d+)", shifted, str(error))
        raise PointsError(f"among rows {first:,} to {last:,}: {message}") from error


@contextmanager
def _named_by_options() -> Iterator[None]:
    """Reword errors to name options of the command instead of Python arguments."""
    try:
        yield
    except PointsError as error:
        raise PointsError(name_options(str(error))) from error
