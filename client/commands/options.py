"""What the commands have in common: their options, and what these mean to the verbs."""

import json
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from unigeo.schemas.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd

Decorator = Callable[[Any], Any]


def together(*options: Decorator) -> Decorator:
    """Several options as one decorator, in this order in the help."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def prefix_option(default: str) -> Decorator:
    """`--prefix`, whose default differs between commands."""
    return click.option(
        "--prefix", default=default, show_default=True, help="Put before the new columns."
    )


STORE = click.argument("store", metavar="STORE")
MODALITY = click.option(
    "--modality",
    "modalities",
    multiple=True,
    help="Which vectors; all by default. May be repeated.",
)
METHOD = click.option(
    "--method",
    type=click.Choice(["nearest", "bilinear", "bicubic"]),
    default="nearest",
    show_default=True,
    help="Of sampling.",
)
CRS = click.option("--crs", help="CRS of the coordinates, such as EPSG:5070; degrees by default.")
COORDINATES = together(
    click.option("--lon", help="Name of the longitude column, if not usual."),
    click.option("--lat", help="Name of the latitude column, if not usual."),
    CRS,
)
SAMPLING = together(MODALITY, METHOD, COORDINATES)
FORMAT = click.option(
    "--format",
    type=click.Choice(["csv", "parquet", "geojson", "arrow"]),
    help="Of what comes and goes through pipes, -, CSV by default; files say it by their ending.",
)
QUIET = click.option(
    "--quiet", is_flag=True, help="No plan, no progress bar and no summary on stderr."
)
OUTPUT = together(
    click.option("-o", "--out", help="Table to write; - or nothing: CSV on stdout."), FORMAT, QUIET
)
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")
MASK = click.option("--mask", is_flag=True, help="Empty the cells outside the region.")
NEGATIVE = {"ignore_unknown_options": True}
"""Context of commands that take a box as an argument, which may begin with a minus."""


def reading(options: dict[str, Any]) -> dict[str, Any]:
    """Names of columns and modalities as the field's verbs take them, beside the other options."""
    options = dict(options)
    lon, lat = options.pop("lon"), options.pop("lat")
    if (lon is None) != (lat is None):
        raise click.UsageError("name both --lon and --lat, or neither")
    options["columns"] = None if lon is None else (lon, lat)
    if "modalities" in options:
        options["modalities"] = options["modalities"] or None
    return options


def format_for(path: str | None, named: str | None) -> str | None:
    """The format to read or write by: that of the file's ending first, where there is one."""
    from unigeo.schemas.tables.table_files import ENDINGS, PIPE

    if path in (None, PIPE):
        return named
    return None if str(path).lower().endswith(tuple(ENDINGS)) else named


def watched(quiet: bool) -> bool:
    """Whether somebody looks at stderr, so that a progress bar is of use."""
    return not quiet and sys.stderr.isatty()


def region_of(text: str) -> Any:
    """A region as the verbs take it: a box as four numbers, else the name or path itself."""
    parts = text.split(",")
    try:
        numbers = tuple(map(float, parts))
    except ValueError:
        return text
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise click.UsageError(f"a box is west,south,east,north in degrees, not {text!r}")
    return numbers


def check_place(path: str, endings: tuple[str, ...]) -> None:
    """Refuse a raster or report that cannot be written, before any work is done for it.

    Raises:
        StoreError: if it does not end so, or there is no such folder.
    """
    from pathlib import Path

    target = Path(path)
    if not path.lower().endswith(endings):
        raise StoreError(f"cannot write {path}: its name must end in {' or '.join(endings)}")
    if not target.absolute().parent.is_dir():
        raise StoreError(f"cannot write {path}: there is no folder {target.parent}")
    if path.lower().endswith(".zarr") and target.exists():
        raise StoreError(f"cannot write {path}: it is there already; remove it, or name another")
    if target.is_dir():
        raise StoreError(f"cannot write {path}: it is a folder")


def print_json(value: Any) -> None:
    """Print as JSON for people and machines."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows as JSON, null where a value is missing."""
    text = table.to_json(orient="records", date_format="iso", double_precision=15)
    found: list[dict[str, Any]] = json.loads(text)
    return found
