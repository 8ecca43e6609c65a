"""The client: opens an embedding field, samples it, joins it to tables, and probes it.

Start with `open_field`, which returns a `Field`; `errors` holds what may be raised.

>>> from unigeo import client
>>> client.Field.__name__
'Field'
"""

from typing import TYPE_CHECKING, Any

from unigeo.client._importing import when_imported

if TYPE_CHECKING:
    from unigeo.client import errors
    from unigeo.client.field.field import Field
    from unigeo.client.field.opening import join, open_field, probe, sample
    from unigeo.client.probing.folds import spatial_blocks
    from unigeo.client.probing.probe import Probe
    from unigeo.client.probing.sklearn import ProbeClassifier, ProbeRegressor
    from unigeo.schemas.errors import PointsWarning, ProbeWarning, RegionWarning

__all__ = [
    "Field",
    "PointsWarning",
    "Probe",
    "ProbeClassifier",
    "ProbeRegressor",
    "ProbeWarning",
    "RegionWarning",
    "errors",
    "join",
    "open_field",
    "probe",
    "sample",
    "spatial_blocks",
]

_MODULES = {
    "Field": "field.field",
    "PointsWarning": "errors",
    "Probe": "probing.probe",
    "ProbeClassifier": "probing.sklearn",
    "ProbeRegressor": "probing.sklearn",
    "ProbeWarning": "errors",
    "RegionWarning": "errors",
    "join": "field.opening",
    "open_field": "field.opening",
    "probe": "field.opening",
    "sample": "field.opening",
    "spatial_blocks": "probing.folds",
}
"""The module in this package that defines each public name."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing this package loads no library."""
    from importlib import import_module

    if name == "errors":
        return import_module("unigeo.client.errors")
    if name in _MODULES:
        return getattr(import_module(f"unigeo.client.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")


def __dir__() -> list[str]:
    return __all__


def _register_accessor() -> None:
    from unigeo.client.field.accessor import register

    register()


when_imported("xarray", _register_accessor)
