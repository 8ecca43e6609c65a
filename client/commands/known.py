"""The commands on what is there to begin with: fields and example."""

import click

from unigeo.client.commands.options import JSON, print_json


@click.command()
@JSON
def fields(as_json: bool) -> None:
    """List the fields that have a name.

    They are installed, named in ~/.config/unigeo/fields.toml, or listed by a catalogue that this
    file names.
    """
    from dataclasses import asdict

    from unigeo.client.naming.default_field import default_field
    from unigeo.client.naming.known_fields import known_fields
    from unigeo.schemas.io.installed_fields import how_to_install

    known, unread = known_fields()
    default = default_field()
    for reason in unread:
        click.echo(f"Warning: {reason}", err=True)
    if as_json:
        print_json({"default": default.named, "fields": [asdict(field) for field in known]})
        return
    width = max((len(field.name) for field in known), default=0)
    for field in known:
        click.echo(f"{field.name:<{width}}  {field.address}  ({field.origin})")
    if not known:
        click.echo(f"No field has a name; {how_to_install()}")
    click.echo(f"Where no field is named: {default.named}", err=True)


@click.command()
@click.argument("name", default="counties", metavar="[NAME]")
@click.option("-o", "--out", help="Table to write, of any format; by default CSV on stdout.")
@click.option("--datasheet", is_flag=True, help="Print what each column means, as JSON, instead.")
def example(name: str, out: str | None, datasheet: bool) -> None:
    """Write a table of real targets: counties.

    They are 3,108 counties with ten targets, such as income and fine particles.
    """
    from unigeo.client.examples import example_tables
    from unigeo.schemas.tables.table_files import check_writable, write_table

    if datasheet:
        if out is not None:
            raise click.UsageError("--datasheet is printed: leave --out out")
        print_json(example_tables.datasheet(name))
        return
    check_writable(out)
    table = example_tables.example(name)
    table.attrs = {}
    write_table(table, out)
