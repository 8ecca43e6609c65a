"""A hash of the sources that decide stored vectors: a store is finished by one code."""

import hashlib
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unigeo.schemas.errors import StoreError

CODE = (
    "schemas",
    "producer/encoders",
    "producer/observations",
    "producer/raster",
    "producer/storage",
    "producer/training/step.py",
)
"""Sources that vectors go through; what is published of them, and how it is asked for, is not."""
DERIVING = ("schemas", "producer/publishing", "producer/storage")
"""Sources of what publication makes of vectors: overviews and pictures."""
PACKAGES = ("torch", "numpy")
SHOWN = 12
"""Digits of a hash in a message."""


class RoundingWarning(UserWarning):
    """Parts of one store that are computed by versions or devices that may round differently."""


class OtherIdentityError(StoreError):
    """A process that would write other vectors than the store holds."""


@cache
def code_sha256(parts: tuple[str, ...] = CODE) -> str:
    """SHA-256 of sources by name and content; of those that decide vectors by default."""
    import unigeo.producer
    import unigeo.schemas

    roots = {
        "producer": Path(unigeo.producer.__file__).parent,
        "schemas": Path(unigeo.schemas.__file__).parent,
    }
    digest = hashlib.sha256()
    for part in parts:
        top, _, below = part.partition("/")
        path = roots[top] / below
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.suffix in (".py", ".geojson", ".json"):
                name = f"{top}/{file.relative_to(roots[top]).as_posix()}"
                digest.update(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n".encode())
    return digest.hexdigest()


@cache
def packages() -> dict[str, str]:
    """Versions of what computes vectors."""
    return {name: version(name) for name in PACKAGES}


@cache
def code_version() -> str:
    """Version of the installed package."""
    try:
        return version("unigeo")
    except PackageNotFoundError:
        return "not installed"


def shorten(value: str) -> str:
    """The first digits of a hash; a sentence stays as it is."""
    return value if " " in value else value[:SHOWN] or "not known"


def check_code(found: Mapping[str, Any], wanted: Mapping[str, Any], url: Any) -> None:
    """Compare the code that began a store with the code that would go on with it.

    Args:
        found: the `unigeo` attribute of the store that is being built.
        wanted: that of this run.
        url: of the store, for messages.

    Raises:
        OtherIdentityError: naming both versions and what to do.
    """
    if found.get("code_sha256") != wanted.get("code_sha256"):
        there, here = (
            f"unigeo {own['code_version']} with sources {shorten(own.get('code_sha256') or '')}"
            for own in (found, wanted)
        )
        raise OtherIdentityError(
            f"{url} was begun by {there}, and this is {here}: a store is never finished by other "
            "code, which may make other vectors. Go on with the unigeo that began it, or name "
            "another --out, or remove the store first."
        )
    for name, there in (found.get("packages") or {}).items():
        here = (wanted.get("packages") or {}).get(name, there)
        if here != there:
            warn_of_rounding(name, there, here)


def warn_of_rounding(name: str, one: str, other: str) -> None:
    """Warn that parts of a store are computed by versions or devices that round differently."""
    warnings.warn(
        f"parts of this store are computed by {name} {one} and by {name} {other}, which may round "
        "differently: a number of a vector may differ by one step from that of a store that is "
        "made by one of them alone",
        RoundingWarning,
        stacklevel=3,
    )
