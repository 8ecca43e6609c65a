"""Commands at points: plan, sample, join, encode.

Tables are read, answered and written some thousand rows at a time, so that any number of points
needs the same memory.
"""

import functools
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from unigeo.client.commands.options import (
    COORDINATES,
    FORMAT,
    JSON,
    OUTPUT,
    SAMPLING,
    STORE,
    format_for,
    prefix_option,
    print_json,
    reading,
    watched,
)
from unigeo.schemas.errors import PointsError

if TYPE_CHECKING:
    from unigeo.client.field import Field
    from unigeo.client.reading.estimating import Link, Plan
    from unigeo.schemas.reading_parts import TableParts

PART_BYTES = 50_000_000
"""Of vectors that are read together; some copies of them are made on the way to a file."""
FEWEST_ROWS, MOST_ROWS = 1_000, 200_000
"""Of a part."""
MANY_POINTS, MANY_REMOTE_POINTS = 100_000, 1_000
"""More than these are not sampled without saying what it costs."""

Take = Callable[[Any], Any]
"""From a part of a table to what is written of it."""


@click.command()
@STORE
@click.argument("points")
@SAMPLING
@FORMAT
@click.option("--latency-ms", type=click.FloatRange(min=0), help="Of a request; else measured.")
@click.option(
    "--rate-mbs", type=click.FloatRange(min=0, min_open=True), help="Megabytes per second; as well."
)
@JSON
def plan(
    store: str,
    points: str,
    format: str | None,  # noqa: A002
    latency_ms: float | None,
    rate_mbs: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what sampling POINTS will cost.

    Counts requests, bytes and seconds, and reads no vector.
    """
    from dataclasses import asdict

    from unigeo.client.opening import open_field

    field, options = open_field(store), reading(options)
    link = _link(field, latency_ms, rate_mbs)
    with _parts(field, points, format, options["modalities"]) as table:
        found = _planned(field, table, options, link)
    if as_json:
        print_json(asdict(found))
    else:
        click.echo(found)


@click.command()
@STORE
@click.argument("points", required=False)
@click.option("--at", nargs=2, type=float, metavar="LON LAT", help="One place instead of a file.")
@SAMPLING
@click.option(
    "--dtype",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    show_default=True,
    help="Unit vectors, or the numbers as stored.",
)
@click.option(
    "--missing",
    type=click.Choice(["nan", "raise", "drop"]),
    default="nan",
    show_default=True,
    help="Points without a vector: empty rows, an error, or left out.",
)
@prefix_option("")
@OUTPUT
def sample(
    store: str,
    points: str | None,
    at: tuple[float, float] | None,
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    **options: Any,
) -> None:
    """Write the vectors at POINTS.

    POINTS is a table with coordinates; - is CSV on stdin.
    """
    import pandas as pd

    from unigeo.client.opening import open_field
    from unigeo.schemas.points import Points, read_points
    from unigeo.schemas.reading_parts import parts_of
    from unigeo.schemas.tables import check_writable

    if (points is None) == (at is None):
        raise click.UsageError("name a table of POINTS, or one place with --at LON LAT")
    if options["dtype"] == "int8" and options["method"] != "nearest":
        raise click.UsageError("--dtype int8 goes with --method nearest: others make new vectors")
    options = reading(options)
    check_writable(out, format_for(out, format))
    field = open_field(store)
    how = {key: options.pop(key) for key in ("crs", "columns")}

    def take(part: Any) -> Any:
        lonlat = read_points(part, **how).lonlat
        vectors = field.sample(Points(lonlat, pd.RangeIndex(len(lonlat))), **options)
        places = pd.DataFrame(lonlat[vectors.index], columns=["lon", "lat"], index=vectors.index)
        return pd.concat([places, vectors], axis=1)

    if at is not None:
        how["columns"] = ("lon", "lat")
        one = parts_of(pd.DataFrame([at], columns=["lon", "lat"]), 1)
        _write_each(one, take, out, format, quiet)
        return
    with _parts(field, str(points), format, options["modalities"]) as table:
        _announce(field, table, how | options, quiet)
        _write_each(table, take, out, format, quiet)


@click.command()
@STORE
@click.argument("table")
@SAMPLING
@prefix_option("ug_")
@OUTPUT
def join(
    store: str,
    table: str,
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    **options: Any,
) -> None:
    """Write TABLE with vectors beside its columns.

    TABLE has coordinates; - is CSV on stdin.
    """
    from unigeo.client.opening import open_field
    from unigeo.schemas.tables import check_writable

    options = reading(options)
    check_writable(out, format_for(out, format))
    field = open_field(store)
    with _parts(field, table, format, options["modalities"]) as parts:
        _announce(field, parts, options, quiet)
        _write_each(parts, lambda part: field.join(part, **options), out, format, quiet)


@click.command()
@STORE
@click.argument("points")
@COORDINATES
@prefix_option("")
@OUTPUT
def encode(
    store: str,
    points: str,
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    prefix: str,
    **options: Any,
) -> None:
    """Evaluate the coordinate encoder at POINTS.

    They may lie off the grid; - is CSV on stdin.
    """
    import pandas as pd

    from unigeo.client.opening import open_field
    from unigeo.schemas.points import read_points
    from unigeo.schemas.tables import check_writable

    options = reading(options)
    check_writable(out, format_for(out, format))
    field = open_field(store)

    def take(part: Any) -> Any:
        lonlat = read_points(part, **options).lonlat
        places = pd.DataFrame(lonlat, columns=["lon", "lat"])
        return pd.concat([places, field.encode(lonlat, prefix=prefix)], axis=1)

    with _parts(field, points, format, "coordinate") as table:
        _write_each(table, take, out, format, quiet)


@contextmanager
def _parts(
    field: "Field",
    path: str,
    format: str | None,  # noqa: A002
    modalities: Any,
) -> Iterator["TableParts"]:
    """A table in parts whose vectors are of some `PART_BYTES`."""
    from unigeo.schemas.reading_parts import read_parts

    several = 1 if isinstance(modalities, str) else len(field.chosen(modalities))
    rows = PART_BYTES // (4 * field.bands * several)
    rows = min(max(rows, FEWEST_ROWS), MOST_ROWS)
    with read_parts(path, format_for(path, format), rows) as table:
        yield table


def _write_each(
    table: "TableParts",
    take: Take,
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
) -> None:
    """Write what is taken of each part, one after the other."""
    from unigeo.client.progress import progress_bar
    from unigeo.schemas.writing_parts import write_parts

    done, shown = 0, out in (None, "-") and sys.stdout.isatty()  # a bar would cross the rows
    watch = watched(quiet) and not shown
    with (
        progress_bar("points", len(table), "rows", watch) as push,
        write_parts(out, format_for(out, format)) as write,
    ):
        for part in table:
            with _rows_from(done):
                made = take(part)
            write(made)
            done += len(part)
            push(len(part))


@contextmanager
def _rows_from(first: int) -> Iterator[None]:
    """Say which part of a long table an error counts its rows in."""
    try:
        yield
    except PointsError as error:
        if not first:
            raise
        raise PointsError(f"in the part that begins with row {first:,}: {error}") from error


def _announce(field: "Field", table: "TableParts", options: dict[str, Any], quiet: bool) -> None:
    """Print the plan to stderr where sampling is no small matter."""
    remote = "://" in field.url and not field.url.startswith("file://")
    if not quiet and len(table) > (MANY_REMOTE_POINTS if remote else MANY_POINTS):
        click.echo(_planned(field, table, options, _link(field)), err=True)


def _planned(field: "Field", table: "TableParts", options: dict[str, Any], link: "Link") -> "Plan":
    """The plans of all parts together, as they are sampled one after the other."""
    known = ("modalities", "method", "crs", "columns")
    chosen = {key: options[key] for key in known}
    plans = (field.plan(part, link=link, **chosen) for part in table)
    return functools.reduce(operator.add, plans)


def _link(field: "Field", latency_ms: float | None = None, rate_mbs: float | None = None) -> "Link":
    """The way to the store, measured where it is not told."""
    from dataclasses import replace

    from unigeo.client.reading.estimating import Link, measure_link

    if latency_ms is not None and rate_mbs is not None:
        return Link(latency_ms / 1000, rate_mbs * 1e6)
    link = measure_link(field.modality(field.modalities[0]))
    if latency_ms is not None:
        link = replace(link, latency_s=latency_ms / 1000)
    if rate_mbs is not None:
        link = replace(link, bytes_per_s=rate_mbs * 1e6)
    return link
