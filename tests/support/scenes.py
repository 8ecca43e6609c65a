"""One scene written as every format of raster that is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pyproj
import rasterio
import xarray as xr
from rasterio.transform import from_origin

CRS = "EPSG:32613"
STEP_M = 10.0
CORNER = (500_000.0, 4_400_000.0)
LONLAT = pyproj.Transformer.from_crs(CRS, 4326, always_xy=True).transform
Numbers = dict[str, Any]
"""Scale, offset and nodata of a scene: `scale`, `offset`, `nodata`; each may be left out."""


def places(values: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Points on a scene, across its edges too."""
    height, width = values.shape[1:]
    share = np.random.default_rng(seed).uniform(-0.02, 1.02, (2, count))
    easting = CORNER[0] + share[0] * width * STEP_M
    return np.stack(LONLAT(easting, CORNER[1] - share[1] * height * STEP_M), axis=1)


def tiff(path: Path, values: np.ndarray, numbers: Numbers, **options: Any) -> Path:
    profile = {
        "driver": "GTiff", "count": len(values), "height": values.shape[1],
        "width": values.shape[2], "dtype": values.dtype, "crs": CRS,
        "transform": from_origin(*CORNER, STEP_M, STEP_M), "nodata": numbers.get("nodata"),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile | options) as file:
        if "scale" in numbers:
            file.scales = [numbers["scale"]] * len(values)
            file.offsets = [numbers["offset"]] * len(values)
        file.write(values)
    return path


def cog(path: Path, values: np.ndarray, numbers: Numbers) -> Path:
    return tiff(path, values, numbers, driver="COG", overviews="NONE", compress="deflate")


def jpeg2000(path: Path, values: np.ndarray, numbers: Numbers) -> Path:
    options = {"driver": "JP2OpenJPEG", "quality": 100, "reversible": "YES", "ycbcr420": "NO"}
    return tiff(path.with_suffix(".jp2"), values, numbers, **options)


def with_world_file(path: Path, values: np.ndarray, driver: str, ending: str, **how: Any) -> Path:
    """A PNG or JPEG, its world file and its `.prj`."""
    from rasterio.io import MemoryFile

    profile = {
        "driver": driver, "count": len(values), "height": values.shape[1],
        "width": values.shape[2], "dtype": values.dtype,
        "transform": from_origin(*CORNER, STEP_M, STEP_M), "crs": CRS,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile | how) as file:
            file.write(values)
        path.write_bytes(memory.read())
    x, y = CORNER[0] + STEP_M / 2, CORNER[1] - STEP_M / 2
    numbers = (STEP_M, 0.0, 0.0, -STEP_M, x, y)
    path.with_suffix(ending).write_text("\n".join(map(repr, numbers)))
    path.with_suffix(".prj").write_text(pyproj.CRS(CRS).to_wkt("WKT1_ESRI"))
    return path


def png(path: Path, values: np.ndarray, numbers: Numbers) -> Path:
    return with_world_file(path.with_suffix(".png"), values, "PNG", ".pgw")


def jpeg(path: Path, values: np.ndarray, numbers: Numbers) -> Path:
    return with_world_file(path.with_suffix(".jpg"), values, "JPEG", ".jgw", quality=98)


def vrt(path: Path, values: np.ndarray, numbers: Numbers) -> Path:
    """Two halves of a scene joined, the right one through a VRT of its own."""
    middle = values.shape[2] // 2
    halves = {"left": values[..., :middle], "right": values[..., middle:]}
    for name, part in halves.items():
        corner = (CORNER[0] + (middle * STEP_M if name == "right" else 0), CORNER[1])
        transform = from_origin(*corner, STEP_M, STEP_M)
        tiff(path.with_name(f"{name}.tif"), part, numbers, transform=transform)
    right = halves["right"].shape[2]
    inner = path.with_name("inner.vrt")
    inner.write_text(vrt_text(values, numbers, right, [("right.tif", 0, right)]))
    path = path.with_suffix(".vrt")
    parts = [("left.tif", 0, middle), ("inner.vrt", middle, right)]
    path.write_text(vrt_text(values, numbers, values.shape[2], parts))
    return path


