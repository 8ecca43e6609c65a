"""Observations read from a folder of rasters, photographs and tables."""

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


@dataclass(frozen=True, eq=False)
class FolderObservations(Observations):
    """A folder of real data, as observations; `open_observations` makes one."""

    description: Description
    root: Path
    land_mask: Land
    known: LocationTable | None
    """Places to learn from, beside those drawn over land."""
    rasters: dict[str, tuple[GeotiffSource, ...]]
    photographs: StreetImages | None
    said: LocationTable | None
    """Rows of words."""
    surface_sample: str
    """Of the file of `land_mask`, by `sample_digest`."""
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
        """Channels, rows and columns of the modality's patches.

        Raises:
            ObservationsError: the folder has no such modality.
        """
        source = self._source(modality)
        channels = (
            len(source.bands) * len(source.patch_m) if isinstance(source, RasterDescription) else 3
        )
        return channels, source.patch_px, source.patch_px

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """Draw places on land: rows of the locations table, the rest uniformly by area.

        A row is drawn once at most; where more are wanted than the table has, further places over
        land take their part.
        """
        rng = np.random.default_rng(seed)
        rows = np.empty((0, 2))
        if self.known is not None:
            wanted = count - round(count * self.description.locations.uniform)
            rows = rng.permutation(self._known_on_land)[:wanted]
        places = np.concatenate([rows, self.land_mask.draw(count - len(rows), rng)])
        return rng.permutation(places)

    def land(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Whether each point is on land."""
        check_lonlat(lonlat)
        return self.land_mask.contains(lonlat)

    def patches(self, modality: ImageModality, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Observe one patch round each point; those without data are invalid, and counted.

        Raises:
            ObservationsError: the folder has no such modality.
            PointsError: a point that is no place on Earth.
        """
        check_lonlat(lonlat)
        source = self._source(modality)
        if isinstance(source, StreetDescription):
            return self._nearest_photographs(source, lonlat)
        rasters = self.rasters_of(modality)
        assert rasters is not None
        views = [
            cut(rasters.sources, lonlat, frame, rasters.dtype, rasters.min_valid)
            for frame in rasters.frames
        ]
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
        """Give each point the words of the nearest row within the radius; else None.

        Raises:
            ObservationsError: the folder has no texts.
            PointsError: a point that is no place on Earth.
        """
        check_lonlat(lonlat)
        source = self.description.text
        if source is None or self.said is None:
            raise ObservationsError(f"{self.name} has no text; it has {self._listed()}.")
        words = self.said.rows[source.text].tolist()
        nearest = self.said.nearest(lonlat, source.radius_m)
        self._count("text", "nothing in reach", int((nearest < 0).sum()))
        return [None if row < 0 else words[row] for row in nearest]

    def gaps(self) -> dict[str, dict[str, int]]:
        """How many observations asked for so far were missing, by modality and reason."""
        return {modality: dict(counts) for modality, counts in self._gaps.items()}

    def provenance(self) -> dict[str, Any]:
        """JSON: sources, patch sizes in metres, dates, licences, hashes of the inputs."""
        return self._provenance

    def identity(self) -> dict[str, Any]:
        """JSON: what rasterization reads, files by samples: told in seconds, by any machine."""
        return {
            "description": self.description.model_dump(mode="json", exclude={"data"}),
            "land": self.surface_sample,
            "rasters": {
                modality: [source.stamp.sample for source in sources if source.stamp is not None]
                for modality, sources in self.rasters.items()
            },
        }

    def rasters_of(self, modality: str) -> ModalityRasters | None:
        """Rasters that the patches of a modality are cut from; None of one without rasters."""
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

    def _nearest_photographs(
        self, source: StreetDescription, lonlat: Float[np.ndarray, "point 2"]
    ) -> Patches:
        assert self.photographs is not None
        nearest = self.photographs.locations.nearest(lonlat, source.radius_m)
        values = np.zeros((len(lonlat), *self.shape("street")), np.uint8)
        valid = np.zeros(len(lonlat), bool)
        for row in np.unique(nearest[nearest >= 0]):
            picture = self.photographs.read(int(row))
            here = nearest == row
            if picture is None:
                self._count("street", "unreadable", int(here.sum()))
            else:
                values[here], valid[here] = picture, True
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
        """A file as the description names it; a URL as it is."""
        return path if isinstance(path, str) else path.resolve().relative_to(self.root).as_posix()

    def _count(self, modality: str, reason: str, number: int) -> None:
        if number:
            self._gaps.setdefault(modality, Counter())[reason] += number

    @cached_property
    def _known_on_land(self) -> Float[np.ndarray, "row 2"]:
        assert self.known is not None
        lonlat: Float[np.ndarray, "row 2"] = np.unique(self.known.lonlat, axis=0)
        on_land: Float[np.ndarray, "land 2"] = lonlat[self.land_mask.contains(lonlat)]
        return on_land

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        about = self.description
        sources = {
            modality: self._said(modality)
            | {"inputs": [self._file(path) for path in self._paths(modality)]}
            for modality in self.modalities[1:]
        }
        places = [self.root / about.locations.file] if about.locations.file else []
        return {
            "name": about.name,
            "licence": about.licence,
            "citation": about.citation,
            "land": self._file(self.root / about.land.file),
            "locations": about.locations.model_dump(mode="json")
            | {"inputs": [self._file(path) for path in places]},
            "modalities": sources,
        }

    def _said(self, modality: str) -> dict[str, Any]:
        """The table of a modality, and how the numbers of its files become metres, if they do."""
        about = getattr(self.description, modality)
        if not isinstance(about, HeightsDescription):
            said: dict[str, Any] = about.model_dump(mode="json")
            return said
        metres = [source.heights for source in self.rasters[modality]]
        scaled = any(one is not None and not one.is_identity for one in metres)
        ways = [[one.factor, one.shift] for one in metres if one is not None]
        return about.to_json() | ({"metres": ways} if scaled else {})

    def _paths(self, modality: str) -> list[Path]:
        if modality in self.rasters:
            return [Path(source.path) for source in self.rasters[modality]]
        table = self.root / getattr(self.description, modality).file
        return [table, *(self.photographs.paths if modality == "street" else ())]  # type: ignore[union-attr]

    def _file(self, path: Path) -> dict[str, Any]:
        relative = path.resolve().relative_to(self.root).as_posix()
        return {"file": relative} | content_identity(path)


def open_observations(description: str | Path, data: Path | None = None) -> FolderObservations:
    """Open a folder of data by its description, and check every file that it names.

    Args:
        description: an `observations.toml`.
        data: the folder of data; without it the one that the description names, else its own.

    Raises:
        ObservationsError: the description is wrong, or a file is missing, damaged or without what
            the description says of it.
    """
    path = Path(description)
    about = read_description(path)
    root = (data if data is not None else path.parent / (about.data or ".")).resolve()
    if not root.is_dir():
        raise ObservationsError(f"there is no data folder {root}. Name another with --data.")
    known = None
    if about.locations.file is not None:
        file = _inside(root, about.locations.file, "locations")
        shown = _shown("locations", about.locations.file)
        known = read_locations(file, shown, about.locations.lon, about.locations.lat, [])
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
        land_mask=read_land(land, _shown("land", about.land.file)),
        known=known,
        rasters=rasters,
        photographs=_open_images(root, street) if isinstance(street, StreetDescription) else None,
        said=None if about.text is None else _open_texts(root, about.text),
        surface_sample=sample_digest(land),
    )


