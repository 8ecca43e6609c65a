"""The part of a field that evaluates its coordinate encoder at points."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.points.join import vector_table
from unigeo.client.points.missing_points import warn_of_missing
from unigeo.client.points.sample_options import As, check_choice
from unigeo.client.points.sampled_results import point_dataset
from unigeo.client.reading.leading_bands import leading_directions
from unigeo.client.reading.point_status import NO_POSITION
from unigeo.client.reading.stored_field import StoredField
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns
from unigeo.schemas.tables.points import read_points

if TYPE_CHECKING:
    from unigeo.client.encoding.coordinate_encoder import Encoder


class EncodedPoints(StoredField):
    """Methods of a field that need no cells: vectors of any coordinates."""

    @cached_property
    def encoder(self) -> "Encoder":
        """The store's coordinate encoder, read once."""
        from unigeo.client.encoding.coordinate_encoder import load_encoder

        published = self.attributes.state == "published"
        return load_encoder(self.known_store("encoded from"), self.url, published)

    def encode(
        self,
        points: Any,
        *,
        as_: As = "pandas",
        crs: Any = None,
        columns: CoordinateColumns | None = None,
        prefix: str = "",
        batch: int | None = None,
        progress: bool = False,
    ) -> Any:
        """Evaluate the coordinate encoder at points, on the grid or off it; needs no torch.

        The vectors are of the modality `coordinate` and of its width, and are not to be compared
        with those of `fused`, which are made of every modality of a cell. At a cell's centre the
        vector is what `sample` returns for `coordinate`, where that is stored, before
        quantization. A point without a position gets NaN.

        Args:
            points: in any form that `schemas.tables.points` reads.
            as_: `pandas`: columns `coordinate_000` ..., with the points' own index; `numpy`: one
                float32 array (point, band); `xarray`: a Dataset over `point` and `band`.
            crs: CRS of the points, if they do not name it; WGS 84 degrees by default.
            columns: names of the longitude and latitude columns, or of the one that holds
                positions as text, if they are unusual.
            prefix: put before every column name.
            batch: number of points that are evaluated together, which bounds the memory.
            progress: show a bar on stderr.

        Returns:
            Unit vectors, float32.

        Raises:
            PointsError: if the points cannot be read.
            LayoutError: if the store holds no encoder, or one that this version cannot evaluate.
            StoreError: if the store cannot be read.
        """
        from unigeo.client.encoding.coordinate_encoder import BATCH

        check_choice("as_", as_, As)
        read = read_points(points, crs, columns, missing="keep")
        batch = BATCH if batch is None else batch
        has_position = read.has_position
        encoded = self.encoder.encode(read.lonlat[has_position], batch=batch, progress=progress)
        encoded = leading_directions(encoded, self.bands)
        vectors = encoded
        if not has_position.all():
            vectors = np.full((len(read), encoded.shape[1]), np.nan, np.float32)
            vectors[has_position] = encoded
            codes = np.where(has_position, Status.VALID, NO_POSITION).astype(np.uint8)
            warn_of_missing(read, codes, self.modality(self.modalities[0]))
        if as_ == "numpy":
            return vectors
        if as_ == "xarray":
            return point_dataset({"coordinate": vectors}, {}, read.lonlat, vectors.shape[1])
        return vector_table({"coordinate": vectors}, {}, read.index, prefix)
