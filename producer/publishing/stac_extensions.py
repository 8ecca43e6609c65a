"""Fields of STAC extensions that describe a field's Zarr store and its model.

Source: the extensions projection 2.0.0, version 1.2.0, mlm 1.4.0, zarr 1.0.0 and xarray-assets
1.0.0. The last is archived in favour of zarr, but some readers know only this one.
"""

import re
from typing import Any

from unigeo.schemas.store.attributes import UnigeoAttributes

_EXTENSIONS = "https://stac-extensions.github.io/{}/schema.json"
PROJECTION = _EXTENSIONS.format("projection/v2.0.0")
VERSIONING = _EXTENSIONS.format("version/v1.2.0")
MODEL = _EXTENSIONS.format("mlm/v1.4.0")
ZARR_ASSETS = _EXTENSIONS.format("zarr/v1.0.0")
XARRAY_ASSETS = _EXTENSIONS.format("xarray-assets/v1.0.0")
ZARR = "application/vnd.zarr"
"""Media type without a version, which xpystac does not know; `zarr:zarr_format` says it is 3."""
_MODEL_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]")
"""Names of models that the extension `mlm` accepts."""


def zarr_group(*, consolidated: bool) -> dict[str, Any]:
    """Return the fields of the extension `zarr` for a group of a store."""
    return {
        "zarr:zarr_format": 3,
        "zarr:node_type": "group",
        "zarr:consolidated": consolidated,
    }


def encoder_asset(href: str) -> dict[str, Any]:
    """Return the asset of the coordinate encoder, the part of the model that the store holds."""
    return {
        "href": href,
        "type": ZARR,
        "title": "The model's coordinate encoder: its weights, for vectors off the grid",
        "roles": ["mlm:model"],
        "mlm:artifact_type": "zarr",
        **zarr_group(consolidated=False),
    }


def model_fields(attributes: UnigeoAttributes) -> dict[str, Any]:
    """Return the fields of the extension `mlm` for the coordinate encoder."""
    name = re.sub(r"[^a-zA-Z0-9_.\-\s]+", "-", attributes.model.name)
    tasks = ["similarity-search"]
    return {
        "mlm:name": name
        if _MODEL_NAME.fullmatch(name)
        else f"unigeo-{attributes.model.sha256[:12]}",
        "mlm:architecture": "UniGeoCLIP",
        "mlm:framework": "PyTorch",
        "mlm:tasks": tasks,
        "mlm:input": [
            {
                "name": "coordinates",
                "description": "longitude and latitude, WGS 84 degrees",
                "bands": [],
                "input": {
                    "shape": [-1, 2],
                    "dim_order": ["batch", "coordinate"],
                    "data_type": "float64",
                },
            }
        ],
        "mlm:output": [
            {
                "name": "vector",
                "description": "unit vector in the space that all modalities share",
                "tasks": tasks,
                "result": {
                    "shape": [-1, attributes.layout.bands],
                    "dim_order": ["batch", "embedding"],
                    "data_type": "float32",
                },
            }
        ],
    }
