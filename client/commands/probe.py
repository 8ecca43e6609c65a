"""The command `unigeo probe`: scores of linear probes, their predictions, and a map."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from unigeo.client.commands.field_argument import FIELD, field_or_table, opened_field
from unigeo.client.commands.options import (
    DIMS,
    JSON,
    QUIET,
    SAMPLING,
    field_arguments,
    leading,
    option_group,
    prefix_option,
    print_json,
    shows_progress,
    to_records,
)
from unigeo.client.commands.probe_checks import (
    check_outputs,
    check_predictions,
    check_report,
    check_source,
    check_suite_options,
    check_targets,
    mapped_region,
    point_arguments,
)
from unigeo.client.commands.probe_suites import suite_report

if TYPE_CHECKING:
    from unigeo.client.field.field import Field
    from unigeo.client.probing.probe import Probe
    from unigeo.schemas.tables.part_readers import TableParts


FIT_OPTIONS = option_group(
    click.option(
        "--target",
        "targets",
        multiple=True,
        help="Column to predict, or of --load the one to map. May be repeated.",
    ),
    click.option(
        "--task",
        type=click.Choice(["regression", "classification"]),
        help="By default words, categories and flags are classified.",
    ),
    click.option("--groups", help="Column whose groups are held out whole, as a third split."),
    click.option(
        "--control",
        "controls",
        multiple=True,
        help="Column that vectors are held against: what do they add? May be repeated.",
    ),
    click.option(
        "--spatial",
        type=click.Choice(["residuals"]),
        help="Also score, and predict by, vectors and position together.",
    ),
    click.option(
        "--kernel", is_flag=True, help="Also score, and predict by, a kernel of the vectors."
    ),
    click.option("--weights", help="Column that says how much each row counts, such as people."),
    click.option(
        "--bounds",
        type=(float, float),
        metavar="LOW HIGH",
        help="Kept by predictions and intervals, such as 0 1; inf where there is none.",
    ),
    click.option("--block-km", type=float, help="Side of a block of a TABLE.  [default: 300]"),
    click.option("--folds", type=click.IntRange(min=3), default=5, show_default=True),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the folds."),
    click.option(
        "--level",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.9,
        show_default=True,
        help="Share of the places that intervals should hold.",
    ),
)
OUTPUT_OPTIONS = option_group(
    click.option(
        "--features",
        help="A modality or joined, to predict and map by, else what scored best; of a --suite, "
        "the only set that is scored.",
    ),
    click.option(
        "--predict",
        type=(str, str),
        metavar="TABLE OUT",
        help="Write TABLE with predictions and their intervals beside its own columns.",
    ),
    prefix_option("ug_"),
    click.option(
        "--map",
        "map_",
        type=(str, str),
        metavar="REGION OUT",
        help="Write predictions as .tif or .zarr: of a region's name, a box, GeoJSON, or all.",
    ),
    click.option("--save", metavar="FOLDER", help="Keep the fitted probe."),
    click.option(
        "--without-locations",
        is_flag=True,
        help="Save no model with position, which holds the locations of the TABLE.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace a map or a saved probe that is there."),
    click.option(
        "-o", "--out", help="Also write: .md what is printed, .csv or .parquet every score."
    ),
)


@click.command()
@FIELD
@click.argument("table", required=False)
@FIT_OPTIONS
@SAMPLING
@DIMS
@click.option(
    "--load", metavar="FOLDER", help="A saved probe, instead of TABLE: to predict and map by."
)
@click.option("--suite", help="A .toml that names tables and targets, instead of TABLE.")
@click.option("--data", help="Folder of the suite's tables.")
@click.option(
    "--numbers",
    metavar="FOLDER",
    help="Hand-made numbers at the suite's rows, by `unigeo-produce numbers`, to be held against.",
)
@click.option(
    "--foldings",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Assignments of a suite's blocks to folds, each of the next seed.",
)
@OUTPUT_OPTIONS
@JSON
@QUIET
def probe(
    store: str | None,
    table: str | None,
    named: str | None,
    targets: tuple[str, ...],
    load: str | None,
    suite: str | None,
    data: str | None,
    out: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Score how well vectors predict a TABLE.

    Linear probes are fitted on its target columns. Scores (R2 of numbers; accuracy, balanced
    accuracy and average precision of classes) are of random and of spatially blocked folds, beside
    baselines on longitude and latitude.
    """
    from unigeo.schemas.tables.table_files import write_table

    alone = suite is not None or load is not None
    address, table = field_or_table(store, table, named, alone=alone)
    check_report(out)
    probed, new = None, None
    if suite is None:
        check_source(table, targets, load, data, options)
        check_outputs(targets, options)
        field = leading(opened_field(address, quiet=quiet), options)
        probed, new = _probe_table(field, table, targets, load, options, quiet)
        report, text = probed.scores, _scores_text(probed)
    else:
        folder = check_suite_options(data)
        field = leading(opened_field(address, quiet=quiet), options)
        with _printed_warnings():
            report, text = suite_report(field, suite, folder, options, shows_progress(quiet))
    if as_json:
        intervals = [] if probed is None else to_records(probed.intervals)
        gains = [] if probed is None else to_records(probed.gains)
        print_json({"scores": to_records(report), "intervals": intervals, "gains": gains})
    else:
        click.echo(text)
    if out and out.endswith(".md"):
        _write_text(out, text)
    elif out:
        write_table(report, out)
    if probed is not None:
        if options["save"] is not None:
            probed.save(
                options["save"],
                options["features"],
                locations=not options["without_locations"],
                overwrite=options["overwrite"],
            )
        _write_predictions(probed, new, options, quiet)
        _write_map(probed, targets, options, shows_progress(quiet))


