"""Commands at points: plan, sample, join, encode."""

import functools
import json
import operator
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
)

if TYPE_CHECKING:
    from unigeo.client.field.field import Field
    from unigeo.client.reading.cost import Plan, StoreLink
    from unigeo.schemas.tables.part_readers import TableParts

MANY_POINTS, MANY_REMOTE_POINTS = 100_000, 1_000
"""More than these are not sampled without saying what it costs."""

MISSING = click.option(
    "--missing",
    type=click.Choice(["nan", "raise", "drop"]),
    default="nan",
    show_default=True,
    help="Rows without a vector: empty, an error, or left out.",
)


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

    from unigeo.client.commands.table_parts import table_parts
    from unigeo.client.field.opening import open_field

    field, options = open_field(store), reading(options)
    link = _link(field, latency_ms, rate_mbs)
    with table_parts(field, points, format, options) as table:
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
@MISSING
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
    from unigeo.client.commands.result_columns import sampled, with_places
    from unigeo.client.commands.table_parts import answer_each, table_parts
    from unigeo.client.field.opening import open_field
    from unigeo.schemas.tables.table_files import check_writable

    if (points is None) == (at is None):
        raise click.UsageError("name a table of POINTS, or one place with --at LON LAT")
    if options["dtype"] == "int8" and options["method"] != "nearest":
        raise click.UsageError("--dtype int8 goes with --method nearest: others make new vectors")
    options = reading(options)
    check_writable(out, format_for(out, format))
    field = open_field(store)
    answer = with_places(sampled(field, options, dtype=options["dtype"]))
    if at is not None:
        answer_each(_one_place(at, options), answer, options, out, format, quiet, own=False)
        return
    with table_parts(field, str(points), format, options, quiet) as table:
        _announce(field, table, options, quiet)
        answer_each(table, answer, options, out, format, quiet, own=False)


@click.command()
@STORE
@click.argument("table")
@SAMPLING
@MISSING
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

    TABLE has coordinates; - is CSV on stdin. Its own columns stay as they are.
    """
    import pandas as pd

    from unigeo.client.commands.result_columns import sampled
    from unigeo.client.commands.table_parts import answer_each, table_parts
    from unigeo.client.field.opening import open_field
    from unigeo.client.points.join import check_joinable, joined_columns
    from unigeo.schemas.tables.table_files import check_writable

    options = reading(options)
    check_writable(out, format_for(out, format))
    field = open_field(store)
    made = joined_columns(
        field.layout.widths_of(field.chosen(options["modalities"])), options["prefix"]
    )
    with table_parts(field, table, format, options, quiet) as parts:
        check_joinable(pd.DataFrame(columns=list(parts.names)), made)
        _announce(field, parts, options, quiet)
        answer_each(parts, sampled(field, options), options, out, format, quiet, own=True)


@click.command()
@STORE
@click.argument("points")
@COORDINATES
@MISSING
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
    from unigeo.client.commands.result_columns import encoded, with_places
    from unigeo.client.commands.table_parts import answer_each, table_parts
    from unigeo.client.field.opening import open_field
    from unigeo.schemas.tables.table_files import check_writable

    options = reading(options)
    check_writable(out, format_for(out, format))
    field = open_field(store)
    answer = with_places(encoded(field, prefix))
    with table_parts(field, points, format, options, quiet, field.bands) as table:
        answer_each(table, answer, options, out, format, quiet, own=False)


def _one_place(at: tuple[float, float], options: dict[str, Any]) -> "TableParts":
    """A table of one row."""
    from unigeo.schemas.tables.feature_tables import feature_table
    from unigeo.schemas.tables.part_readers import parts_of

    place = {"type": "Point", "coordinates": at}
    return parts_of(feature_table(json.dumps(place).encode(), options["crs"]), 1)


def _announce(field: "Field", table: "TableParts", options: dict[str, Any], quiet: bool) -> None:
    """Print the plan to stderr where sampling is no small matter."""
    remote = "://" in field.url and not field.url.startswith("file://")
    if not quiet and len(table) > (MANY_REMOTE_POINTS if remote else MANY_POINTS):
        click.echo(_planned(field, table, options, _link(field)), err=True)


def _planned(
    field: "Field", table: "TableParts", options: dict[str, Any], link: "StoreLink"
) -> "Plan":
    """The plans of all parts together, as they are sampled one after the other."""
    from unigeo.client.commands.table_parts import places_of

    known = {key: options[key] for key in ("modalities", "method")}
    plans = (field.plan(places_of(rows, options), link=link, **known) for rows in table)
    return functools.reduce(operator.add, plans)


def _link(
    field: "Field", latency_ms: float | None = None, rate_mbs: float | None = None
) -> "StoreLink":
    """The way to the store, measured where it is not told."""
    from dataclasses import replace

    from unigeo.client.reading.cost import StoreLink, measure_link

    if latency_ms is not None and rate_mbs is not None:
        return StoreLink(latency_ms / 1000, rate_mbs * 1e6)
    link = measure_link(field.modality(field.modalities[0]))
    if latency_ms is not None:
        link = replace(link, latency_s=latency_ms / 1000)
    if rate_mbs is not None:
        link = replace(link, bytes_per_s=rate_mbs * 1e6)
    return link
