"""Observations from a folder of rasters, images and tables."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unigeo.producer.observations.file_contents import content_identity
from unigeo.producer.observations.folder.description import (
    ClassesDescription,
    Description,
    HeightsDescription,
    ImagesDescription,
    Modality,
    RasterDescription,
    TextDescription,
)
from unigeo.producer.observations.folder.land import Land
from unigeo.producer.observations.folder.located_images import LocatedImages
from unigeo.producer.observations.folder.location_tables import LocationTable
from unigeo.producer.observations.forms import COORDINATE, Form
from unigeo.producer.observations.patches import GAP_NAMES, Gap, Patches
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.raster_files.modality_rasters import ModalityRasters
from unigeo.producer.observations.raster_files.patch_frames import Frame
from unigeo.producer.observations.raster_files.raster_patches import cut
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.tables.points import check_lonlat


@dataclass(frozen=True, eq=False)
class FolderObservations(Observations):
    """Observations from a folder of data; `open_folder.open_observations` makes one."""

    description: Description
    root: Path
    """The data folder."""
    land_mask: Land
    training_table: LocationTable | None
    """Training locations that the description names, beside those drawn over land."""
    rasters: dict[str, tuple[RasterSource, ...]]
    """Rasters of each modality, in the order in which they are used."""
    images: dict[str, LocatedImages]
    """Image files of each modality that has no rasters."""
    texts_of: dict[str, LocationTable]
    """Texts of each modality of texts."""
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
        return COORDINATE, *self.description.modalities

    def shape(self, modality: str) -> tuple[int, int, int]:
        """Return channels, rows and columns of the patches of a modality of pixels.

        Raises:
            ObservationsError: the folder has no such modality.
        """
        return self.form(modality).shape

    def form(self, modality: str) -> Form:
        """Return which encoder takes a modality's observations, and what they look like.

        Raises:
            ObservationsError: the folder has no such modality.
        """
        if modality == COORDINATE:
            return Form(encoder="coordinate")
        source = self._source(modality)
        encoder = self.description.encoder(modality)
        if isinstance(source, TextDescription):
            return Form(encoder=encoder)
        if isinstance(source, ImagesDescription):
            return Form(encoder=encoder, shape=(3, source.patch_px, source.patch_px))
        views, size = len(source.patch_m), source.patch_px
        sources = self.rasters[modality]
        return Form(
            encoder=encoder,
            shape=(len(source.bands) * views, size, size),
            views=views,
            dtype="uint8" if all(one.small for one in sources) else "float32",
            classes=sources[0].class_names,
            sides_m=source.patch_m,
        )

    def covers_land(self, modality: str) -> bool:
        """Return whether a modality is read from rasters: images and texts exist at some points."""
        return modality == COORDINATE or modality in self.rasters

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

    def patches(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Observe one patch round each point; patches without data are invalid, and counted.

        Raises:
            ObservationsError: the folder has no such modality.
            PointsError: a point is no position on Earth.
        """
        check_lonlat(lonlat)
        source = self._source(modality)
        if isinstance(source, ImagesDescription):
            return self._nearest_images(modality, source, lonlat)
        rasters = self.rasters_of(modality)
        if rasters is None:
            raise ObservationsError(f"{modality} of {self.name} has texts, and no patches.")
        views = [
            cut(
                rasters.sources,
                lonlat,
                frame,
                rasters.dtype,
                rasters.min_valid,
                nearest=rasters.nearest,
            )
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

    def texts(
        self, lonlat: Float[np.ndarray, "point 2"], modality: str = "text"
    ) -> list[str | None]:
        """Return the nearest text within the radius round each point; None where there is none.

        Raises:
            ObservationsError: the folder has no such texts.
            PointsError: a point is no position on Earth.
        """
        check_lonlat(lonlat)
        source = self._source(modality)
        if not isinstance(source, TextDescription):
            raise ObservationsError(f"{modality} of {self.name} has patches, and no texts.")
        table = self.texts_of[modality]
        texts = table.rows[source.text].tolist()
        nearest = table.nearest(lonlat, source.radius_m)
        self._count(modality, "nothing in reach", int((nearest < 0).sum()))
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
            "description": self.description.to_json(),
            "land": self.land_digest,
            "rasters": {
                modality: [source.sample for source in sources if source.sample is not None]
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
            self.form(modality).pixel_type,
            about.min_valid,
            partial(self.count_gaps, modality),
            self.file_name,
            nearest=isinstance(about, ClassesDescription),
        )

    @property
    def data_folder(self) -> Path:
        """Folder of the input files."""
        return self.root

    def _nearest_images(
        self, modality: str, source: ImagesDescription, lonlat: Float[np.ndarray, "point 2"]
    ) -> Patches:
        """Return the image nearest to each point within the radius."""
        images = self.images[modality]
        nearest = images.locations.nearest(lonlat, source.radius_m)
        values = np.zeros((len(lonlat), *self.shape(modality)), np.uint8)
        valid = np.zeros(len(lonlat), bool)
        for row in np.unique(nearest[nearest >= 0]):  # each image is read once
            image = images.read(int(row))
            members = nearest == row
            if image is None:
                self._count(modality, "unreadable", int(members.sum()))
            else:
                values[members], valid[members] = image, True
        self._count(modality, "nothing in reach", int((nearest < 0).sum()))
        return Patches(values, valid)

    def _source(self, modality: str) -> Modality:
        source = self.description.modalities.get(modality)
        if source is None:
            raise ObservationsError(
                f"{self.name} has no {modality}; it has {', '.join(self.modalities)}."
            )
        return source

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
            modality: self._description_of(modality) | {"inputs": self._inputs(modality)}
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
        about = self._source(modality)
        if not isinstance(about, HeightsDescription):
            return about.to_json()
        conversions = [source.heights for source in self.rasters[modality]]
        scaled = any(one is not None and not one.is_identity for one in conversions)
        metres = [[one.factor, one.shift] for one in conversions if one is not None]
        return about.to_json() | ({"metres": metres} if scaled else {})

    def _inputs(self, modality: str) -> list[dict[str, Any]]:
        """List the input files of a modality, and the addresses with their state at opening."""
        if modality in self.rasters:
            return [
                {"address": path, "state": source.sample}
                if isinstance(path, str)
                else self._file(path)
                for source in self.rasters[modality]
                for path in source.files
            ]
        about = self._source(modality)
        assert isinstance(about, ImagesDescription | TextDescription)
        images = self.images[modality].paths if modality in self.images else ()
        return [self._file(path) for path in (self.root / about.file, *images)]

    def _file(self, path: Path) -> dict[str, Any]:
        relative = path.resolve().relative_to(self.root).as_posix()
        return {"file": relative} | content_identity(path)
