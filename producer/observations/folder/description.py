"""The file `observations.toml`: what a folder of data holds, and how each modality is read."""

import difflib
import re
import tomllib
import types
import typing
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from unigeo.producer.observations.folder.dates import DatedText
from unigeo.producer.observations.geotiff.height_values import Scale
from unigeo.schemas.errors import ObservationsError


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


class _Table(BaseModel):
    """One table of the file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ObservationsError(
            f"cannot read the description {path}: {error.strerror}. Name an observations.toml file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ObservationsError(f"{path} is not TOML: {error}.") from error
    try:
        return Description.model_validate(raw)
    except ValidationError as error:
        faults = [_explain_fault(raw, fault) for fault in error.errors()]
        raise ObservationsError(f"{path}: " + "; ".join(faults) + ".") from error


def _explain_fault(raw: dict[str, Any], fault: Any) -> str:
    """Explain one fault in a sentence: table, key, what is wrong, what is allowed."""
    path = list(fault["loc"])
    if path[1:2] in (["raster"], ["images"]):  # pydantic's tag of the union, no key of the file
        del path[1]
    in_table = path[0] in Description.model_fields and isinstance(raw.get(str(path[0])), dict)
    tables = [str(path[0])] if in_table else []
    key = ".".join(str(part) for part in path[len(tables) :])
    where = f"table [{tables[0]}]" if tables else "the top level"
    kind = raw[tables[0]].get("kind") if tables else None
    allowed = _allowed_keys(tables[0] if tables else None, kind)
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, allowed, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"{where} has an unknown key {key!r}{hint}; allowed: {', '.join(allowed)}"
    if fault["type"] == "missing":
        return f"{where} lacks the key {key!r}; allowed: {', '.join(allowed)}"
    if fault["type"].startswith("union_tag"):
        expected = fault["ctx"].get("expected_tags", "'raster', 'images'")
        return f"{where}, key 'kind': one of {expected} is needed, not {kind!r}"
    message = re.sub("^(Input|Value error, )", "", fault["msg"]).strip()
    value = "" if fault["type"] == "value_error" else f", not {fault['input']!r:.60}"
    return f"{where}, key {key!r}: {message}{value}"


def _allowed_keys(table: str | None, kind: str | None) -> list[str]:
    """List the keys allowed in a table of the file, or at its top level."""
    if table is None:
        return list(Description.model_fields)
    models = [
        model
        for model in _models(Description.model_fields[table].annotation)
        if "kind" not in model.model_fields
        or kind in typing.get_args(model.model_fields["kind"].annotation)
    ] or _models(Description.model_fields[table].annotation)
    return list(dict.fromkeys(key for model in models for key in model.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """List the pydantic models in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        return [model for part in typing.get_args(annotation) for model in _models(part)]
    return []
