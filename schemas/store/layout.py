"""Layouts 1 and 2 of a field's store: its arrays, and how each is stored.

The field is the root group, so that plain `xr.open_zarr(url)` reads it. One shard is one stored
object and one production task. Vectors are uncompressed by default: zstd makes int8 embeddings 1.13
times smaller and 4 to 10 times slower to decode, and an uncompressed vector in (y, x, band) order
is one range of bytes that can be read alone. `docs/store.md` is the specification.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.geo.grid import SHARD, Grid
from unigeo.schemas.store.conventions import projjson, registered
from unigeo.schemas.store.quantization import FILL
from unigeo.schemas.store.sharding import CRC_BYTES

LAYOUT_VERSION = 2
"""Version that is written; older ones are read, too."""
STATUS_SUFFIX = "_status"
FUSED = "fused"
"""Modality computed from all other modalities of a cell."""
COVARIATES = "covariates"
"""Array of the plain numbers beside the vectors."""
NAME = "name"
"""Dimension of the covariates, and the coordinate of their names."""
CHUNK = 16
"""Cells along one side of an inner chunk: 16 x 16 x 768 bytes are 192 KiB."""
READABLE_CODECS = frozenset(
    {"bytes", "crc32c", "zstd", "blosc", "gzip", "transpose", "sharding_indexed"}
)
"""Codecs that all common Zarr v3 readers support."""

_BAND = "band"
_RESERVED = frozenset(
    {
        *("x", "y", _BAND, NAME, "spatial_ref", COVARIATES),  # arrays and dimensions of the root
        *("overviews", "preview", "encoder", "concepts", "manifest", "publishing"),  # its groups
        *("objects", "rgb"),  # arrays of the manifest, and a dimension of the preview
        *("joined", "lon", "lat", "point"),  # names in a reader's answers
    }
)
_RESERVED_IN_SETTINGS = frozenset(
    {
        FUSED,
        *("name", "licence", "license", "citation", "data", "land", "locations"),  # description
        *("dimension", "towers", "tied", "temperature", "temperature_per_pair", "seed"),  # model
        *("index", "geometry", "status", "latitude", "longitude"),  # columns of tables
        "search",  # a group that older stores do not have
    }
)
"""Names that a store could hold, but not the other files of a modality."""
_RESERVED_IN_MODULES = frozenset((
    "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "clear",
    "compile", "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward",
    "get_buffer", "get_extra_state", "get_parameter", "get_submodule", "half", "ipu", "items",
    "keys", "load_state_dict", "modules", "mtia", "named_buffers", "named_children",
    "named_modules", "named_parameters", "parameters", "pop", "register_backward_hook",
    "register_buffer", "register_forward_hook", "register_forward_pre_hook",
    "register_full_backward_hook", "register_full_backward_pre_hook",
    "register_load_state_dict_post_hook", "register_load_state_dict_pre_hook",
    "register_module", "register_parameter", "register_state_dict_post_hook",
    "register_state_dict_pre_hook", "requires_grad_", "set_extra_state", "set_submodule",
    "share_memory", "state_dict", "t_destination", "to", "to_empty", "train", "training", "type",
    "update", "values", "xpu", "zero_grad",
))  # fmt: skip
"""Attributes of `torch.nn.ModuleDict`, which holds a model's encoders by modality; a test compares
them with torch's."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_COVARIATE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
_COORDINATE = re.compile(r"x|y|spatial_ref|name|band(_[1-9][0-9]*)?")
_MOST_INT16 = 1 << 15

