"""`observations.toml`: what a folder of real data holds and how each modality is read from it."""

import difflib
import re
import tomllib
import types
import typing
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from unigeo.producer.observations.folder.dates import DatedText
from unigeo.producer.observations.folder.height_values import Scale
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
    """One table of the file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LocationsDescription(_Table):
    """Where training places come from."""

    file: RelativePath | None = None
    """Parquet or CSV, one row per place; without it all places are drawn over land."""
    lon: str = "lon"
    lat: str = "lat"
    """Columns of WGS 84 degrees."""
    uniform: float = Field(default=0.5, ge=0, le=1)
    """Share of the places drawn uniformly by area over land."""


class LandDescription(_Table):
    """Where land is."""

    file: RelativePath
    """Polygons: GeoParquet of any CRS, or GeoJSON."""


class _Source(_Table):
    """What every modality says of its origin."""

    acquired: DatedText = ""
    """Dates of acquisition: 2004, 2004-07, 2004-07-15, 2004/2006, or free text with such dates."""
    licence: str = ""
    credit: str = ""
    note: str = ""


def _views(sides: Any) -> Any:
    """Take one side of a patch as a list of one."""
    return tuple(sides) if isinstance(sides, list | tuple) else (sides,)


Metres = Annotated[float, Field(gt=0, le=1_000_000)]


class _Patch(_Source):
    patch_px: int = Field(ge=4, le=4096)
    """Rows and columns of one patch."""


class RasterDescription(_Patch):
    """Patches cut from georeferenced rasters."""

    kind: Literal["raster"]
    files: tuple[RelativePath, ...] = Field(min_length=1, strict=False)
    """GeoTIFF of any CRS, `*` allowed; where several cover a place, the first with data wins."""
    bands: tuple[int, ...] = Field(min_length=1, strict=False)
    """Bands to read, counted from 1."""
    patch_m: Annotated[tuple[Metres, ...], BeforeValidator(_views), Field(min_length=1)]
    """Side of one patch on the ground in metres. Several sides give views of the same place, near
    and wide, each of `patch_px` rows and columns, stacked along the channels."""
    units: str = ""
    nodata: float | None = None
    """Value without meaning, where the file does not say it itself."""
    min_valid: float = Field(default=0.5, gt=0, le=1)
    """Share of a patch's pixels that must hold data."""


class HeightsDescription(RasterDescription):
    """A surface model: heights in metres, once scale, offset and unit are applied."""

    scale: Scale | None = None
    offset: float | None = Field(default=None, allow_inf_nan=False)
    """A height is scale x number + offset, where the file does not say it itself."""
    lowest_m: float | None = Field(default=None, allow_inf_nan=False)
    highest_m: float | None = Field(default=None, allow_inf_nan=False)
    """Numbers outside are refused; -500 and 9,000 m where this is not said."""

    def said(self) -> dict[str, Any]:
        """The table as JSON, without what it leaves open beyond other rasters."""
        own = {
            name
            for name in HeightsDescription.model_fields
            if name not in RasterDescription.model_fields
        }
        open_ = {name for name in own if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=open_)


class StreetDescription(_Patch):
    """The photograph nearest to a place."""

    kind: Literal["images"]
    file: RelativePath
    """CSV or Parquet, one row per photograph."""
    folder: RelativePath = "."
    """Folder that the photographs' names are relative to."""
    image: str = "file"
    lon: str = "lon"
    lat: str = "lat"
    heading: str | None = None
    """Columns: the photograph's name, WGS 84 degrees, direction of view in degrees."""
    radius_m: float = Field(gt=0)
    """Photographs farther than this are of another place."""


class TextDescription(_Source):
    """The words of the row nearest to a place."""

    kind: Literal["table"]
    file: RelativePath
    """CSV or Parquet, one row per text."""
    text: str = "text"
    lon: str = "lon"
    lat: str = "lat"
    radius_m: float = Field(gt=0)
    """Rows farther than this speak of another place."""


class Description(_Table):
    """A folder of observations."""

    name: str = Field(min_length=1)
    licence: str
    citation: str = ""
    data: str | None = None
    """The data folder, relative to this file; whoever opens it may name another."""
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
        ObservationsError: naming the file, the table and the key, and what is allowed there.
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
        faults = [_fault(raw, fault) for fault in error.errors()]
        raise ObservationsError(f"{path}: " + "; ".join(faults) + ".") from error


def _fault(raw: dict[str, Any], fault: Any) -> str:
    """Say one fault in a sentence: table, key, what is wrong, what is allowed."""
    place = list(fault["loc"])
    if place[1:2] in (["raster"], ["images"]):  # which kind of street it is, no key of the file
        del place[1]
    known = place[0] in Description.model_fields and isinstance(raw.get(str(place[0])), dict)
    tables = [str(place[0])] if known else []
    key = ".".join(str(part) for part in place[len(tables) :])
    where = f"table [{tables[0]}]" if tables else "the top level"
    kind = raw[tables[0]].get("kind") if tables else None
    allowed = _keys(tables[0] if tables else None, kind)
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


def _keys(table: str | None, kind: str | None) -> list[str]:
    """List the keys allowed in a table of the file."""
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
    """Find the table models in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        return [model for part in typing.get_args(annotation) for model in _models(part)]
    return []
