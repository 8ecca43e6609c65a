"""Opening of a folder of observations: every file that its description names is checked."""

from pathlib import Path

from unigeo.producer.observations.file_contents import sample_digest
from unigeo.producer.observations.folder.description import (
    HeightsDescription,
    RasterDescription,
    StreetDescription,
    TextDescription,
    read_description,
)
from unigeo.producer.observations.folder.folder_observations import FolderObservations
from unigeo.producer.observations.folder.land import read_land
from unigeo.producer.observations.folder.location_tables import LocationTable, read_locations
from unigeo.producer.observations.folder.street_images import StreetImages, open_street_images
from unigeo.producer.observations.raster_files.height_values import (
    HIGHEST_M,
    LOWEST_M,
    UNITS,
    HeightDescription,
)
from unigeo.producer.observations.raster_files.open_source import open_source
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
    rasters = {
        modality: _open_rasters(root, modality, source)
        for modality in ("aerial", "street", "dsm")
        if isinstance(source := getattr(about, modality), RasterDescription)
    }
    street = about.street
    land = _inside(root, about.land.file, "land")
    return FolderObservations(
        description=about,
        root=root,
        land_mask=read_land(land, _label("land", about.land.file)),
        training_table=training_table,
        rasters=rasters,
        street_images=_open_images(root, street) if isinstance(street, StreetDescription) else None,
        text_table=None if about.text is None else _open_texts(root, about.text),
        land_digest=sample_digest(land),
    )


def _open_rasters(root: Path, modality: str, about: RasterDescription) -> tuple[RasterSource, ...]:
    """Open the rasters of a modality, in the order in which they are named."""
    sources = []
    for pattern in about.files:
        paths = sorted(root.glob(pattern)) if "*" in pattern else [root / pattern]
        if not paths:
            raise ObservationsError(f"table [{modality}]: no file matches {pattern!r} in {root}.")
        for path in paths:
            name = path.relative_to(root).as_posix()
            label = _label(modality, name)
            inside = _inside(root, name, modality)
            heights = _describe_heights(about) if isinstance(about, HeightsDescription) else None
            source = open_source(inside, about.bands, about.nodata, label, heights)
            if heights is None and source.dtype != "uint8":
                raise ObservationsError(
                    f"{label} holds {source.dtype}; {modality} is uint8. Convert it, for example "
                    "with `gdal_translate -ot Byte -scale`."
                )
            sources.append(source)
    return tuple(sources)


def _describe_heights(about: HeightsDescription) -> HeightDescription:
    """Return what the table [dsm] states about its numbers."""
    if len(about.bands) != 1:
        raise ObservationsError(f"table [dsm], key 'bands': one band is needed, not {about.bands}.")
    units = "m" if about.units in ("metre", "metres") else about.units
    if units and units not in UNITS:
        raise ObservationsError(
            f"table [dsm], key 'units': heights are in metres, not {about.units!r}. Say one of "
            f"{', '.join(UNITS)}, or convert them."
        )
    return HeightDescription(
        table="dsm",
        units=units or None,
        scale=about.scale,
        offset=about.offset,
        lowest_m=LOWEST_M if about.lowest_m is None else about.lowest_m,
        highest_m=HIGHEST_M if about.highest_m is None else about.highest_m,
    )


def _open_images(root: Path, about: StreetDescription) -> StreetImages:
    """Read the table of street images, and check the files that it names."""
    label = _label("street", about.file)
    others = [about.image] + ([about.heading] if about.heading else [])
    file = _inside(root, about.file, "street")
    table = read_locations(file, label, about.lon, about.lat, others)
    names = [str(name) for name in table.rows[about.image]]
    folder = _inside(root, about.folder, "street")
    return open_street_images(folder, names, table, about.patch_px, label)


def _open_texts(root: Path, about: TextDescription) -> LocationTable:
    """Read the table of texts, without empty rows."""
    label = _label("text", about.file)
    file = _inside(root, about.file, "text")
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
