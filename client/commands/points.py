"""The commands at points: plan, sample, join, encode."""

import functools
import json
import operator
from typing import TYPE_CHECKING, Any

import click

from unigeo.client.commands.field_argument import (
    FIELD,
    field_and_table,
    field_or_table,
    opened_field,
)
from unigeo.client.commands.options import (
    COORDINATES,
    DIMS,
    FORMAT,
    JSON,
    OUTPUT,
    RADIUS,
    SAMPLING,
    SNAP,
    field_arguments,
    format_for,
    leading,
    prefix_option,
    print_json,
)

if TYPE_CHECKING:
    from unigeo.client.field.field import Field
    from unigeo.client.reading.cost import Plan, StoreLink
    from unigeo.schemas.tables.part_readers import TableParts

MANY_POINTS, MANY_REMOTE_POINTS = 100_000, 1_000
"""Numbers of points above which a command prints its plan, for local and for remote stores."""

MISSING = click.option(
    "--missing",
    type=click.Choice(["nan", "raise", "drop"]),
    default="nan",
    show_default=True,
    help="Rows without a vector: empty, an error, or left out.",
)


@click.command()
@FIELD
@click.argument("points", required=False)
@SAMPLING
@FORMAT
@click.option("--latency-ms", type=click.FloatRange(min=0), help="Of a request; else measured.")
@click.option(
    "--rate-mbs", type=click.FloatRange(min=0, min_open=True), help="Megabytes per second; as well."
)
@JSON
def plan(
    store: str | None,
    points: str | None,
    named: str | None,
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

    address, points = field_and_table(store, points, named, "POINTS")
    field, options = opened_field(address), field_arguments(options)
    link = _store_link(field, latency_ms, rate_mbs)
    with table_parts(field, points, format, options) as table:
        total = _total_plan(field, table, options, link)
    if as_json:
        print_json(asdict(total))
    else:
        click.echo(total)


@click.command()
@FIELD
@click.argument("points", required=False)
@click.option("--at", nargs=2, type=float, metavar="LON LAT", help="One place instead of a file.")
@SAMPLING
@DIMS
@RADIUS
@SNAP
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
    store: str | None,
    points: str | None,
    named: str | None,
    at: tuple[float, float] | None,
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    **options: Any,
) -> None:
    """Write the vectors at POINTS.

    POINTS is a table with coordinates; - is CSV on stdin.
    """
    from unigeo.client.commands.result_columns import sampled_columns, with_lonlat
    from unigeo.client.commands.table_parts import table_parts, write_each_part
    from unigeo.schemas.tables.table_files import check_writable

    address, points = field_or_table(store, points, named, alone=at is not None)
    if (points is None) == (at is None):
        raise click.UsageError("name a table of POINTS, or one place with --at LON LAT")
    if options["dtype"] == "int8" and options["method"] != "nearest":
        raise click.UsageError("--dtype int8 goes with --method nearest: others make new vectors")
    _check_radius(options)
    options = field_arguments(options)
    check_writable(out, format_for(out, format))
    field = leading(opened_field(address, quiet=quiet), options)
    new_columns = with_lonlat(sampled_columns(field, options, dtype=options["dtype"]))
    if at is not None:
        write_each_part(
            _single_point(at, options), new_columns, options, out, format, quiet, keep_columns=False
        )
        return
    with table_parts(field, str(points), format, options, quiet) as table:
        _print_large_plan(field, table, options, quiet)
        write_each_part(table, new_columns, options, out, format, quiet, keep_columns=False)


@click.command()
@FIELD
@click.argument("table", required=False)
@SAMPLING
@DIMS
@RADIUS
@SNAP
@click.option("--by", help="Column of keys instead of coordinates: FIPS codes, H3, geohash.")
@MISSING
@prefix_option("ug_")
@OUTPUT
def join(
    store: str | None,
    table: str | None,
    named: str | None,
    by: str | None,
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    **options: Any,
) -> None:
    """Write TABLE with vectors beside its columns.

    TABLE has coordinates, or a column of keys that --by names; - is CSV on stdin. Its own columns
    stay as they are.
    """
    import pandas as pd

    from unigeo.client.commands.result_columns import sampled_columns
    from unigeo.client.commands.table_parts import table_parts, write_each_part
    from unigeo.client.points.join import check_joinable, joined_columns
    from unigeo.client.reading.covariates import select
    from unigeo.schemas.tables.table_files import check_writable

    address, table = field_and_table(store, table, named, "TABLE")
    _check_radius(options)
    options = field_arguments(options)
    check_writable(out, format_for(out, format))
    field = leading(opened_field(address, quiet=quiet), options)
    if by is not None:
        from unigeo.client.commands.keyed_join import join_by_keys

        join_by_keys(field, table, by, out, format, quiet, options)
        return
    means = options["radius_m"] is not None
    chosen = select(field, options["modalities"], options["covariates"], numbers_only=means)
    new_names = joined_columns(
        field.layout.widths_of(chosen.modalities),
        options["prefix"],
        chosen.covariates,
        shares=means,
        snaps=options["snap_km"] is not None,
    )
    with table_parts(field, table, format, options, quiet) as parts:
        check_joinable(pd.DataFrame(columns=list(parts.names)), new_names)
        _print_large_plan(field, parts, options, quiet)
        write_each_part(
            parts, sampled_columns(field, options), options, out, format, quiet, keep_columns=True
        )


