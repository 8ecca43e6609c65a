"""A field as a scikit-learn transformer: positions in, vectors out, in pipelines and searches.

scikit-learn is imported with this module, not with `unigeo.client`.
"""

from typing import Any

import numpy as np

from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.client.points.join import column_names
from unigeo.schemas.errors import MissingExtraError, PointsError
from unigeo.schemas.tables.coordinate_columns import find_columns

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise MissingExtraError(
        "the transformer needs scikit-learn: pip install 'unigeo[probe]'"
    ) from error


class FieldFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Vectors of a field at the positions in X.

    X is an array of two columns, longitude and latitude, or a data frame, whose columns of
    positions are found by name. Rows without a vector are NaN; let a `SimpleImputer` follow, or a
    model that takes NaN.

    Args:
        field: a field, or its name or address as in `open_field`.
        dims: leading numbers of each vector; all by default.
        modalities: which vectors, side by side; by default `fused`, or all where it is not stored.
        method: `nearest`, `bilinear` or `bicubic`.
        crs: CRS of the positions; degrees by default.

    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.impute import SimpleImputer
    >>> model = make_pipeline(FieldFeatures("conus-1", dims=64), SimpleImputer())
    """

    def __init__(
        self,
        field: Any = None,
        dims: Any = None,
        modalities: Any = None,
        method: Any = "nearest",
        crs: Any = None,
    ) -> None:
        self.field = field
        self.dims = dims
        self.modalities = modalities
        self.method = method
        self.crs = crs

    def fit(self, X: Any, y: Any = None) -> "FieldFeatures":  # noqa: N803
        """Open the field, and check that X holds positions; nothing is learned."""
        self._positions(X, reset=True)
        field = self.field if isinstance(self.field, Field) else open_field(self.field)
        self.field_ = field if self.dims is None else field.leading(self.dims)
        self.modalities_ = (
            self.field_.default_modalities
            if self.modalities is None
            else self.field_.chosen(self.modalities)
        )
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the vectors, float32, those of all modalities side by side."""
        check_is_fitted(self)
        positions = self._positions(X, reset=False)
        vectors = self.field_.sample(
            positions, self.modalities_, method=self.method, crs=self.crs, as_="numpy"
        )
        return np.concatenate([vectors[name] for name in self.modalities_], axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns, such as `fused_000`."""
        check_is_fitted(self)
        widths = self.field_.layout.widths_of(self.modalities_)
        names = [name for one in self.modalities_ for name in column_names(one, widths[one])]
        return np.array(names, object)

    def _positions(self, X: Any, *, reset: bool) -> np.ndarray:  # noqa: N803
        """Return longitudes and latitudes, from the columns of a frame that are named so."""
        if hasattr(X, "columns") and len(X.columns) > 1:
            try:
                X = X[list(find_columns(list(X.columns)))]  # noqa: N806
            except PointsError:
                if len(X.columns) != 2:
                    raise
        values: np.ndarray = validate_data(
            self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=reset
        )
        if values.shape[1] != 2:
            raise ValueError(
                f"X has n_features = {values.shape[1]} columns, and must have two, longitude and "
                "latitude. "
                "Choose them by a ColumnTransformer, or pass a frame that names them"
            )
        return values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
