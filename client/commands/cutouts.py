"""The commands that cut a region out of a field: region, geotiff."""

from typing import Any

import click

from unigeo.client.commands.field_argument import FIELD, field_first, opened_field
from unigeo.client.commands.options import (
    CRS,
    MASK,
    MODALITY,
    NEGATIVE_NUMBERS,
    QUIET,
    check_output_path,
    option_group,
    shows_progress,
)

RASTER = option_group(
    click.option("--bands", help="Of a GeoTIFF: numbers such as 0,5,10-12; all by default."),
    click.option(
        "--dtype",
        type=click.Choice(["int8", "float32"]),
        default="int8",
        show_default=True,
        help="Of a GeoTIFF: the numbers as stored, or unit vectors.",
    ),
    CRS,
    MASK,
)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace a GeoTIFF that is there.")
TIFF = (".tif", ".tiff")


@click.command(context_settings=NEGATIVE_NUMBERS)
@FIELD
@click.argument("region", required=False)
@click.option("-o", "--out", required=True, help="A new .zarr, or a .tif of one modality.")
@MODALITY
@RASTER
@OVERWRITE
@QUIET
def region(
    store: str | None,
    region: str | None,
    named: str | None,
    out: str,
    modalities: tuple[str, ...],
    bands: str | None,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Cut REGION out of a field.

    REGION is a name, a box west,south,east,north or a file of polygons. As .zarr the part is a
    field of its own, widened to whole shards, and never written over another; as .tif it is the
    window round the region.
    """
    from unigeo.client.areas.subset import cut_field

    address, given = field_first(store, (region,), named, 1)
    if not given:
        raise click.UsageError("Missing argument 'REGION'.")
    check_output_path(out, (".zarr", *TIFF))
    if out.lower().endswith(TIFF):
        raster = options | {"overwrite": overwrite}
        _write_tiff(address, out, given[0], modalities, bands, raster, quiet)
        return
    if bands is not None or overwrite or options.pop("dtype") != "int8":
        raise click.UsageError("--bands, --dtype and --overwrite go with a GeoTIFF")
    cut_field(
        opened_field(address, quiet=quiet),
        out,
        given[0],
        modalities or None,
        progress=shows_progress(quiet),
        **options,
    )
    click.echo(out)


@click.command()
@FIELD
@click.option("-o", "--out", required=True, help="A .tif.")
@click.option("--region", help="A name, a box or a file of polygons; the whole field by default.")
@MODALITY
@RASTER
@OVERWRITE
def geotiff(
    store: str | None,
    named: str | None,
    out: str,
    region: str | None,
    modalities: tuple[str, ...],
    bands: str | None,
    **options: Any,
) -> None:
    """Write one modality as a tiled GeoTIFF."""
    address, _ = field_first(store, (), named, 0)
    _write_tiff(address, out, region, modalities, bands, options)


def _write_tiff(
    address: str | None,
    out: str,
    region: Any,
    modalities: tuple[str, ...],
    bands: str | None,
    options: dict[str, Any],
    quiet: bool = False,
) -> None:
    from unigeo.client.areas.geotiff_files import check_geotiff_path

    check_geotiff_path(out, options["overwrite"])
    field = opened_field(address, quiet=quiet)
    if len(modalities) > 1 or (not modalities and len(field.modalities) > 1):
        raise click.UsageError(
            f"a GeoTIFF holds one --modality; the field has {', '.join(field.modalities)}"
        )
    modality = modalities[0] if modalities else None
    click.echo(field.to_geotiff(out, region, modality, bands=_parse_bands(bands), **options))


def _parse_bands(bands: str | None) -> list[int] | None:
    """Parse band numbers and ranges, such as 0,5,10-12."""
    if bands is None:
        return None
    numbers: list[int] = []
    for part in bands.split(","):
        first, dash, last = part.partition("-")
        try:
            numbers += range(int(first), int(last if dash else first) + 1)
        except ValueError as error:
            raise click.UsageError(
                f"--bands are numbers such as 0,5,10-12, not {bands!r}"
            ) from error
    return numbers
