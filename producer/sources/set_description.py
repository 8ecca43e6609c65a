"""`SET.toml`: which region, which sources, how they are asked, and how the set is kept."""

import glob
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from unigeo.producer.observations.folder.dates import Dated
from unigeo.producer.observations.geotiff.height_values import (
    HIGHEST_M,
    LOWEST_M,
    HeightDescription,
    Scale,
)
from unigeo.producer.sources.stac_items import SIGN_URL
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.io.toml_files import TomlTable, parse_toml


class LocationRules(TomlTable):
    """Which places; the meanings are those of `placing.LocationSampling`."""

    region: str | None = None
    """A named region, or a GeoJSON file."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees."""
    count: int = Field(gt=0)
    cell_level: int = 16
    per_cell: int = 1
    balance_level: int = 12
    weights: str | None = None
    """A raster, such as people per square kilometre; its first band is read."""
    weight_power: float = 1.0
    candidates: str | None = None
    """CSV or Parquet with columns lon and lat: places to choose among."""


class SplitRules(TomlTable):
    """What is held out; the meanings are those of `splits.Splitting`."""

    spatial_level: int = 10
    spatial_share: float = 0.0
    temporal_years: tuple[int, ...] = ()
    region: str | None = None
    """Out of region: a named region or a GeoJSON file."""
    bbox: tuple[float, float, float, float] | None = None


class SetStorage(TomlTable):
    """How the set is kept."""

    shard_level: int = Field(default=8, ge=0, le=30)
    """S2 level of the cells that a shard stays within."""
    shard_places: int = Field(default=256, gt=0)
    """Places in a shard, at most: what is lost when the build is killed."""
    quality: int = Field(default=92, ge=0, le=100)
    """Of JPEG; 0 keeps pictures as PNG, without loss."""


class _Origin(TomlTable):
    licence: str = ""
    credit: str = ""
    note: str = ""


def _several(values: Any) -> Any:
    return tuple(values) if isinstance(values, list | tuple) else (values,)


class ImageryRules(_Origin):
    """Rasters of a STAC API, or files."""

    kind: Literal["stac", "files"]
    url: str = ""
    """Of the API's landing page."""
    collections: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    asset: str = "image"
    sign: Literal["none", "planetary-computer"] = "none"
    sign_url: str = SIGN_URL
    files: tuple[str, ...] = ()
    """GeoTIFFs: paths with `*`, or addresses."""
    acquired: Dated = ""
    """Date of files: 2004, 2004-07, 2004-07-15, 2004/2006; without it as their names say, YYYYMMDD.
    """
    bands: tuple[int, ...] = (1, 2, 3)
    resolution_m: float = Field(default=0.6, gt=0)
    """Ground side of a patch pixel in metres."""
    patch_px: int = Field(default=256, ge=4, le=4096)
    years: tuple[int, ...] = ()
    prefer: Literal["newest", "oldest", "nearest", "clearest", "fullest"] = "newest"
    date: Dated = ""
    """What `nearest` is nearest to."""
    cloudiest: float = 100.0
    """Items with more cloud, in percent, are left out."""
    coarsest_m: float | None = Field(default=None, gt=0)
    """Items of a coarser ground resolution are left out."""
    min_valid: float = Field(default=0.5, gt=0, le=1)
    """Share of a patch that must hold data."""
    nodata: float | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, patterns filled in, in order."""
        found: list[str] = []
        for pattern in self.files:
            found += [pattern] if "://" in pattern else sorted(glob.glob(pattern)) or [pattern]  # noqa: PTH207
        return tuple(found)


class SurfaceRules(ImageryRules):
    """A surface model."""

    bands: tuple[int, ...] = (1,)
    asset: str = "data"
    units: Literal["m", "ft", "us-ft"] = "m"
    scale: Scale | None = None
    offset: float | None = Field(default=None, allow_inf_nan=False)
    """A height is scale x number + offset, where the file does not say it itself."""
    lowest_m: float = LOWEST_M
    highest_m: float = HIGHEST_M
    """Numbers outside are refused: a void that no `nodata` declares, or another unit."""
    datum: str = ""
    """Vertical datum, such as `NAVD88 (EPSG:5703)`."""
    ground: Literal["percentile", "terrain", "none"] = "percentile"
    """Heights are above: a low percentile of the patch; the terrain model below each pixel; or the
    datum."""
    percentile: float = Field(default=2.0, ge=0, le=50)
    terrain_files: tuple[str, ...] = ()
    terrain_collections: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()

    @property
    def numbers(self) -> HeightDescription:
        """What the numbers of its rasters are."""
        return HeightDescription(
            table="dsm",
            units=self.units if "units" in self.model_fields_set else None,
            scale=self.scale,
            offset=self.offset,
            lowest_m=self.lowest_m,
            highest_m=self.highest_m,
        )


class StreetRules(_Origin):
    """Photographs and panoramas at street level."""

    kind: Literal["mapillary", "kartaview", "folder"]
    url: str = ""
    """Of the API; the public one by default."""
    token: str = "MAPILLARY_TOKEN"
    """Environment variable that holds the access token."""
    files: str = ""
    """Of a folder: its images; their place, date and direction are read from EXIF, or from
    `table`."""
    table: str = ""
    """CSV with columns file, lat, lon, heading_deg, for images without EXIF."""
    blurred: bool = False
    """Says that faces and number plates of the folder's images are blurred, or that none show."""
    panoramas: Literal["only", "no", "both"] = "both"
    years: tuple[int, ...] = ()
    radius_m: float = Field(default=50.0, gt=0)
    """Photographs farther from a place than this are of another."""
    patch_px: int = Field(default=224, ge=4, le=4096)
    fov_deg: tuple[float, float] = (70.0, 100.0)
    """Field of view of a panorama's crop: drawn from this range."""
    yaw_deg: tuple[float, float] = (0.0, 360.0)
    """Compass direction of the crop, drawn from this range."""
    pitch_deg: tuple[float, float] = (-5.0, 5.0)
    """Above the horizon, drawn from this range."""
    per_second: float = Field(default=10.0, gt=0)
    """Requests, at most."""


