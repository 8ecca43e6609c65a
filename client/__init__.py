"""The client: opens an embedding field, samples it, joins it to tables, and probes it.

Start with `open_field`, which returns a `Field`; `errors` holds what may be raised.

>>> from unigeo import client
>>> client.Field.__name__
'Field'
"""

from typing import TYPE_CHECKING, Any

from unigeo.client._importing import when_imported
from unigeo.schemas.errors import MissingExtraError

if TYPE_CHECKING:
    from unigeo.client import errors
    from unigeo.client.examples.example_tables import example
    from unigeo.client.field.field import Field
    from unigeo.client.field.field_features import FieldFeatures
    from unigeo.client.field.opening import open_field
    from unigeo.client.field.shortcuts import fetch, join, probe, sample
    from unigeo.client.probing.folds import spatial_blocks
    from unigeo.client.probing.probe import Probe
    from unigeo.client.probing.sklearn import ProbeClassifier, ProbeRegressor
    from unigeo.schemas.errors import (
        DefaultFieldWarning,
        PointsWarning,
        ProbeWarning,
        RegionWarning,
    )

__all__ = [
    "DefaultFieldWarning",
    "Field",
    "FieldFeatures",
    "PointsWarning",
    "Probe",
    "ProbeClassifier",
    "ProbeRegressor",
    "ProbeWarning",
    "RegionWarning",
    "errors",
    "example",
    "fetch",
    "join",
    "open_field",
    "probe",
    "sample",
    "spatial_blocks",
]

_MODULES = {
    "DefaultFieldWarning": "errors",
    "Field": "field.field",
    "FieldFeatures": "field.field_features",
    "PointsWarning": "errors",
    "Probe": "probing.probe",
    "ProbeClassifier": "probing.sklearn",
    "ProbeRegressor": "probing.sklearn",
    "ProbeWarning": "errors",
    "RegionWarning": "errors",
    "example": "examples.example_tables",
    "fetch": "field.shortcuts",
    "join": "field.shortcuts",
    "open_field": "field.opening",
    "probe": "field.shortcuts",
    "sample": "field.shortcuts",
    "spatial_blocks": "probing.folds",
}
"""The module in this package that defines each public name."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing this package loads no library."""
    from importlib import import_module

    if name == "errors":
        return import_module("unigeo.client.errors")
    if name == "__version__":
        return _version()
    if name in _MODULES:
        try:
            return getattr(import_module(f"unigeo.client.{_MODULES[name]}"), name)
        except MissingExtraError as error:
            return _lacking(name, error)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")


def _version() -> str:
    """Return the version of the installed package; `0+clone` if what is imported is a clone."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("unigeo")
    except PackageNotFoundError:
        return "0+clone"


def _lacking(name: str, error: MissingExtraError) -> type:
    """Return a class in place of one whose package is not installed; calling it raises.

    So `help`, completion and `import *` work, and the error comes where the class is used.
    """

    def refuse(cls: type, *args: Any, **options: Any) -> Any:
        raise MissingExtraError(str(error)) from error

    return type(name, (), {"__doc__": f"Not available: {error}", "__new__": refuse})


def __dir__() -> list[str]:
    return __all__


def _register_accessor() -> None:
    from unigeo.client.field.accessor import register

    register()


when_imported("xarray", _register_accessor)
