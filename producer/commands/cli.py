"""The `unigeo-produce` command: train, rasterize, publish; every stage goes on where it stopped."""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unigeo.producer.commands.ablate import ablate
from unigeo.producer.commands.endings import run_command
from unigeo.producer.commands.evaluate import evaluate
from unigeo.producer.commands.numbers import numbers
from unigeo.producer.commands.observe import observe
from unigeo.producer.commands.options import (
    check_observations,
    execution_options,
    publication_terms,
    setting_changes,
    takes_execution,
    takes_observations,
    takes_settings,
    takes_terms,
)
from unigeo.producer.observations.open_named import included_observations, open_named
from unigeo.schemas.errors import RegionError

if TYPE_CHECKING:
    from collections.abc import Generator

    from unigeo.schemas.geo.regions import Region

_NAME = re.compile(r"[^\W_][\w.-]{0,99}")
"""Name of a region that may be that of a folder and of a store."""


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="unigeo")
@click.option("--region", "name", help="Named region, such as conus.")
@click.option("--bbox", nargs=4, type=float, metavar="W S E N", help="A box in degrees instead.")
@click.option("--geojson", help="A file of polygons instead.")
@click.option(
    "--name",
    "own_name",
    help="Name of the box or the polygons, and so of the folder that is written; bbox or the "
    "file's name by default.",
)
@click.option(
    "--crs", help="Equal Earth CRS of the grid, EPSG:8857, 8858 or 8859; the region's by default."
)
@takes_observations
@click.option(
    "--model", help="Finished model to use as it is: a folder, or an installed one such as conus-1."
)
@click.option(
    "--model-out",
    help="Folder to train into; REGION/model by default, REGION/model-r2 for an --update whose "
    "model is another.",
)
@click.option(
    "--preset", default="tiny", show_default=True, help="Model to train: tiny, small or base."
)
@click.option("--steps", type=int, help="Training steps, if not the preset's.")
@takes_settings
@click.option(
    "--accept-ground-size",
    is_flag=True,
    help="Encode patches of another size on the ground than those that the model learned from.",
)
@click.option("--resolution", type=float, metavar="METRES", help="Side of a cell.")
@click.option("--modalities", help="Vectors to store, such as coordinate,aerial,dsm.")
@click.option("--codec", type=click.Choice(["none", "zstd"]), default="none", show_default=True)
@click.option(
    "--covariates/--no-covariates",
    default=True,
    show_default=True,
    help="Also store plain numbers of what is cut from rasters: means, deviations, the centre.",
)
@click.option(
    "--interpolate",
    type=click.IntRange(min=1),
    default=1,
    metavar="K",
    help="Encode one coordinate in K x K cells and interpolate, if that errs less than int8.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", help="Store to write: a folder or s3://...; REGION/REGION.zarr by default.")
@takes_terms
@takes_execution
@click.option(
    "--update",
    is_flag=True,
    help="Make a new release beside the published one, of which what stays is taken over.",
)
@click.option(
    "--allow-loss",
    is_flag=True,
    help="Let --update make a release with fewer modalities, coarser cells or fewer vectors.",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what would be done and what it costs, and do nothing."
)
@click.pass_context
def produce(context: click.Context, /, **options: Any) -> None:
    """Produce an embedding field of a region, from observations to a published store.

    With --region conus alone everything needed is made here: a tiny model is trained on open data
    that come with unigeo. Run the same command again after a stop: finished parts are kept.
    """
    if context.invoked_subcommand is None:
        _produce(**options)


