"""Observations from a folder of rasters, street images and tables."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unigeo.producer.observations.file_contents import content_identity, sample_digest
from unigeo.producer.observations.folder.description import (
    Description,
    HeightsDescription,
    RasterDescription,
    StreetDescription,
    TextDescription,
    read_description,
)
from unigeo.producer.observations.folder.land import Land, read_land
from unigeo.producer.observations.folder.location_tables import LocationTable, read_locations
from unigeo.producer.observations.folder.street_images import StreetImages, open_street_images
from unigeo.producer.observations.geotiff.geotiff_source import GeotiffSource, open_source
from unigeo.producer.observations.geotiff.height_values import (
    HIGHEST_M,
    LOWEST_M,
    UNITS,
    HeightDescription,
)
from unigeo.producer.observations.geotiff.modality_rasters import ModalityRasters
from unigeo.producer.observations.geotiff.patch_frames import Frame
from unigeo.producer.observations.geotiff.raster_patches import cut
from unigeo.producer.observations.patches import GAP_NAMES, Gap, Patches
from unigeo.producer.observations.protocol import ImageModality, Observations
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.tables.points import check_lonlat

OBSERVED = ("aerial", "street", "dsm", "text")
"""Modalities that a description may have, in their order."""


@dataclass(frozen=True, eq=False)
class FolderObservations(Observations):
    """Observations from a folder of data; `open_observations` makes one."""

    description: Description
    root: Path
    """The data folder."""
    land_mask: Land
    training_table: LocationTable | None
    """Training locations that the description names, beside those drawn over land."""
    rasters: dict[str, tuple[GeotiffSource, ...]]
    """Rasters of each modality, in the order in which they are used."""
    street_images: StreetImages | None
    text_table: LocationTable | None
    land_digest: str
    """Result of `sample_digest` for the land file."""
    _gaps: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short name, for logs and the model card."""
        return self.description.name

    @property
    def modalities(self) -> tuple[str, ...]:
        """Observed modalities, `coordinate` first."""
        return "coordinate", *(m for m in OBSERVED if getattr(self.description, m) is not None)

    def shape(self, modality: ImageModality) -> tuple[int, int, int]:
        """Return channels, rows and columns of the modality's patches.

        Raises:
            ObservationsError: the folder has no such modality.
        """
        source = self._source(modality)
        channels = (
            len(source.bands) * len(source.patch_m) if isinstance(source, RasterDescription) else 3
        )
        return channels, source.patch_px, source.patch_px

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """Draw training locations: rows of the locations table, the rest uniformly over land.

        A row is drawn at most once; if the table has too few, more locations are drawn over land.
        """
        rng = np.random.default_rng(seed)
        rows = np.empty((0, 2))
        if self.training_table is not None:
            wanted = count - round(count * self.description.locations.uniform)
            rows = rng.permutation(self._table_locations_on_land)[:wanted]
        lonlat = np.concatenate([rows, self.land_mask.draw(count - len(rows), rng)])
        return rng.permutation(lonlat)

    def land(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Return whether each point is on land."""
        check_lonlat(lonlat)
        return self.land_mask.contains(lonlat)

    def patches(self, modality: ImageModality, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Observe one patch round each point; patches without data are invalid, and counted.

        Raises:
            ObservationsError: the folder has no such modality.
            PointsError: a point is no position on Earth.
        """
        check_lonlat(lonlat)
        source = self._source(modality)
        if isinstance(source, StreetDescription):
            return self._nearest_images(source, lonlat)
        rasters = self.rasters_of(modality)
        assert rasters is not None
        views = [
            cut(rasters.sources, lonlat, frame, rasters.dtype, rasters.min_valid)
            for frame in rasters.frames
        ]
        # A patch is valid if all its views are; of several reasons the larger `Gap` is counted.
        gaps = np.max([view.gaps for view in views], axis=0)
        self.count_gaps(modality, gaps)
        values = [view.patches.values for view in views]
        damaged = {path for view in views for path in view.damaged}
        return Patches(
            np.concatenate(values, axis=1) if len(views) > 1 else values[0],
            gaps == 0,
            gaps == Gap.UNREADABLE if damaged else None,
            tuple(sorted(self.file_name(path) for path in damaged)),
        )

    def count_gaps(self, modality: str, gaps: UInt8[np.ndarray, " point"]) -> None:
        """Count patches without data by reason."""
        for gap, reason in GAP_NAMES.items():
            self._count(modality, reason, int((gaps == gap).sum()))

    def texts(self, lonlat: Float[np.ndarray, "point 2"]) -> list[str | None]:
        """Return the nearest text within the radius round each point; None where there is none.

        Raises:
            ObservationsError: the folder has no texts.
            PointsError: a point is no position on Earth.
        """
        check_lonlat(lonlat)
        source = self.description.text
        if source is None or self.text_table is None:
            raise ObservationsError(f"{self.name} has no text; it has {self._listed()}.")
        texts = self.text_table.rows[source.text].tolist()
        nearest = self.text_table.nearest(lonlat, source.radius_m)
        self._count("text", "nothing in reach", int((nearest < 0).sum()))
        return [None if row < 0 else texts[row] for row in nearest]

    def gaps(self) -> dict[str, dict[str, int]]:
        """Count the requested observations that were missing so far, by modality and reason."""
        return {modality: dict(counts) for modality, counts in self._gaps.items()}

    def provenance(self) -> dict[str, Any]:
        """Return, as JSON, sources, patch sizes in metres, dates, licences and input hashes."""
        return self._provenance

    def identity(self) -> dict[str, Any]:
        """Return, as JSON, what rasterization reads.

        Files are identified by samples of their bytes, which takes seconds, and equal files are
        equal on every machine.
        """
        return {
            "description": self.description.model_dump(mode="json", exclude={"data"}),
            "land": self.land_digest,
            "rasters": {
                modality: [source.stamp.sample for source in sources if source.stamp is not None]
                for modality, sources in self.rasters.items()
            },
        }

    def rasters_of(self, modality: str) -> ModalityRasters | None:
        """Return the rasters that a modality is cut from; None for a modality without rasters."""
        if modality not in self.rasters:
            return None
        about = self._source(modality)
        assert isinstance(about, RasterDescription)
        return ModalityRasters(
            self.rasters[modality],
            [Frame(side, about.patch_px) for side in about.patch_m],
            np.float32 if modality == "dsm" else np.uint8,
            about.min_valid,
            partial(self.count_gaps, modality),
            self.file_name,
        )

    @property
    def data_folder(self) -> Path:
        """Folder of the input files."""
        return self.root

    def _nearest_images(
        self, source: StreetDescription, lonlat: Float[np.ndarray, "point 2"]
    ) -> Patches:
        """Return the street image nearest to each point within the radius."""
        assert self.street_images is not None
        nearest = self.street_images.locations.nearest(lonlat, source.radius_m)
        values = np.zeros((len(lonlat), *self.shape("street")), np.uint8)
        valid = np.zeros(len(lonlat), bool)
        for row in np.unique(nearest[nearest >= 0]):  # each image is read once
            image = self.street_images.read(int(row))
            members = nearest == row
            if image is None:
                self._count("street", "unreadable", int(members.sum()))
            else:
                values[members], valid[members] = image, True
        self._count("street", "nothing in reach", int((nearest < 0).sum()))
        return Patches(values, valid)

    def _source(self, modality: str) -> RasterDescription | StreetDescription:
        source = (
            getattr(self.description, modality) if modality in get_args(ImageModality) else None
        )
        if source is None:
            raise ObservationsError(f"{self.name} has no {modality}; it has {self._listed()}.")
        return source  # type: ignore[no-any-return]

    def _listed(self) -> str:
        return ", ".join(self.modalities)

    def file_name(self, path: Path | str) -> str:
        """Return a file's path in the data folder, as the description names it; a URL as it is."""
        return path if isinstance(path, str) else path.resolve().relative_to(self.root).as_posix()

    def _count(self, modality: str, reason: str, number: int) -> None:
        if number:
            self._gaps.setdefault(modality, Counter())[reason] += number

    @cached_property
    def _table_locations_on_land(self) -> Float[np.ndarray, "row 2"]:
        assert self.training_table is not None
        # Several rows may share a location, which must not be drawn twice.
        lonlat: Float[np.ndarray, "row 2"] = np.unique(self.training_table.lonlat, axis=0)
        on_land: Float[np.ndarray, "land 2"] = lonlat[self.land_mask.contains(lonlat)]
        return on_land

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        about = self.description
        sources = {
            modality: self._description_of(modality)
            | {"inputs": [self._file(path) for path in self._paths(modality)]}
            for modality in self.modalities[1:]
        }
        tables = [self.root / about.locations.file] if about.locations.file else []
        return {
            "name": about.name,
            "licence": about.licence,
            "citation": about.citation,
            "land": self._file(self.root / about.land.file),
            "locations": about.locations.model_dump(mode="json")
            | {"inputs": [self._file(path) for path in tables]},
            "modalities": sources,
        }

    def _description_of(self, modality: str) -> dict[str, Any]:
        """Return, as JSON, the table of a modality, and how its numbers are converted to metres."""
        about = getattr(self.description, modality)
        if not isinstance(about, HeightsDescription):
            table: dict[str, Any] = about.model_dump(mode="json")
            return table
        conversions = [source.heights for source in self.rasters[modality]]
        scaled = any(one is not None and not one.is_identity for one in conversions)
        metres = [[one.factor, one.shift] for one in conversions if one is not None]
        return about.to_json() | ({"metres": metres} if scaled else {})

    def _paths(self, modality: str) -> list[Path]:
        """List the input files of a modality."""
        if modality in self.rasters:
            return [Path(source.path) for source in self.rasters[modality]]
        table = self.root / getattr(self.description, modality).file
        return [table, *(self.street_images.paths if modality == "street" else ())]  # type: ignore[union-attr]

    def _file(self, path: Path) -> dict[str, Any]:
        relative = path.resolve().relative_to(self.root).as_posix()
        return {"file": relative} | content_identity(path)


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


def _open_rasters(root: Path, modality: str, about: RasterDescription) -> tuple[GeotiffSource, ...]:
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
