"""The `unigeo` command: info, sample, join, probe, preview, validate, cite."""

import sys
from typing import TYPE_CHECKING, Any

import click

from unigeo.schemas.errors import UnigeoError

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.field import Field

STORE = click.argument("store", metavar="STORE")
MODALITY = click.option(
    "--modality",
    "modalities",
    multiple=True,
    help="Which vectors; all by default. May be repeated.",
)
METHOD = click.option(
    "--method", type=click.Choice(["nearest", "bilinear"]), default="nearest", show_default=True
)
LON = click.option("--lon", help="Name of the longitude column, if not usual.")
LAT = click.option("--lat", help="Name of the latitude column, if not usual.")
CRS = click.option("--crs", help="CRS of the coordinates, such as EPSG:5070; degrees by default.")
OUT = click.option("-o", "--out", help="File to write, .csv or .parquet; CSV on stdout by default.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="unigeo")
def unigeo() -> None:
    """Read an embedding field: vectors of places, for any table with coordinates.

    STORE is a folder or an https://, s3://, gs:// or az:// address.
    """


@unigeo.command()
@STORE
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def info(store: str, as_json: bool) -> None:
    """Say what a field is and what it covers."""
    from unigeo.client.opening import open_field

    facts = open_field(store).info()
    if as_json:
        import json

        click.echo(json.dumps(facts, indent=2))
        return
    rows, cols = facts["shape"]
    click.echo(f"{facts['region']}  ({facts['url']}, {facts['state']})")
    click.echo(f"  cells        {rows} x {cols} of {facts['resolution_m']:g} m, {facts['crs']}")
    click.echo(f"  vectors      {', '.join(facts['modalities'])}; {facts['bands']} bands, int8")
    click.echo(f"  model        {facts['model']['name']} {facts['model']['sha256'][:12]}")
    click.echo(f"  observations {facts['observations']}")
    for modality, counts in facts["cells"].items():
        listed = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
        click.echo(f"  {modality:<12} {listed}")
    click.echo(f"  licence      {facts['licence']}")


@unigeo.command()
@STORE
@click.argument("points", required=False)
@click.option("--at", nargs=2, type=float, metavar="LON LAT", help="One place instead of a file.")
@MODALITY
@METHOD
@LON
@LAT
@CRS
@click.option("--missing", type=click.Choice(["nan", "raise", "drop"]), default="nan")
@OUT
def sample(store: str, points: str | None, at: Any, out: str | None, **options: Any) -> None:
    """Write place and vectors of POINTS: a CSV, Parquet or GeoJSON file, or - for CSV on stdin."""
    import pandas as pd

    from unigeo.client.opening import open_field
    from unigeo.schemas.points import Points, read_points
    from unigeo.schemas.tables import check_writable, read_table, write_table

    if (points is None) == (at is None):
        raise click.UsageError("name a file of POINTS, or one place with --at LON LAT")
    check_writable(out)
    reading = _reading(options)
    field = open_field(store)
    where = [at] if at is not None else read_table(str(points))
    lonlat = read_points(where, reading.pop("crs"), reading.pop("columns")).lonlat
    numbered = Points(lonlat, pd.RangeIndex(len(lonlat)))
    vectors = field.sample(numbered, progress=_watched(), **reading)
    places = pd.DataFrame(lonlat[vectors.index], columns=["lon", "lat"], index=vectors.index)
    write_table(pd.concat([places, vectors], axis=1), out)


@unigeo.command()
@STORE
@click.argument("table")
@MODALITY
@METHOD
@LON
@LAT
@CRS
@click.option("--prefix", default="ug_", show_default=True, help="Put before the new columns.")
@OUT
def join(store: str, table: str, out: str | None, **options: Any) -> None:
    """Write TABLE with the vectors beside its own columns; - is CSV on stdin."""
    from unigeo.client.opening import open_field
    from unigeo.schemas.tables import check_writable, read_table, write_table

    check_writable(out)
    joined = open_field(store).join(read_table(table), progress=_watched(), **_reading(options))
    write_table(joined, out)


@unigeo.command()
@STORE
@click.argument("table", required=False)
@click.option("--target", "targets", multiple=True, help="Column to predict. May be repeated.")
@click.option("--suite", help="A .toml that names tables and targets, instead of TABLE.")
@click.option("--data", help="Folder of the suite's tables.")
@MODALITY
@METHOD
@LON
@LAT
@CRS
@click.option("--block-km", type=float, help="Side of a block of a TABLE.  [default: 300]")
@click.option("--folds", type=int, default=5, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the folds.")
@click.option("-o", "--out", help="Also write: .md what is printed, .csv or .parquet every score.")
def probe(
    store: str,
    table: str | None,
    targets: tuple[str, ...],
    suite: str | None,
    data: str | None,
    out: str | None,
    **options: Any,
) -> None:
    """Fit linear probes: R2 of random and blocked folds, beside baselines on lon/lat."""
    from unigeo.client.opening import open_field
    from unigeo.schemas.tables import write_table

    _check_report(out)
    if suite is None:
        if table is None or not targets or data is not None:
            raise click.UsageError(
                "name a TABLE with --target columns, or a --suite with its --data"
            )
        report, text = _probe_table(open_field(store), table, list(targets), options)
    else:
        own = [table, *targets, *(options[key] for key in ("lon", "lat", "crs", "block_km"))]
        if data is None or any(value is not None for value in own):
            raise click.UsageError(
                "a --suite needs --data, and names tables, targets, coordinates and blocks itself"
            )
        report, text = _probe_suite(open_field(store), suite, data, options)
    click.echo(text)
    if out and out.endswith(".md"):
        _write_text(out, text)
    elif out:
        write_table(report, out)


def _probe_table(
    field: "Field", table: str, targets: list[str], options: dict[str, Any]
) -> "tuple[pd.DataFrame, str]":
    """Every score, and the text that shows them."""
    from unigeo.client.reporting import by_features, to_markdown
    from unigeo.schemas.tables import read_table

    reading = _reading(options)
    block_km = reading.pop("block_km")
    if block_km is not None:
        reading["block_km"] = block_km
    report = field.probe(read_table(table), targets, progress=_watched(), **reading).scores
    used = report.drop_duplicates("target")
    counts = "; ".join(
        f"{row.target}: {row.points:,} points ({row.dropped:,} without a vector left out) in "
        f"{row.blocks} blocks"
        for row in used.itertuples()
    )
    return report, f"{to_markdown(by_features(report))}\n\nR2 of held-out predictions. {counts}."


def _probe_suite(
    field: "Field", suite: str, data: str, options: dict[str, Any]
) -> "tuple[pd.DataFrame, str]":
    """Every score, and the text that shows them."""
    import shlex
    from importlib.metadata import version
    from pathlib import Path

    from unigeo.client.suites import load_suite, probe_suite, suite_markdown

    modalities, method = options["modalities"] or None, options["method"]
    chosen = load_suite(suite)
    report = probe_suite(
        chosen,
        Path(data),
        lambda lonlat: field.features(lonlat, modalities, method=method),
        folds=options["folds"],
        seed=options["seed"],
        progress=_watched(),
    )
    model = field.attributes.model
    facts = {
        "command": f"`{shlex.join(['unigeo', *sys.argv[1:]])}`",
        "suite": chosen.name,
        "field": f"{field.attributes.region}, {field.grid.resolution_m:g} m cells of "
        f"{field.grid.crs}, {field.bands} bands",
        "sampling": method,
        "model": f"{model.name} {model.sha256[:12]}",
        "folds": f"{options['folds']}, seed {options['seed']}",
        "unigeo": version("unigeo"),
    }
    return report, suite_markdown(report, facts)


@unigeo.command()
@STORE
@MODALITY
@click.option("-o", "--out", default="preview", show_default=True, help="Folder for the pictures.")
def preview(store: str, modalities: tuple[str, ...], out: str) -> None:
    """Draw each modality as a map, its three main directions as colours."""
    from unigeo.client.opening import open_field

    for path in open_field(store).preview(out, modalities or None):
        click.echo(path)


@unigeo.command()
@STORE
def validate(store: str) -> None:
    """List everything in a store that breaks the layout; exit code 1 if there is any."""
    from unigeo.schemas.stores import open_group
    from unigeo.schemas.validation import field_problems

    problems = field_problems(open_group(store))
    for problem in problems:
        click.echo(problem)
    if problems:
        raise click.exceptions.Exit(1)
    click.echo(f"{store} keeps the layout")


@unigeo.command()
@STORE
def cite(store: str) -> None:
    """Say how to cite a field, and its licence."""
    from unigeo.client.opening import open_field

    click.echo(open_field(store).cite())


def _reading(options: dict[str, Any]) -> dict[str, Any]:
    """The command's options as keyword arguments of the field's verbs."""
    options = dict(options)
    lon, lat = options.pop("lon"), options.pop("lat")
    if (lon is None) != (lat is None):
        raise click.UsageError("name both --lon and --lat, or neither")
    options["columns"] = None if lon is None else (lon, lat)
    options["modalities"] = options["modalities"] or None
    return options


def _watched() -> bool:
    """Whether somebody looks at stderr, so that a progress bar is of use."""
    return sys.stderr.isatty()


def _check_report(out: str | None) -> None:
    """Refuse a report that cannot be written, before the probes run."""
    from pathlib import Path

    from unigeo.schemas.errors import StoreError
    from unigeo.schemas.tables import check_writable

    if out is None or not out.endswith(".md"):
        check_writable(out)
    elif not Path(out).parent.is_dir():
        raise StoreError(f"cannot write {out}: there is no folder {Path(out).parent}")


def _write_text(path: str, text: str) -> None:
    from pathlib import Path

    from unigeo.schemas.errors import StoreError

    part = Path(path + ".partial")
    try:
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error}") from error


def main() -> None:
    """Run the command; what a user can mend ends in one message and exit code 2."""
    try:
        unigeo()
    except UnigeoError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
