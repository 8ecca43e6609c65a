"""`unigeo-produce numbers`: hand-made numbers of rasters at the rows of suites."""

from pathlib import Path
from typing import Any

import click

from unigeo.producer.commands.options import check_observations, takes_observations
from unigeo.producer.observations.open_named import open_named


@click.command()
@click.argument("suites", nargs=-1, required=True, metavar="SUITE.toml...")
@takes_observations
@click.option(
    "--recipe", metavar="RECIPE.toml", help="Which numbers; those of the patches' views by default."
)
@click.option("--out", required=True, help="Folder to write.")
@click.option(
    "--format",
    "table_format",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    show_default=True,
)
@click.option("--overwrite", is_flag=True, help="Replace a folder of numbers that is there.")
def numbers(suites: tuple[str, ...], **options: Any) -> None:
    """Compute numbers of rasters at every row of suites: the baseline of `unigeo probe --numbers`.

    They are statistics of windows round each row's position and, where a suite has areas, their
    means over points of each row's polygon.
    """
    from unigeo.producer.evaluation.handmade import default_recipe, load_recipe, write_numbers
    from unigeo.producer.evaluation.handmade.write_numbers import check_numbers_path

    out = Path(options["out"])
    check_numbers_path(out, options["overwrite"])
    check_observations(options["observations"], options["data"])
    recipe = None if options["recipe"] is None else load_recipe(options["recipe"])
    observations = open_named(options["observations"], options["data"])
    recipe = recipe or default_recipe(observations)
    data = Path(options["data"] or observations.data_folder or ".")
    written = write_numbers(
        observations,
        suites,
        data,
        out,
        recipe,
        table_format=options["table_format"],
        overwrite=options["overwrite"],
        log=lambda line: click.echo(line, err=True),
    )
    click.echo(written)
