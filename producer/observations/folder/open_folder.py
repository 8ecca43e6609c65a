"""Opening of a folder of observations: every file that its description names is checked."""

from dataclasses import replace
from pathlib import Path

from unigeo.producer.observations.file_contents import sample_digest
from unigeo.producer.observations.folder.class_codes import with_classes
from unigeo.producer.observations.folder.description import (
    ClassesDescription,
    HeightsDescription,
    ImagesDescription,
    RasterDescription,
    TextDescription,
    read_description,
)
from unigeo.producer.observations.folder.folder_observations import FolderObservations
from unigeo.producer.observations.folder.land import read_land
from unigeo.producer.observations.folder.located_images import LocatedImages, open_images
from unigeo.producer.observations.folder.location_tables import LocationTable, read_locations
from unigeo.producer.observations.raster_files.band_facts import Stated
from unigeo.producer.observations.raster_files.height_values import (
    HIGHEST_M,
    LOWEST_M,
    UNITS,
    HeightDescription,
)
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.raster_addresses import AddressStamp, is_address
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.schemas.errors import ObservationsError


def open_observations(description: str | Path, data: Path | None = None) -> FolderObservations:
    """Open a folder of data by its description, and check every file that it names.

    Args:
        description: an `observations.toml`.
        data: the data folder; by default that which the description names, or else the folder of
            the description.

    Raises:
        ObservationsError: the description is wrong, or a file is missing, damaged or lacks what the
            description states.
    """
    path = Path(description)
    about = read_description(path)
    root = (data if data is not None else path.parent / (about.data or ".")).resolve()
    if not root.is_dir():
        raise ObservationsError(f"there is no data folder {root}. Name another with --data.")
    training_table, locations = None, about.locations
    if locations.file is not None:
        file = _inside(root, locations.file, "locations")
        label = _label("locations", locations.file)
        training_table = read_locations(file, label, locations.lon, locations.lat, [])
    tables = about.modalities.items()
    land = _inside(root, about.land.file, "land")
    return FolderObservations(
        description=about,
        root=root,
        land_mask=read_land(land, _label("land", about.land.file)),
        training_table=training_table,
        rasters={
            modality: _open_rasters(root, modality, table)
            for modality, table in tables
            if isinstance(table, RasterDescription)
        },
        images={
            modality: _open_images(root, modality, table)
            for modality, table in tables
            if isinstance(table, ImagesDescription)
        },
        texts_of={
            modality: _open_texts(root, modality, table)
            for modality, table in tables
            if isinstance(table, TextDescription)
        },
        land_digest=sample_digest(land),
    )


def _open_rasters(root: Path, modality: str, about: RasterDescription) -> tuple[RasterSource, ...]:
    """Open the rasters of a modality, in the order in which they are named."""
    if about.band_names is not None and len(about.band_names) != len(about.bands):
        raise ObservationsError(
            f"table [{modality}], key 'band_names': {len(about.bands)} bands are read, and "
            f"{len(about.band_names)} are named."
        )
    heights = _describe_heights(modality, about) if isinstance(about, HeightsDescription) else None
    stated = Stated(
        encoder="classes" if isinstance(about, ClassesDescription) else "image",
        table=modality,
        scale=about.scale,
        offset=about.offset,
        band_names=about.band_names or (),
        variable=about.variable or "",
        crs=about.crs or "",
        root=root,
        addresses=frozenset(filter(is_address, about.files)),
    )
    sources = []
    for pattern in about.files:
        for path in _named_rasters(root, modality, pattern):
            name = path if isinstance(path, str) else path.relative_to(root).as_posix()
            label = _label(modality, name)
            where = path if isinstance(path, str) else _inside(root, name, modality)
            stamp = AddressStamp.of(path, label) if isinstance(path, str) else None
            source = open_source(where, about.bands, about.nodata, label, heights, stated)
            sources.append(source if stamp is None else replace(source, stamp=stamp))
    if isinstance(about, ClassesDescription):
        return with_classes(sources, about, modality)
    return tuple(sources)


def _named_rasters(root: Path, modality: str, pattern: str) -> list[Path] | list[str]:
    """Return the files that a name or pattern names, or the address that it is."""
    if is_address(pattern):
        return [pattern]
    paths = sorted(root.glob(pattern)) if "*" in pattern else [root / pattern]
    if not paths:
        raise ObservationsError(f"table [{modality}]: no file matches {pattern!r} in {root}.")
    return paths


def _describe_heights(modality: str, about: HeightsDescription) -> HeightDescription:
    """Return what the table of a surface model states about its numbers."""
    if len(about.bands) != 1:
        raise ObservationsError(
            f"table [{modality}], key 'bands': one band is needed, not {about.bands}."
        )
    units = "m" if about.units in ("metre", "metres") else about.units
    if units and units not in UNITS:
        raise ObservationsError(
            f"table [{modality}], key 'units': heights are in metres, not {about.units!r}. Say one "
            f"of {', '.join(UNITS)}, or convert them."
        )
    return HeightDescription(
        table=modality,
        units=units or None,
        scale=about.scale,
        offset=about.offset,
        lowest_m=LOWEST_M if about.lowest_m is None else about.lowest_m,
        highest_m=HIGHEST_M if about.highest_m is None else about.highest_m,
    )


def _open_images(root: Path, modality: str, about: ImagesDescription) -> LocatedImages:
    """Read the table of a modality's images, and check the files that it names."""
    label = _label(modality, about.file)
    others = [about.image] + ([about.heading] if about.heading else [])
    file = _inside(root, about.file, modality)
    table = read_locations(file, label, about.lon, about.lat, others)
    names = [str(name) for name in table.rows[about.image]]
    folder = _inside(root, about.folder, modality)
    return open_images(folder, names, table, about.patch_px, label)


def _open_texts(root: Path, modality: str, about: TextDescription) -> LocationTable:
    """Read the table of a modality's texts, without empty rows."""
    label = _label(modality, about.file)
    file = _inside(root, about.file, modality)
    table = read_locations(file, label, about.lon, about.lat, [about.text])
    texts = table.rows[about.text].astype("string").str.strip().fillna("")
    present = (texts != "").to_numpy(bool)
    if not present.any():
        raise ObservationsError(f"{label}: every row of the column {about.text!r} is empty.")
    rows = texts[present].astype(object).to_frame().reset_index(drop=True)
    return LocationTable(rows, table.lonlat[present])


def _inside(root: Path, name: str, table: str) -> Path:
    """Return the path of a file of the data folder; a link that leaves it is refused."""
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ObservationsError(
            f"{_label(table, name)} leads out of the data folder, to {path}. Copy it inside."
        )
    return path


def _label(table: str, name: str) -> str:
    """Name a file in error messages, with the table that lists it."""
    return f"table [{table}]: {name}"
