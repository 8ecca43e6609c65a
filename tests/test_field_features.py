"""A field as a transformer of scikit-learn: the vectors of `Field.sample`, in pipelines."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data
from support.commands import point_table

from unigeo import client
from unigeo.client.errors import LayoutError, PointsError

NEEDS_MORE = "its X has other than the two columns of positions"
NOT_ON_EARTH = "its X is no position: latitudes of 100 degrees"
EXPECTED_TO_FAIL = dict.fromkeys(
    (
        "check_dict_unchanged",
        "check_dont_overwrite_parameters",
        "check_dtype_object",
        "check_estimators_dtypes",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_fit2d_1sample",
        "check_fit2d_predict1d",
        "check_fit_score_takes_y",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_n_features_in_after_fitting",
        "check_pipeline_consistency",
        "check_positive_only_tag_during_fit",
        "check_transformer_data_not_an_array",
        "check_transformer_general",
        "check_transformer_preserve_dtypes",
    ),
    NEEDS_MORE,
) | {"check_fit_idempotent": NOT_ON_EARTH}
"""Checks of scikit-learn that cannot hold, and why; `OfAnyColumns` passes them."""


class OfAnyColumns(client.FieldFeatures):
    """Takes the first two columns of X as positions, moved near the origin."""

    def _positions(self, X: Any, *, reset: bool) -> np.ndarray:  # noqa: N803
        values = validate_data(
            self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=reset
        )
        positions: np.ndarray = values[:, :2] % 4 - 5  # no water
        return positions


def failures(estimator: Any) -> dict[str, str]:
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    return {
        one["check_name"]: repr(one["exception"]) for one in results if one["status"] == "failed"
    }


def test_scikit_learn_finds_nothing_amiss_where_any_columns_are_positions(gulf: Path) -> None:
    assert failures(OfAnyColumns(str(gulf))) == {}


@pytest.mark.slow
def test_scikit_learn_finds_nothing_amiss_but_what_is_listed(gulf: Path) -> None:
    assert set(failures(client.FieldFeatures(str(gulf)))) <= set(EXPECTED_TO_FAIL)


def test_it_returns_what_the_field_has(wide: Path) -> None:
    table = point_table()
    field = client.open_field(wide)
    lonlat = table[["lon", "lat"]].to_numpy()
    expected = field.sample(lonlat, "fused", as_="numpy")["fused"]
    features = client.FieldFeatures(wide).fit(lonlat)
    np.testing.assert_array_equal(features.transform(lonlat), expected)
    # By names, in any order and beside other columns; of a field that is open, and again.
    np.testing.assert_array_equal(
        client.FieldFeatures(field).fit_transform(table[["part", "lat", "lon"]]), expected
    )
    again = pickle.loads(pickle.dumps(features))
    np.testing.assert_array_equal(again.transform(lonlat), expected)
    names = client.FieldFeatures(wide, dims=3, modalities=["coordinate", "sar"]).fit(table)
    assert list(names.get_feature_names_out()) == [
        f"{name}_{band:03d}" for name in ("coordinate", "sar") for band in range(3)
    ]
    frame = names.set_output(transform="pandas").transform(table[["lon", "lat"]])
    pd.testing.assert_frame_equal(
        frame,
        field.leading(3).sample(lonlat, ["coordinate", "sar"])[list(frame)].set_axis(table.index),
    )


def test_it_stands_in_pipelines_and_searches(gulf: Path) -> None:
    table = point_table()
    columns = ColumnTransformer(
        [
            ("field", client.FieldFeatures(str(gulf), modalities="coordinate"), ["lon", "lat"]),
            ("own", StandardScaler(), ["part"]),
        ]
    )
    model = make_pipeline(columns, SimpleImputer(), Ridge(1e-6))
    scores = cross_val_score(clone(model), table, table["height"], cv=3)
    assert scores.min() > 0.8  # `height` is linear in the vectors, and some lie in the lake
    assert cross_val_score(Ridge(), table[["lon", "lat"]], table["height"], cv=3).max() < 0.5


def test_what_are_no_positions_is_refused(gulf: Path) -> None:
    with pytest.raises(ValueError, match="X has n_features = 3 columns, and must have two"):
        client.FieldFeatures(gulf).fit(np.zeros((4, 3)))
    with pytest.raises(PointsError, match="part"):
        client.FieldFeatures(gulf).fit(point_table()[["part", "height", "high"]])
    with pytest.raises(LayoutError, match="no modality 'radar'"):
        client.FieldFeatures(gulf, modalities="radar").fit(np.zeros((4, 2)))
    with pytest.raises(LayoutError):
        client.FieldFeatures(gulf, dims=1000).fit(np.zeros((4, 2)))
