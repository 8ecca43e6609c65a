"""Commands over areas: zonal, coverage, region, geotiff."""

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from unigeo.client.commands.options import (
    CRS,
    JSON,
    MASK,
    MODALITY,
    NEGATIVE,
    OUTPUT,
    QUIET,
    STORE,
    check_place,
    format_for,
    prefix_option,
    print_json,
    records,
    region_of,
    together,
    watched,
)
from unigeo.schemas.errors import RegionError, RegionWarning

if TYPE_CHECKING:
    import numpy as np

    from unigeo.client.points.join import Missing

VALID = "valid"
"""The status of a polygon that has a vector."""

RASTER = together(
    click.option("--bands", help="Of a GeoTIFF: numbers such as 0,5,10-12; all by default."),
    click.option(
        "--dtype",
        type=click.Choice(["int8", "float32"]),
        default="int8",
        show_default=True,
        help="Of a GeoTIFF: the numbers as stored, or unit vectors.",
    ),
    CRS,
    MASK,
)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace a GeoTIFF that is there.")
TIFF = (".tif", ".tiff")
MISSING = click.option(
    "--missing",
    type=click.Choice(["nan", "raise", "drop"]),
    default="nan",
    show_default=True,
    help="Polygons without a vector: empty rows, an error, or left out.",
)


@click.command(context_settings=NEGATIVE)
@STORE
@click.argument("polygons")
@MODALITY
@click.option("--normalize", is_flag=True, help="Make the means unit vectors.")
@MISSING
@CRS
@prefix_option("ug_")
@OUTPUT
@JSON
def zonal(
    store: str,
    polygons: str,
    out: str | None,
    format: str | None,  # noqa: A002
    as_json: bool,
    quiet: bool,
    crs: str | None,
    missing: Any,
    **options: Any,
) -> None:
    """Write the mean vectors of POLYGONS.

    They come beside the polygons' own columns. POLYGONS is a GeoJSON, GeoParquet or other vector
    file, the name of a region, a box west,south,east,north, or - for GeoJSON on stdin. Parquet and
    GeoJSON keep the shapes.
    """
    import numpy as np

    from unigeo.client.areas.zonal import column_names_of
    from unigeo.client.field.opening import open_field
    from unigeo.client.points.join import append_columns, check_joinable
    from unigeo.schemas.store.layout import status_name

    areas = _areas(polygons, out, format, as_json, crs)
    field = open_field(store)
    chosen, prefix = field.chosen(options.pop("modalities") or None), options["prefix"]
    widths = field.layout.widths_of(chosen)
    made = [name for own, bands in widths.items() for name in column_names_of(own, bands, prefix)]
    check_joinable(areas.own, made)
    with _warnings_in_words() as warned:
        means = field.zonal(
            areas.polygons,
            chosen,
            missing=_kept_if(missing),
            progress=watched(quiet),
            **options,
        )
    table = append_columns(areas.own, means)
    status = {m: means[prefix + status_name(m)].astype(str).to_numpy() for m in chosen}
    if missing == "drop":
        table = table[np.logical_and.reduce([words == VALID for words in status.values()])]
    _give(table, out, format, as_json)
    if not (quiet or warned):
        _summarize(status, missing)


@click.command(context_settings=NEGATIVE)
@STORE
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
    store: str,
    polygons: str | None,
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
    from unigeo.client.field.opening import open_field
    from unigeo.client.points.join import append_columns, check_joinable

    if polygons is None:
        _counts(store, modalities, out, format, as_json)
        return
    areas = _areas(polygons, out, format, as_json, crs)
    lost = areas.polygons.missing
    field = open_field(store)
    with _warnings_in_words():
        shares = field.coverage(areas.polygons, modalities or None, missing=_kept_if(missing))
    names = ["_".join(column).replace(" ", "_") for column in shares.columns]
    check_joinable(areas.own, names)
    table = append_columns(areas.own, shares.set_axis(names, axis=1))
    _give(table[~lost] if missing == "drop" else table, out, format, as_json)


