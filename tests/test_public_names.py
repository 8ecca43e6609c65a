"""The public names of the client, which users import: one may join them, none may leave."""

from types import ModuleType

import pytest

from unigeo import client
from unigeo.client import errors
from unigeo.schemas import errors as every_error

CLIENT = [
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
ERRORS = [
    "CacheWarning",
    "DamagedError",
    "DefaultFieldWarning",
    "ForeignError",
    "LayoutError",
    "MissingExtraError",
    "OutsideGridError",
    "PointsError",
    "PointsWarning",
    "ProbeError",
    "ProbeWarning",
    "RegionError",
    "RegionWarning",
    "StoreError",
    "UnigeoError",
    "WordsError",
    "WordsWarning",
]
OF_THE_PRODUCER = {"ModelError", "ObservationsError"}
"""Errors that only the producer raises."""


@pytest.mark.parametrize(("module", "names"), [(client, CLIENT), (errors, ERRORS)])
def test_the_public_names_are_these(module: ModuleType, names: list[str]) -> None:
    assert module.__all__ == names == sorted(names)
    assert all(hasattr(module, name) for name in names)


def test_listing_the_client_shows_its_public_names_only() -> None:
    assert dir(client) == CLIENT
    assert client.errors is errors


def test_every_error_that_a_user_of_the_client_can_meet_is_exported() -> None:
    classes = {name for name, value in vars(every_error).items() if isinstance(value, type)}
    assert classes - OF_THE_PRODUCER == set(ERRORS)
    for name in ERRORS:
        assert getattr(errors, name) is getattr(every_error, name)


def test_the_docstring_draws_the_tree_of_errors() -> None:
    assert errors.__doc__ is not None
    drawn: dict[str, set[str]] = {}
    above: list[str] = []
    for line in errors.__doc__.splitlines():
        if "──" in line:
            before, _, rest = line.partition("── ")
            depth = (len(before) - 5) // 4
            name = rest.split()[0]
            second = rest.split("(")[1].split(")")[0] if "(" in rest[: len(name) + 2] else None
            drawn.setdefault(name, set()).update({above[depth], *([second] if second else [])})
            above[depth + 1 :] = [name]
        elif line.strip() in ("UnigeoError", "UserWarning"):
            above = [line.strip()]
    assert set(drawn) | {"UnigeoError"} == set(ERRORS)
    for name, bases in drawn.items():
        assert {base.__name__ for base in getattr(errors, name).__bases__} == bases
