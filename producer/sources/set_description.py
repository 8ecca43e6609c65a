"""The file `SET.toml`: the region, the sources and their settings, and how the set is stored."""

import glob
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from unigeo.producer.observations.folder.dates import Dated
from unigeo.producer.observations.raster_files.height_values import (
    HIGHEST_M,
    LOWEST_M,
    HeightDescription,
    Scale,
)
from unigeo.producer.sources.stac_items import SIGN_URL
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.io.toml_files import TomlTable, parse_toml, read_toml


class LocationRules(TomlTable):
    """Which locations are observed; keys without a text are those of `LocationSampling`."""

    region: str | None = None
    """A named region, or a GeoJSON file."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees."""
    count: int = Field(gt=0)
    cell_level: int = 16
    per_cell: int = 1
    balance_level: int = 12
    weights: str | None = None
    """Raster of weights, such as people per square kilometre; its first band is read."""
    weight_power: float = 1.0
    candidates: str | None = None
    """CSV or Parquet with columns lon and lat: locations to choose among."""


class SplitRules(TomlTable):
    """What is held out; keys without a text are those of `splits.Splitting`."""

    spatial_level: int = 10
    spatial_share: float = 0.0
    temporal_years: tuple[int, ...] = ()
    region: str | None = None
    """Region that is held out: a named region or a GeoJSON file."""
    bbox: tuple[float, float, float, float] | None = None
    """Box that is held out: west, south, east, north in degrees."""


class SetStorage(TomlTable):
    """How the set is stored."""

    shard_level: int = Field(default=8, ge=0, le=30)
    """S2 level of the cells; a shard lies in one of them."""
    shard_places: int = Field(default=256, gt=0)
    """Largest number of locations in a shard, and so of those lost when a build is killed."""
    quality: int = Field(default=92, ge=0, le=100)
    """Quality of JPEG; with 0 images are stored as PNG, without loss."""


class _Origin(TomlTable):
    """Origin of the data of a modality."""

    licence: str = ""
    credit: str = ""
    note: str = ""


def _as_tuple(values: Any) -> Any:
    """Accept a single value as a list of one."""
    return tuple(values) if isinstance(values, list | tuple) else (values,)


class ImageryRules(_Origin):
    """Aerial images: rasters of a STAC API, or files."""

    kind: Literal["stac", "files"]
    url: str = ""
    """Address of the API's landing page."""
    collections: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()
    asset: str = "image"
    sign: Literal["none", "planetary-computer"] = "none"
    sign_url: str = SIGN_URL
    files: tuple[str, ...] = ()
    """Rasters: paths with `*`, or addresses."""
    acquired: Dated = ""
    """Date of the files, such as 2004, 2004-07, 2004-07-15 or 2004/2006; without it the date
    YYYYMMDD in the name of each."""
    bands: tuple[int, ...] = (1, 2, 3)
    resolution_m: float = Field(default=0.6, gt=0)
    """Ground side of a patch pixel in metres."""
    patch_px: int = Field(default=256, ge=4, le=4096)
    years: tuple[int, ...] = ()
    prefer: Literal["newest", "oldest", "nearest", "clearest", "fullest"] = "newest"
    date: Dated = ""
    """Date that `prefer = "nearest"` refers to."""
    cloudiest: float = 100.0
    """Largest cloud cover of an item, in percent."""
    coarsest_m: float | None = Field(default=None, gt=0)
    """Largest ground sampling distance of an item, in metres."""
    min_valid: float = Field(default=0.5, gt=0, le=1)
    """Share of a patch that must hold data."""
    nodata: float | None = None
    """Nodata value, where the file does not declare it."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, with patterns expanded, in the order of `files`."""
        return expand(self.files)


