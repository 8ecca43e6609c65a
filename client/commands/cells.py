"""Commands that find cells: similar, search."""

from typing import TYPE_CHECKING, Any

import click

from unigeo.client.commands.options import (
    JSON,
    NEGATIVE,
    OUTPUT,
    STORE,
    format_for,
    print_json,
    records,
    region_of,
    together,
)

if TYPE_CHECKING:
    import pandas as pd

FOUND = together(
    click.option("--count", type=click.IntRange(1), default=10, show_default=True),
    click.option("--apart-km", type=click.FloatRange(0), default=0.0, help="Between any two."),
    click.option("--region", help="A name, a box or a file of polygons; all by default."),
    OUTPUT,
    JSON,
)
"""Which cells are given, and where they are written."""


@click.command(context_settings=NEGATIVE)
@STORE
@click.argument("lon", type=float)
@click.argument("lat", type=float)
@click.option("--modality", help="Whose vectors; may be left out if the field has one only.")
@FOUND
def similar(
    store: str,
    lon: float,
    lat: float,
    modality: str | None,
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    as_json: bool,
    region: str | None,
    **options: Any,
) -> None:
    """Find the cells most like the place at LON LAT, the best first."""
    from unigeo.client.field.opening import open_field
    from unigeo.schemas.tables.table_files import check_writable

    del quiet  # there is no plan and no bar
    check_writable(out, format_for(out, format))
    where = None if region is None else region_of(region)
    found = open_field(store).similar((lon, lat), modality, region=where, **options)
    _write(found, out, format, as_json)


@click.command()
@STORE
@click.argument("words", nargs=-1, required=True)
@click.option("--modality", help="Whose vectors; aerial by default.")
@FOUND
def search(
    store: str,
    words: tuple[str, ...],
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    as_json: bool,
    region: str | None,
    **options: Any,
) -> None:
    """Find the cells that WORDS describe, the best first."""
    from unigeo.client.field.opening import open_field
    from unigeo.schemas.tables.table_files import check_writable

    check_writable(out, format_for(out, format))
    where = None if region is None else region_of(region)
    field, text = open_field(store), " ".join(words)
    asked = field.concepts.find(text)
    if not quiet:
        for word in asked.unknown:
            click.echo(f"Note: no concept has the word {word!r}", err=True)
        more = f", and {len(asked.phrases) - 3} more" if len(asked.phrases) > 3 else ""
        click.echo(f"Searching for: {'; '.join(asked.phrases[:3])}{more}", err=True)
    found = field.search(text, region=where, **options)
    _write(found, out, format, as_json)


def _write(
    found: "pd.DataFrame",
    out: str | None,
    format: str | None,  # noqa: A002
    as_json: bool,
) -> None:
    from unigeo.schemas.tables.table_files import write_table

    if as_json:
        print_json(records(found))
    else:
        write_table(found, out, format_for(out, format))
