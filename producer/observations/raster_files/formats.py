"""Formats of raster files, told by their first bytes rather than by their names."""

from pathlib import Path
from urllib.parse import urlsplit

from unigeo.schemas.errors import ObservationsError

GDAL_FORMATS = {
    "GTiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "JP2OpenJPEG": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
}
"""First bytes of the files that GDAL reads, by the name of its driver."""
ARRAY_FORMATS = {"NetCDF-4": (b"\x89HDF\r\n\x1a\n",), "NetCDF-3": (b"CDF\1", b"CDF\2")}
VRT = "VRT"
ZARR = "Zarr"
ARRAYS = (*ARRAY_FORMATS, ZARR)
"""Formats that are read as arrays with named dimensions."""
READ = "GeoTIFF, VRT, JPEG 2000, PNG, JPEG, NetCDF and Zarr"
_ENDINGS = {
    ".zarr": ZARR, ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jp2": "JP2OpenJPEG",
    ".j2k": "JP2OpenJPEG",
}  # fmt: skip
"""Formats of addresses by their endings; others are GeoTIFFs."""
HEAD_BYTES = 4096
_ZARR_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
_DESCRIPTIONS = (b"<VRTDataset", b"<GDAL", b"<WMS", b"<TMS")
"""Texts by which GDAL takes a file for a description of others, before the first byte of 0."""


def format_of(path: Path | str, label: str) -> str:
    """Return the format of a raster, by which its reader is chosen.

    Returns:
        The name of a GDAL driver, `NetCDF-3`, `NetCDF-4` or `Zarr`.

    Raises:
        ObservationsError: it is of another format, or cannot be read where it lies.
    """
    if isinstance(path, str):
        return _format_of_address(path, label)
    if path.is_dir():
        if any((path / name).is_file() for name in _ZARR_METADATA):
            return ZARR
        raise ObservationsError(
            f"{label} is a folder and no Zarr store. Name the files in it, as in `tiles/*.tif`."
        )
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for name, starts in (GDAL_FORMATS | ARRAY_FORMATS).items():
        if head.startswith(starts):
            if name in GDAL_FORMATS and any(text in head.split(b"\0")[0] for text in _DESCRIPTIONS):
                break
            return name
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<VRTDataset"):
        return VRT
    raise ObservationsError(
        f"{label} cannot be read as a raster: it is none of {READ}. It may be damaged; fetch it "
        "again, or convert it with gdal_translate."
    )


def _format_of_address(address: str, label: str) -> str:
    name = urlsplit(address).path.lower().rstrip("/")
    for ending in (".vrt", ".nc", ".nc4"):
        if name.endswith(ending):
            raise ObservationsError(
                f"{label} is read from the data folder, not from an address. Fetch it first."
            )
    return next((form for end, form in _ENDINGS.items() if name.endswith(end)), "GTiff")
