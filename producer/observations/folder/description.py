"""The file `observations.toml`: what a folder of data holds, and how each modality is read."""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from unigeo.producer.observations.folder.dates import DatedText
from unigeo.producer.observations.raster_files.height_values import Scale
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.io.toml_files import TomlTable, parse_toml


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

    acquired: DatedText = ""
    """Dates of acquisition: 2004, 2004-07, 2004-07-15, 2004/2006, or free text with such dates."""
    licence: str = ""
    credit: str = ""
    note: str = ""


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
    files: tuple[RelativePath, ...] = Field(min_length=1, strict=False)
    """GeoTIFFs in any CRS, `*` allowed; where files overlap, the first one with data is used."""
    bands: tuple[int, ...] = Field(min_length=1, strict=False)
    """Bands to read, counted from 1."""
    patch_m: Annotated[tuple[Metres, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    """Side of one patch on the ground in metres. Several sides give views of the same location,
    near and wide, each of `patch_px` rows and columns, stacked along the channels."""
    units: str = ""
    """Unit of the values, for the record; in [dsm] the unit of height."""
    nodata: float | None = None
    """Nodata value, where the file does not declare it."""
    min_valid: float = Field(default=0.5, gt=0, le=1)
    """Share of a patch's pixels that must hold data."""


class HeightsDescription(RasterDescription):
    """A surface model: heights in metres after scale, offset and unit are applied."""

    scale: Scale | None = None
    offset: float | None = Field(default=None, allow_inf_nan=False)
    """A height is scale x number + offset, where the file does not declare it itself."""
    lowest_m: float | None = Field(default=None, allow_inf_nan=False)
    highest_m: float | None = Field(default=None, allow_inf_nan=False)
    """Limits outside which heights are refused; by default -500 and 9,000 m."""

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON, without those keys of a surface model that are not set."""
        height_keys = {
            name
            for name in HeightsDescription.model_fields
            if name not in RasterDescription.model_fields
        }
        unset = {name for name in height_keys if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=unset)


class StreetDescription(_Patch):
    """Street-level images; the one nearest to a location is used."""

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


class Description(_Table):
    """All of `observations.toml`: a folder of observations."""

    name: str = Field(min_length=1)
    licence: str
    citation: str = ""
    data: str | None = None
    """The data folder, relative to this file; the option --data overrides it."""
    land: LandDescription
    locations: LocationsDescription = LocationsDescription()
    aerial: RasterDescription | None = None
    dsm: HeightsDescription | None = None
    street: Annotated[RasterDescription | StreetDescription, Field(discriminator="kind")] | None = (
        None
    )
    text: TextDescription | None = None


def read_description(path: Path) -> Description:
    """Read and check `observations.toml`.

    Raises:
        ObservationsError: the message names the file, the table and the key, and what is allowed.
    """
    return parse_toml(path, Description, "the description", ObservationsError)