Codec = Literal["none", "zstd"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Arrays of a field, and how they are divided and coded."""

    modalities: tuple[str, ...]
    """Names of the arrays of vectors."""
    bands: int
    """Numbers in a vector of the model's text encoder, its coordinate encoder, and `fused`."""
    widths: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Numbers in a vector of each modality whose width is not `bands`."""
    shard: int = SHARD
    """Cells along one side of a shard."""
    chunk: int = CHUNK
    """Cells along one side of an inner chunk; divides the shard."""
    codec: Codec = "none"
    """Compression of the vectors' inner chunks."""
    covariates: tuple[str, ...] = ()
    """Names of the plain numbers stored beside the vectors."""
    version: int = LAYOUT_VERSION
    """Version of the layout."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities)
        check_covariates(self.covariates)
        widths = {name: self.widths.get(name, self.bands) for name in self.modalities}
        least = min(self.bands, *widths.values())
        if least < 1 or self.chunk < 1 or self.shard % self.chunk:
            raise LayoutError(
                f"{least} bands, chunk {self.chunk}, shard {self.shard}: "
                "all must be positive and the chunk must divide the shard"
            )
        if widths.get(FUSED, self.bands) > self.bands:
            raise LayoutError(
                f"{FUSED!r} has {widths[FUSED]} bands, more than the model's {self.bands}"
            )
        if self.codec not in ("none", "zstd"):
            raise LayoutError(f"the codec must be none or zstd, not {self.codec!r}")
        differing = {name: width for name, width in widths.items() if width != self.bands}
        object.__setattr__(self, "widths", differing)  # the dataclass is frozen

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the sharded arrays, each of which has a status: vectors, then covariates."""
        return self.modalities + ((COVARIATES,) if self.covariates else ())

    def width(self, array: str) -> int:
        """Return the numbers of a cell in one of `arrays`."""
        if array == COVARIATES:
            return len(self.covariates)
        return self.widths.get(array, self.bands)

    def dtype(self, array: str) -> np.dtype[Any]:
        """Return the type of the numbers of one of `arrays`, as they are stored."""
        return np.dtype("<f4" if array == COVARIATES else "i1")

    def fill(self, array: str) -> float:
        """Return the number that cells of one of `arrays` hold where they have none."""
        return np.nan if array == COVARIATES else FILL

    def widths_of(self, modalities: Iterable[str]) -> dict[str, int]:
        """Return the numbers in a vector of each of some modalities."""
        return {name: self.width(name) for name in modalities}

    @property
    def model_width_modalities(self) -> tuple[str, ...]:
        """Modalities whose vectors have the model's width."""
        return tuple(name for name in self.modalities if self.width(name) == self.bands)

    def dimension(self, array: str) -> str:
        """Return the name of the dimension of a modality's bands, or of the covariates.

        >>> layout = Layout(modalities=("aerial", "sar"), bands=768, widths={"sar": 64})
        >>> layout.dimension("aerial"), layout.dimension("sar")
        ('band', 'band_64')
        """
        return NAME if array == COVARIATES else band_dimension(self.width(array), self.bands)

    def describe_width(self, unit: str) -> str:
        """Return a text of the model's width, and of each other width.

        >>> layout = Layout(modalities=("aerial", "sar"), bands=768, widths={"sar": 64})
        >>> layout.describe_width("bands")
        '768 bands (sar 64)'
        """
        others = ", ".join(f"{name} {width}" for name, width in self.widths.items())
        return f"{self.bands} {unit}" + (f" ({others})" if others else "")

    @property
    def band_dimensions(self) -> dict[str, int]:
        """Length of every dimension of bands, by name."""
        others = {self.dimension(name): self.width(name) for name in self.modalities}
        return {_BAND: self.bands} | others

    @property
    def checked_status(self) -> bool:
        """Whether each object of status codes ends with a CRC-32C, as in layout 1 only."""
        return self.version == 1

    @property
    def status_bytes(self) -> int:
        """Size of an object of status codes, in bytes."""
        return self.shard**2 + (CRC_BYTES if self.checked_status else 0)

    def shards(self, grid: Grid) -> tuple[int, int]:
        """Return the number of rows and columns of shards.

        Raises:
            LayoutError: if the grid is not aligned to shards.
        """
        edges = (grid.row0, grid.col0, *grid.shape)
        if any(edge % self.shard for edge in edges):
            raise LayoutError(
                f"the grid's corner ({grid.row0}, {grid.col0}) and shape {grid.shape} are not "
                f"whole multiples of the shard of {self.shard} cells"
            )
        return grid.shape[0] // self.shard, grid.shape[1] // self.shard


def check_modalities(modalities: tuple[str, ...]) -> None:
    """Refuse names that conflict with each other or with other names of a store.

    Raises:
        LayoutError: naming the first, and the reason.
    """
    if not modalities:
        raise LayoutError("cannot store no modality; name one at least")
    for name in modalities:
        why = _name_problem(name)
        if why:
            raise LayoutError(f"cannot store a modality named {name!r}: {why}")
    lower = [name.lower() for name in modalities]  # one file on some systems
    twice = [name for name in modalities if lower.count(name.lower()) > 1]
    if twice:
        raise LayoutError(f"the modalities {', '.join(map(repr, twice))} would be the same array")


def check_modality(name: str) -> None:
    """Refuse a name that a modality of observations and models cannot have.

    Raises:
        LayoutError: the message has the reason.
    """
    why = _name_problem(name)
    if not why and name.lower() in _RESERVED_IN_SETTINGS | _RESERVED_IN_MODULES:
        why = "the name means something else in a store, a table, a model or a description"
    if why:
        raise LayoutError(f"a modality cannot be named {name!r}: {why}")


def check_covariates(names: tuple[str, ...]) -> None:
    """Refuse names of covariates that conflict with each other or with columns of tables.

    Raises:
        LayoutError: naming the first, and the reason.
    """
    lower = [name.lower() for name in names]
    for name in names:
        why = ""
        if not _COVARIATE.fullmatch(name):
            why = "a name is a letter and then at most 127 letters, digits, '_', '.' or '-'"
        elif name.lower() in _RESERVED or name.lower().endswith(STATUS_SUFFIX):
            why = "a store or a table has something else of that name"
        elif lower.count(name.lower()) > 1:
            why = "there are two of that name"
        if why:
            raise LayoutError(f"cannot store a covariate named {name!r}: {why}")


def _name_problem(name: str) -> str:
    """Return why an array of vectors cannot have this name; empty if it can."""
    if not _NAME.fullmatch(name):
        return "a name is a letter and then at most 63 letters, digits, '_' or '-'"
    if name.lower() in _RESERVED or is_coordinate(name.lower()):
        return "a store has something else of that name"
    if name.lower().endswith(STATUS_SUFFIX):
        return f"names that end in {STATUS_SUFFIX!r} are those of status arrays"
    return ""


def band_dimension(width: int, bands: int) -> str:
    """Return the name of the dimension of vectors of a width; the model's width is `bands`."""
    return _BAND if width == bands else f"{_BAND}_{width}"


def band_numbers(width: int) -> Int[np.ndarray, " band"]:
    """Return the coordinate of a dimension of bands."""
    return np.arange(width, dtype=np.int16 if width <= _MOST_INT16 else np.int32)


def is_coordinate(name: str) -> bool:
    """Tell whether an array of this name is a coordinate, of which no object may be missing.

    >>> is_coordinate("band_64"), is_coordinate("aerial")
    (True, False)
    """
    return _COORDINATE.fullmatch(name) is not None


def status_name(modality: str) -> str:
    """Return the name of the array of a modality's `Status` codes."""
    return modality + STATUS_SUFFIX


def array_attributes(array: str, grid: Grid, *, status: bool = False) -> dict[str, Any]:
    """Return the attributes of one of a field's sharded arrays, or of its status.

    Those of covariates still lack the names, units and sources.
    """
    what = "unit vector, quantized: v = q / |q|"
    if array == COVARIATES:
        what = "beside the vectors: plain numbers of each cell"
    if status:
        what = "status of the cell" if array == COVARIATES else "status of the vector"
    attributes: dict[str, Any] = {
        "long_name": f"{array} {what}",
        "grid_mapping": "spatial_ref",
        "coordinates": "spatial_ref",
    }
    if status:
        from unigeo.schemas.store.status import Status

        attributes["flag_values"] = [int(code) for code in Status]
        attributes["flag_meanings"] = " ".join(code.name.lower() for code in Status)
    elif array != COVARIATES:
        # Not `_FillValue`, by which xarray would decode the vectors to floats.
        attributes["nodata"] = FILL
    return georeferenced_array(attributes, grid)


def georeference(grid: Grid) -> dict[str, Any]:
    """Return the `proj:` and `spatial:` attributes of a group or array, which validation checks."""
    return {
        "proj:code": grid.crs,
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": list(grid.affine),
        "spatial:shape": list(grid.shape),
        "spatial:bbox": list(grid.bounds),
        "spatial:registration": "pixel",
    }


def georeferenced(attributes: Mapping[str, Any], grid: Grid) -> dict[str, Any]:
    """Return the attributes of a group with those of its grid, and all registrations."""
    crs = {"proj:projjson": projjson(grid.crs)}
    return registered({**attributes, **georeference(grid), **crs})


def georeferenced_array(attributes: Mapping[str, Any], grid: Grid) -> dict[str, Any]:
    """Return the attributes of an array as `georeferenced` does those of a group.

    PROJJSON is inherited from the group, as the `proj` convention has it: in every array it would
    be half of the metadata, which readers load first.
    """
    return registered({**attributes, **georeference(grid)})


def spatial_ref_attributes(grid: Grid) -> dict[str, Any]:
    """Return the attributes of `spatial_ref`: WKT2, and the transform in GDAL's order."""
    from pyproj import CRS

    a, b, c, d, e, f = grid.affine
    wkt = CRS.from_user_input(grid.crs).to_wkt("WKT2_2019")
    return {
        "long_name": "coordinate reference system",
        "crs_wkt": wkt,
        "spatial_ref": wkt,
        "GeoTransform": " ".join(repr(number) for number in (c, a, b, f, d, e)),
    }


def axis_attributes(axis: Literal["x", "y"]) -> dict[str, Any]:
    """Return the CF attributes of a coordinate array."""
    return {
        "axis": axis.upper(),
        "standard_name": f"projection_{axis}_coordinate",
        "long_name": f"{'easting' if axis == 'x' else 'northing'} of the cell centre",
        "units": "m",
    }