class TextRules(_Origin):
    """Features round a place, told in a sentence."""

    kind: Literal["features", "overpass", "files"]
    url: str = ""
    """Of OGC API - Features items, or of an Overpass interpreter."""
    files: tuple[str, ...] = ()
    """Paths or addresses of features (OpenStreetMap, Overture, GeoNames): GeoJSON, GeoParquet, CSV
    or Parquet with columns lon and lat, dumps of GeoNames (.txt)."""
    landcover: str | None = None
    """A raster of land cover classes of `landcover_legend`."""
    landcover_legend: Literal["worldcover", "nlcd"] = "worldcover"
    radius_m: float = Field(default=300.0, gt=0)
    town_km: float = Field(default=30.0, gt=0)
    """A populated place nearer than this is named."""
    names: Literal["keep", "drop"] = "keep"
    """Whether names of places, numbers and coordinates stay."""
    tokens: int = Field(default=64, ge=8)
    tokenizer: str | None = None
    """Folder of the text tower's tokenizer; words are counted generously without it."""
    caption: str | None = None
    """Folder of a model of `transformers` that says what the aerial image shows."""
    caption_tokens: int = Field(default=24, ge=4)
    """Of that model's own, at most."""
    per_second: float = Field(default=2.0, gt=0)


class SetDescription(TomlTable):
    """A whole set."""

    name: str = Field(min_length=1)
    licence: str
    citation: str = ""
    seed: int = 0
    areas: str | None = None
    """GeoJSON of polygons with a property `name`, by which the datasheet counts; the states of the
    United States without it."""
    where: LocationRules
    splits: SplitRules = SplitRules()
    kept: SetStorage = SetStorage()
    aerial: ImageryRules | None = None
    dsm: SurfaceRules | None = None
    street: StreetRules | None = None
    text: TextRules | None = None

    def digest(self) -> str:
        """SHA-256 of the settings, by which a build knows its own."""
        return hashlib.sha256(
            json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
        ).hexdigest()


def read_set_description(path: Path) -> SetDescription:
    """Read and check a `SET.toml`.

    Raises:
        ObservationsError: it is missing or wrong; the message names the key.
    """
    table = parse_toml(path, SetDescription, "the description of the set", ObservationsError)
    _check(table, path)
    return table


def _check(table: SetDescription, path: Path) -> None:
    if (table.where.region is None) == (table.where.bbox is None):
        raise ObservationsError(f"{path}, table [where]: name one of `region` and `bbox`.")
    if not any((table.aerial, table.dsm, table.street, table.text)):
        raise ObservationsError(f"{path} names no source: add [aerial], [dsm], [street] or [text].")
    for name in ("aerial", "dsm"):
        source: ImageryRules | None = getattr(table, name)
        if source is not None and not (source.url if source.kind == "stac" else source.files):
            need = "url" if source.kind == "stac" else "files"
            raise ObservationsError(f"{path}, table [{name}]: kind {source.kind!r} needs `{need}`.")
    if table.dsm is not None and table.dsm.ground == "terrain":
        there = (
            table.dsm.terrain_collections if table.dsm.kind == "stac" else table.dsm.terrain_files
        )
        if not there:
            raise ObservationsError(
                f"{path}, table [dsm]: ground = 'terrain' needs `terrain_files` or "
                "`terrain_collections`."
            )
    if table.text is not None and table.text.caption is not None and table.aerial is None:
        raise ObservationsError(
            f"{path}, table [text]: `caption` describes the images of [aerial]."
        )
    street = table.street
    if street is not None and street.kind == "folder":
        if not street.files:
            raise ObservationsError(f"{path}, table [street]: kind 'folder' needs `files`.")
        if not street.blurred:
            raise ObservationsError(
                f"{path}, table [street]: photographs of a folder are taken only if faces and "
                "number plates in them are blurred. Blur them, then say `blurred = true`."
            )
