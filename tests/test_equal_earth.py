import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyproj import Transformer

from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS
from unigeo.schemas.geo.projection import equal_earth_m

TO_MAP = {crs: Transformer.from_crs("OGC:CRS84", crs, always_xy=True) for crs in CENTRAL_MERIDIANS}


@pytest.mark.parametrize("crs", CENTRAL_MERIDIANS)
@given(lon=st.floats(-180, 180), lat=st.floats(-90, 90))
@example(lon=180.0, lat=0.0)
@example(lon=-180.0, lat=10.0)
@example(lon=0.0, lat=90.0)
@example(lon=90.0, lat=-90.0)
@example(lon=-30.0, lat=-5.0)
def test_the_map_is_proj_s(crs: str, lon: float, lat: float) -> None:
    """Within 1e-7 m; on the line where the map is cut open either edge is right."""
    x, y = equal_earth_m(np.array([[lon, lat]]), CENTRAL_MERIDIANS[crs])
    x_proj, y_proj = TO_MAP[crs].transform(lon, lat)
    assert y[0] == pytest.approx(y_proj, abs=1e-7)
    turn = abs((lon - CENTRAL_MERIDIANS[crs] + 180) % 360 - 180)
    if 180 - turn < 1e-9:
        assert abs(x[0]) == pytest.approx(abs(x_proj), abs=1e-3)
    else:
        assert x[0] == pytest.approx(x_proj, abs=1e-7)


def test_longitudes_of_any_turn_are_one_point_and_nan_stays() -> None:
    lonlat = np.array([[-100.0, 40.0], [260.0, 40.0], [np.nan, 40.0]])
    x, y = equal_earth_m(lonlat, -90.0)
    assert x[0] == pytest.approx(x[1], abs=1e-6)
    assert np.isnan(x[2])
    assert np.isfinite(y[:2]).all()
