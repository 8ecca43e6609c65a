"""From the settings of a set to the finished set: what `unigeo-produce observe` calls."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rasterio.windows import Window

from unigeo.producer.observations.folder.location_tables import read_locations
from unigeo.producer.observations.observation_set.named_objects import ObjectFolder
from unigeo.producer.observations.observation_set.set_observations import (
    SetObservations,
    open_observation_set,
)
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.raster_pixels import open_pixels, values_in
from unigeo.producer.sources.change_clauses import join_clauses
from unigeo.producer.sources.datasheet import datasheet, draw_coverage, draw_examples
from unigeo.producer.sources.earlier_set import EarlierSet, open_earlier_set
from unigeo.producer.sources.findings import KeptModality, ObservationSource
from unigeo.producer.sources.image_folder import ImageFolder
from unigeo.producer.sources.imagery import AerialSource, SurfaceSource
from unigeo.producer.sources.input_files import identify_inputs
from unigeo.producer.sources.kartaview import URL as KARTAVIEW
from unigeo.producer.sources.kartaview import KartaView
from unigeo.producer.sources.location_sampling import (
    LocationSampling,
    LocationWeight,
    sample_locations,
)
from unigeo.producer.sources.mapillary import open_mapillary
from unigeo.producer.sources.raster_catalogue import Catalogue
from unigeo.producer.sources.set_builder import build, finish, unusable_items
from unigeo.producer.sources.set_counts import name_areas
from unigeo.producer.sources.set_description import ImageryRules, SetDescription, StreetRules
from unigeo.producer.sources.set_plan import SetPlan, plan_shards
from unigeo.producer.sources.splits import Splitting, split
from unigeo.producer.sources.street import StreetSource
from unigeo.producer.sources.texts import open_text_source
from unigeo.producer.sources.web_requests import WebClient
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.region_forms import read_region
from unigeo.schemas.geo.regions import Region

ShowProgress = Callable[[int, int], None]
"""Called with the number of finished shards, and of all."""


@dataclass(frozen=True, eq=False)
class PreparedSet:
    """A set that is planned, and the sources to build it from."""

    plan: SetPlan
    sources: dict[str, ObservationSource]
    earlier: EarlierSet | None = None
    """Set from which observations are taken over."""

    def passed_over(self) -> dict[str, list[str]]:
        """Return the files that are passed over, each with the reason, by modality."""
        street = self.sources.get("street")
        refused = street.refused if isinstance(street, StreetSource) else {}
        return {"street": [f"{name}: {why}" for name, why in refused.items()]} if refused else {}


def prepare(
    description: SetDescription, *, dry_run: bool = False, earlier: str | None = None
) -> PreparedSet:
    """Identify the input files, open the sources, choose the locations and their splits.

    Args:
        description: the settings.
        dry_run: do not identify the input files, as the set will not be built.
        earlier: folder or address of a set, finished or not, whose observations are taken over
            where observing again would give the same.

    Raises:
        ObservationsError: a source, the region or the earlier set cannot be used.
        StoreError: an address cannot be reached.
    """
    located = description.located()
    where, splits = located.where, located.splits
    # Identified before anything is read, so that a file replaced meanwhile is noticed at the end.
    inputs = [] if dry_run and earlier is None else identify_inputs(description)
    region = region_of_table(where.region, where.bbox, "where")
    earlier_set = None if earlier is None else open_earlier_set(earlier, description, inputs)
    sources = open_sources(located, region, {} if earlier_set is None else earlier_set.modalities)
    if located.areas is not None:
        name_areas(np.empty((0, 2)), located.areas)  # refuses a file that is no GeoJSON
    sampling = LocationSampling(
        count=where.count,
        cell_level=where.cell_level,
        per_cell=where.per_cell,
        balance_level=where.balance_level,
        weight_power=where.weight_power,
        seed=description.seed,
    )
    weigh = None if where.weights is None else read_weights(Path(where.weights))
    candidates = None
    if where.candidates is not None:
        path = Path(where.candidates)
        candidates = read_locations(path, f"table [where]: {path}", "lon", "lat", []).lonlat
    locations = sample_locations(region, sampling, weigh, candidates)
    held_out = None
    if splits.region is not None or splits.bbox is not None:
        held_out = region_of_table(splits.region, splits.bbox, "splits")
    splitting = Splitting(
        spatial_level=splits.spatial_level,
        spatial_share=splits.spatial_share,
        temporal_years=splits.temporal_years,
        seed=description.seed,
    )
    reach_m = max(source.reach_m for source in sources.values())
    split_names = split(locations.lonlat, reach_m, splitting, held_out)
    plan = plan_shards(description, region, locations, split_names, inputs)
    return PreparedSet(plan, sources, earlier_set)


def observe_set(
    prepared: PreparedSet,
    out: str,
    workers: int = 2,
    show_progress: ShowProgress = lambda done, total: None,
) -> SetObservations:
    """Build a set, or resume its build, and write its datasheet.

    Args:
        prepared: plan and sources.
        out: folder or address of the set.
        workers: number of shards built concurrently.
        show_progress: called with the number of finished shards, and of all.

    Raises:
        ObservationsError: the folder holds another set or one of other input files, a file was
            replaced during the build, or nothing was observed of a modality.
        StoreError: a source or the store cannot be reached; finished shards stay.
    """
    store = ObjectFolder(out)
    plan, sources, earlier = prepared.plan, prepared.sources, prepared.earlier
    if earlier is not None and _is_same_folder(earlier.store, store):
        raise ObservationsError(
            f"--from {earlier.store.url} is the set to be made; name another --out, and remove "
            "the earlier set when it is no longer needed."
        )
    indices = build(
        plan, sources, store, workers=workers, show_progress=show_progress, earlier=earlier
    )
    about = finish(plan, sources, store, indices)
    empty = [name for name in sources if not about["counts"][name]["observed"]]
    if empty:
        raise ObservationsError(
            f"of {', '.join(empty)} nothing was observed at any of {about['counts']['places']} "
            f"locations: {'; '.join(_why_empty(name, about, indices) for name in empty)}. Check "
            "the region, the years and the sources, or leave the table out; then remove the set "
            "and start again."
        )
    store.put("datasheet.md", datasheet(about).encode())
    text = (json.dumps(about, indent=1, sort_keys=True) + "\n").encode()
    if store.get("set.json") != text:
        # Drawn from the set as its readers see it. `set.json` is written last: with it a set is
        # finished.
        observations = _open_unfinished(store, about)
        store.put("coverage.png", draw_coverage(observations.rows, about["region"]))
        store.put("examples.png", draw_examples(observations))
        store.put("set.json", text)
    return open_observation_set(out, next(iter(about["counts"]["splits"])))


def _is_same_folder(one: ObjectFolder, other: ObjectFolder) -> bool:
    if one.local is None or other.local is None:
        return one.url == other.url
    return one.local.resolve() == other.local.resolve()


def _why_empty(modality: str, about: dict[str, Any], indices: list[bytes]) -> str:
    """Say why a modality has no observation: the reasons of locations, and of files."""
    reasons = about["counts"][modality]["reasons"].items()
    clauses = [f"{count:,} {reason}" for reason, count in reasons]
    files = [f"{name}: {reason}" for name, reason in unusable_items(indices, modality).items()]
    return f"{modality}: {', '.join(clauses)}" + (f" ({join_clauses(files)})" if files else "")


def _open_unfinished(store: ObjectFolder, about: dict[str, Any]) -> SetObservations:
    """Open a set whose `set.json` is not written yet."""
    from unigeo.producer.observations.observation_set import index

    data = store.get("locations.parquet") or b""
    return SetObservations(store, about, index.read_columns(data, store.url))


def open_sources(
    description: SetDescription, region: Region, earlier: Mapping[str, KeptModality] = {}
) -> dict[str, ObservationSource]:
    """Open the source of each modality of a set.

    Args:
        description: the settings, with paths that can be opened.
        region: region of the set.
        earlier: observations of an earlier set, by modality.

    Raises:
        ObservationsError: a source cannot be used.
    """
    sources: dict[str, ObservationSource] = {}
    text = description.text
    if description.aerial is not None:
        # Captions need pixels.
        kept = None if text is not None and text.caption is not None else earlier.get("aerial")
        sources["aerial"] = AerialSource(_open_catalogue(description.aerial, kept))
    if description.dsm is not None:
        rules, terrain = description.dsm, None
        if rules.ground == "terrain":
            changes = {"files": rules.terrain_files, "collections": rules.terrain_collections}
            terrain = _open_catalogue(rules.model_copy(update=changes))
        sources["dsm"] = SurfaceSource(rules, _open_catalogue(rules, earlier.get("dsm")), terrain)
    if description.street is not None:
        street = _open_street(description.street, region, description.seed)
        sources["street"] = replace(street, earlier=earlier.get("street"))
    if text is not None:
        texts = open_text_source(text, description.seed, sources.get("aerial"))
        sources["text"] = replace(texts, earlier=earlier.get("text"))
    return sources


def _open_catalogue(rules: ImageryRules, earlier: KeptModality | None = None) -> Catalogue:
    catalogue = Catalogue(rules, WebClient(), earlier)
    catalogue.check_files()
    return catalogue


def _open_street(rules: StreetRules, region: Region, seed: int) -> StreetSource:
    if rules.kind == "folder":
        folder = ImageFolder(rules, region)
        return StreetSource(rules, folder.search, folder.fetch, seed, folder.refused)
    if rules.kind == "kartaview":
        kartaview = KartaView(WebClient(rules.per_second), rules.url.rstrip("/") or KARTAVIEW)
        return StreetSource(rules, kartaview.search, kartaview.fetch, seed)
    mapillary = open_mapillary(rules.token, rules.url.rstrip("/"), rules.per_second)
    return StreetSource(rules, mapillary.search, mapillary.fetch, seed)


def region_of_table(
    name: str | None, bbox: tuple[float, float, float, float] | None, table: str
) -> Region:
    """Read the region that a table of the settings names: a name, a file of polygons, or a box.

    Args:
        name: of the region, or the path of a file of polygons.
        bbox: west, south, east, north in degrees.
        table: table of the settings that names it, for errors.

    Raises:
        ObservationsError: both or neither are given.
        RegionError: the region is unknown or malformed.
    """
    if (name is None) == (bbox is None):
        raise ObservationsError(f"table [{table}]: name one of `region` and `bbox`.")
    return read_region(bbox if name is None else name)


def read_weights(path: Path) -> LocationWeight:
    """Return a function that looks up weights in the first band of a raster, NaN outside its data.

    Raises:
        ObservationsError: the raster cannot be read.
    """
    source = open_source(path, (1,), None, f"table [where]: {path}")

    def weigh(lonlat: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, " point"]:
        rowcol = source.rowcol(lonlat[:, None], lonlat)[:, 0]
        inside = np.isfinite(rowcol).all(axis=1)
        # Points that the raster's CRS does not reach are NaN, which no integer can hold.
        index = np.zeros((len(lonlat), 2), np.int64)
        index[inside] = np.rint(rowcol[inside]).astype(np.int64)
        inside &= ((index >= 0) & (index < source.shape)).all(axis=1)
        if not inside.any():
            return np.full(len(lonlat), np.nan)
        # One window round all points: they are those of neighbouring cells.
        low, high = index[inside].min(axis=0), index[inside].max(axis=0) + 1
        window = Window.from_slices(*zip(low.tolist(), high.tolist(), strict=True))
        with closing(open_pixels(source)) as pixels:
            values = values_in(pixels, source, window)[0]
        weights = np.full(len(lonlat), np.nan)
        weights[inside] = values[tuple((index[inside] - low).T)]
        return weights

    return weigh
