"""Virtual rasters (VRT): text that joins bands of other files, and must not lead elsewhere.

GDAL would open whatever a VRT names: files of the whole machine, addresses, programs. So the text
is read here, and written anew with what is known alone: bands, and the files that they come from,
each held to the rules of the files that observations name.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unigeo.producer.observations.raster_files.formats import VRT, format_of
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.io.limits import DOCUMENT_BYTES

DEEPEST = 4
"""Largest number of VRTs that hold one another."""
_TAGS = frozenset((
    "VRTDataset", "SRS", "GeoTransform", "Metadata", "MDI", "VRTRasterBand", "MaskBand",
    "ColorInterp", "NoDataValue", "HideNoDataValue", "Scale", "Offset", "UnitType",
    "Description", "ColorTable", "Entry", "CategoryNames", "Category", "SimpleSource",
    "ComplexSource", "SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect",
    "NODATA", "ScaleOffset", "ScaleRatio", "ColorTableComponent", "UseMaskBand",
    "OverviewList", "BlockXSize", "BlockYSize", "Histograms", "HistItem", "HistMin", "HistMax",
    "BucketCount", "IncludeOutOfRange", "Approximate", "HistCounts",
))  # fmt: skip
_ATTRIBUTES = frozenset((
    "rasterXSize", "rasterYSize", "dataAxisToSRSAxisMapping", "coordinateEpoch", "dataType",
    "band", "blockXSize", "blockYSize", "BlockXSize", "BlockYSize", "RasterXSize",
    "RasterYSize", "DataType", "relativeToVRT", "shared", "resampling", "key", "c1", "c2",
    "c3", "c4", "xOff", "yOff", "xSize", "ySize",
))  # fmt: skip
Locate = Callable[[str, Path], Path | str]
"""Returns the file, or the name GDAL gives an address, that a VRT in a folder names."""


@dataclass(frozen=True)
class VirtualRaster:
    """A VRT whose text was checked."""

    text: str
    """The VRT as GDAL opens it: every file named by its whole path."""
    files: tuple[Path | str, ...]
    """Files and addresses that it reads, and other VRTs in it."""


def read_vrt(path: Path, locate: Locate, label: str, depth: int = 1) -> VirtualRaster:
    """Read and check a VRT, and those that it names.

    Args:
        path: the file.
        locate: finds what the VRT names, and refuses what lies elsewhere.
        label: name of the file in messages, with the table that lists it.
        depth: how many VRTs hold one another, this one included.

    Raises:
        ObservationsError: it is no VRT, or does other things than joining bands of files.
    """
    if depth > DEEPEST:
        raise ObservationsError(f"{label}: more than {DEEPEST} VRTs hold one another. Join them.")
    if path.stat().st_size > DOCUMENT_BYTES:
        raise ObservationsError(f"{label} has over {DOCUMENT_BYTES:,} bytes of text. Split it.")
    content = path.read_bytes()
    try:
        if b"<!" in content.replace(b"<!--", b""):
            raise ET.ParseError("it defines entities")
        root = ET.fromstring(content)
    except ET.ParseError as error:
        raise ObservationsError(f"{label} is no VRT that can be read: {error}.") from error
    for parent in list(root.iter()):
        for child in [one for one in parent if one.tag == "Metadata" and "domain" in one.attrib]:
            parent.remove(child)  # hints for GDAL, some of which name files
    files: list[Path | str] = []
    for element in root.iter():
        unknown = [name for name in element.attrib if name not in _ATTRIBUTES]
        if element.tag not in _TAGS or unknown:
            found = f"`{unknown[0]}`" if unknown else f"<{element.tag}>"
            raise ObservationsError(
                f"{label} is a VRT with {found}, and only those that join bands of files are read. "
                "Write what it shows to a file: `gdal_translate in.vrt out.tif`."
            )
        if element.tag == "SourceFilename":
            found_at = locate((element.text or "").strip(), path.parent)
            files.append(found_at)
            element.text = str(found_at)
            if isinstance(found_at, Path) and format_of(found_at, f"{label}: {found_at}") == VRT:
                inner = read_vrt(found_at, locate, label, depth + 1)
                files += inner.files
                element.text = inner.text
            element.attrib.clear()
            element.attrib.update(relativeToVRT="0", shared="0")
    return VirtualRaster(ET.tostring(root, encoding="unicode"), tuple(dict.fromkeys(files)))