@click.command(context_settings=NEGATIVE)
@STORE
@click.argument("region")
@click.option("-o", "--out", required=True, help="A new .zarr, or a .tif of one modality.")
@MODALITY
@RASTER
@OVERWRITE
@QUIET
def region(
    store: str,
    region: str,
    out: str,
    modalities: tuple[str, ...],
    bands: str | None,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Cut REGION out of a field.

    REGION is a name, a box west,south,east,north or a file of polygons. As .zarr the part is a
    field of its own, widened to whole shards, and never written over another; as .tif it is the
    window round the region.
    """
    from unigeo.client.areas.subset import cut_field
    from unigeo.client.field.opening import open_field

    check_place(out, (".zarr", *TIFF))
    where = region_of(region)
    if out.lower().endswith(TIFF):
        _write_tiff(store, out, where, modalities, bands, options | {"overwrite": overwrite})
        return
    if bands is not None or overwrite or options.pop("dtype") != "int8":
        raise click.UsageError("--bands, --dtype and --overwrite go with a GeoTIFF")
    cut_field(open_field(store), out, where, modalities or None, progress=watched(quiet), **options)
    click.echo(out)


@click.command()
@STORE
@click.option("-o", "--out", required=True, help="A .tif.")
@click.option("--region", help="A name, a box or a file of polygons; the whole field by default.")
@MODALITY
@RASTER
@OVERWRITE
def geotiff(
    store: str,
    out: str,
    region: str | None,
    modalities: tuple[str, ...],
    bands: str | None,
    **options: Any,
) -> None:
    """Write one modality as a tiled GeoTIFF."""
    where = None if region is None else region_of(region)
    _write_tiff(store, out, where, modalities, bands, options)


def _write_tiff(
    store: str,
    out: str,
    region: Any,
    modalities: tuple[str, ...],
    bands: str | None,
    options: dict[str, Any],
) -> None:
    from unigeo.client.areas.geotiff import check_geotiff_path
    from unigeo.client.field.opening import open_field

    check_geotiff_path(out, options["overwrite"])
    field = open_field(store)
    if len(modalities) > 1 or (not modalities and len(field.modalities) > 1):
        raise click.UsageError(
            f"a GeoTIFF holds one --modality; the field has {', '.join(field.modalities)}"
        )
    modality = modalities[0] if modalities else None
    click.echo(field.to_geotiff(out, region, modality, bands=_numbers(bands), **options))


def _numbers(bands: str | None) -> list[int] | None:
    """Numbers of bands, of which some may be ranges such as 10-12."""
    if bands is None:
        return None
    numbers: list[int] = []
    for part in bands.split(","):
        first, dash, last = part.partition("-")
        try:
            numbers += range(int(first), int(last if dash else first) + 1)
        except ValueError as error:
            raise click.UsageError(
                f"--bands are numbers such as 0,5,10-12, not {bands!r}"
            ) from error
    return numbers


@contextmanager
def _warnings_in_words() -> Iterator[list[str]]:
    """Print what is warned of polygons as one line each, on stderr; and give it.

    Warnings and errors name the options of a command.
    """
    from unigeo.client.commands.missing_rows import for_shell

    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RegionWarning)
        try:
            yield said
        except RegionError as error:
            raise RegionError(re.sub(r"missing='(\w+)'", r"--missing \1", str(error))) from error
    for one in caught:
        if issubclass(one.category, RegionWarning):
            said.append(for_shell(str(one.message)))
            click.echo(f"Warning: {said[-1]}", err=True)
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _areas(
    polygons: str,
    out: str | None,
    format: str | None,  # noqa: A002
    as_json: bool,
    crs: str | None,
) -> Any:
    """Polygons with their columns, and with their shapes where the output holds these."""
    from unigeo.client.areas.polygon_tables import read_areas
    from unigeo.schemas.tables.table_files import PIPE, check_writable, format_of

    named = format_for(out, format)
    check_writable(out, named)
    shapes = format_of(out or PIPE, named, "write") in ("geojson", "parquet")
    keep = shapes and not (as_json and not out)
    return read_areas(region_of(polygons), format, geometry=keep, crs=crs)


def _kept_if(missing: str) -> "Missing":
    """What the field is asked for: rows are dropped beside the polygons' own columns."""
    return "raise" if missing == "raise" else "nan"


def _summarize(status: "dict[str, np.ndarray]", missing: str) -> None:
    """Say on stderr how many polygons lack a vector, and why."""
    for modality, words in status.items():
        counts = Counter(words[words != VALID].tolist())
        if counts:
            reasons = ", ".join(f"{count:,} {word}" for word, count in counts.most_common())
            left = "; left out" if missing == "drop" else ""
            click.echo(
                f"{counts.total():,} of {len(words):,} polygons have no {modality} vector "
                f"({reasons}){left}",
                err=True,
            )


def _give(table: Any, out: str | None, format: str | None, as_json: bool) -> None:  # noqa: A002
    """Write a table; with --json, its rows without shapes to standard output as well."""
    from unigeo.schemas.tables.table_files import geometry_of, write_table

    if out is not None or not as_json:
        write_table(table, out, format_for(out, format))
    if as_json:
        shapes = geometry_of(table)
        print_json(records(table if shapes is None else table.drop(columns=shapes.name)))


def _counts(
    store: str,
    modalities: tuple[str, ...],
    out: str | None,
    format: str | None,  # noqa: A002
    as_json: bool,
) -> None:
    """Cells of the whole field by modality and reason, each with its share."""
    import pandas as pd

    from unigeo.client.field.opening import open_field
    from unigeo.schemas.tables.table_files import check_writable

    check_writable(out, format_for(out, format))
    field = open_field(store)
    chosen, found = field.chosen(modalities or None), field.coverage()
    rows = [
        (modality, code.label, count, count / found[modality].total())
        for modality in chosen
        for code, count in sorted(found[modality].items())
    ]
    table = pd.DataFrame(rows, columns=["modality", "reason", "cells", "share"])
    if out is not None or format is not None or as_json:
        _give(table, out, format, as_json)
        return
    for row in table.itertuples():
        click.echo(f"{row.modality:<12} {row.reason:<16} {row.cells:>14,} {row.share:>8.2%}")
