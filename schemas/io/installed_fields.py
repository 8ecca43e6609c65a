"""Fields and models that installed distributions bring, found without importing them."""

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from unigeo.schemas.errors import StoreError

ENTRY_POINTS = "unigeo.fields"
"""Group of the entry points of installed fields, each the name of a field and of its package."""
DEFAULT = "conus-1"
"""Name of the field that is read where none is named."""


def how_to_install() -> str:
    """Return the sentence on how to get the default field, and what else can be done."""
    return (
        'pip install "unigeo[conus]" brings it; or name another field: its address, or set '
        "UNIGEO_FIELD"
    )


def installed_names() -> list[str]:
    """Return the names of the fields that installed distributions bring."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINTS)})


def installed_folder(name: str) -> Path:
    """Return the folder of an installed field, which holds `field.zarr` and `model`.

    The package is found, and not imported.

    Raises:
        StoreError: if no distribution brings such a field, or the folder is not there.
    """
    point = next(iter(entry_points(group=ENTRY_POINTS, name=name)), None)
    if point is None:
        raise StoreError(f"the field {name!r} is not installed: {how_to_install()}")
    try:
        spec = find_spec(point.module)
    except ModuleNotFoundError:  # of the package above it
        spec = None
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        found = Path(folder) / "fields" / name
        if found.is_dir():
            return found
    raise StoreError(
        f"the package {point.module!r} says that it brings the field {name!r}, and lacks its "
        f"folder fields/{name}: install it anew"
    )
