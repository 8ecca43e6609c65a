"""The commands that write a row for each polygon: zonal, coverage."""

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from unigeo.client.commands.field_argument import (
    FIELD,
    field_and_table,
    field_first,
    opened_field,
)
from unigeo.client.commands.options import (
    COVARIATES,
    CRS,
    JSON,
    MODALITY,
    NEGATIVE_NUMBERS,
    OUTPUT,
    covariate_arguments,
    format_for,
    prefix_option,
    print_json,
    shows_progress,
    to_records,
)
from unigeo.schemas.errors import RegionError, RegionWarning

if TYPE_CHECKING:
    import numpy as np

    from unigeo.client.points.join import Missing

VALID = "valid"
"""The status of a polygon that has a vector."""

MISSING = click.option(
    "--missing",
    type=click.Choice(["nan", "raise", "drop"]),
    default="nan",
    show_default=True,
    help="Polygons without a vector: empty rows, an error, or left out.",
)


@click.command(context_settings=NEGATIVE_NUMBERS)
@FIELD
@click.argument("polygons", required=False)
@MODALITY
@COVARIATES
@click.option(
    "--stat",
    "stats",
    multiple=True,
    help="mean (by default), std, min, max or quantile:Q, such as quantile:0.9. May be repeated.",
)
@click.option(
    "--weights",
    help="GeoTIFF of one band, or a covariate, that weighs the cells; ^2 behind it squares them.",
)
@click.option("--normalize", is_flag=True, help="Make the means unit vectors.")
@MISSING
@CRS
@prefix_option("ug_")
@OUTPUT
@JSON
def zonal(
    store: str | None,
    polygons: str | None,
    named: str | None,
    out: str | None,
    format: str | None,  # noqa: A002
    as_json: bool,
    quiet: bool,
    crs: str | None,
    missing: Any,
    stats: tuple[str, ...],
    weights: str | None,
    **options: Any,
) -> None:
    """Write the mean vectors of POLYGONS, or other statistics.

    They come beside the polygons' own columns. POLYGONS is a GeoJSON, GeoParquet or other vector
    file, the name of a region, a box west,south,east,north, or - for GeoJSON on stdin. Parquet and
    GeoJSON keep the shapes.
    """
    import numpy as np

    from unigeo.client.areas.statistic_names import parse_statistics, zonal_columns
    from unigeo.client.points.join import append_columns, check_joinable
    from unigeo.client.reading.covariates import select
    from unigeo.schemas.store.layout import status_name

    try:
        statistics = parse_statistics(stats or "mean")
    except ValueError as error:
        raise click.UsageError(f"--stat: {error}") from error
    address, polygons = field_and_table(store, polygons, named, "POLYGONS")
    areas, field = _read_polygons(address, polygons, out, format, as_json, crs, quiet)
    options = covariate_arguments(options)
    asked = options.pop("modalities") or None, options.pop("covariates")
    chosen, prefix = select(field, *asked, numbers_only=True), options["prefix"]
    weighted = weights is not None
    new_names = zonal_columns(field.layout, chosen, statistics, prefix, weighted=weighted)
    check_joinable(areas.own, new_names)
    with _printed_warnings() as printed:
        means = field.zonal(
            areas.polygons,
            chosen.modalities,
            covariates=chosen.covariates,
            stats=stats or "mean",
            weights=weights,
            missing=_missing_argument(missing),
            progress=shows_progress(quiet),
            **options,
        )
    table = append_columns(areas.own, means)
    status = {m: means[prefix + status_name(m)].astype(str).to_numpy() for m in chosen.arrays}
    if missing == "drop":
        table = table[np.logical_and.reduce([texts == VALID for texts in status.values()])]
    _write_output(table, out, format, as_json)
    if not (quiet or printed):
        _summarize(status, missing)


