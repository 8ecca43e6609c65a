"""The root's attributes: written, read, and checked by a model that reports every problem."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from unigeo.schemas.errors import ForeignError, LayoutError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.io.limits import MOST_BANDS, grid_size_problem
from unigeo.schemas.store.layout import LAYOUT_VERSION, Layout, georeference, georeferenced
from unigeo.schemas.store.problems import Problem, texts_of
from unigeo.schemas.store.supported_cells import ObservedDetail

State = Literal["building", "published"]


class _Growing(BaseModel):
    """Attributes to which later releases may add keys; unknown keys are kept and not used."""

    model_config = ConfigDict(extra="allow", frozen=True)


class GridAttributes(_Growing):
    """The numbers of a `Grid`, which is rebuilt from them without reading an array."""

    crs: str
    resolution_m: float = Field(gt=0, allow_inf_nan=False)
    row0: int
    col0: int
    shape: tuple[int, int]

    def grid(self) -> Grid:
        """Return the grid that these numbers describe."""
        return Grid(self.crs, self.resolution_m, self.row0, self.col0, self.shape)


class LayoutAttributes(_Growing):
    """The numbers of a `Layout`, as the root group holds them."""

    modalities: tuple[str, ...] = Field(min_length=1)
    bands: int = Field(gt=0, le=MOST_BANDS)
    widths: dict[str, Annotated[int, Field(gt=0, le=MOST_BANDS, strict=True)]] = {}
    """Numbers in a vector of each modality; empty in layout 1, where each has `bands`."""
    shard: int = Field(gt=0)
    chunk: int = Field(gt=0)
    codec: Literal["none", "zstd"]
    covariates: tuple[str, ...] = ()


class ModelAttributes(_Growing):
    """The model that encoded the vectors."""

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    settings: dict[str, Any]


class DetailAttributes(_Growing):
    """How much of the coordinate encoder's field, which is band-limited, the lattice resolves.

    Errors are relative to a vector's length, measured between cells with `method="bicubic"`; the
    error of int8 itself is about 0.0075.
    """

    complete_at_m: float = Field(gt=0)
    """Largest side of a cell, in metres, at which the error is half that of int8 or less."""
    error: float = Field(ge=0)
    """Error of reading this raster between its cells."""
    complete: bool
    """Whether this raster's error is half that of int8 or less, so that finer cells add nothing."""
    interpolated: int = Field(default=1, ge=1)
    """Side, in cells, of the squares that have one encoded node each; 1 if all are encoded."""


class UnigeoAttributes(_Growing):
    """The `unigeo` attribute of the root group."""

    layout_version: Literal[1, 2]
    state: State
    region: str
    outline_sha256: str | None = None
    """Hash of the region's rings; None in stores older than this attribute, and in cut parts."""
    grid: GridAttributes
    layout: LayoutAttributes
    model: ModelAttributes
    observations: dict[str, Any]
    seed: int
    code_version: str
    coordinate_detail: DetailAttributes | None = None
    """None where there is no coordinate raster, or it is older than this attribute."""
    observed_detail: dict[str, ObservedDetail] = {}
    """Detail of the rasters that vectors were made from, by modality; empty where none is known."""

    @field_validator("layout_version", mode="before")
    @classmethod
    def _whole_number(cls, version: Any) -> Any:
        if type(version) is not int:  # True and 1.0 equal 1
            raise ValueError(f"a layout version is a whole number, not {str(version)[:20]!r}")
        return version

    def field_layout(self) -> Layout:
        """Return the layout that these attributes describe."""
        attributes = self.layout
        return Layout(
            modalities=attributes.modalities,
            bands=attributes.bands,
            widths=attributes.widths,
            shard=attributes.shard,
            chunk=attributes.chunk,
            codec=attributes.codec,
            covariates=attributes.covariates,
            version=self.layout_version,
        )


def grid_attributes(grid: Grid) -> dict[str, Any]:
    """Return the grid as the root group describes it; `GridAttributes` reads it."""
    return {
        "crs": grid.crs,
        "resolution_m": grid.resolution_m,
        "row0": grid.row0,
        "col0": grid.col0,
        "shape": list(grid.shape),
    }


def layout_attributes(layout: Layout) -> dict[str, Any]:
    """Return a layout 2 as the root group describes it; `LayoutAttributes` reads it."""
    return {
        "modalities": list(layout.modalities),
        "bands": layout.bands,
        "widths": {name: layout.width(name) for name in layout.modalities},
        "shard": layout.shard,
        "chunk": layout.chunk,
        "codec": layout.codec,
        "covariates": list(layout.covariates),
    }