class SurfaceRules(ImageryRules):
    """Surface models: rasters of a STAC API, or files."""

    bands: tuple[int, ...] = (1,)
    asset: str = "data"
    units: Literal["m", "ft", "us-ft"] = "m"
    scale: Scale | None = None
    offset: float | None = Field(default=None, allow_inf_nan=False)
    """A height is scale x number + offset, where the file does not declare it itself."""
    lowest_m: float = LOWEST_M
    highest_m: float = HIGHEST_M
    """Limits outside which heights are refused, as undeclared voids or of another unit."""
    datum: str = ""
    """Vertical datum, such as `NAVD88 (EPSG:5703)`."""
    ground: Literal["percentile", "terrain", "none"] = "percentile"
    """What heights are relative to: a low percentile of the patch, the terrain model below each
    pixel, or the datum."""
    percentile: float = Field(default=2.0, ge=0, le=50)
    terrain_files: tuple[str, ...] = ()
    terrain_collections: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()

    @property
    def numbers(self) -> HeightDescription:
        """Description of the numbers in the rasters."""
        return HeightDescription(
            table="dsm",
            units=self.units if "units" in self.model_fields_set else None,
            scale=self.scale,
            offset=self.offset,
            lowest_m=self.lowest_m,
            highest_m=self.highest_m,
        )


class StreetRules(_Origin):
    """Street-level images and panoramas."""

    kind: Literal["mapillary", "kartaview", "folder"]
    url: str = ""
    """Address of the API; the public one by default."""
    token: str = "MAPILLARY_TOKEN"
    """Environment variable that holds the access token."""
    files: str = ""
    """Pattern of the images of a folder; their position, date and direction are read from EXIF or
    from `table`."""
    table: str = ""
    """CSV with columns file, lat, lon and optionally heading_deg and date, for images without
    EXIF."""
    blurred: bool = False
    """Declaration that no face or number plate is recognizable in the folder's images."""
    panoramas: Literal["only", "no", "both"] = "both"
    years: tuple[int, ...] = ()
    radius_m: float = Field(default=50.0, gt=0)
    """Largest distance from a location to its image, in metres."""
    patch_px: int = Field(default=224, ge=4, le=4096)
    fov_deg: tuple[float, float] = (70.0, 100.0)
    """Range from which the horizontal field of view of a panorama's crop is drawn."""
    yaw_deg: tuple[float, float] = (0.0, 360.0)
    """Range from which the compass direction of the crop is drawn."""
    pitch_deg: tuple[float, float] = (-5.0, 5.0)
    """Range from which the elevation of the crop above the horizon is drawn."""
    per_second: float = Field(default=10.0, gt=0)
    """Largest number of requests per second."""


class TextRules(_Origin):
    """Texts on the map features round a location."""

    kind: Literal["features", "overpass", "files"]
    url: str = ""
    """Address of OGC API - Features items, or of an Overpass interpreter."""
    files: tuple[str, ...] = ()
    """Paths or addresses of features (OpenStreetMap, Overture, GeoNames): GeoJSON, GeoParquet, CSV
    or Parquet with columns lon and lat, dumps of GeoNames (.txt)."""
    landcover: str | None = None
    """Raster of land cover classes of `landcover_legend`."""
    landcover_legend: Literal["worldcover", "nlcd"] = "worldcover"
    radius_m: float = Field(default=300.0, gt=0)
    """Distance in metres up to which features are described."""
    town_km: float = Field(default=30.0, gt=0)
    """Distance in kilometres up to which a settlement is mentioned."""
    names: Literal["keep", "drop"] = "keep"
    """Whether texts contain names, numbers and coordinates."""
    tokens: int = Field(default=64, ge=8)
    """Largest number of tokens in a text."""
    tokenizer: str | None = None
    """Folder of the text tower's tokenizer; without it the number of tokens is estimated."""
    caption: str | None = None
    """Folder of a model of `transformers` that describes the aerial image."""
    caption_tokens: int = Field(default=24, ge=4)
    """Largest number of tokens in a caption, counted by that model's own tokenizer."""
    per_second: float = Field(default=2.0, gt=0)
    """Largest number of requests per second."""


