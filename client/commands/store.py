"""The commands on a store and its metadata: info, preview, verify, validate, cite."""

from typing import Any

import click

from unigeo.client.commands.field_argument import FIELD, field_address, only_field, opened_field
from unigeo.client.commands.options import JSON, MODALITY, QUIET, print_json, shows_progress

SHOWN_COVARIATES = 5
"""Number of covariates that `info` names unless all are asked for."""


def _rest_of(count: int) -> str:
    """Say how many covariates are not shown, and what shows them."""
    more = count - SHOWN_COVARIATES
    return f" and {more} more (--all lists them, as does field.covariates)" if more > 0 else ""


@click.command()
@FIELD
@click.option("--all", "whole", is_flag=True, help="List every covariate.")
@JSON
def info(store: str | None, named: str | None, whole: bool, as_json: bool) -> None:
    """Say what a field is and what it covers."""
    from unigeo.schemas.store.supported_cells import ObservedDetail, describe_support

    facts = opened_field(only_field(store, named)).info()
    if as_json:
        print_json(facts)
        return
    rows, cols = facts["shape"]
    click.echo(f"{facts['region']}  ({facts['url']}, {facts['state']})")
    click.echo(f"  cells        {rows} x {cols} of {facts['resolution_m']:g} m, {facts['crs']}")
    widths = set(facts["widths"].values())
    usual = widths.pop() if len(widths) == 1 else facts["bands"]
    others = [f"{name} {n}" for name, n in facts["widths"].items() if n != usual]
    bands = f"{usual} bands" + (f" ({', '.join(others)})" if others else "")
    click.echo(f"  vectors      {', '.join(facts['modalities'])}; {bands}, int8")
    if facts["covariates"]:
        units = [f"{one['name']} ({one['unit']})" for one in facts["covariates"]]
        rest = "" if whole else _rest_of(len(units))
        shown = units if whole else units[:SHOWN_COVARIATES]
        click.echo(f"  covariates   {len(units)}: {', '.join(shown)}{rest}")
    details = facts["observed_detail"].items()
    if details:
        read = {name: ObservedDetail.model_validate(one) for name, one in details}
        click.echo(f"  supports     {describe_support(read)}")
    click.echo(f"  model        {facts['model']['name']} {facts['model']['sha256'][:12]}")
    click.echo(f"  observations {facts['observations']}")
    for modality, counts in facts["cells"].items():
        listed = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
        click.echo(f"  {modality:<12} {listed}")
    click.echo(f"  licence      {facts['licence']}")


@click.command()
@FIELD
@MODALITY
@click.option("-o", "--out", default="preview", show_default=True, help="Folder for the pictures.")
def preview(store: str | None, named: str | None, modalities: tuple[str, ...], out: str) -> None:
    """Draw each modality as a map.

    Its main directions, three at a time, are the colours.
    """
    for path in opened_field(only_field(store, named)).preview(out, modalities or None):
        click.echo(path)


@click.command()
@FIELD
@click.option(
    "--level",
    type=click.Choice(["presence", "hash"]),
    default="hash",
    show_default=True,
    help="hash reads every byte; presence asks for each object's size only.",
)
@JSON
@QUIET
def verify(store: str | None, named: str | None, level: Any, as_json: bool, quiet: bool) -> None:
    """Find what is damaged or missing in a store.

    Everything is compared with the store's own manifest; exit code 1 if anything differs.
    """
    from dataclasses import asdict

    from unigeo.client.verifying.verify import verify_store

    report = verify_store(field_address(store, named), level=level, progress=shows_progress(quiet))
    if as_json:
        print_json({"ok": report.ok, **asdict(report)})
    else:
        click.echo(report)
    if not report.ok:
        raise click.exceptions.Exit(1)


@click.command()
@FIELD
def validate(store: str | None, named: str | None) -> None:
    """Find what breaks the layout in a store.

    Only metadata and coordinates are read; exit code 1 if anything breaks it.
    """
    from unigeo.schemas.io.stores import open_group
    from unigeo.schemas.store.validation import field_problems

    address = field_address(store, named)
    problems = field_problems(open_group(address))
    for problem in problems:
        click.echo(problem)
    if problems:
        raise click.exceptions.Exit(1)
    click.echo(f"{address} keeps the layout")


@click.command()
@FIELD
@JSON
def cite(store: str | None, named: str | None, as_json: bool) -> None:
    """Say how to cite a field, and its licence."""
    field = opened_field(only_field(store, named))
    if not as_json:
        click.echo(field.cite())
        return
    model = field.attributes.model
    print_json(
        {
            "citation": field.citation,
            "field": field.attributes.region,
            "model": {"name": model.name, "sha256": model.sha256},
            "licence": field.licence,
        }
    )