@click.command(context_settings=NEGATIVE_NUMBERS)
@FIELD
@click.argument("polygons", required=False)
@MODALITY
@click.option(
    "--missing",
    type=click.Choice(["nan", "raise", "drop"]),
    default="nan",
    show_default=True,
    help="Rows without a polygon: kept, an error, or left out.",
)
@CRS
@OUTPUT
@JSON
def coverage(
    store: str | None,
    polygons: str | None,
    named: str | None,
    modalities: tuple[str, ...],
    missing: Any,
    crs: str | None,
    out: str | None,
    format: str | None,  # noqa: A002
    as_json: bool,
    quiet: bool,
) -> None:
    """Count cells by why they lack a vector.

    With POLYGONS, given as to zonal: the share of each one's area instead.
    """
    from unigeo.client.points.join import append_columns, check_joinable

    address, given = field_first(store, (polygons,), named, 1)
    if not given:
        _count_cells(address, modalities, out, format, as_json, quiet)
        return
    areas, field = _read_polygons(address, given[0], out, format, as_json, crs, quiet)
    without_shape = areas.polygons.missing
    with _printed_warnings():
        shares = field.coverage(
            areas.polygons, modalities or None, missing=_missing_argument(missing)
        )
    names = ["_".join(column).replace(" ", "_") for column in shares.columns]
    check_joinable(areas.own, names)
    table = append_columns(areas.own, shares.set_axis(names, axis=1))
    _write_output(table[~without_shape] if missing == "drop" else table, out, format, as_json)


@contextmanager
def _printed_warnings() -> Iterator[list[str]]:
    """Print warnings of polygons to stderr, one line each, and collect them in the list yielded.

    Warnings and errors are reworded to name options of the command instead of arguments.
    """
    from unigeo.client.commands.missing_rows import name_options

    printed: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RegionWarning)
        try:
            yield printed
        except RegionError as error:
            raise RegionError(re.sub(r"missing='(\w+)'", r"--missing \1", str(error))) from error
    for warning in caught:
        if issubclass(warning.category, RegionWarning):
            printed.append(name_options(str(warning.message)))
            click.echo(f"Warning: {printed[-1]}", err=True)
        else:  # caught with the others: issue it again
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def _read_polygons(
    address: str | None,
    polygons: str,
    out: str | None,
    format: str | None,  # noqa: A002
    as_json: bool,
    crs: str | None,
    quiet: bool,
) -> tuple[Any, Any]:
    """Open a field, and read polygons with their columns; with shapes if the output has shapes."""
    from unigeo.client.areas.polygon_tables import read_areas
    from unigeo.schemas.tables.table_files import PIPE, check_writable, format_of

    output_format = format_for(out, format)
    check_writable(out, output_format)
    has_shapes = format_of(out or PIPE, output_format, "write") in (
        "geojson",
        "parquet",
        "gpkg",
        "fgb",
    )
    only_json = as_json and not out
    field, geometry = opened_field(address, quiet=quiet), has_shapes and not only_json
    areas = read_areas(polygons, format, geometry=geometry, crs=crs, grid=field.grid)
    return areas, field


def _missing_argument(missing: str) -> "Missing":
    """Return the argument of the field's method; the command itself drops rows.

    The rows of the result must stay aligned with the polygons' own columns until both are joined.
    """
    return "raise" if missing == "raise" else "nan"


def _summarize(status: "dict[str, np.ndarray]", missing: str) -> None:
    """Print to stderr how many polygons lack a vector, and why."""
    for modality, texts in status.items():
        counts = Counter(texts[texts != VALID].tolist())
        if counts:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
            dropped = "; left out" if missing == "drop" else ""
            click.echo(
                f"{counts.total():,} of {len(texts):,} polygons have no {modality} vector "
                f"({reasons}){dropped}",
                err=True,
            )


def _write_output(table: Any, out: str | None, format: str | None, as_json: bool) -> None:  # noqa: A002
    """Write a table; with --json, print its rows without shapes to stdout as well."""
    from unigeo.schemas.tables.object_types import geometry_of
    from unigeo.schemas.tables.table_files import write_table

    if out is not None or not as_json:
        write_table(table, out, format_for(out, format))
    if as_json:
        shapes = geometry_of(table)
        print_json(to_records(table if shapes is None else table.drop(columns=shapes.name)))


def _count_cells(
    address: str | None,
    modalities: tuple[str, ...],
    out: str | None,
    format: str | None,  # noqa: A002
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the number and share of the field's cells by modality and reason."""
    import pandas as pd

    from unigeo.schemas.tables.table_files import check_writable

    check_writable(out, format_for(out, format))
    field = opened_field(address, quiet=quiet)
    counts = field.coverage()
    chosen = field.chosen(modalities) if modalities else tuple(counts)
    rows = [
        (modality, code.label, count, count / counts[modality].total())
        for modality in chosen
        for code, count in sorted(counts[modality].items())
    ]
    table = pd.DataFrame(rows, columns=["modality", "reason", "cells", "share"])
    if out is not None or format is not None or as_json:
        _write_output(table, out, format, as_json)
        return
    for row in table.itertuples():
        click.echo(f"{row.modality:<12} {row.reason:<16} {row.cells:>14,} {row.share:>8.2%}")
