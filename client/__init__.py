"""Read an embedding field: open it, sample it, join it to a table, probe what it knows.

>>> from unigeo import client
>>> client.Field.__name__
'Field'
"""

from typing import TYPE_CHECKING, Any

from unigeo.client._importing import when_imported

if TYPE_CHECKING:
    from unigeo.client.field.field import Field
    from unigeo.client.field.opening import join, open_field, probe, sample
    from unigeo.client.probing.checks import ProbeWarning
    from unigeo.client.probing.folds import spatial_blocks
    from unigeo.client.probing.probe import Probe
    from unigeo.client.probing.sklearn import ProbeClassifier, ProbeRegressor
    from unigeo.schemas.errors import PointsWarning, RegionWarning

__all__ = [
    "Field",
    "PointsWarning",
    "Probe",
    "ProbeClassifier",
    "ProbeRegressor",
    "ProbeWarning",
    "RegionWarning",
    "join",
    "open_field",
    "probe",
    "sample",
    "spatial_blocks",
]

_ELSEWHERE = {
    "PointsWarning": "schemas.errors",
    "Probe": "client.probing.probe",
    "ProbeClassifier": "client.probing.sklearn",
    "ProbeRegressor": "client.probing.sklearn",
    "ProbeWarning": "client.probing.checks",
    "RegionWarning": "schemas.errors",
    "spatial_blocks": "client.probing.folds",
}
"""Modules of the names that are not in `client.field.opening`."""


def __getattr__(name: str) -> Any:
    """Load the library on first use, so that importing this package costs nothing."""
    if name in __all__:
        from importlib import import_module

        module = import_module(f"unigeo.{_ELSEWHERE.get(name, 'client.field.opening')}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")


def __dir__() -> list[str]:
    return __all__


def _register_accessor() -> None:
    from unigeo.client.field.accessor import register

    register()


when_imported("xarray", _register_accessor)
