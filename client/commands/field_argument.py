"""Which argument of a command names the field, and the field that is read where none does."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unigeo.client.commands.options import option_group

if TYPE_CHECKING:
    from unigeo.client.field.field import Field

FIELD = option_group(
    click.argument("store", metavar="[FIELD]", required=False),
    click.option("--field", "named", metavar="NAME", help="The field, instead of the argument."),
)
"""The field, as the first argument or as --field; the functions below tell arguments apart."""


def only_field(store: str | None, named: str | None) -> str | None:
    """Return the field of a command that takes nothing else; None where none is named."""
    if store is not None and named is not None:
        raise click.UsageError(f"the field is named twice: {store} and --field {named}")
    return named if store is None else store


def field_and_table(
    store: str | None, table: str | None, named: str | None, metavar: str
) -> tuple[str | None, str]:
    """Return the field and the table of a command that needs a table.

    Two arguments are the field and the table, one is the table.

    Args:
        store: first argument.
        table: second argument.
        named: value of --field.
        metavar: name of the table in the help.
    """
    field, table = field_or_table(store, table, named, alone=False)
    if table is None:
        raise click.UsageError(f"Missing argument '{metavar}'.")
    return field, table


def field_or_table(
    store: str | None, table: str | None, named: str | None, *, alone: bool
) -> tuple[str | None, str | None]:
    """Return the field and the table of a command for which options may stand for the table.

    Args:
        store: first argument.
        table: second argument.
        named: value of --field.
        alone: whether such options are given, so that one argument is the field.
    """
    if table is None and not alone:
        if store is not None and _is_store(store):
            raise click.UsageError(f"name the table beside the field {store}")
        store, table = None, store
    return only_field(store, named), table


def field_first(
    store: str | None, others: Sequence[str | None], named: str | None, count: int | None = None
) -> tuple[str | None, list[str]]:
    """Return the field and the other arguments of a command whose field may be left out.

    The first argument is the field if it ends in .zarr, is a folder or has a scheme.

    Args:
        store: first argument.
        others: the arguments after it.
        named: value of --field.
        count: the most arguments that the command takes beside the field; None for any number.
    """
    rest = [one for one in others if one is not None]
    if store is not None and (named is not None or not _is_address(store)):
        rest.insert(0, store)
        store = None
    if count is not None and len(rest) > count:
        raise click.UsageError(
            f"unexpected argument {rest[count]!r}. A field that is named first ends in .zarr, is a "
            "folder or has a scheme; name another with --field"
        )
    return only_field(store, named), rest


def _is_store(argument: str) -> bool:
    path = Path(argument).expanduser()
    return argument.rstrip("/").endswith(".zarr") or (path / "zarr.json").is_file()


def _is_address(argument: str) -> bool:
    return _is_store(argument) or "://" in argument or Path(argument).expanduser().is_dir()


def field_address(store: str | None, named: str | None) -> str:
    """Return the address of a store that need not be a sound field."""
    from unigeo.client.naming.default_field import default_field
    from unigeo.client.naming.known_fields import address_of

    field = only_field(store, named)
    if field is None:
        default = default_field()
        click.echo(f"Note: no field is named: this is {default.named}", err=True)
        return default.address()
    return address_of(field)


def opened_field(field: str | None, *, quiet: bool = False) -> "Field":
    """Open a field by its address or name, else the default, which is said on stderr."""
    from unigeo.client.field.opening import open_field
    from unigeo.client.naming.default_field import default_field

    if field is not None:
        return open_field(field)
    default = default_field()
    opened = open_field(default.address())
    if not quiet:
        said = default.sentence(opened.attributes.region, opened.grid.resolution_m)
        click.echo(f"Note: {said}", err=True)
    return opened
