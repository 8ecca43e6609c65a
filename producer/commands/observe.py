"""`unigeo-produce observe`: a set of observations from open catalogues."""

import os
import sys
from pathlib import Path

import click

from unigeo.producer.pipeline.stopping import kept_when_stopped


@click.command()
@click.argument("description", metavar="SET.toml", type=click.Path(path_type=Path))
@click.option("--out", required=True, help="Folder or address of the set.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True,
              help="Shards built at once.")  # fmt: skip
@click.option("--patience", type=click.FloatRange(min=0), default=600.0, show_default=True,
              metavar="SECONDS", help="How long a service or a store that does not answer is asked "
              "again.")  # fmt: skip
@click.option("--from", "earlier", metavar="EARLIER",
              help="A set, finished or not, whose observations are taken over where they are the "
              "same.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say how many places and shards there will be.")
def observe(
    description: Path,
    out: str,
    workers: int,
    patience: float,
    earlier: str | None,
    dry_run: bool,
) -> None:
    """Build a set of observations as SET.toml describes it, to train on.

    A build that was stopped goes on where it stopped. The set is used as
    `unigeo-produce --observations OUT`; its datasheet is OUT/datasheet.md. After a change of
    SET.toml or of a file, name another OUT and the earlier set: `--from EARLIER`.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from unigeo.schemas.io.retrying import patient

    with patient(patience):
        _observe(description, out, workers, earlier, dry_run)


def _observe(description: Path, out: str, workers: int, earlier: str | None, dry_run: bool) -> None:
    from unigeo.producer.sources.build_set import observe_set, prepare
    from unigeo.producer.sources.change_clauses import join_clauses
    from unigeo.producer.sources.set_description import read_set_description

    prepared = prepare(read_set_description(description), dry_run=dry_run, earlier=earlier)
    plan = prepared.plan
    splits = {name: plan.splits.count(name) for name in dict.fromkeys(plan.splits)}
    click.echo(
        f"{plan.description.name}: {len(plan.splits):,} places in {len(plan.shards):,} shards; "
        + ", ".join(f"{name} {number:,}" for name, number in sorted(splits.items())),
        err=True,
    )
    for modality, refused in prepared.passed_over().items():
        click.echo(
            f"{modality}: passed over {len(refused):,} files: {join_clauses(refused)}", err=True
        )
    if prepared.earlier is not None:
        for change in prepared.earlier.changes or ["nothing differs"]:
            click.echo(f"after {earlier}: {change}", err=True)
    if dry_run:
        return
    with (
        kept_when_stopped(
            f"the finished shards of {out} are kept, and the same command goes on with the next"
        ),
        click.progressbar(length=len(plan.shards), label="shards", file=sys.stderr) as bar,
    ):

        def finished(done: int, _: int) -> None:
            bar.update(done - bar.pos)

        built = observe_set(prepared, out, workers, finished)
    for modality in built.modalities[1:]:
        counts = built.about["counts"][modality]
        lost = ", ".join(f"{reason} {number:,}" for reason, number in counts["reasons"].items())
        taken = "" if prepared.earlier is None else prepared.earlier.taken[modality]
        told = f"{counts['observed']:,} observed" + (
            f", {taken:,} of them taken over" if taken else ""
        )
        click.echo(f"{modality}: {told}; {lost or 'none missing'}", err=True)
    click.echo(out)
