"""Attributes that any file format can hold, with nested values as JSON.

Zarr keeps attributes as JSON documents, netCDF only numbers, strings and lists of one type. Users
write the Datasets of a field to either, so nested attributes of these are JSON strings. `unigeo
region` copies a store's own attributes and keeps them nested.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.schemas.io.json_text import load_json

if TYPE_CHECKING:
    import xarray as xr

_NUMBERS = (int, float, np.number)


def with_plain_attributes(dataset: "xr.Dataset") -> "xr.Dataset":
    """Return a Dataset with nested attributes, its own and its variables', as JSON."""
    plain = dataset.copy(deep=False)
    plain.attrs = plain_attributes(dataset.attrs)
    for name in plain.variables:
        plain[name].attrs = plain_attributes(dataset[name].attrs)
    return plain


def plain_attributes(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return attributes with every value that is no number, string or list of these as JSON.

    >>> plain_attributes({"crs": "EPSG:8858", "shape": [2, 3], "model": {"name": "conus-1"}})
    {'crs': 'EPSG:8858', 'shape': [2, 3], 'model': '{"name": "conus-1"}'}
    """
    return {
        key: value if _is_plain(value) else _as_json(value) for key, value in attributes.items()
    }


def _as_json(value: Any) -> str:
    # A value that JSON cannot hold is the user's own: a store's attributes are JSON.
    return json.dumps(value, default=str)


def nested_attributes(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a Dataset's attributes, from a store or a file, with `unigeo` nested again.

    >>> nested_attributes({"unigeo": '{"state": "published"}', "shape": np.array([2, 3])})
    {'unigeo': {'state': 'published'}, 'shape': [2, 3]}
    """
    nested = {  # netCDF returns numbers as numpy scalars and arrays
        key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for key, value in attributes.items()
    }
    if isinstance(nested.get("unigeo"), str):
        with suppress(ValueError):  # whoever validates them raises
            nested["unigeo"] = load_json(nested["unigeo"])
    return nested


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        kinds: tuple[Any, ...] = (str,) if isinstance(next(iter(value), ""), str) else _NUMBERS
        return len(value) > 0 and all(_is_one(one, kinds) for one in value)
    return _is_one(value, (str, bytes, np.ndarray, *_NUMBERS))


def _is_one(value: Any, kinds: tuple[Any, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