class SetDescription(TomlTable):
    """All of `SET.toml`; paths are relative to its folder."""

    name: str = Field(min_length=1)
    licence: str
    citation: str = ""
    seed: int = 0
    areas: str | None = None
    """GeoJSON of polygons with a property `name`, by which the datasheet counts; without it, the
    states of the United States."""
    where: LocationRules
    splits: SplitRules = SplitRules()
    kept: SetStorage = SetStorage()
    aerial: ImageryRules | None = None
    dsm: SurfaceRules | None = None
    street: StreetRules | None = None
    text: TextRules | None = None

    _folder: Path = PrivateAttr(default_factory=Path)

    @property
    def folder(self) -> Path:
        """Folder of the file; the working directory for settings that were not read from one."""
        return self._folder

    def located(self) -> "SetDescription":
        """Return these settings with paths that can be opened from the working directory."""
        changes: dict[str, Any] = {"areas": self._placed(self.areas)}
        for table, keys in _PATHS.items():
            rules = getattr(self, table)
            if rules is not None:
                placed = {key: self._placed(getattr(rules, key)) for key in keys}
                changes[table] = rules.model_copy(update=placed)
        copy = self.model_copy(update=changes)
        copy._folder = Path()
        return copy

    def _placed(self, names: Any) -> Any:
        """Place one name in the folder, or each of several; addresses stay as they are."""
        if isinstance(names, tuple):
            return tuple(self._placed(name) for name in names)
        # A name without an ending is that of a region or of a model unless it is there.
        is_path = names and "://" not in names and self._folder != Path()
        if not is_path or not (Path(names).suffix or (self._folder / names).exists()):
            return names
        return str(self._folder / names)

    def digest(self) -> str:
        """Return SHA-256 of the settings, by which a build recognizes its own set."""
        return hashlib.sha256(
            json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
        ).hexdigest()


_PATHS = {
    "where": ("region", "weights", "candidates"),
    "splits": ("region",),
    "aerial": ("files",),
    "dsm": ("files", "terrain_files"),
    "street": ("files", "table"),
    "text": ("files", "landcover", "tokenizer", "caption"),
}
"""Keys of each table whose values are paths."""


def expand(patterns: Sequence[str], folder: Path = Path()) -> tuple[str, ...]:
    """Expand patterns with `*`, relative to a folder; one that matches nothing is kept as it is."""
    names: list[str] = []
    for pattern in patterns:
        found = [] if "://" in pattern else sorted(glob.glob(pattern, root_dir=folder))  # noqa: PTH207
        names += found or [pattern]
    return tuple(names)


def read_set_description(path: Path) -> SetDescription:
    """Read and check a `SET.toml`.

    Raises:
        ObservationsError: the file is missing or wrong; the message names the key.
    """
    what = "the description of the set"
    raw = read_toml(path, what, ObservationsError)
    if "land" in raw and "where" not in raw:
        raise ObservationsError(
            f"{path} describes files that are read where they are, and no set is built of them: "
            f"`unigeo-produce --observations {path}` trains on them."
        )
    description = parse_toml(path, SetDescription, what, ObservationsError)
    description._folder = path.parent
    _check(description, path)
    return description


def _check(description: SetDescription, path: Path) -> None:
    """Check what concerns several keys at once."""
    where, dsm, street, text = (
        description.where, description.dsm, description.street, description.text,
    )  # fmt: skip
    if (where.region is None) == (where.bbox is None):
        raise ObservationsError(f"{path}, table [where]: name one of `region` and `bbox`.")
    if not any((description.aerial, dsm, street, text)):
        raise ObservationsError(f"{path} names no source: add [aerial], [dsm], [street] or [text].")
    for name in ("aerial", "dsm"):
        source: ImageryRules | None = getattr(description, name)
        if source is not None and not (source.url if source.kind == "stac" else source.files):
            need = "url" if source.kind == "stac" else "files"
            raise ObservationsError(f"{path}, table [{name}]: kind {source.kind!r} needs `{need}`.")
        if source is not None and source.prefer == "nearest" and not source.date:
            raise ObservationsError(
                f"{path}, table [{name}]: prefer = 'nearest' needs `date`, such as 2020-07-15."
            )
    if dsm is not None and dsm.ground == "terrain":
        terrain = dsm.terrain_collections if dsm.kind == "stac" else dsm.terrain_files
        if not terrain:
            raise ObservationsError(
                f"{path}, table [dsm]: ground = 'terrain' needs `terrain_files` or "
                "`terrain_collections`."
            )
    if text is not None and text.caption is not None and description.aerial is None:
        raise ObservationsError(
            f"{path}, table [text]: `caption` describes the images of [aerial]."
        )
    if street is not None and street.kind == "folder":
        if not street.files:
            raise ObservationsError(f"{path}, table [street]: kind 'folder' needs `files`.")
        if not street.blurred:
            raise ObservationsError(
                f"{path}, table [street]: photographs of a folder are taken only if faces and "
                "number plates in them are blurred. Blur them, then say `blurred = true`."
            )
