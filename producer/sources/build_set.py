"""From a `SET.toml` to a finished set: the one function behind `unigeo-produce observe`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.producer.observations.folder.location_tables import read_locations
from unigeo.producer.observations.geotiff.geotiff_source import open_source
from unigeo.producer.observations.observation_set.named_objects import ObjectFolder
from unigeo.producer.observations.observation_set.set_observations import (
    SetObservations,
    open_observation_set,
)
from unigeo.producer.sources.datasheet import datasheet, draw_coverage, draw_examples
from unigeo.producer.sources.findings import ObservationSource
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
from unigeo.producer.sources.set_builder import SetPlan, build, finish, plan_shards
from unigeo.producer.sources.set_description import SetDescription, StreetRules
from unigeo.producer.sources.splits import Splitting, split
from unigeo.producer.sources.street import StreetSource
from unigeo.producer.sources.texts import open_text_source
from unigeo.producer.sources.web_requests import WebClient
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import Region, region, region_of_bbox, region_of_geojson

Finished = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class PreparedSet:
    """A set before its build."""

    plan: SetPlan
    sources: dict[str, ObservationSource]


def prepare(table: SetDescription, *, dry_run: bool = False) -> PreparedSet:
    """Look at the files, open the sources, choose the places and their splits.

    Args:
        table: the settings.
        dry_run: the set will not be built, so the content of its files is of no interest.

    Raises:
        ObservationsError: a source or the region cannot be used.
        StoreError: an address cannot be reached.
    """
    inputs = [] if dry_run else identify_inputs(table)
    where = region_of(table.where.region, table.where.bbox, "where")
    sources = open_sources(table, where)
    how = LocationSampling(
        count=table.where.count,
        cell_level=table.where.cell_level,
        per_cell=table.where.per_cell,
        balance_level=table.where.balance_level,
        weight_power=table.where.weight_power,
        seed=table.seed,
    )
    weigh = None if table.where.weights is None else read_weights(Path(table.where.weights))
    known = None
    if table.where.candidates is not None:
        path = Path(table.where.candidates)
        known = read_locations(path, f"table [where]: {path}", "lon", "lat", []).lonlat
    placed = sample_locations(where, how, weigh, known)
    apart = None
    if table.splits.region is not None or table.splits.bbox is not None:
        apart = region_of(table.splits.region, table.splits.bbox, "splits")
    splitting = Splitting(
        spatial_level=table.splits.spatial_level,
        spatial_share=table.splits.spatial_share,
        temporal_years=table.splits.temporal_years,
        seed=table.seed,
    )
    reach = max(source.reach_m for name, source in sources.items())
    parts = split(placed.lonlat, reach, splitting, apart)
    return PreparedSet(plan_shards(table, where, placed, parts, inputs), sources)


def observe_set(
    prepared: PreparedSet, out: str, workers: int = 2, finished: Finished = lambda done, all_: None
) -> SetObservations:
    """Build a set, or go on with one, and write its datasheet.

    Raises:
        ObservationsError: the folder holds another set, or one of other files, a file was replaced
            during the build, or nothing was observed.
        StoreError: a source or the store cannot be reached; what is finished stays.
    """
    store = ObjectFolder(out)
    plan, sources = prepared.plan, prepared.sources
    parts = build(plan, sources, store, workers=workers, finished=finished)
    about = finish(plan, sources, store, parts)
    if not any(about["counts"][name]["observed"] for name in sources):
        raise ObservationsError(
            f"nothing was observed at any of {about['counts']['places']} places: "
            + "; ".join(f"{m}: {about['counts'][m]['reasons']}" for m in sources)
            + ". Check the region, the years and the sources, then remove the set and start again."
        )
    store.put("datasheet.md", datasheet(about).encode())
    text = (json.dumps(about, indent=1, sort_keys=True) + "\n").encode()
    if store.get("set.json") != text:
        # The pictures are drawn from the set as its readers see it.
        opened = _opened(store, about)
        store.put("coverage.png", draw_coverage(opened.rows, about["region"]))
        store.put("examples.png", draw_examples(opened))
        store.put("set.json", text)
    return open_observation_set(out, next(iter(about["counts"]["splits"])))


def _opened(store: ObjectFolder, about: dict[str, Any]) -> SetObservations:
    from unigeo.producer.observations.observation_set import index

    data = store.get("locations.parquet") or b""
    return SetObservations(store, about, index.read_columns(data, store.url))


def open_sources(table: SetDescription, where: Region) -> dict[str, ObservationSource]:
    """The sources of a set, by modality.

    Raises:
        ObservationsError: one cannot be used.
    """
    sources: dict[str, ObservationSource] = {}
    if table.aerial is not None:
        sources["aerial"] = AerialSource(Catalogue(table.aerial, WebClient()))
    if table.dsm is not None:
        terrain = None
        if table.dsm.ground == "terrain":
            changes = {
                "files": table.dsm.terrain_files,
                "collections": table.dsm.terrain_collections,
            }
            terrain = Catalogue(table.dsm.model_copy(update=changes), WebClient())
        sources["dsm"] = SurfaceSource(table.dsm, Catalogue(table.dsm, WebClient()), terrain)
    if table.street is not None:
        sources["street"] = _open_street(table.street, where, table.seed)
    if table.text is not None:
        sources["text"] = open_text_source(table.text, table.seed, sources.get("aerial"))
    return sources


def _open_street(about: StreetRules, where: Region, seed: int) -> StreetSource:
    if about.kind == "folder":
        folder = ImageFolder(about, where)
        return StreetSource(about, folder.search, folder.fetch, seed, folder.refused)
    if about.kind == "kartaview":
        view = KartaView(WebClient(about.per_second), about.url.rstrip("/") or KARTAVIEW)
        return StreetSource(about, view.search, view.fetch, seed)
    graph = open_mapillary(about.token, about.url.rstrip("/"), about.per_second)
    return StreetSource(about, graph.search, graph.fetch, seed)


def region_of(
    name: str | None, bbox: tuple[float, float, float, float] | None, table: str
) -> Region:
    """A named region, a GeoJSON file, or a box.

    Raises:
        ObservationsError: both or none are given.
        RegionError: it is unknown or malformed.
    """
    if (name is None) == (bbox is None):
        raise ObservationsError(f"table [{table}]: name one of `region` and `bbox`.")
    if bbox is not None:
        return region_of_bbox(bbox)
    assert name is not None
    return region_of_geojson(name) if Path(name).suffix else region(name)


def read_weights(path: Path) -> LocationWeight:
    """Weights of places from the first band of a raster; none where it has no data.

    Raises:
        ObservationsError: it cannot be read.
    """
    import rasterio

    source = open_source(path, (1,), None, f"table [where]: {path}")

    def weigh(lonlat: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, " point"]:
        rowcol = source.rowcol(lonlat[:, None], lonlat)[:, 0]
        with rasterio.open(path) as raster:
            inside = np.isfinite(rowcol).all(axis=1)
            index = np.zeros((len(lonlat), 2), np.int64)
            index[inside] = np.rint(rowcol[inside]).astype(np.int64)
            inside &= ((index >= 0) & (index < source.shape)).all(axis=1)
            if not inside.any():
                return np.full(len(lonlat), np.nan)
            low, high = index[inside].min(axis=0), index[inside].max(axis=0) + 1
            window = ((int(low[0]), int(high[0])), (int(low[1]), int(high[1])))
            values = raster.read(1, window=window, masked=True).astype(float).filled(np.nan)
            values = values * raster.scales[0] + raster.offsets[0]
        found = np.full(len(lonlat), np.nan)
        found[inside] = values[tuple((index[inside] - low).T)]
        return found

    return weigh