def _open_rasters(root: Path, modality: str, about: RasterDescription) -> tuple[GeotiffSource, ...]:
    """Open the rasters of a modality, in the order in which they are named."""
    sources = []
    for pattern in about.files:
        found = sorted(root.glob(pattern)) if "*" in pattern else [root / pattern]
        if not found:
            raise ObservationsError(f"table [{modality}]: no file matches {pattern!r} in {root}.")
        for path in found:
            name = path.relative_to(root).as_posix()
            shown = _shown(modality, name)
            inside = _inside(root, name, modality)
            terrain = _terrain(about) if isinstance(about, HeightsDescription) else None
            source = open_source(inside, about.bands, about.nodata, shown, terrain)
            if terrain is None and source.dtype != "uint8":
                raise ObservationsError(
                    f"{shown} holds {source.dtype}; {modality} is uint8. Convert it, for example "
                    "with `gdal_translate -ot Byte -scale`."
                )
            sources.append(source)
    return tuple(sources)


def _terrain(about: HeightsDescription) -> HeightDescription:
    """What the table [dsm] says of its numbers."""
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
    shown = _shown("street", about.file)
    others = [about.image] + ([about.heading] if about.heading else [])
    table = _inside(root, about.file, "street")
    places = read_locations(table, shown, about.lon, about.lat, others)
    names = [str(name) for name in places.rows[about.image]]
    folder = _inside(root, about.folder, "street")
    return open_street_images(folder, names, places, about.patch_px, shown)


def _open_texts(root: Path, about: TextDescription) -> LocationTable:
    """Read the rows that say something."""
    shown = _shown("text", about.file)
    file = _inside(root, about.file, "text")
    table = read_locations(file, shown, about.lon, about.lat, [about.text])
    words = table.rows[about.text].astype("string").str.strip().fillna("")
    full = (words != "").to_numpy(bool)
    if not full.any():
        raise ObservationsError(f"{shown}: every row of the column {about.text!r} is empty.")
    rows = words[full].astype(object).to_frame().reset_index(drop=True)
    return LocationTable(rows, table.lonlat[full])


def _inside(root: Path, name: str, table: str) -> Path:
    """Find a file of the data folder; a link that leaves it is refused."""
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ObservationsError(
            f"{_shown(table, name)} leads out of the data folder, to {path}. Copy it inside."
        )
    return path


def _shown(table: str, name: str) -> str:
    return f"table [{table}]: {name}"
