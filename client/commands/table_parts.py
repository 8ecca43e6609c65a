"""Tables of points through a command: read, answered and written some thousand rows at a time.

So any number of points needs the same memory, and a user's own columns are never parsed into
anything but coordinates.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from unigeo.client.commands.missing_rows import MissingRows, for_shell
from unigeo.client.commands.options import format_for, watched
from unigeo.schemas.errors import PointsError
from unigeo.schemas.tables.points import Points, read_points

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.field.field import Field
    from unigeo.schemas.tables.part_readers import TableParts
    from unigeo.schemas.tables.rows import Rows

PART_BYTES = 50_000_000
"""Of vectors that are read together; some copies of them are made on the way to a file."""
FEWEST_ROWS, MOST_ROWS = 1_000, 200_000
"""Of a part."""

Answer = Callable[[Points], "tuple[pd.DataFrame, Mapping[str, np.ndarray]]"]
"""From points to their new columns, a row for each, and to each modality's status in words."""


@contextmanager
def table_parts(
    field: "Field",
    path: str,
    format: str | None,  # noqa: A002
    options: Mapping[str, Any],
    quiet: bool = True,
    bands: int | None = None,
) -> Iterator["TableParts"]:
    """Open a table in parts whose vectors are of some `PART_BYTES`.

    Args:
        field: whose vectors.
        path: of the table, or `-`.
        format: of the table, if it comes through a pipe.
        options: `columns`, `crs` and `modalities` as the field's verbs take them.
        quiet: say nothing of how the table was read.
        bands: numbers made for each row; those of the vectors of `modalities` by default.
    """
    from unigeo.schemas.tables.part_readers import read_parts

    numbers = bands or sum(field.layout.widths_of(field.chosen(options.get("modalities"))).values())
    rows = PART_BYTES // (4 * numbers)
    rows = min(max(rows, FEWEST_ROWS), MOST_ROWS)
    how = (options["columns"], options["crs"])
    with (
        _in_words_of_a_shell(),
        read_parts(path, format_for(path, format), rows, *how) as table,
    ):
        if table.note and not quiet:
            click.echo(f"Note: {table.note}", err=True)
        yield table


def places_of(rows: "Rows", options: Mapping[str, Any]) -> Points:
    """Read the places of some rows; NaN where a row has none.

    Raises:
        PointsError: naming the first bad row by its number in the whole table.
    """
    with _in_words_of_a_shell():
        found = rows.points()  # which numbers its rows itself
        with _numbered_from(rows):
            return read_points(found, options["crs"], options["columns"], missing="keep")


def answer_each(
    table: "TableParts",
    answer: Answer,
    options: Mapping[str, Any],
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    *,
    own: bool,
) -> None:
    """Write what is answered of each part, one after the other, and say what had no answer.

    Args:
        table: whose rows are asked.
        answer: gives the new columns.
        options: `columns` and `crs` of the coordinates; `missing` as `Field.sample` takes it.
        out: where to.
        format: of what goes through a pipe.
        quiet: print no bar and no summary.
        own: write the table's own columns to the left of the new ones.
    """
    from unigeo.client.progress import progress_bar
    from unigeo.schemas.tables.part_writers import write_parts

    reasons = MissingRows(options["missing"])
    shown = out in (None, "-") and sys.stdout.isatty()  # a bar would cross the rows
    watch = watched(quiet) and not shown
    with (
        progress_bar("points", len(table), "rows", watch) as push,
        write_parts(out, format_for(out, format), table) as write,
    ):
        for rows in table:
            count, points = len(rows), places_of(rows, options)
            with _numbered_from(rows), reasons.warnings_kept():
                new, status = answer(points)
            keep = reasons.kept(rows.first, status)
            if not keep.all():
                rows, points, new = rows.take(keep), points.take(keep), new[keep]
            write(new, rows if own else None, points.lonlat)
            push(count)
    reasons.say(quiet)


@contextmanager
def _numbered_from(rows: "Rows") -> Iterator[None]:
    """Name rows in errors by their number in the whole table."""
    first, last = rows.first, rows.first + len(rows) - 1

    def moved(found: re.Match[str]) -> str:
        return f"{found[1]} {int(found[2]) + first}"

    try:
        yield
    except PointsError as error:
        if not first:
            raise
        message = re.sub(r"\b(row|feature) (\d+)", moved, str(error))
        raise PointsError(f"among rows {first:,} to {last:,}: {message}") from error


@contextmanager
def _in_words_of_a_shell() -> Iterator[None]:
    try:
        yield
    except PointsError as error:
        raise PointsError(for_shell(str(error))) from error