def root_attributes(
    *,
    region: str,
    outline_sha256: str | None = None,
    grid: Grid,
    layout: Layout,
    model_name: str,
    model_sha256: str,
    model_settings: dict[str, Any],
    observations: dict[str, Any],
    seed: int,
    code_version: str,
    state: State = "building",
    coordinate_detail: DetailAttributes | None = None,
    observed_detail: Mapping[str, ObservedDetail] | None = None,
) -> dict[str, Any]:
    """Return all attributes of the root group, as JSON."""
    licence = observations.get("licence", "not stated")
    citation = observations.get("citation", "not stated")
    attributes = {
        "unigeo": {
            "layout_version": LAYOUT_VERSION,
            "state": state,
            "region": region,
            "grid": grid_attributes(grid),
            "layout": layout_attributes(layout),
            "model": {"name": model_name, "sha256": model_sha256, "settings": model_settings},
            "observations": observations,
            "seed": seed,
            "code_version": code_version,
            "coordinate_detail": None
            if coordinate_detail is None
            else coordinate_detail.model_dump(mode="json"),
        }
        | ({} if outline_sha256 is None else {"outline_sha256": outline_sha256})
        | (
            {"observed_detail": {k: one.model_dump(mode="json") for k, one in detail.items()}}
            if (detail := observed_detail or {})
            else {}
        ),
        "geoemb:type": "pixel",
        "geoemb:dimensions": layout.bands,
        "geoemb:model": f"urn:sha256:{model_sha256}",
        "geoemb:source_data": _source_data(observations),
        "geoemb:data_type": "int8",
        "geoemb:gsd": grid.resolution_m,
        "geoemb:quantization": {
            "method": "direction: q = round(127 v / max|v|), v = q / |q|",
            "original_dtype": "float32",
            "quantized_dtype": "int8",
        },
        "license": licence,
        "citation": citation,
    }
    return georeferenced(attributes, grid)


def _source_data(observations: dict[str, Any]) -> list[str]:
    """Return the sources of the vectors as URIs: a URN of the observations' name."""
    return [f"urn:unigeo:observations:{quote(str(observations.get('name', 'unnamed')))}"]


def attribute_problems(attributes: dict[str, Any]) -> list[Problem]:
    """Return everything that is wrong with a root's attributes, by the attribute's name."""
    unigeo = attributes.get("unigeo")
    if unigeo is None:
        return [Problem(None, "the root has no attribute 'unigeo': this is not a unigeo field")]
    try:
        read = UnigeoAttributes.model_validate(unigeo)
    except ValidationError as error:
        invalid = [(".".join(map(str, ("unigeo", *e["loc"]))), e["msg"]) for e in error.errors()]
        return [Problem(key, f"attribute {key}: {message}") for key, message in invalid]
    # Before a grid is built: its size may be anything that JSON can hold.
    too_large = grid_size_problem(read.grid.shape)
    if too_large:
        return [Problem(None, too_large)]
    problems = []
    try:
        read.field_layout().shards(read.grid.grid())
    except ValueError as error:
        problems.append(Problem(None, str(error)))
    # A grid with problems has no georeference to compare with.
    expected = georeference(read.grid.grid()) if not problems else {}
    for key, value in expected.items():
        if attributes.get(key) != value:
            text = f"attribute {key} is {attributes.get(key)!r}, the grid says {value!r}"
            problems.append(Problem(key, text))
    problems += [
        Problem(key, f"attribute {key} is missing")
        for key in ("license", "citation")
        if key not in attributes
    ]
    return problems


def read_attributes(attributes: dict[str, Any], url: str) -> UnigeoAttributes:
    """Read the root's `unigeo` attribute.

    Raises:
        ForeignError: if the store is not a field.
        LayoutError: if this version does not read its layout.
    """
    unigeo = attributes.get("unigeo")
    version = unigeo.get("layout_version") if isinstance(unigeo, dict) else None
    if isinstance(version, int) and version > LAYOUT_VERSION:
        raise LayoutError(
            f"{url} has layout version {version}; this unigeo reads up to {LAYOUT_VERSION}. "
            "Upgrade unigeo."
        )
    problems = attribute_problems(attributes)
    if problems:
        raise ForeignError(f"{url} is not a readable field: " + "; ".join(texts_of(problems)))
    return UnigeoAttributes.model_validate(unigeo)
