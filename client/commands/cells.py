"""The commands that find cells: similar, search."""

import warnings
from typing import TYPE_CHECKING, Any

import click

from unigeo.client.commands.field_argument import FIELD, field_first, opened_field
from unigeo.client.commands.options import (
    JSON,
    NEGATIVE_NUMBERS,
    OUTPUT,
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
@FIELD
@click.argument("lon", required=False)
@click.argument("lat", required=False)
@click.option("--modality", help="Whose vectors; may be left out if the field has one only.")
@SEARCH_OPTIONS
def similar(
    store: str | None,
    lon: str | None,
    lat: str | None,
    named: str | None,
    modality: str | None,
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    as_json: bool,
    region: str | None,
    **options: Any,
) -> None:
    """Find the cells most like the place at LON LAT, the best first."""
    from unigeo.schemas.tables.table_files import check_writable

    address, lonlat = field_first(store, (lon, lat), named, 2)
    position = _parse_position(lonlat)
    check_writable(out, format_for(out, format))
    field = opened_field(address, quiet=quiet)
    cells = field.similar(position, modality, region=region, **options)
    _write_cells(cells, out, format, as_json)


@click.command()
@FIELD
@click.argument("words", nargs=-1)
@click.option("--modality", help="Whose vectors; by default fused, or else aerial.")
@SEARCH_OPTIONS
def search(
    store: str | None,
    words: tuple[str, ...],
    named: str | None,
    out: str | None,
    format: str | None,  # noqa: A002
    quiet: bool,
    as_json: bool,
    region: str | None,
    **options: Any,
) -> None:
    """Find the cells that WORDS describe, the best first."""
    from unigeo.schemas.errors import WordsWarning
    from unigeo.schemas.tables.table_files import check_writable

    address, given = field_first(store, words, named)
    if not given:
        raise click.UsageError("Missing argument 'WORDS...'.")
    check_writable(out, format_for(out, format))
    field, text = opened_field(address, quiet=quiet), " ".join(given)
    concepts = field.concepts.find(text)
    if not quiet:
        for word in concepts.unknown:
            click.echo(f"Note: no concept has the word {word!r}", err=True)
        for word in concepts.left_out:
            click.echo(f"Note: the concepts that match best lack {word!r}", err=True)
        phrases = concepts.phrases
        more = f", and {len(phrases) - 3} more" if len(phrases) > 3 else ""
        click.echo(f"Searching for: {'; '.join(phrases[:3])}{more}", err=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WordsWarning)  # the words are named above
        cells = field.search(text, region=region, **options)
    _write_cells(cells, out, format, as_json)


def _parse_position(lonlat: list[str]) -> tuple[float, float]:
    if len(lonlat) < 2:
        raise click.UsageError(f"Missing argument '{('LON', 'LAT')[len(lonlat)]}'.")
    try:
        return float(lonlat[0]), float(lonlat[1])
    except ValueError as error:
        raise click.UsageError(f"LON LAT must be two numbers, not {' '.join(lonlat)}") from error


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