@produce.command()
@click.option("--count", type=int, default=3000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("-o", "--out", default="places.csv", show_default=True)
def places(count: int, seed: int, out: str) -> None:
    """Write a table of places in the synthetic world, with targets to probe."""
    from unigeo.producer.observations.synthetic.world import World
    from unigeo.schemas.tables.table_files import check_writable, write_table

    check_writable(out)
    write_table(World().target_table(count, seed), out)
    click.echo(f"{count} places with targets: {out}")


@produce.command()
@click.argument("catalogue", metavar="CATALOG.JSON")
@click.argument("stores", nargs=-1, required=True, metavar="STORE...")
def catalog(catalogue: str, stores: tuple[str, ...]) -> None:
    """List published fields of several folders in one catalogue above them."""
    from unigeo.producer.publishing.announce import gather

    for entry in gather(catalogue, stores):
        click.echo(f"{entry.region} {entry.release} {entry.href}")


def _produce(**options: Any) -> None:
    # OpenMP threads that spin while they wait make training twelve times slower where another
    # program uses a core; torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    region = _region(options)  # before torch is imported: a typing error is answered at once
    check_observations(options["observations"], options["data"])
    options["observations"] = options["observations"] or included_observations(region)
    changes = setting_changes(options)
    from unigeo.producer.pipeline.forecast import forecast, format_stages, is_long
    from unigeo.producer.pipeline.pipeline import carry_out, choose, describe, foresee
    from unigeo.producer.storage.output_checks import check_writable, check_writable_path
    from unigeo.schemas.io.durations import format_duration

    execution, terms = execution_options(options), publication_terms(options)
    if execution.log is not None:
        check_writable_path(Path(execution.log), f"the log {execution.log}", is_file=True)
    if options["dry_run"] and "://" in (options["out"] or ""):
        check_writable(options["out"], waits=False)  # before requests that wait for longer
    observations = open_named(options["observations"], options["data"])
    run = choose(
        region,
        observations,
        model=options["model"],
        preset=options["preset"],
        steps=options["steps"],
        resolution_m=options["resolution"],
        modalities=options["modalities"],
        codec=options["codec"],
        interpolate=options["interpolate"],
        covariates=options["covariates"],
        seed=options["seed"],
        out=options["out"],
        changes=changes,
        accept_ground_size=options["accept_ground_size"],
        model_out=options["model_out"],
        update=options["update"],
        allow_loss=options["allow_loss"],
    )
    for line in describe(run, observations):
        click.echo(line, err=True)
    if options["dry_run"]:
        workers, price = options["workers"] or 1, options["price_per_hour"]
        plan = foresee(run, observations, workers=workers, price_per_hour=price, terms=terms)
        for line in plan:
            click.echo(line, err=True)
    else:
        predicted = None
        if is_long(run):
            check_writable(run.out)  # before a measurement that takes seconds
            seen = forecast(run, observations, workers=options["workers"] or 1)
            predicted = seen.seconds
            if predicted is not None:
                whole = format_duration(sum(predicted.values()))
                click.echo(f"time          about {whole}: {format_stages(predicted)}", err=True)
        lines = carry_out(run, observations, options=execution, terms=terms, predicted=predicted)
        click.echo(_echo(lines))


def _echo(lines: "Generator[str, None, str]") -> str:
    """Print the lines of a run to stderr; return its result."""
    while True:
        try:
            click.echo(next(lines), err=True)
        except StopIteration as end:
            return str(end.value)


def _region(options: dict[str, Any]) -> "Region":
    from unigeo.schemas.geo.region_forms import read_region
    from unigeo.schemas.geo.regions import named_regions

    ways = [options["name"], options["bbox"], options["geojson"]]
    if sum(way is not None for way in ways) != 1:
        raise RegionError(
            f"name one of --region ({', '.join(named_regions())}), --bbox or --geojson"
        )
    (way,) = (way for way in ways if way is not None)
    region, name = read_region(way, options["crs"]), options["own_name"]
    if name is not None:
        region = replace(region, name=_checked_name(region, name, options))
    region.check_map()  # before observations are asked for, which would not help
    return region


def _checked_name(region: "Region", name: str, options: dict[str, Any]) -> str:
    if options["name"] is not None:
        raise RegionError(f"{region.name} has its name; --name is of a --bbox or a --geojson")
    if not _NAME.fullmatch(name):
        raise RegionError(
            f"--name {name!r} cannot be the name of a folder; use letters, digits, '_', '-' and "
            "'.', of which a letter or digit is the first"
        )
    return name


produce.add_command(ablate)
produce.add_command(evaluate)
produce.add_command(numbers)
produce.add_command(observe)


def main() -> None:
    """Run the command; every error and every stop ends in one line and an exit code."""
    sys.exit(run_command(produce))


if __name__ == "__main__":
    main()
