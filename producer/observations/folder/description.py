"""The file `observations.toml`: what a folder of data holds, and how each modality is read.

A table describes a modality: one of the paper's by its name alone, any other by the key `encoder`.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SkipValidation

from unigeo.producer.observations.folder.dates import DatedText
from unigeo.producer.observations.forms import (
    COORDINATE,
    DEFAULT_ENCODERS,
    ENCODER_KINDS,
    EncoderKind,
    in_order,
)
from unigeo.producer.observations.raster_files.height_values import Scale
from unigeo.producer.observations.raster_files.raster_addresses import check_address, is_address
from unigeo.schemas.errors import LayoutError, ObservationsError
from unigeo.schemas.io.toml_files import TomlTable, parse_tables, read_toml
from unigeo.schemas.store.layout import check_modalities, check_modality


def _inside_the_folder(name: str) -> str:
    """Refuse a path that leaves the data folder: absolute, with `..`, or a URL."""
    windows = PureWindowsPath(name)
    outside = (
        PurePosixPath(name).is_absolute()
        or bool(windows.drive or windows.root)
        or ".." in windows.parts
        or "://" in name
    )
    if outside or not name or "\0" in name:
        raise ValueError(
            f"{name!r} must be a path inside the data folder: relative, without '..' and no URL"
        )
    return name


RelativePath = Annotated[str, AfterValidator(_inside_the_folder)]


def _file_or_address(name: str) -> str:
    """Accept an address, or a path inside the data folder."""
    return check_address(name) if is_address(name) else _inside_the_folder(name)


RasterFile = Annotated[str, AfterValidator(_file_or_address)]


class _Table(TomlTable):
    """A table of the file; a value of another type than its field's is an error, not converted."""

    model_config = ConfigDict(strict=True)


class LocationsDescription(_Table):
    """Where training locations come from."""

    file: RelativePath | None = None
    """Parquet or CSV, one row per location; without it all locations are drawn over land."""
    lon: str = "lon"
    lat: str = "lat"
    """Columns of WGS 84 degrees."""
    uniform: float = Field(default=0.5, ge=0, le=1)
    """Share of the locations drawn uniformly by area over land."""


class LandDescription(_Table):
    """Which area is land."""

    file: RelativePath
    """Polygons: GeoParquet in any CRS, or GeoJSON."""


