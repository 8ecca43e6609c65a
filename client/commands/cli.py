"""The group of commands `unigeo`: its sub-commands in order, and its exit codes."""

import os
import sys
from typing import Any

import click

from unigeo.client.commands.areas import coverage, zonal
from unigeo.client.commands.cells import search, similar
from unigeo.client.commands.cutouts import geotiff, region
from unigeo.client.commands.known import example, fields
from unigeo.client.commands.points import encode, join, plan, sample
from unigeo.client.commands.probe import probe
from unigeo.client.commands.store import cite, info, preview, validate, verify
from unigeo.client.commands.view import view
from unigeo.client.progress import late_bars
from unigeo.schemas.errors import DamagedError, UnigeoError

_INTERRUPTED = 130  # exit code that shells report after Ctrl-C


class Commands(click.Group):
    """Group that lists sub-commands in the order in which they were added.

    Errors of this package are printed as one line with exit code 2; for a damaged store it is 1.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the sub-commands for the help."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a sub-command, and turn its exceptions into exit codes."""
        try:
            return super().invoke(ctx)
        except UnigeoError as error:
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            raise click.exceptions.Exit(1 if isinstance(error, DamagedError) else 2) from error
        except BrokenPipeError as error:
            # The reader of a pipe has closed it, as `head` does. Python flushes stdout once more at
            # exit and would print an error: let it flush into the null device.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(0) from error
        except KeyboardInterrupt as error:
            raise click.exceptions.Exit(_INTERRUPTED) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="unigeo")
@click.pass_context
def unigeo(context: click.Context) -> None:
    """Read an embedding field: vectors of places, for any table with coordinates.

    FIELD is a folder, an https://, s3://, gs:// or az:// address, or a name that `unigeo fields`
    lists; where none is given, UNIGEO_FIELD names it, else it is conus-1. Tables are CSV, Parquet,
    GeoParquet, GeoJSON or Arrow; - is standard input or output.
    """
    context.with_resource(late_bars(sys.stderr.isatty()))


for _command in (
    info, plan, sample, join, encode, zonal, coverage, region, geotiff, similar, search, probe,
    preview, view, verify, validate, cite, fields, example,
):  # fmt: skip
    unigeo.add_command(_command)


def main() -> None:
    """Run the command."""
    unigeo()


if __name__ == "__main__":
    main()
