"""Read an embedding field: open it, sample it, join it to a table, probe what it knows.

>>> from unigeo import client
>>> client.Field.__name__
'Field'
"""

from typing import TYPE_CHECKING, Any

from unigeo.client._importing import when_imported

if TYPE_CHECKING:
    from unigeo.client.estimators import ProbeClassifier, ProbeRegressor
    from unigeo.client.field import Field
    from unigeo.client.folds import spatial_blocks
    from unigeo.client.opening import join, open_field, probe, sample
    from unigeo.client.probe_checks import ProbeWarning
    from unigeo.client.probes import Probe

__all__ = [
    "Field",
    "Probe",
    "ProbeClassifier",
    "ProbeRegressor",
    "ProbeWarning",
    "join",
    "open_field",
    "probe",
    "sample",
    "spatial_blocks",
]

_ELSEWHERE = {
    "Probe": "probes",
    "ProbeClassifier": "estimators",
    "ProbeRegressor": "estimators",
    "ProbeWarning": "probe_checks",
    "spatial_blocks": "folds",
}
"""Modules of the names that are not in `opening`."""


def __getattr__(name: str) -> Any:
    """Load the library on first use, so that importing this package costs nothing."""
    if name in __all__:
        from importlib import import_module

        module = import_module(f"unigeo.client.{_ELSEWHERE.get(name, 'opening')}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")


def __dir__() -> list[str]:
    return __all__


def _register_accessor() -> None:
    from unigeo.client.accessor import register

    register()


when_imported("xarray", _register_accessor)
