"""`unigeo-produce ablate`: carry out a table of trainings, and say what each change is worth."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unigeo.producer.commands.options import changed, changes_of, check_observations, observed
from unigeo.producer.observations.opening import open_named
from unigeo.schemas.errors import ModelError

if TYPE_CHECKING:
    from unigeo.producer.ablation.ablation_table import AblationTable
    from unigeo.producer.ablation.trials import Trial

_FAILED, _INTERRUPTED = 1, 130


@click.command()
@click.argument("table", metavar="TABLE.toml")
@observed
@changed
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
    from unigeo.producer.ablation.trials import trials

    chosen = _chosen(table, options)
    for name in chosen.metrics:
        metric(name)
    described = None if chosen.observations is None else str(chosen.observations)
    data = None if chosen.data is None else str(chosen.data)
    check_observations(described, data)
    out = Path(options["out"] or chosen.path.stem)
    plain = open_named(described, data)
    planned = trials(chosen, plain)
    observations = CachedObservations(plain, out / "observed")
    if options["dry_run"]:
        _list(chosen, planned, out, options["jobs"] or 1)
    elif options["key"] is not None:
        _run_named(chosen, planned, observations, out, options["key"])
    else:
        sys.exit(_carry_out(chosen, planned, observations, out, table, options))


def _chosen(path: str, options: dict[str, Any]) -> "AblationTable":
    """The table, with what the command line says of it."""
    from unigeo.producer.ablation.ablation_table import read_table

    table = read_table(path).part(options["questions"])
    described, data = options["observations"], options["data"]
    return replace(
        table,
        seeds=options["seeds"] or table.seeds,
        changes={**table.changes, **changes_of(options)},
        observations=table.observations if described is None else Path(described),
        data=table.data if data is None else Path(data),
    )


def _list(table: "AblationTable", planned: "list[Trial]", out: Path, jobs: int) -> None:
    from unigeo.producer.ablation.trials import error_of, estimated_seconds, result_of

    for trial in planned:
        done = result_of(trial, out, table.metrics) is not None
        state = "finished" if done else "failed" if error_of(trial, out) else "open"
        click.echo(f"{trial.key}  {state:8}  {trial.title}")
    seconds = estimated_seconds(table, planned, out, jobs)
    keys = {trial.key for trial in planned}
    hours = "after the first run it can be said how long" if seconds is None else _duration(seconds)
    click.echo(f"{len(planned)} runs, {len(keys)} of them different; to be done: {hours}", err=True)


def _run_named(
    table: "AblationTable", planned: "list[Trial]", observations: Any, out: Path, key: str
) -> None:
    """Carry out the run of a key, or those whose keys come on stdin, each answered by its key."""
    from unigeo.producer.ablation.run_trials import run_trial

    by_key = {trial.key: trial for trial in planned}
    for name in (line.strip() for line in sys.stdin) if key == "-" else [key]:
        if name not in by_key:
            raise ModelError(f"the table has no run {name}; --dry-run lists them")
        error = run_trial(by_key[name], table.metrics, observations, out)
        click.echo(name)
        if error is not None and key != "-":
            click.echo(f"failed: {error}", err=True)
            sys.exit(_FAILED)


def _carry_out(
    table: "AblationTable",
    planned: "list[Trial]",
    observations: Any,
    out: Path,
    path: str,
    options: Any,
) -> int:
    """Do what is missing, say each run's end, and write the report also when stopped."""
    from unigeo.producer.ablation.ablation_report import write_report
    from unigeo.producer.ablation.run_trials import run_here
    from unigeo.producer.ablation.trials import result_of
    from unigeo.producer.ablation.workers import run_workers

    different = list({trial.key: trial for trial in planned}.values())
    todo = [trial for trial in different if result_of(trial, out, table.metrics) is None]
    click.echo(f"{len(different)} runs, {len(different) - len(todo)} finished before", err=True)
    if options["jobs"] is None:
        ended = run_here(todo, table.metrics, observations, out)
    else:
        ended = run_workers(todo, _worker(path, out, options), options["jobs"], out)
    failed, code = 0, 0
    # Batch systems end a job by SIGTERM: stop as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for number, (trial, error) in enumerate(ended, start=1):
            failed += error is not None
            result = result_of(trial, out, table.metrics)
            said = f"failed: {error}" if result is None else _summary(result)
            click.echo(f"{number}/{len(todo)}  {trial.title}: {said}", err=True)
    except KeyboardInterrupt:
        click.echo("stopped; the same command goes on from here", err=True)
        code = _INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
        ended.close()
        for written in write_report(table, planned, out):
            click.echo(str(written))
    return code or (_FAILED if failed else 0)


def _worker(path: str, out: Path, options: dict[str, Any]) -> list[str]:
    """The command of a process that carries out the runs it is told."""
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


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