def _probe_table(
    field: "Field",
    table: str | None,
    targets: tuple[str, ...],
    load: str | None,
    options: dict[str, Any],
    quiet: bool,
) -> "tuple[Probe, TableParts | None]":
    """Load or fit a probe, after all outputs and the table to predict are checked.

    Returns:
        The probe, and the opened table of --predict.
    """
    from unigeo.client.probing.probe import Probe

    with _printed_warnings():
        loaded = None if load is None else Probe.load(load, field)
    if loaded is not None:
        check_outputs(targets or loaded.targets, options)
        check_targets(targets, loaded)
        options["modalities"] = loaded.modalities
    new = _open_prediction_table(field, options, quiet)
    check_predictions(field, new, options, loaded)
    if loaded is not None:
        return loaded, new
    assert table is not None
    return _fit_probe(field, table, list(targets), options, False if quiet else None), new


def _fit_probe(
    field: "Field", table: str, targets: list[str], options: dict[str, Any], progress: bool | None
) -> "Probe":
    from unigeo.schemas.tables.table_files import read_table

    coordinates = ("lon", "lat", "position", "crs")
    names = ("modalities", "all_covariates", "covariates", "method", "task", *coordinates)
    folding = ("groups", "folds", "seed", "level", "spatial", "kernel", "weights", "bounds")
    arguments = field_arguments({key: options[key] for key in (*names, *folding)})
    if options["block_km"] is not None:
        arguments["block_km"] = options["block_km"]
    if options["controls"]:
        arguments["controls"] = list(options["controls"])
    with _printed_warnings():
        frame = read_table(table, columns=arguments["columns"])
        return field.probe(frame, targets, progress=progress, **arguments)


@contextmanager
def _printed_warnings() -> Iterator[None]:
    """Print the warnings of a probe to stderr, each text once."""
    from unigeo.schemas.errors import PointsWarning, ProbeWarning

    with warnings.catch_warnings(record=True) as caught:
        for category in (ProbeWarning, PointsWarning):
            warnings.simplefilter("always", category)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        click.echo(f"Warning: {message}", err=True)


def _scores_text(probe: "Probe") -> str:
    """Return the scores, and the coverage of the intervals that predict by default, as Markdown."""
    from unigeo.client.probing.probe_text import probe_text
    from unigeo.client.probing.score_tables import to_markdown

    intervals = probe.intervals
    best = intervals["target"].map({name: probe.default_features(name) for name in probe.targets})
    shown = intervals[intervals["features"] == best]
    if shown.empty:
        return probe.text()
    table = shown[["target", "features", "split", "half_width", "coverage"]].set_index("target")
    return probe_text(
        probe,
        more=f"\n\n{to_markdown(table)}\n\nIntervals that should hold {100 * probe.level:g} % of "
        "held-out points: half their width, and the share they held.",
    )


def _open_prediction_table(
    field: "Field", options: dict[str, Any], quiet: bool
) -> "TableParts | None":
    """Open the table of --predict, which stays open until the command ends."""
    from unigeo.client.commands.table_parts import table_parts

    if options["predict"] is None:
        return None
    opened = table_parts(field, options["predict"][0], None, point_arguments(options), quiet)
    return click.get_current_context().with_resource(opened)


def _write_predictions(
    probe: "Probe", new: "TableParts | None", options: dict[str, Any], quiet: bool
) -> None:
    from unigeo.client.commands.result_columns import predicted_columns
    from unigeo.client.commands.table_parts import write_each_part

    if new is None:
        return
    answer = predicted_columns(probe, options["features"], options["prefix"], new.names)
    with _printed_warnings():
        out = options["predict"][1]
        write_each_part(new, answer, point_arguments(options), out, None, quiet, keep_columns=True)


def _write_map(
    probe: "Probe", targets: tuple[str, ...], options: dict[str, Any], progress: bool
) -> None:
    if options["map_"] is None:
        return
    out, where = options["map_"][1], mapped_region(options)
    write = probe.to_zarr if out.lower().endswith(".zarr") else probe.to_geotiff
    overwrite = options["overwrite"]
    target = targets[0] if targets else None
    write(out, target, where, options["features"], overwrite=overwrite, progress=progress)


def _write_text(path: str, text: str) -> None:
    from pathlib import Path

    from unigeo.schemas.errors import StoreError
    from unigeo.schemas.io import atomic_files

    try:
        atomic_files.write_text(Path(path), text + "\n")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}") from error