def vrt_text(
    values: np.ndarray, numbers: Numbers, width: int, parts: list[tuple[str, int, int]]
) -> str:
    """A VRT of files side by side: name, first column and width of each."""
    height = values.shape[1]
    kind = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32"}
    bands = []
    for band in range(1, len(values) + 1):
        nodata = f"<NoDataValue>{numbers['nodata']}</NoDataValue>" if "nodata" in numbers else ""
        if "scale" in numbers:
            nodata += f"<Offset>{numbers['offset']}</Offset><Scale>{numbers['scale']}</Scale>"
        sources = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{escape(name)}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{size}" ySize="{height}"/>'
            f'<DstRect xOff="{first}" yOff="0" xSize="{size}" ySize="{height}"/></SimpleSource>'
            for name, first, size in parts
        )
        bands.append(
            f'<VRTRasterBand dataType="{kind[values.dtype.name]}" band="{band}">{nodata}{sources}'
            "</VRTRasterBand>"
        )
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{CRS}</SRS><GeoTransform>'
        f"{CORNER[0]}, {STEP_M}, 0, {CORNER[1]}, 0, {-STEP_M}</GeoTransform>{''.join(bands)}"
        "</VRTDataset>"
    )


def dataset(values: np.ndarray, numbers: Numbers, ascending: bool = False) -> xr.Dataset:
    """A scene by the conventions of CF, its bands along `month`."""
    height, width = values.shape[1:]
    attributes = {"grid_mapping": "crs", "units": "K"}
    for ours, theirs in (("scale", "scale_factor"), ("offset", "add_offset")):
        if ours in numbers:
            attributes[theirs] = np.float64(numbers[ours])
    if "nodata" in numbers:
        attributes["_FillValue"] = values.dtype.type(numbers["nodata"])
    wkt = pyproj.CRS(CRS).to_wkt()
    result = xr.Dataset(
        {
            "scene": (("month", "y", "x"), values, attributes),
            "crs": ((), np.int32(0), {"crs_wkt": wkt}),
        },
        {
            "month": np.arange(1, len(values) + 1),
            "y": ("y", CORNER[1] - STEP_M * (np.arange(height) + 0.5), {"units": "m"}),
            "x": ("x", CORNER[0] + STEP_M * (np.arange(width) + 0.5), {"units": "m"}),
        },
    )
    return result.isel(y=slice(None, None, -1)) if ascending else result


def netcdf4(path: Path, values: np.ndarray, numbers: Numbers) -> Path:
    path = path.with_suffix(".nc")
    chunks = {"scene": {"chunksizes": (1, 64, 64), "zlib": True}}
    dataset(values, numbers).to_netcdf(path, engine="h5netcdf", encoding=chunks)
    return path


def netcdf3(path: Path, values: np.ndarray, numbers: Numbers) -> Path:
    path = path.with_suffix(".nc3")
    if values.dtype.kind == "u":  # stored as signed numbers of the same bits
        signed = dataset(values, numbers)
        attributes = signed["scene"].attrs | {"_Unsigned": "true"}
        if "_FillValue" in attributes:
            attributes["_FillValue"] = np.array(attributes["_FillValue"]).view(
                f"i{values.itemsize}"
            )[()]
        signed["scene"] = (signed["scene"].dims, values.view(f"i{values.itemsize}"), attributes)
        signed.to_netcdf(path, engine="scipy")
    else:
        dataset(values, numbers).to_netcdf(path, engine="scipy")
    return path


def ascending_rows(path: Path, values: np.ndarray, numbers: Numbers) -> Path:
    """The southernmost row first, bands last."""
    path = path.with_suffix(".nc")
    flipped = dataset(values, numbers, ascending=True).transpose("y", "x", "month")
    flipped.to_netcdf(path, engine="h5netcdf")
    return path


def zarr_store(**how: Any) -> Callable[[Path, np.ndarray, Numbers], Path]:
    def write(path: Path, values: np.ndarray, numbers: Numbers) -> Path:
        path = path.with_suffix(".zarr")
        encoding = {"scene": how["encoding"]} if "encoding" in how else {}
        dataset(values, numbers).to_zarr(
            path, zarr_format=how["version"], encoding=encoding, consolidated=how["version"] == 2
        )
        return path

    return write


LOSSLESS: dict[str, tuple[Callable[[Path, np.ndarray, Numbers], Path], str]] = {
    "cog": (cog, "uint8 uint16 int16 float32"),
    "vrt": (vrt, "uint8 uint16 int16 float32"),
    "jpeg2000": (jpeg2000, "uint8 uint16 int16"),
    "png": (png, "uint8 uint16"),
    "netcdf4": (netcdf4, "uint8 uint16 int16 float32"),
    "netcdf3": (netcdf3, "uint8 uint16 int16 float32"),
    "ascending": (ascending_rows, "uint8 int16 float32"),
    "zarr2": (zarr_store(version=2), "uint8 uint16 int16 float32"),
    "zarr3": (zarr_store(version=3), "uint8 uint16 int16 float32"),
    "sharded": (
        zarr_store(version=3, encoding={"chunks": (1, 32, 32), "shards": (3, 96, 96)}),
        "uint8 uint16 int16 float32",
    ),
}
"""How each format that keeps every bit is written, and the types that it holds."""
