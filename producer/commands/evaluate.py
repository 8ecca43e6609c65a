"""The command `unigeo-produce evaluate`: write an HTML report on a trained model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unigeo.producer.commands.options import check_observations, output_folder
from unigeo.producer.encoders.model_folders import model_folder
from unigeo.producer.observations.open_named import open_named
from unigeo.schemas.errors import ModelError, ObservationsError
from unigeo.schemas.io.json_text import load_json

if TYPE_CHECKING:
    from unigeo.producer.observations.protocol import Observations
    from unigeo.schemas.geo.regions import Region


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--observations", help="An observations.toml, if the model learned from one.")
@click.option("--data", help="Folder of the files of --observations, and of a --suite's tables.")
@click.option("--out", help="Folder of the report; MODEL-evaluation by default.")
@click.option("--places", type=int, default=1024, show_default=True, help="Of each hold-out.")
@click.option("--parts", help="Such as retrieval,ensemble; all by default.")
@click.option("--later", help="An observations.toml of another year: a temporal hold-out.")
@click.option("--later-data", help="Folder of the files of --later.")
@click.option("--other", help="An observations.toml of another country: out of region.")
@click.option("--other-data", help="Folder of the files of --other.")
@click.option("--other-region", help="Part of the map out of region: a name, W,S,E,N or GeoJSON.")
@click.option("--suite", help="A suite file of targets to probe the vectors with.")
@click.option(
    "--downstream",
    multiple=True,
    metavar="NAME=FOLDER",
    help="A public benchmark and your copy of it: m-pv4ger, m-chesapeake, mdas or conus27. May be "
    "repeated.",
)
@click.option("--seed", type=int, default=0, show_default=True)
def evaluate(model: Path, **options: Any) -> None:
    """Judge a finished MODEL on places that it never saw, and write an HTML report.

    MODEL is a folder, or an installed model such as conus-1. The hold-outs are drawn from the
    observations that the model was trained on: those that come with unigeo, or those of
    --observations. Every table is written as CSV beside the report.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `produce`; before torch is loaded
    if options["suite"] is not None and options["data"] is None:
        raise click.UsageError("--suite needs --data, the folder of its tables")
    out = output_folder(options["out"], model.with_name(model.name + "-evaluation"))
    model = model_folder(model)
    observations = _observations(model, options)
    from unigeo.producer.evaluation.evaluate import PARTS, EvaluationPlan, evaluate_model

    parts = options["parts"]
    plan = EvaluationPlan(
        parts=tuple(PARTS if parts is None else (name.strip() for name in parts.split(","))),
        locations=options["places"],
        later=_open_optional(options["later"], options["later_data"]),
        other=_open_optional(options["other"], options["other_data"]),
        other_region=_region(options["other_region"]),
        suite=None if options["suite"] is None else Path(options["suite"]),
        suite_data=Path(options["data"] or "."),
        downstream={
            name: Path(folder) for name, folder in map(_benchmark_folder, options["downstream"])
        },
        seed=options["seed"],
    )
    report = evaluate_model(model, observations, plan, log=lambda line: click.echo(line, err=True))
    for line in report.warnings:
        click.echo(f"note: {line}", err=True)
    click.echo(report.write(out))


def _observations(model: Path, options: dict[str, Any]) -> "Observations":
    """Open the observations of --observations, or those of unigeo that the model was trained on."""
    from unigeo.producer.observations.open_conus import DESCRIPTION, NAME
    from unigeo.producer.observations.synthetic.world import World

    observations = _open_optional(options["observations"], options["data"])
    if observations is not None:
        return observations
    path = model / "metrics.json"
    try:
        name = load_json(path.read_text(encoding="utf-8"))["observations"]["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{model} is no finished model ({error!r}); train one with unigeo-produce"
        ) from error
    if name == NAME:
        return open_named(str(DESCRIPTION), None)
    if name != World.name:
        raise ObservationsError(
            f"{model} was trained on the observations {name!r}; give their description with "
            "--observations, and their folder with --data"
        )
    return World()


def _open_optional(description: str | None, data: str | None) -> "Observations | None":
    if description is None:
        return None
    check_observations(description, data)
    return open_named(description, data)


def _benchmark_folder(text: str) -> tuple[str, Path]:
    """Split the NAME=FOLDER of a benchmark."""
    name, sign, folder = text.partition("=")
    if not (name and sign and folder):
        raise click.UsageError(f"--downstream takes NAME=FOLDER, not {text!r}")
    return name, Path(folder)


def _region(name: str | None) -> "Region | None":
    """Read a named region, a box of four numbers, or a file of polygons."""
    if name is None:
        return None
    from unigeo.schemas.geo.region_forms import read_region

    return read_region(name)
