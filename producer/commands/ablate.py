"""The command `unigeo-produce ablate`: run the trials of a table and report their effects."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unigeo.producer.commands.options import (
    check_observations,
    output_folder,
    setting_changes,
    takes_observations,
    takes_settings,
)
from unigeo.producer.observations.open_named import open_named
from unigeo.schemas.errors import ModelError

if TYPE_CHECKING:
    from unigeo.producer.ablation.ablation_table import AblationTable
    from unigeo.producer.ablation.trials import Trial

_FAILED, _INTERRUPTED = 1, 130


@click.command()
@click.argument("table", metavar="TABLE.toml")
@takes_observations
@takes_settings
@click.option("--out", help="Folder of runs and report; the table's name by default.")
@click.option("--seeds", type=click.IntRange(min=1), help="Runs of each row, if not the table's.")
@click.option(
    "--question",
    "questions",
    multiple=True,
    help="Only this one, without what is in brackets; may be repeated.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Trainings at once, each a process of one thread. By default one, here.",
)
@click.option(
    "--run",
    "key",
    metavar="HASH",
    help="Carry out one run of --dry-run's list and write no report, as for job arrays; - reads "
    "their hashes, one a line.",
)
@click.option("--dry-run", is_flag=True, help="List the runs and how long they may take.")
def ablate(table: str, **options: Any) -> None:
    """Train every row of a table with several seeds, and compare each with the base.

    TABLE.toml names a base and rows that change some of its settings, grouped by question; see
    docs/examples/ablation.toml. Finished runs are kept: after a stop, or with new rows in the
    table, the same command does what is missing. The report is ablation.html in the folder.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `produce`; before torch is loaded
    from unigeo.producer.ablation.cached_observations import CachedObservations
    from unigeo.producer.ablation.run_metrics import metric
    from unigeo.producer.ablation.trials import plan_trials

    ablation = _read_table(table, options)
    for name in ablation.metrics:
        metric(name)
    description = None if ablation.observations is None else str(ablation.observations)
    data = None if ablation.data is None else str(ablation.data)
    check_observations(description, data)
    out = output_folder(options["out"], Path(ablation.path.stem))
    uncached = open_named(description, data)
    trials = plan_trials(ablation, uncached)
    observations = CachedObservations(uncached, out / "observed")
    if options["dry_run"]:
        _list_trials(ablation, trials, out, options["jobs"] or 1)
    elif options["key"] is not None:
        _run_by_key(ablation, trials, observations, out, options["key"])
    else:
        sys.exit(_run_all(ablation, trials, observations, out, table, options))


def _read_table(path: str, options: dict[str, Any]) -> "AblationTable":
    """Read the table, and apply the options of the command line to it."""
    from unigeo.producer.ablation.ablation_table import read_table

    table = read_table(path).select(options["questions"])
    description, data = options["observations"], options["data"]
    return replace(
        table,
        seeds=options["seeds"] or table.seeds,
        changes={**table.changes, **setting_changes(options)},
        observations=table.observations if description is None else Path(description),
        data=table.data if data is None else Path(data),
    )


def _list_trials(table: "AblationTable", trials: "list[Trial]", out: Path, jobs: int) -> None:
    from unigeo.producer.ablation.trials import estimated_seconds, read_error, read_result
    from unigeo.schemas.io.durations import format_duration

    for trial in trials:
        done = read_result(trial, out, table.metrics) is not None
        state = "finished" if done else "failed" if read_error(trial, out) else "open"
        click.echo(f"{trial.key}  {state:8}  {trial.title}")
    seconds = estimated_seconds(table, trials, out, jobs)
    keys = {trial.key for trial in trials}
    unknown = "after the first run it can be said how long"
    duration = unknown if seconds is None else f"about {format_duration(seconds)}"
    click.echo(
        f"{len(trials)} runs, {len(keys)} of them different; to be done: {duration}", err=True
    )


def _run_by_key(
    table: "AblationTable", trials: "list[Trial]", observations: Any, out: Path, key: str
) -> None:
    """Run the trial of a key; for `-`, those whose keys are read from stdin.

    Each key is written to stdout when its trial has ended, which `workers` waits for.
    """
    from unigeo.producer.ablation.run_trials import run_trial

    by_key = {trial.key: trial for trial in trials}
    for name in (line.strip() for line in sys.stdin) if key == "-" else [key]:
        if name not in by_key:
            raise ModelError(f"the table has no run {name}; --dry-run lists them")
        error = run_trial(by_key[name], table.metrics, observations, out)
        click.echo(name)
        if error is not None and key != "-":
            click.echo(f"failed: {error}", err=True)
            sys.exit(_FAILED)


def _run_all(
    table: "AblationTable",
    trials: "list[Trial]",
    observations: Any,
    out: Path,
    path: str,
    options: Any,
) -> int:
    """Run the unfinished trials, print each result, and write the report even if interrupted.

    Returns:
        The exit code.
    """
    from unigeo.producer.ablation.ablation_report import write_report
    from unigeo.producer.ablation.run_trials import run_in_process
    from unigeo.producer.ablation.trials import read_result
    from unigeo.producer.ablation.workers import run_workers

    different = list({trial.key: trial for trial in trials}.values())
    pending = [trial for trial in different if read_result(trial, out, table.metrics) is None]
    click.echo(f"{len(different)} runs, {len(different) - len(pending)} finished before", err=True)
    if options["jobs"] is None:
        ended = run_in_process(pending, table.metrics, observations, out)
    else:
        ended = run_workers(pending, _worker_command(path, out, options), options["jobs"], out)
    failed, code = 0, 0
    # Batch systems end a job by SIGTERM: raise KeyboardInterrupt, as for Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for number, (trial, error) in enumerate(ended, start=1):
            failed += error is not None
            result = read_result(trial, out, table.metrics)
            outcome = f"failed: {error}" if result is None else _summary(result)
            click.echo(f"{number}/{len(pending)}  {trial.title}: {outcome}", err=True)
    except KeyboardInterrupt:
        click.echo("stopped; the same command goes on from here", err=True)
        code = _INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
        ended.close()
        for report_path in write_report(table, trials, out):
            click.echo(str(report_path))
    return code or (_FAILED if failed else 0)


def _worker_command(path: str, out: Path, options: dict[str, Any]) -> list[str]:
    """Return the command line of a worker process."""
    command = [
        sys.executable,
        "-m",
        "unigeo.producer.commands.cli",
        "ablate",
        path,
        "--out",
        str(out),
    ]
    for name in ("observations", "data", "prefixes", "seeds"):
        if options[name] is not None:
            command += [f"--{name}", str(options[name])]
    for name, values in (("set", options["settings"]), ("question", options["questions"])):
        for value in values:
            command += [f"--{name}", value]
    return [*command, "--run", "-"]


def _summary(result: Any) -> str:
    pairs = result["retrieval"].get("R@10", {})
    recall = f"R@10 {100 * sum(pairs.values()) / len(pairs):.1f} %" if pairs else ""
    numbers = [f"{name} {value:.3f}" for name, value in result["numbers"].items()]
    return ", ".join([recall, *numbers, f"{result['seconds']:.0f} s"])
