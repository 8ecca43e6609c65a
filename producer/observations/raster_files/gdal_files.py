"""Raster files opened by GDAL: in a few formats, and without files that lie elsewhere."""

import warnings
from pathlib import Path
from typing import Any

import pyproj
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from unigeo.producer.observations.raster_files.band_facts import Stated
from unigeo.producer.observations.raster_files.formats import GDAL_FORMATS, VRT, format_of
from unigeo.producer.observations.raster_files.raster_addresses import (
    address_of,
    gdal_name,
    gdal_settings,
    is_address,
)
from unigeo.producer.observations.raster_files.virtual_rasters import VirtualRaster, read_vrt
from unigeo.schemas.errors import ObservationsError

WORLD_FILE_FORMATS = ("PNG", "JPEG", "JP2OpenJPEG")
"""Formats of pictures, which other files place on the ground."""


def open_dataset(path: Path | str, form: str, text: str = "") -> Any:
    """Open a file by GDAL with the driver of its format, and no other.

    Args:
        path: the file, or the address of one.
        form: its format, see `formats.format_of`.
        text: the checked text of a VRT, which is opened instead of its file.

    Raises:
        RasterioError: GDAL cannot read it.
    """
    if isinstance(path, str):
        path = gdal_name(path)
    with warnings.catch_warnings():
        # A file without a transform is refused, or is joined by a VRT, which has one.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(text or path, driver=form, sharing=False)


def read_virtual_raster(path: Path, stated: Stated, label: str) -> VirtualRaster:
    """Read a VRT, and check the files that it names.

    Raises:
        ObservationsError: the VRT does other things than joining bands of files, or one of them is
            missing, damaged or elsewhere.
    """
    root = stated.root or path.parent.resolve()

    def locate(name: str, folder: Path) -> Path | str:
        address = address_of(name)
        if is_address(address) or address.startswith("/vsi"):
            if address not in stated.addresses:
                raise ObservationsError(
                    f"{label} names {name}, an address that the description does not. Name it "
                    "among the `files`, or fetch it."
                )
            return gdal_name(address)
        found = (folder / name).resolve()
        if not found.is_relative_to(root):
            raise ObservationsError(
                f"{label} names {name}, which is outside of {root}. Copy it inside, and write the "
                "VRT anew."
            )
        if not found.is_file():
            raise ObservationsError(f"{label} names {name}, and there is no such file.")
        return found

    read = read_vrt(path, locate, label)
    for file in read.files:
        if isinstance(file, Path) and (form := format_of(file, f"{label}: {file.name}")) != VRT:
            if form not in GDAL_FORMATS:
                raise ObservationsError(
                    f"{label} names {file.name}, a {form} file; a VRT joins GeoTIFF, JPEG 2000, "
                    "PNG and JPEG. Name it among the `files` instead."
                )
            with gdal_settings(file, form), open_dataset(file, form) as dataset:
                check_sidecars(dataset, file, root, f"{label}: {file.name}")
    return read


def check_sidecars(dataset: Any, path: Path, root: Path | None, label: str) -> None:
    """Refuse a file whose overviews, masks or world files lie elsewhere.

    Args:
        dataset: the open file.
        path: where it lies; it may be a link.
        root: the folder that they must lie in; None: that of the file, or of what it links to.
        label: name of the file in messages.

    Raises:
        ObservationsError: with the file that is named.
    """
    # GDAL opens the overviews when it lists the files, so their name is looked at before.
    named = dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE")
    elsewhere = [named] if named else []
    if not elsewhere:
        files = [Path(name).resolve() for name in dataset.files if not name.startswith("<")]
        roots = (root,) if root else (path.parent.resolve(), path.resolve().parent)
        elsewhere = [
            str(file) for file in files if not any(file.is_relative_to(one) for one in roots)
        ]
    if elsewhere:
        raise ObservationsError(
            f"{label} is read together with {elsewhere[0]}, which is outside of "
            f"{root or path.parent}. Copy it inside, or remove what names it."
        )


def sidecars(dataset: Any, path: Path) -> list[Path]:
    """List the files that a picture is read with: its world file, its `.prj` and others."""
    beside = path.with_suffix(".prj")
    names = [Path(name) for name in dataset.files if Path(name) != path]
    return names + ([beside] if beside.is_file() and beside not in names else [])


def declared_crs(dataset: Any, path: Path | str, stated: Stated, label: str) -> pyproj.CRS:
    """Return the CRS of a file, of the `.prj` beside it, or of the description.

    Raises:
        ObservationsError: there is none, or the description contradicts the file.
    """
    declared = None if dataset.crs is None else pyproj.CRS.from_user_input(dataset.crs)
    if declared is None and isinstance(path, Path):
        beside = path.with_suffix(".prj")
        if beside.is_file() and beside.resolve().is_relative_to(
            stated.root or path.parent.resolve()
        ):
            declared = _crs(beside.read_text(errors="replace"), f"{label}: {beside.name}")
    return chosen_crs(declared, stated, label)


def chosen_crs(declared: pyproj.CRS | None, stated: Stated, label: str) -> pyproj.CRS:
    """Return the CRS that a file declares, or else that of the description.

    Raises:
        ObservationsError: there is none, or they contradict each other.
    """
    if not stated.crs:
        if declared is None:
            raise ObservationsError(
                f"{label} has no CRS. Set the right one with `gdal_edit.py -a_srs EPSG:...`, or "
                f'declare `crs = "EPSG:..."` in table [{stated.table}].'
            )
        return declared
    wanted = _crs(stated.crs, f"table [{stated.table}], key 'crs'")
    if declared is not None and not declared.equals(wanted, ignore_axis_order=True):
        raise ObservationsError(
            f"{label} declares the CRS {declared.name}, table [{stated.table}] {wanted.name}. "
            "Leave out `crs`, or correct the file if it is wrong."
        )
    return wanted


def _crs(text: str, label: str) -> pyproj.CRS:
    try:
        return pyproj.CRS.from_user_input(text.strip())
    except pyproj.exceptions.CRSError as error:
        raise ObservationsError(
            f"{label} holds no CRS: {text.strip()[:60]!r}. Write one as EPSG:32613."
        ) from error


def unreadable(label: str, error: RasterioError) -> ObservationsError:
    """Return the error of a file that GDAL cannot read."""
    reason = str(error).split("\n", 1)[0].rstrip(".")
    if "<VRTDataset" in reason:
        reason = "GDAL refuses what the VRT holds"
    return ObservationsError(
        f"{label} cannot be read as a raster: {reason}. It may be damaged or cut short; fetch it "
        "again."
    )
