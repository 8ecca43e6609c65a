"""The `unigeo` command: one sub-command for each verb of a field."""

import os
import sys
from typing import Any

import click

from unigeo.client.commands.areas import coverage, geotiff, region, zonal
from unigeo.client.commands.cells import search, similar
from unigeo.client.commands.points import encode, join, plan, sample
from unigeo.client.commands.probe import probe
from unigeo.client.commands.store import cite, info, preview, validate, verify
from unigeo.schemas.errors import DamagedError, UnigeoError

_INTERRUPTED = 130  # what shells give a command that Ctrl-C ended


class Commands(click.Group):
    """Sub-commands in their own order; what a user can mend is one line and exit code 2.

    The code is 1 where the store is damaged.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names as they are listed in the help."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a sub-command, and end it as a shell expects."""
        try:
            return super().invoke(ctx)
        except UnigeoError as error:
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            raise click.exceptions.Exit(1 if isinstance(error, DamagedError) else 2) from error
        except BrokenPipeError as error:
            # Python flushes once more at its end, and would complain there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(0) from error
        except KeyboardInterrupt as error:
            raise click.exceptions.Exit(_INTERRUPTED) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="unigeo")
def unigeo() -> None:
    """Read an embedding field: vectors of places, for any table with coordinates.

    STORE is a folder or an https://, s3://, gs:// or az:// address. Tables are CSV, Parquet,
    GeoParquet, GeoJSON or Arrow; - is standard input or output.
    """


for _command in (
    info, plan, sample, join, encode, zonal, coverage, region, geotiff, similar, search, probe,
    preview, verify, validate, cite,
):  # fmt: skip
    unigeo.add_command(_command)


def main() -> None:
    """Run the command."""
    unigeo()


if __name__ == "__main__":
    main()
