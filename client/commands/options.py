"""Options shared by the commands, and their translation to arguments of the field's methods."""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from unigeo.client.progress import late_bars
from unigeo.schemas.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.field.field import Field

Decorator = Callable[[Any], Any]


def option_group(*options: Decorator) -> Decorator:
    """Combine options into one decorator, in the order of the help."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):  # as stacked decorators: the last one is applied first
            command = option(command)
        return command

    return decorate


def prefix_option(default: str) -> Decorator:
    """Make the option `--prefix`, whose default differs between commands."""
    return click.option(
        "--prefix", default=default, show_default=True, help="Put before the new columns."
    )


MODALITY = click.option(
    "--modality",
    "modalities",
    multiple=True,
    help="Which vectors; by default fused, or all where it is not stored. May be repeated.",
)
COVARIATES = option_group(
    click.option("--covariates", "all_covariates", is_flag=True, help="Also the plain numbers."),
    click.option(
        "--covariate",
        "covariates",
        multiple=True,
        help="Also this plain number; `unigeo info` lists them. May be repeated.",
    ),
)
METHOD = click.option(
    "--method",
    type=click.Choice(["nearest", "bilinear", "bicubic"]),
    default="nearest",
    show_default=True,
    help="Of sampling.",
)
RADIUS = click.option(
    "--radius-m",
    type=float,
    help="Mean of the cells within this distance of each point, instead of the vector of its cell.",
)
SNAP = click.option(
    "--snap-km",
    type=click.FloatRange(min=0, min_open=True),
    help="Points on water: the nearest cell with a vector within this distance.",
)
DIMS = click.option(
    "--dims",
    type=click.IntRange(min=1),
    help="Only the leading numbers of each vector, such as 64 or 128.",
)
CRS = click.option("--crs", help="CRS of the coordinates, such as EPSG:5070; degrees by default.")
COORDINATES = option_group(
    click.option("--lon", help="Name of the longitude column, if not usual."),
    click.option("--lat", help="Name of the latitude column, if not usual."),
    click.option("--position", help="Name of a column of positions as text, if not usual."),
    CRS,
)
SAMPLING = option_group(MODALITY, COVARIATES, METHOD, COORDINATES)
FORMAT = click.option(
    "--format",
    type=click.Choice(["csv", "jsonl", "parquet", "geojson", "arrow", "xlsx", "stata"]),
    help="Of what comes and goes through pipes, -, CSV by default; files say it by their ending.",
)


def _silence(context: click.Context, parameter: click.Parameter, quiet: bool) -> bool:
    """Show no late bars where --quiet is given."""
    if quiet:
        context.with_resource(late_bars(False))
    return quiet


QUIET = click.option(
    "--quiet",
    is_flag=True,
    callback=_silence,
    help="No plan, no progress bar and no summary on stderr.",
)
OUTPUT = option_group(
    click.option("-o", "--out", help="Table to write; - or nothing: CSV on stdout."), FORMAT, QUIET
)
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")
MASK = click.option("--mask", is_flag=True, help="Empty the cells outside the region.")
NEGATIVE_NUMBERS = {"ignore_unknown_options": True}
"""Context settings of commands whose arguments may start with a minus: boxes, coordinates."""


def field_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Translate options to arguments: `columns`, `modalities` and `covariates`."""
    options = covariate_arguments(options)
    lon, lat, position = (options.pop(name) for name in ("lon", "lat", "position"))
    if (lon is None) != (lat is None):
        raise click.UsageError("name both --lon and --lat, or neither")
    if position is not None and lon is not None:
        raise click.UsageError("--position names the column of both: leave out --lon and --lat")
    options["columns"] = position if lon is None else (lon, lat)
    if "modalities" in options:
        options["modalities"] = options["modalities"] or None
    return options


def covariate_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Translate --covariates and --covariate to the argument `covariates`."""
    options = dict(options)
    if options.pop("all_covariates", False):
        options["covariates"] = True
    return options


def leading(field: "Field", options: dict[str, Any]) -> "Field":
    """Return the field of the leading numbers that --dims names, which is taken out of options."""
    dims = options.pop("dims")
    return field if dims is None else field.leading(dims)


def format_for(path: str | None, option: str | None) -> str | None:
    """Return the format of a table, or None if the ending of its path decides.

    Args:
        path: path of the table; None or `-` is a pipe.
        option: value of --format.
    """
    from unigeo.schemas.tables.table_files import ENDINGS, PIPE

    if path in (None, PIPE):
        return option
    return None if str(path).lower().endswith(tuple(ENDINGS)) else option


def shows_progress(quiet: bool) -> bool:
    """Return whether to show a progress bar: only if stderr is a terminal."""
    return not quiet and sys.stderr.isatty()


def check_output_path(path: str, endings: tuple[str, ...]) -> None:
    """Check that a file or store can be written, before any work is done for it.

    Raises:
        StoreError: if the path has another ending, its folder does not exist or cannot be written
            to, or it is a folder or an existing store.
    """
    from pathlib import Path

    from unigeo.schemas.io.addresses import check_destination

    target = Path(path)
    if not path.lower().endswith(endings):
        raise StoreError(f"cannot write {path}: its name must end in {' or '.join(endings)}")
    check_destination(target, path)
    if path.lower().endswith(".zarr") and target.exists():
        raise StoreError(f"cannot write {path}: it is there already; remove it, or name another")
    if target.is_dir():
        raise StoreError(f"cannot write {path}: it is a folder")


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def to_records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Convert rows to JSON objects, null where a value is missing."""
    # pandas encodes its own types, and NaN as null; `json` does neither.
    text = table.to_json(orient="records", date_format="iso", double_precision=15)
    rows: list[dict[str, Any]] = json.loads(text)
    return rows
