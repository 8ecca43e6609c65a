"""The commands that find cells: similar, search."""

import warnings
from typing import TYPE_CHECKING, Any

import click

from unigeo.client.commands.options import (
    JSON,
    NEGATIVE_NUMBERS,
    OUTPUT,
    STORE,
    format_for,
    option_group,
    print_json,
    to_records,
)

if TYPE_CHECKING:
    import pandas as pd

SEARCH_OPTIONS = option_group(
    click.option("--count", type=click.IntRange(1), default=10, show_default=True),
    click.option("--apart-km", type=click.FloatRange(0), default=0.0, help="Between any two."),
    click.option("--region", help="A name, a box or a file of polygons; all by default."),
    OUTPUT,
    JSON,
)
"""Options that limit the cells found, and those of the output."""


@click.command(context_settings=NEGATIVE_NUMBERS)
@STORE
@click.argument("lon", type=float)
@click.argument("lat", type=float)
@click.option("--modality", help="Whose vectors; may be left out if the field has one only.")
@SEARCH_OPTIONS
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

    del quiet  # an option of OUTPUT; this command prints no plan and no progress
    check_writable(out, format_for(out, format))
    cells = open_field(store).similar((lon, lat), modality, region=region, **options)
    _write_cells(cells, out, format, as_json)


@click.command()
@STORE
@click.argument("words", nargs=-1, required=True)
@click.option("--modality", help="Whose vectors; aerial by default.")
@SEARCH_OPTIONS
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
    from unigeo.schemas.errors import WordsWarning
    from unigeo.schemas.tables.table_files import check_writable

    check_writable(out, format_for(out, format))
    field, text = open_field(store), " ".join(words)
    concepts = field.concepts.find(text)
    if not quiet:
        for word in concepts.unknown:
            click.echo(f"Note: no concept has the word {word!r}", err=True)
        phrases = concepts.phrases
        more = f", and {len(phrases) - 3} more" if len(phrases) > 3 else ""
        click.echo(f"Searching for: {'; '.join(phrases[:3])}{more}", err=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WordsWarning)  # the words are named above
        cells = field.search(text, region=region, **options)
    _write_cells(cells, out, format, as_json)


def _write_cells(
    cells: "pd.DataFrame",
    out: str | None,
    format: str | None,  # noqa: A002
    as_json: bool,
) -> None:
    from unigeo.schemas.tables.table_files import write_table

    if as_json:
        print_json(to_records(cells))
    else:
        write_table(cells, out, format_for(out, format))
