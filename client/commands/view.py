"""The command `unigeo view`: a field in the browser."""

from pathlib import Path

import click

from unigeo.client.commands.field_argument import FIELD, only_field, opened_field


@click.command()
@FIELD
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Of 127.0.0.1; a free one by default."
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open nothing.")
@click.option(
    "--export",
    "folder",
    metavar="DIR",
    help="Write the page there instead, for a web server that serves it and the store.",
)
def view(
    store: str | None, named: str | None, port: int, no_browser: bool, folder: str | None
) -> None:
    """Look at a field in the browser: a map to click and to search.

    The page and the store are served on this machine alone, until Ctrl-C.
    """
    name = only_field(store, named)
    field = opened_field(name)  # what is no field is refused here, in a sentence
    if folder is not None:
        from unigeo.client.viewing.exported_page import export_page

        if port or no_browser:
            raise click.UsageError("--export serves nothing: leave --port and --no-browser out")
        click.echo(export_page(field.url, folder))
        return
    from unigeo.client.naming.known_fields import is_name
    from unigeo.client.viewing.page_server import PageServer

    is_known = name is not None and is_name(name) and not Path(name).exists()
    source = str(name) if is_known else field.url
    server = PageServer(field.url, port=port, source=source)
    click.echo(f"{server.url} shows {field.attributes.region}; Ctrl-C ends it")
    if not no_browser:
        import webbrowser

        webbrowser.open(server.url)
    server.serve_forever()
