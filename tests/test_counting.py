"""Locations are counted by the state or area that they lie in."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest

from unigeo.producer.sources.set_counts import ELSEWHERE, name_areas
from unigeo.schemas.errors import ObservationsError

CITIES = {
    "Washington": (-122.33, 47.61), "Florida": (-80.25, 25.78), "Kansas": (-98.0, 38.5),
    "New York": (-73.97, 40.78), "District of Columbia": (-77.03, 38.91), ELSEWHERE: (4.90, 52.37),
}  # fmt: skip


def test_a_location_is_counted_in_its_state() -> None:
    assert name_areas(np.array(list(CITIES.values()))) == list(CITIES)
    assert name_areas(np.empty((0, 2))) == []


def test_states_are_those_of_the_census_but_near_their_borders(shared_data: Path) -> None:
    exact = gpd.read_parquet(shared_data / "vectors" / "us_states_5m.parquet")
    lonlat = np.random.default_rng(0).uniform((-124, 25), (-67, 49), (3000, 2))
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*lonlat.T), crs=4326)
    named = points.sjoin(exact[["NAME", "geometry"]], how="left")["NAME"].fillna(ELSEWHERE)
    same = np.array(name_areas(lonlat)) == named.to_numpy()
    assert same.mean() > 0.98


def test_other_areas_may_be_named(tmp_path: Path) -> None:
    ring = "[[4, 52], [5, 52], [5, 53], [4, 53], [4, 52]]"
    path = tmp_path / "areas.geojson"
    path.write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": '
        '{"name": "Holland"}, "geometry": {"type": "Polygon", "coordinates": [' + ring + "]}}]}"
    )
    assert name_areas(np.array([(4.9, 52.4), (5.1, 52.4)]), str(path)) == ["Holland", ELSEWHERE]
    path.write_text("{}")
    with pytest.raises(ObservationsError, match="no GeoJSON of polygons"):
        name_areas(np.array([(4.9, 52.4)]), str(path))
