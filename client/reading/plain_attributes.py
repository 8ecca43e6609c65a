"""Attributes that any file format can hold: what is nested stands in them as JSON.

Zarr keeps attributes as JSON documents, netCDF only numbers, texts and lists of one kind. So the
Datasets that a field hands out, which users write to either, carry nested attributes as texts.
`unigeo region` copies a store's own attributes and keeps them whole.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

_NUMBERS = (int, float, np.number)


def with_plain_attributes(dataset: "xr.Dataset") -> "xr.Dataset":
    """A Dataset as it is, nested attributes of it and of its variables as JSON."""
    plain = dataset.copy(deep=False)
    plain.attrs = plain_attributes(dataset.attrs)
    for name in plain.variables:
        plain[name].attrs = plain_attributes(dataset[name].attrs)
    return plain


def plain_attributes(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Attributes, those that are no numbers, texts or lists of them as JSON.

    >>> plain_attributes({"crs": "EPSG:8858", "shape": [2, 3], "model": {"name": "conus-1"}})
    {'crs': 'EPSG:8858', 'shape': [2, 3], 'model': '{"name": "conus-1"}'}
    """
    return {
        key: value if _is_plain(value) else _as_json(value) for key, value in attributes.items()
    }


def _as_json(value: Any) -> str:
    return json.dumps(value, default=str)  # what is no JSON came from the user, not from a store


def nested_attributes(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Attributes of a Dataset, from a store or a file, with what the field says as it was stored.

    >>> nested_attributes({"unigeo": '{"state": "published"}', "shape": np.array([2, 3])})
    {'unigeo': {'state': 'published'}, 'shape': [2, 3]}
    """
    read = {  # netCDF gives numbers back as numpy's
        key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for key, value in attributes.items()
    }
    if isinstance(read.get("unigeo"), str):
        with suppress(ValueError, RecursionError):  # refused by who reads them
            read["unigeo"] = json.loads(read["unigeo"])
    return read


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        kinds: tuple[Any, ...] = (str,) if isinstance(next(iter(value), ""), str) else _NUMBERS
        return len(value) > 0 and all(_is_one(one, kinds) for one in value)
    return _is_one(value, (str, bytes, np.ndarray, *_NUMBERS))


def _is_one(value: Any, kinds: tuple[Any, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
