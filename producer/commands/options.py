"""Options that several commands share: decorators that add them, and functions that read them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unigeo.producer.observations.open_named import WORLD, is_set
from unigeo.schemas.errors import ObservationsError, StoreError

if TYPE_CHECKING:
    from unigeo.producer.publishing.terms import Terms
    from unigeo.producer.raster.run import ExecutionOptions


def takes_observations(command: Any) -> Any:
    """Add `--observations` and `--data`; `check_observations` checks them."""
    data = click.option("--data", help="Folder that the observations' files are in.")
    described = click.option(
        "--observations",
        help="An observations.toml, the folder or address of a set, or `world` for a synthetic "
        "world; by default open data of the contiguous United States that come with unigeo.",
    )
    return described(data(command))


def takes_settings(command: Any) -> Any:
    """Add `--set` and `--prefixes`; `setting_changes` reads them."""
    prefixes = click.option(
        "--prefixes",
        metavar="64,128,...",
        help="Leading dimensions trained to serve alone: training.contrast.prefixes.",
    )
    setting = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change a setting: model.coordinate.depth=6, training.batch=512, model.text=none. "
        "May be repeated.",
    )
    return setting(prefixes(command))


def takes_execution(command: Any) -> Any:
    """Add the options of rasterization; `execution_options` reads them."""
    for option in (
        click.option(
            "--price-per-hour", type=click.FloatRange(min=0), help="Of one worker, for --dry-run."
        ),
        click.option(
            "--accept-failures", is_flag=True, help="Publish even where cells failed, as failed."
        ),
        click.option(
            "--tries",
            type=int,
            default=2,
            show_default=True,
            help="Times that a shard is begun before what fails there is named.",
        ),
        click.option(
            "--log", help="File of JSON lines; OUT.log.jsonl by default, if OUT is local."
        ),
        click.option(
            "--scheduler", metavar="tcp://HOST:PORT", help="Rasterize on a dask cluster's workers."
        ),
        click.option(
            "--patience",
            type=click.FloatRange(min=0),
            default=600.0,
            show_default=True,
            metavar="SECONDS",
            help="How long a store or a scheduler that does not answer is asked again.",
        ),
        click.option("--workers", type=int, help="Rasterize on so many processes of this machine."),
    ):
        command = option(command)
    return command


def execution_options(options: dict[str, Any]) -> "ExecutionOptions":
    """Return how a run is executed.

    Raises:
        ModelError: if the options contradict each other.
    """
    from unigeo.producer.raster.run import ExecutionOptions

    return ExecutionOptions(
        **{name: options[name] for name in ("workers", "scheduler", "log", "tries")},
        **{name: options[name] for name in ("accept_failures", "observations", "data")},
        patience_s=options["patience"],
    )


def takes_terms(command: Any) -> Any:
    """Add `--licence`, `--citation` and `--provider`; `publication_terms` reads them."""
    for option in (
        click.option(
            "--provider",
            "providers",
            multiple=True,
            metavar="NAME",
            help="Who provides the field. May be repeated.",
        ),
        click.option("--citation", help="How to cite the field; as its observations by default."),
        click.option(
            "--licence",
            help="Of the field: an SPDX identifier or a sentence; its observations' by default.",
        ),
    ):
        command = option(command)
    return command


def publication_terms(options: dict[str, Any]) -> "Terms":
    """Return the terms of publication.

    Raises:
        StoreError: if one is empty.
    """
    from unigeo.producer.publishing.terms import Terms

    return Terms(**{name: options[name] for name in ("licence", "citation", "providers")})


def setting_changes(options: dict[str, Any]) -> dict[str, str]:
    """Return changes of settings by key; where a key is repeated, the last change wins.

    Raises:
        ModelError: if one is not written `key=value`.
    """
    from unigeo.producer.pipeline.overrides import split_change

    changes = dict(split_change(text) for text in options["settings"])
    if options["prefixes"] is not None:
        changes["training.contrast.prefixes"] = options["prefixes"]
    return changes


def output_folder(given: str | None, default: Path) -> Path:
    """Return the folder of --out, after checking that it can be written to.

    Raises:
        StoreError: if it is empty, or cannot be written to.
    """
    from unigeo.schemas.io.addresses import check_destination

    folder = default if given is None else Path(given)
    if given is not None and not given.strip():
        raise StoreError(
            f"--out is empty (was a variable left unset?); leave it out to write to {default}"
        )
    check_destination(folder / "report.html", str(folder), makes_folders=True)
    return folder


def check_observations(path: str | None, data: str | None) -> None:
    """Refuse observations that cannot exist, before anything slow is imported.

    Raises:
        ObservationsError: if there is no such file, or `data` without one.
    """
    if data is not None and (path in (None, WORLD) or is_set(path)):
        told = "; name both" if path is None else f", and {path} is none; leave out --data"
        raise ObservationsError(f"--data is the folder of an --observations file{told}")
    if path not in (None, WORLD) and not (is_set(path) or Path(path).is_file()):
        raise ObservationsError(f"there is no observations file {path}")