@click.command()
@FIELD
@click.argument("points", required=False)
@COORDINATES
@MISSING
@prefix_option("")
@OUTPUT
def encode(
    store: str | None,
    points: str | None,
    named: str | None,
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    prefix: str,
    **options: Any,
) -> None:
    """Evaluate the coordinate encoder at POINTS.

    The vectors are of the modality coordinate, which fused ones are not to be compared with. POINTS
    may lie off the grid; - is CSV on stdin.
    """
    from unigeo.client.commands.result_columns import encoded_columns, with_lonlat
    from unigeo.client.commands.table_parts import table_parts, write_each_part
    from unigeo.schemas.store.layout import FUSED
    from unigeo.schemas.tables.table_files import check_writable

    address, points = field_and_table(store, points, named, "POINTS")
    options = field_arguments(options)
    check_writable(out, format_for(out, format))
    field = opened_field(address, quiet=quiet)
    if FUSED in field.modalities and not quiet:
        click.echo(
            "Note: these are vectors of coordinates, not to be compared with fused", err=True
        )
    new_columns = with_lonlat(encoded_columns(field, prefix))
    with table_parts(field, points, format, options, quiet, field.bands) as table:
        write_each_part(table, new_columns, options, out, format, quiet, keep_columns=False)


def _check_radius(options: dict[str, Any]) -> None:
    """Check --radius-m, and that it goes with the other options."""
    from unigeo.client.shapes.discs import check_radius

    if options["radius_m"] is None:
        return
    if options["snap_km"] is not None:
        raise click.UsageError("--radius-m averages what is near: it does not go with --snap-km")
    if options["method"] != "nearest" or options.get("dtype", "float32") != "float32":
        raise click.UsageError(
            "--radius-m averages whole cells: it goes with neither --method nor --dtype"
        )
    try:
        check_radius(options["radius_m"])
    except ValueError as error:
        raise click.UsageError(str(error).replace("radius_m", "--radius-m")) from error


def _single_point(at: tuple[float, float], options: dict[str, Any]) -> "TableParts":
    """Make a table of one row from --at, read as GeoJSON to get the checks of any other table."""
    from unigeo.schemas.tables.feature_tables import parse_features
    from unigeo.schemas.tables.part_readers import split_table

    point = {"type": "Point", "coordinates": at}
    return split_table(parse_features(json.dumps(point).encode(), options["crs"]), 1)


def _print_large_plan(
    field: "Field", table: "TableParts", options: dict[str, Any], quiet: bool
) -> None:
    """Print the plan to stderr if many points are to be sampled, each from one cell or a few."""
    if options["radius_m"] is not None:
        return
    remote = "://" in field.url and not field.url.startswith("file://")
    if not quiet and len(table) > (MANY_REMOTE_POINTS if remote else MANY_POINTS):
        click.echo(_total_plan(field, table, options, _store_link(field)), err=True)


def _total_plan(
    field: "Field", table: "TableParts", options: dict[str, Any], link: "StoreLink"
) -> "Plan":
    """Add up the plans of the parts of a table, which are sampled one after the other."""
    from unigeo.client.commands.table_parts import read_part_points

    arguments = {key: options[key] for key in ("modalities", "covariates", "method")}
    plans = (field.plan(read_part_points(rows, options), link=link, **arguments) for rows in table)
    return functools.reduce(operator.add, plans)


def _store_link(
    field: "Field", latency_ms: float | None = None, rate_mbs: float | None = None
) -> "StoreLink":
    """Return latency and rate of the store, measured unless given."""
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