class _Source(_Table):
    """Origin of the data of a modality."""

    encoder: EncoderKind | None = None
    """Encoder of a modality that is not one of the paper's."""
    acquired: DatedText = ""
    """Dates of acquisition: 2004, 2004-07, 2004-07-15, 2004/2006, or free text with such dates."""
    licence: str = ""
    credit: str = ""
    note: str = ""

    later_keys: ClassVar[tuple[str, ...]] = ("encoder",)
    """Keys that the record leaves out where they are not set: earlier versions lack them."""

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON, for the record."""
        unset = {key for key in self.later_keys if getattr(self, key) is None}
        return self.model_dump(mode="json", exclude=unset)


def _as_tuple(sides: Any) -> Any:
    """Accept a single side of a patch as a list of one."""
    return tuple(sides) if isinstance(sides, list | tuple) else (sides,)


Metres = Annotated[float, Field(gt=0, le=1_000_000)]


class _Patch(_Source):
    patch_px: int = Field(ge=4, le=4096)
    """Rows and columns of one patch."""


class RasterDescription(_Patch):
    """Patches cut from georeferenced rasters."""

    kind: Literal["raster"]
    files: tuple[RasterFile, ...] = Field(min_length=1, strict=False)
    """Rasters in any CRS, `*` allowed, or addresses (https://, s3://); where they overlap, the
    first one with data is used. See docs/rasters.md for the formats."""
    bands: tuple[int, ...] = Field(min_length=1, strict=False)
    """Bands to read, counted from 1; those of a palette are red, green and blue."""
    band_names: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    """Name of each band; by default those of the file."""
    variable: str | None = None
    """Variable of NetCDF files or array of Zarr stores, where there are several."""
    crs: str | None = None
    """Coordinate reference system, such as EPSG:32613, where the files declare none."""
    scale: Scale | None = None
    offset: float | None = Field(default=None, allow_inf_nan=False)
    """A value is scale x number + offset, where the file does not declare it itself."""
    patch_m: Annotated[tuple[Metres, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    """Side of one patch on the ground in metres. Several sides give views of the same location,
    near and wide, each of `patch_px` rows and columns, stacked along the channels."""
    units: str = ""
    """Unit of the values, for the record; in [dsm] the unit of height."""
    nodata: float | None = None
    """Nodata value, where the file does not declare it."""
    min_valid: float = Field(default=0.5, gt=0, le=1)
    """Share of a patch's pixels that must hold data."""

    later_keys: ClassVar[tuple[str, ...]] = (
        "encoder",
        "band_names",
        "variable",
        "crs",
        "scale",
        "offset",
    )


class HeightsDescription(RasterDescription):
    """A surface model: heights in metres after scale, offset and unit are applied."""

    lowest_m: float | None = Field(default=None, allow_inf_nan=False)
    highest_m: float | None = Field(default=None, allow_inf_nan=False)
    """Limits outside which heights are refused; by default -500 and 9,000 m."""

    later_keys: ClassVar[tuple[str, ...]] = (
        *RasterDescription.later_keys,
        "lowest_m",
        "highest_m",
    )


class ClassesDescription(RasterDescription):
    """A categorical raster, whose numbers name classes."""

    classes: Annotated[tuple[str, ...], Field(strict=False)] | dict[str, str] | None = None
    """Names of the classes: a list for the numbers 0, 1, 2, ..., or a table by number. Other
    numbers are no data. By default every number that the files hold is a class."""


class ImagesDescription(_Patch):
    """Image files, such as photographs from the street; the one nearest to a location is used."""

    kind: Literal["images"]
    file: RelativePath
    """CSV or Parquet, one row per image."""
    folder: RelativePath = "."
    """Folder that the file names of images are relative to."""
    image: str = "file"
    lon: str = "lon"
    lat: str = "lat"
    heading: str | None = None
    """Columns: file name of the image, WGS 84 degrees, direction of view in degrees."""
    radius_m: float = Field(gt=0)
    """Largest distance in metres from a location to its image."""


class TextDescription(_Source):
    """Texts; the one nearest to a location is used."""

    kind: Literal["table"]
    file: RelativePath
    """CSV or Parquet, one row per text."""
    text: str = "text"
    lon: str = "lon"
    lat: str = "lat"
    radius_m: float = Field(gt=0)
    """Largest distance in metres from a location to its text."""


Modality = (
    RasterDescription
    | HeightsDescription
    | ClassesDescription
    | ImagesDescription
    | TextDescription
)
_TABLES: Mapping[EncoderKind, Any] = {
    "image": Annotated[RasterDescription | ImagesDescription, Field(discriminator="kind")],
    "surface": HeightsDescription,
    "classes": ClassesDescription,
    "text": TextDescription,
}
"""Class of the table of a modality, by its encoder."""
_ENCODERS = " or ".join(f'"{name}"' for name in _TABLES)


class _General(_Table):
    """The keys of `observations.toml` that are not of one modality."""

    name: str = Field(min_length=1)
    licence: str
    citation: str = ""
    data: str | None = None
    """The data folder, relative to this file; the option --data overrides it."""
    land: LandDescription
    locations: LocationsDescription = LocationsDescription()


class Description(_General):
    """All of `observations.toml`: a folder of observations."""

    modalities: dict[str, SkipValidation[Modality]]
    """Table of each modality, by name."""

    def encoder(self, modality: str) -> EncoderKind:
        """Return the kind of a modality's encoder."""
        return self.modalities[modality].encoder or DEFAULT_ENCODERS[modality]

    def to_json(self) -> dict[str, Any]:
        """Return the description as JSON, without where its data folder is."""
        return {
            "name": self.name,
            "licence": self.licence,
            "citation": self.citation,
            "land": self.land.model_dump(mode="json"),
            "locations": self.locations.model_dump(mode="json"),
        } | {name: table.to_json() for name, table in self.modalities.items()}


def read_description(path: Path) -> Description:
    """Read and check `observations.toml`.

    Raises:
        ObservationsError: the message names the file, the table and the key, and what is allowed.
    """
    raw = read_toml(path, "the description", ObservationsError)
    if "where" in raw and "land" not in raw:
        raise ObservationsError(
            f"{path} describes a set that is to be built: `unigeo-produce observe {path} --out "
            "SET`, and then name that SET."
        )
    tables = {name: _table_of(name, raw[name], path) for name in raw if _is_modality(name, raw)}
    general, modalities = parse_tables(
        path,
        raw,
        _General,
        tables,
        ObservationsError,
        more_keys=list(_TABLES_BY_NAME),
        hint=f"and a modality of your own, whose table has the key encoder = {_ENCODERS}",
    )
    try:
        if modalities:
            check_modalities(tuple(modalities))
    except LayoutError as error:
        raise ObservationsError(f"{path}: {error}.") from error
    ordered = {name: modalities[name] for name in in_order(modalities)}
    return Description(**dict(general), modalities=ordered)


_TABLES_BY_NAME = {
    name: _TABLES[encoder] for name, encoder in DEFAULT_ENCODERS.items() if name != COORDINATE
}


def _is_modality(name: str, raw: Mapping[str, Any]) -> bool:
    """Return whether a top-level key is the table of a modality."""
    if name in _General.model_fields or not isinstance(raw[name], dict):
        return False
    return name in _TABLES_BY_NAME or "encoder" in raw[name]


def _table_of(name: str, table: Mapping[str, Any], path: Path) -> Any:
    """Return the class of a modality's table.

    Raises:
        ObservationsError: the name or the encoder cannot be used.
    """
    default = DEFAULT_ENCODERS.get(name)
    encoder = table.get("encoder", default)
    try:
        check_modality(name)
    except LayoutError as error:
        raise ObservationsError(f"{path}: {error}.") from error
    allowed = [kind for kind in ENCODER_KINDS if kind in _TABLES] if default is None else [default]
    if encoder not in allowed or name == COORDINATE:
        expected = ", ".join(map(repr, allowed))
        why = (
            "is the location itself, and has no table"
            if name == COORDINATE
            else (f"has one of the encoders {expected}, not {encoder!r}")
        )
        raise ObservationsError(f"{path}: table [{name}]: a modality of that name {why}.")
    return _TABLES[encoder]
