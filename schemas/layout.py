"""The field store, layout version 1: which arrays it holds, and how each is stored.

Everything stands in the root group, so that plain `xr.open_zarr(url)` reads it. One shard is one
stored object and one production task. Vectors are uncompressed by default: int8 embeddings shrink
1.13 times with zstd and then decode 4 to 10 times slower, and a vector uncompressed in
(y, x, band) order is one run of bytes that can be read alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from unigeo.schemas.conventions import projjson, registered
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.grid import SHARD, Grid
from unigeo.schemas.quantization import FILL

LAYOUT_VERSION = 1
RASTERIZED = ("coordinate", "aerial", "dsm")
"""Modalities that cover land everywhere, hence can be stored as a field."""
MODALITIES = ("coordinate", "aerial", "street", "dsm", "text")
STATUS_SUFFIX = "_status"
CHUNK = 16
"""Cells along one side of an inner chunk: 16 x 16 x 768 bytes are 192 KiB."""
READABLE_CODECS = frozenset(
    {"bytes", "crc32c", "zstd", "blosc", "gzip", "transpose", "sharding_indexed"}
)
"""Codecs that every Zarr v3 reader in use knows."""

Codec = Literal["none", "zstd"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one field is laid out."""

    modalities: tuple[str, ...]
    """Which vectors are stored, of `RASTERIZED`."""
    bands: int
    """Numbers in one vector."""
    shard: int = SHARD
    """Cells along one side of a shard."""
    chunk: int = CHUNK
    """Cells along one side of an inner chunk; divides the shard."""
    codec: Codec = "none"
    """Compression of the vectors' inner chunks."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.modalities if name not in RASTERIZED]
        if unknown or not self.modalities:
            raise LayoutError(
                f"cannot store {', '.join(unknown) or 'no modality'}; a field stores some of "
                f"{', '.join(RASTERIZED)}"
            )
        if self.bands < 1 or self.chunk < 1 or self.shard % self.chunk:
            raise LayoutError(
                f"{self.bands} bands, chunk {self.chunk}, shard {self.shard}: all must be positive "
                "and the chunk must divide the shard"
            )
        if self.codec not in ("none", "zstd"):
            raise LayoutError(f"the codec must be none or zstd, not {self.codec!r}")

    def shards(self, grid: Grid) -> tuple[int, int]:
        """Rows and columns of the grid of shards.

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


def status_name(modality: str) -> str:
    """Name of the array that says why a cell has or lacks the modality's vector."""
    return modality + STATUS_SUFFIX


def array_attributes(modality: str, grid: Grid, *, status: bool = False) -> dict[str, Any]:
    """Attributes of one vector or status array: the CRS as every reader looks for it."""
    what = "status of the vector" if status else "unit vector, quantized: v = q / |q|"
    attributes: dict[str, Any] = {
        "long_name": f"{modality} {what}",
        "grid_mapping": "spatial_ref",
        "coordinates": "spatial_ref",
    }
    if status:
        from unigeo.schemas.status import Status

        attributes["flag_values"] = [int(code) for code in Status]
        attributes["flag_meanings"] = " ".join(code.name.lower() for code in Status)
    else:
        # Not `_FillValue`, by which xarray would decode the vectors to floats.
        attributes["nodata"] = FILL
    return georeferenced(attributes, grid)


def georeference(grid: Grid) -> dict[str, Any]:
    """The `proj:` and `spatial:` attributes of a group or array, by which a store is checked."""
    return {
        "proj:code": grid.crs,
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": list(grid.affine),
        "spatial:shape": list(grid.shape),
        "spatial:bbox": list(grid.bounds),
        "spatial:registration": "pixel",
    }


def georeferenced(attributes: Mapping[str, Any], grid: Grid) -> dict[str, Any]:
    """Attributes of a stored group or array whose cells lie on a grid, conventions registered."""
    crs = {"proj:projjson": projjson(grid.crs)}
    return registered({**attributes, **georeference(grid), **crs})


def spatial_ref_attributes(grid: Grid) -> dict[str, Any]:
    """Attributes of the scalar `spatial_ref`: WKT2, and the transform in GDAL's order."""
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
    """CF attributes of the coordinate arrays."""
    return {
        "axis": axis.upper(),
        "standard_name": f"projection_{axis}_coordinate",
        "long_name": f"{'easting' if axis == 'x' else 'northing'} of the cell centre",
        "units": "m",
    }
